"""Every implementation of max pooling and its gradient, against the reference.

Pooling moves values and adds few of them: results are compared for equality, in every type.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import functional, reference
from fastcnn.functional import mask_to_indices, mask_to_input, max_pool2d, max_pool2d_grad
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import (
    FLOATS,
    POOLINGS,
    Guarded,
    geometry_of,
    guarded,
    implementations,
    plan_for,
)
from tests.geometries import PoolCase, pool_cases, pooling_data, seeds, small_integers

forward = pytest.mark.parametrize("algorithm", [e.name for e in IMPLEMENTATIONS["max_pool2d"]])
backward = pytest.mark.parametrize(
    "algorithm", [e.name for e in IMPLEMENTATIONS["max_pool2d_grad"]]
)

# Rows longer than a vector, every small window and stride, windows of 256 and of more cells.
LAYERS = [
    PoolCase(2, 3, 24, 26, 2, None, 0, 1, False),
    PoolCase(2, 3, 25, 37, 3, 2, 1, 1, False),
    PoolCase(1, 5, 17, 40, 3, 1, 1, 1, False),
    PoolCase(1, 2, 30, 31, 3, 3, 0, 1, True),
    PoolCase(1, 2, 19, 150, (2, 3), (1, 4), (1, 0, 2, 1), (1, 2), True),
    PoolCase(1, 1, 20, 21, 16, 2, 3, 1, False),
    PoolCase(1, 2, 20, 21, 17, 1, 8, 1, False),
    PoolCase(1, 1, 40, 39, (3, 100), 7, (2, 60), 1, True),
    PoolCase(None, 4, 12, 12, 2, None, "same_upper", 1, False),
    PoolCase(3, 7, 7, 7, 7, None, 0, 1, False),
    PoolCase(1, 1, 1, 1, 1, 3, 0, 2, True),
    PoolCase(1, 2, 5, 6, 2, 2**40, 0, 1, False),
]


def pooled(case, rng, dtype, module=functional, **extra):
    """Data with ties, NaN and infinities, y and mask."""
    x = guarded(pooling_data(rng, case.input_shape, dtype))
    return x, *module.max_pool2d(x, **case.options, return_mask=True, **extra)


def assert_forward_equal(case, algorithm, dtype, seed):
    if plan_for(case, "max_pool2d", algorithm, dtype) is None:
        return
    out = Guarded(case.output_shape, dtype)
    rng = np.random.default_rng(seed)
    x, y, mask = pooled(case, rng, dtype, algorithm=algorithm, out=out.array)
    expected, expected_mask = reference.max_pool2d(x, **case.options, return_mask=True)
    assert y is out.array
    assert mask.dtype == expected_mask.dtype
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(mask, expected_mask)
    out.assert_untouched_around()
    # and the same without a mask, and without out
    without = max_pool2d(x, **case.options, algorithm=algorithm)
    assert without.dtype == dtype
    np.testing.assert_array_equal(without, expected)


def assert_backward_equal(case, algorithm, dtype, seed):
    """Whole numbers, so that the sums of overlapping windows are equal in any order."""
    if plan_for(case, "max_pool2d_grad", algorithm, dtype) is None:
        return
    rng = np.random.default_rng(seed)
    _, y, mask = pooled(case, rng, dtype, reference)
    dy, mask = guarded(small_integers(rng, y.shape, dtype)), guarded(mask)
    out = Guarded(case.input_shape, dtype)
    arguments = (dy, mask, case.input_shape)
    dx = max_pool2d_grad(*arguments, **case.options, algorithm=algorithm, out=out.array)
    assert dx is out.array
    expected = reference.max_pool2d_grad(*arguments, **case.options)
    np.testing.assert_array_equal(dx, expected)
    out.assert_untouched_around()
    fresh = max_pool2d_grad(*arguments, **case.options, algorithm=algorithm)
    assert fresh.dtype == dtype
    np.testing.assert_array_equal(fresh, expected)


@forward
@settings(deadline=None, max_examples=80)
@given(case=pool_cases(max_length=14), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_forward(algorithm, case, dtype, seed):
    assert_forward_equal(case, algorithm, dtype, seed)


@forward
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_forward_of_layers(algorithm, case):
    for dtype in FLOATS:
        assert_forward_equal(case, algorithm, dtype, 1)


@backward
@settings(deadline=None, max_examples=80)
@given(case=pool_cases(max_length=14), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_backward(algorithm, case, dtype, seed):
    assert_backward_equal(case, algorithm, dtype, seed)


@backward
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_backward_of_layers(algorithm, case):
    for dtype in FLOATS:
        assert_backward_equal(case, algorithm, dtype, 2)


@pytest.mark.parametrize(("operation", "algorithm"), implementations(*POOLINGS))
def test_layers_give_every_algorithm_something_to_do(operation, algorithm):
    assert any(plan_for(case, operation, algorithm, np.float32) for case in LAYERS)


@settings(deadline=None, max_examples=60)
@given(case=pool_cases(max_length=12), seed=seeds())
def test_views_of_the_mask(case, seed):
    _, _, mask = pooled(case, np.random.default_rng(seed), np.float32)
    for name, dtype in (("mask_to_indices", np.int64), ("mask_to_input", np.uint8)):
        view = getattr(functional, name)(mask, case.input_shape, **case.options)
        expected = getattr(reference, name)(mask, case.input_shape, **case.options)
        assert view.dtype == dtype
        np.testing.assert_array_equal(view, expected)


@settings(deadline=None, max_examples=40)
@given(case=pool_cases(max_length=12), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_mask_and_gradient_agree_with_the_values(case, dtype, seed):
    """x at the mask's indices is y, and <pool(x), dy> = <x, dx> at the chosen elements."""
    rng = np.random.default_rng(seed)
    x = small_integers(rng, case.input_shape, dtype)
    y, mask = max_pool2d(x, **case.options, return_mask=True)
    indices = mask_to_indices(mask, x.shape, **case.options)
    planes = x.reshape(*x.shape[:-2], case.H * case.W)
    flat = indices.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])
    np.testing.assert_array_equal(np.take_along_axis(planes, flat, -1).reshape(y.shape), y)
    dy = small_integers(rng, y.shape, dtype)
    dx = max_pool2d_grad(dy, mask, x.shape, **case.options)
    assert np.sum(x * dx, dtype=np.float64) == np.sum(y * dy, dtype=np.float64)
    drawn = mask_to_input(mask, x.shape, **case.options)
    assert not dx[drawn == 0].any()


@forward
@settings(deadline=None, max_examples=30)
@given(case=pool_cases(), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_plans_write_every_element(algorithm, case, dtype, seed):
    """The kernels themselves, below every check, on outputs full of poison."""
    planned = plan_for(case, "max_pool2d", algorithm, dtype)
    if planned is None:
        return
    g = geometry_of(case)
    rng = np.random.default_rng(seed)
    x = small_integers(rng, g.input_shape, dtype)
    y, mask = Guarded(g.output_shape, dtype), Guarded(g.output_shape, g.mask_dtype)
    planned.run(g, x, y.array, mask.array)
    expected, expected_mask = reference.max_pool2d(x, **case.options, return_mask=True)
    np.testing.assert_array_equal(y.array, expected)
    np.testing.assert_array_equal(mask.array, expected_mask)
    y.assert_untouched_around()
    mask.assert_untouched_around()
    dy = small_integers(rng, g.output_shape, dtype)
    for entry in IMPLEMENTATIONS["max_pool2d_grad"]:
        backward_plan = plan_for(case, "max_pool2d_grad", entry.name, dtype)
        if backward_plan is not None:
            dx = Guarded(g.input_shape, dtype)
            assert backward_plan.run(g, dy, mask.array, dx.array) == 0
            assert np.isfinite(dx.array).all()
            dx.assert_untouched_around()


class TestWhoWins:
    """By hand, along one row."""

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize(
        ("values", "kernel", "options", "y", "mask"),
        [
            ([3, 3, 3, 3], 4, {}, [3], [0]),
            ([1, 3, 2, 3], 4, {}, [3], [1]),
            ([-0.0, 0.0], 2, {}, [-0.0], [0]),
            ([-5, -7], 2, {"padding": (0, 1)}, [-5, -7], [1, 0]),
            ([-np.inf, -np.inf], 2, {"padding": (0, 1)}, [-np.inf, -np.inf], [1, 0]),
            ([-np.inf] * 3, 3, {"padding": (0, 2), "stride": 1}, [-np.inf] * 5, [2, 1, 0, 0, 0]),
            ([np.nan, 1, 2], 3, {}, [np.nan], [0]),
            ([1, np.nan, np.inf], 3, {}, [np.nan], [1]),
            ([np.nan, np.nan, 9], 3, {}, [np.nan], [1]),
            ([-np.inf, np.nan], 2, {"padding": (0, 1), "stride": 1}, [-np.inf] + [np.nan] * 2,
             [1, 1, 0]),
            ([1, 2, 3, 4, 5], 2, {"ceil_mode": True}, [2, 4, 5], [1, 1, 0]),
            ([1, 2, 3, 4, 5], 2, {"stride": 1, "dilation": 2}, [3, 4, 5], [1, 1, 1]),
            ([1, 9, 2, 8, 3], 3, {"stride": 1}, [9, 9, 8], [1, 0, 1]),
        ],
    )  # fmt: skip
    def test_row(self, values, kernel, options, y, mask, dtype):
        x = np.array(values, dtype).reshape(1, 1, 1, -1)
        result, positions = max_pool2d(x, (1, kernel), return_mask=True, **options)
        np.testing.assert_array_equal(result.ravel(), np.array(y, dtype))
        np.testing.assert_array_equal(np.signbit(result.ravel()), np.signbit(np.array(y, dtype)))
        np.testing.assert_array_equal(positions.ravel(), mask)

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_all_minus_infinity_has_the_first_cell_of_the_input(self, dtype):
        x = np.full((1, 1, 2, 2), -np.inf, dtype)
        y, mask = max_pool2d(x, 3, stride=1, padding=1, return_mask=True)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(mask[0, 0], [[4, 3], [1, 0]])
        dx = max_pool2d_grad(np.ones_like(y), mask, x.shape, 3, stride=1, padding=1)
        np.testing.assert_array_equal(dx[0, 0], [[4, 0], [0, 0]])

    @pytest.mark.parametrize("where", [0, 255, 256, 288])
    def test_positions_beyond_a_byte(self, where):
        x = np.zeros((1, 1, 17, 17), np.float32)
        x[0, 0, where // 17, where % 17] = 1
        y, mask = max_pool2d(x, 17, return_mask=True)
        assert mask.dtype == np.int32
        assert (y.item(), mask.item()) == (1, where)
        np.testing.assert_array_equal(max_pool2d_grad(y, mask, x.shape, 17), x)

    def test_256_cells_fit_a_byte(self):
        x = np.zeros((1, 1, 16, 16), np.float32)
        x[0, 0, 15, 15] = 1
        y, mask = max_pool2d(x, 16, return_mask=True)
        assert mask.dtype == np.uint8
        assert mask.item() == 255
        np.testing.assert_array_equal(max_pool2d_grad(y, mask, x.shape, 16), x)

    def test_overlapping_windows_add_up_in_order(self):
        x = np.array([1.0, 5, 2]).reshape(1, 1, 1, 3)
        _, mask = max_pool2d(x, (1, 2), stride=1, return_mask=True)
        np.testing.assert_array_equal(mask.ravel(), [1, 0])
        dx = max_pool2d_grad(np.array([[[[1.0, 10]]]]), mask, x.shape, (1, 2), stride=1)
        np.testing.assert_array_equal(dx.ravel(), [0, 11, 0])
        drawn = mask_to_input(mask, x.shape, (1, 2), stride=1)
        np.testing.assert_array_equal(drawn.ravel(), [0, 1, 0])
