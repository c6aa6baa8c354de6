"""Max pooling, the mask and its gradient: by hand, by finite differences, against the loops."""

import numpy as np
import pytest
from hypothesis import given, settings

from fastcnn import reference
from fastcnn.reference import loops, mask_to_indices, mask_to_input, max_pool2d, max_pool2d_grad
from tests.finite_differences import numeric_gradient
from tests.geometries import PoolCase, pool_cases, pooling_data, seeds, small_integers

NAN, INF = np.nan, np.inf


def row(*values):
    """One image of one channel and one row."""
    return np.array(values, float).reshape(1, 1, 1, -1)


def pool_row(values, kernel, **options):
    """Values and mask of a pooling along one row, as lists."""
    if isinstance(options.get("padding"), int):
        options["padding"] = (0, options["padding"])
    y, mask = max_pool2d(row(*values), (1, kernel), return_mask=True, **options)
    return y.ravel().tolist(), mask.ravel().tolist()


class TestByHand:
    x = np.array([[1.0, 2, 0, 0], [3, 4, 7, 0], [0, 0, 5, 5], [0, 9, 5, 5]])[None, None]

    def test_quarters_of_an_image(self):
        y, mask = max_pool2d(self.x, 2, return_mask=True)
        np.testing.assert_array_equal(y[0, 0], [[4, 7], [9, 5]])
        # lower right; lower left; lower right; the first of four equals
        np.testing.assert_array_equal(mask[0, 0], [[3, 2], [3, 0]])
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(max_pool2d(self.x, 2), y)

    def test_gradient_goes_where_the_maximum_was(self):
        _, mask = max_pool2d(self.x, 2, return_mask=True)
        dy = np.array([[10.0, 20], [30, 40]])[None, None]
        dx = max_pool2d_grad(dy, mask, self.x.shape, 2)
        expected = [[0, 0, 0, 0], [0, 10, 20, 0], [0, 0, 40, 0], [0, 30, 0, 0]]
        np.testing.assert_array_equal(dx[0, 0], expected)

    def test_views_of_the_mask(self):
        _, mask = max_pool2d(self.x, 2, return_mask=True)
        indices = mask_to_indices(mask, self.x.shape, 2)
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(indices[0, 0], [[5, 6], [13, 10]])
        drawn = mask_to_input(mask, self.x.shape, 2)
        assert drawn.dtype == np.uint8
        expected = [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 1, 0, 0]]
        np.testing.assert_array_equal(drawn[0, 0], expected)

    def test_overlapping_windows_add_their_gradients(self):
        x = row(1, 5, 2)
        y, mask = max_pool2d(x, (1, 2), stride=1, return_mask=True)
        np.testing.assert_array_equal(y, row(5, 5))
        np.testing.assert_array_equal(mask, row(1, 0))
        dx = max_pool2d_grad(row(1, 10), mask, x.shape, (1, 2), stride=1)
        np.testing.assert_array_equal(dx, row(0, 11, 0))
        np.testing.assert_array_equal(mask_to_input(mask, x.shape, (1, 2), stride=1), row(0, 1, 0))


class TestWhoWins:
    def test_results_are_in_c_order(self):
        for array in reference.max_pool2d(np.ones((2, 3, 4, 4)), 2, return_mask=True):
            assert array.flags.c_contiguous

    def test_the_first_of_equals(self):
        assert pool_row([3, 3, 3, 3], 4) == ([3], [0])
        assert pool_row([1, 3, 2, 3], 4) == ([3], [1])

    def test_negative_values_beat_padding(self):
        assert pool_row([-5, -7], 2, padding=1) == ([-5, -7], [1, 0])

    def test_minus_infinity_beats_padding(self):
        assert pool_row([-INF, -INF], 2, padding=1) == ([-INF, -INF], [1, 0])
        x = np.full((1, 1, 2, 2), -INF)
        y, mask = max_pool2d(x, 3, stride=1, padding=1, return_mask=True)
        np.testing.assert_array_equal(y, x)
        # the first cell of each window that is no padding
        np.testing.assert_array_equal(mask[0, 0], [[4, 3], [1, 0]])

    @pytest.mark.parametrize(
        ("values", "winner"),
        [
            ([NAN, 1, 2], 0),
            ([1, NAN, 9], 1),
            ([NAN, NAN, 2], 1),
            ([NAN, INF, NAN], 2),
            ([-INF, NAN, INF], 1),
        ],
    )
    def test_the_last_nan(self, values, winner):
        y, mask = max_pool2d(row(*values), (1, 3), return_mask=True)
        assert np.isnan(y.item())
        assert mask.item() == winner

    def test_infinity(self):
        assert pool_row([1, INF, INF], 3) == ([INF], [1])

    @pytest.mark.parametrize(("side", "dtype"), [(16, np.uint8), (17, np.int32)])
    def test_windows_beyond_256_cells_need_a_wider_mask(self, side, dtype):
        x = np.zeros((1, 1, side, side))
        x[0, 0, -1, -1] = 1
        for function in (max_pool2d, loops.max_pool2d):
            _, mask = function(x, side, return_mask=True)
            assert mask.dtype == dtype
            assert mask.item() == side * side - 1
        assert max_pool2d_grad(np.ones((1, 1, 1, 1)), mask, x.shape, side)[0, 0, -1, -1] == 1


class TestGeometry:
    def test_ceil_mode_keeps_a_partial_window(self):
        assert pool_row([1, 2, 3], 2) == ([2], [1])
        assert pool_row([1, 2, 3], 2, ceil_mode=True) == ([2, 3], [1, 0])

    def test_ceil_mode_drops_a_window_that_begins_in_the_padding(self):
        # floor((3 + 2 - 2 + 1) / 2) + 1 = 3 windows, at -1, 1 and 3; the last begins in the padding
        assert pool_row([1, 2, 3], 2, padding=1, ceil_mode=True) == ([1, 3], [1, 1])

    def test_ceil_mode_pools_an_input_smaller_than_the_window(self):
        assert pool_row([1, 2], 3, stride=2, ceil_mode=True) == ([2], [1])

    def test_dilation_counts_cells_not_pixels(self):
        assert pool_row([1, 9, 2, 8, 3], 3, dilation=2) == ([3], [2])

    def test_padding_up_to_the_effective_window(self):
        # cells at -2 and 0, at 0 and 2
        assert pool_row([4, 5, 6], 2, stride=2, dilation=2, padding=2) == ([4, 6, 6], [1, 1, 0])

    @pytest.mark.parametrize(
        ("padding", "stride", "expected"),
        [
            ("valid", 1, [2, 3]),
            ("same", 1, [2, 3, 3]),
            ("same_upper", 1, [2, 3, 3]),
            ("same_lower", 1, [1, 2, 3]),
            ("same_upper", 2, [2, 3]),
            ("same_lower", 2, [1, 3]),
            ((0, 0, 1, 0), 1, [1, 2, 3]),
        ],
    )
    def test_forms_of_padding(self, padding, stride, expected):
        y, _ = pool_row([1, 2, 3], 2, stride=(1, stride), padding=padding)
        assert y == expected


def distinct(rng, shape):
    """Values no two of which are nearer than 1: no ties, and no kink within a small step."""
    return rng.permutation(int(np.prod(shape))).reshape(shape).astype(float)


@pytest.mark.parametrize(
    "case",
    [
        PoolCase(2, 2, 4, 6, 2, None, 0, 1, False),
        PoolCase(1, 1, 5, 5, 3, 1, 1, 1, False),
        PoolCase(1, 2, 6, 5, (3, 2), (2, 1), (1, 0), 1, True),
        PoolCase(1, 1, 7, 7, 2, 2, (2, 0, 1, 2), 2, True),
        PoolCase(None, 2, 5, 4, 3, 2, "same_upper", 1, False),
    ],
    ids=str,
)
def test_gradient_is_finite_differences(case):
    rng = np.random.default_rng(0)
    x, dy = distinct(rng, case.input_shape), rng.standard_normal(case.output_shape)
    _, mask = max_pool2d(x, **case.options, return_mask=True)
    dx = max_pool2d_grad(dy, mask, x.shape, **case.options)
    # Linear as long as no other element becomes the maximum.
    numeric = numeric_gradient(lambda v: np.sum(dy * max_pool2d(v, **case.options)), x, step=0.25)
    np.testing.assert_allclose(dx, numeric, rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=100)
@given(case=pool_cases(), seed=seeds())
def test_loops_are_equal(case, seed):
    rng = np.random.default_rng(seed)
    x = pooling_data(rng, case.input_shape, np.float32)
    dy = small_integers(rng, case.output_shape, np.float32)
    y, mask = max_pool2d(x, **case.options, return_mask=True)
    assert y.shape == mask.shape == dy.shape
    y_loops, mask_loops = loops.max_pool2d(x, **case.options, return_mask=True)
    np.testing.assert_array_equal(y, y_loops)
    np.testing.assert_array_equal(mask, mask_loops)
    assert mask.dtype == mask_loops.dtype
    dx = max_pool2d_grad(dy, mask, x.shape, **case.options)
    np.testing.assert_array_equal(dx, loops.max_pool2d_grad(dy, mask, x.shape, **case.options))


@settings(deadline=None, max_examples=100)
@given(case=pool_cases(max_length=12), seed=seeds())
def test_the_mask_points_at_the_values(case, seed):
    rng = np.random.default_rng(seed)
    x = pooling_data(rng, case.input_shape)
    y, mask = max_pool2d(x, **case.options, return_mask=True)
    indices = mask_to_indices(mask, x.shape, **case.options)
    planes = x.reshape(*x.shape[:-2], case.H * case.W)
    picked = np.take_along_axis(
        planes, indices.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1]), axis=-1
    )
    np.testing.assert_array_equal(picked.reshape(y.shape), y)
    drawn = mask_to_input(mask, x.shape, **case.options)
    dx = max_pool2d_grad(np.ones_like(y), mask, x.shape, **case.options)
    np.testing.assert_array_equal(drawn, dx > 0)
    assert dx.sum() == y.size


class TestErrors:
    @pytest.mark.parametrize(
        ("shape", "options", "message"),
        [
            ((4, 4), {"kernel_size": 2}, r"Expected 3D \(unbatched\) or 4D \(batched\) input"),
            ((1, 1, 4, 1), {"kernel_size": 2}, r"output size: \(1x2x0\). Output size is too small"),
            ((1, 1, 0, 4), {"kernel_size": 2, "padding": 1}, "lies wholly in padding"),
            ((1, 1, 4, 4), {"kernel_size": 2, "padding": 2}, "smaller than the effective window"),
            (
                (1, 1, 4, 4),
                {"kernel_size": 2, "padding": (0, 0, 0, 2)},
                "smaller than the effective window",
            ),
            # cells at -1 and 1, and the only pixel is 0
            (
                (1, 1, 1, 1),
                {"kernel_size": 2, "padding": 1, "dilation": 2},
                "window 0 of 1 lies wholly in padding",
            ),
            (
                (1, 1, 4, 4),
                {"kernel_size": 2, "padding": "same"},
                "padding='same' is not supported for strided",
            ),
            ((1, 1, 4, 4), {"kernel_size": 2, "padding": "no"}, "Invalid padding string: 'no'"),
            ((1, 1, 4, 4), {"kernel_size": 0}, "kernel_size must be at least 1"),
        ],
    )
    def test_geometry(self, shape, options, message):
        for function in (max_pool2d, loops.max_pool2d):
            with pytest.raises(ValueError, match=message):
                function(np.ones(shape), **options)

    @pytest.mark.parametrize("module", [reference, loops])
    def test_gradient_does_not_broadcast(self, module):
        mask = np.zeros((1, 2, 2, 2), np.uint8)
        with pytest.raises(ValueError, match=r"dy must have shape \(1, 2, 2, 2\)"):
            module.max_pool2d_grad(np.ones((1, 1, 2, 2)), mask, (1, 2, 4, 4), 2)
        with pytest.raises(ValueError, match=r"mask must have shape \(1, 2, 2, 2\)"):
            module.max_pool2d_grad(np.ones((1, 2, 2, 2)), mask[:, :1], (1, 2, 4, 4), 2)

    @pytest.mark.parametrize("module", [reference, loops])
    @pytest.mark.parametrize(("value", "padding"), [(4, 0), (9, 0), (0, 1), (1, 1)])
    def test_masks_of_another_geometry(self, module, value, padding):
        # beyond the window of 2 x 2; or on the padding
        mask = np.full((1, 1, 2, 2) if padding == 0 else (1, 1, 3, 3), value, np.uint8)
        with pytest.raises(ValueError, match=f"mask value {value} points outside"):
            module.max_pool2d_grad(np.ones(mask.shape), mask, (1, 1, 4, 4), 2, padding=padding)

    def test_masks_of_other_types(self):
        for mask in (np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 2, 2), bool)):
            with pytest.raises(TypeError, match="expected mask to hold integers"):
                mask_to_indices(mask, (1, 1, 4, 4), 2)
