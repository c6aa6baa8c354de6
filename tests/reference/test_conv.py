"""Convolution and its gradients: by hand, by finite differences, and against themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from scipy.signal import convolve2d, correlate2d

from fastcnn import reference
from fastcnn.reference import (
    compute_in,
    conv2d,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
    loops,
)
from tests.finite_differences import numeric_gradient
from tests.geometries import ConvCase, conv_cases, seeds, small_integers


def row(*values):
    """One image of one channel and one row."""
    return np.array(values, float).reshape(1, 1, 1, -1)


class TestByHand:
    x = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])[None, None]
    w = np.array([[1.0, 0], [0, -1]])[None, None]
    dy = np.array([[1.0, 2], [3, 4]])[None, None]

    def test_forward(self):
        # every pixel less its lower right neighbour, plus 10
        y = conv2d(self.x, self.w, np.array([10.0]))
        np.testing.assert_array_equal(y[0, 0], [[6, 6], [6, 6]])

    def test_input_gradient(self):
        dx = conv2d_input_grad(self.dy, self.w, self.x.shape)
        np.testing.assert_array_equal(dx[0, 0], [[1, 2, 0], [3, 3, -2], [0, -3, -4]])

    def test_weight_gradient(self):
        dw = conv2d_weight_grad(self.x, self.dy, self.w.shape)
        # dw[0, 0] = 1*1 + 2*2 + 4*3 + 5*4
        np.testing.assert_array_equal(dw[0, 0], [[37, 47], [67, 77]])

    def test_bias_gradients(self):
        dy = np.concatenate([self.dy, 10 * self.dy])
        np.testing.assert_array_equal(conv2d_bias_grad(dy), [110])
        np.testing.assert_array_equal(conv2d_bias_grad(dy, per_pixel=True), 11 * self.dy[0])
        np.testing.assert_array_equal(conv2d_bias_grad(self.dy[0]), [10])
        np.testing.assert_array_equal(conv2d_bias_grad(self.dy[0], per_pixel=True), self.dy[0])

    def test_stride_leaves_the_last_pixel_alone(self):
        x, w, dy = row(1, 2, 3, 4, 5), row(1, 10), row(1, 2)
        np.testing.assert_array_equal(conv2d(x, w, stride=(1, 2)), row(21, 43))
        dx = conv2d_input_grad(dy, w, x.shape, stride=(1, 2))
        np.testing.assert_array_equal(dx, row(1, 10, 2, 20, 0))
        dw = conv2d_weight_grad(x, dy, w.shape, stride=(1, 2))
        np.testing.assert_array_equal(dw, row(1 * 1 + 3 * 2, 2 * 1 + 4 * 2))

    def test_dilation(self):
        x, w, dy = row(1, 2, 3, 4, 5), row(1, 10), row(1, 2)
        np.testing.assert_array_equal(conv2d(x, w, dilation=(1, 3)), row(41, 52))
        dx = conv2d_input_grad(dy, w, x.shape, dilation=(1, 3))
        np.testing.assert_array_equal(dx, row(1, 2, 0, 10, 20))
        dw = conv2d_weight_grad(x, dy, w.shape, dilation=(1, 3))
        np.testing.assert_array_equal(dw, row(1 * 1 + 2 * 2, 4 * 1 + 5 * 2))

    def test_padding_beyond_the_full_padding_is_cropped_in_the_gradient(self):
        x, w, dy = row(5, 7), row(3), row(1, 2, 3, 4)
        np.testing.assert_array_equal(conv2d(x, w, padding=(0, 1)), row(0, 15, 21, 0))
        dx = conv2d_input_grad(dy, w, x.shape, padding=(0, 1))
        np.testing.assert_array_equal(dx, row(6, 9))

    def test_crop_that_reaches_beyond_the_spread_gradient(self):
        # Windows begin at -10 and -2, both before the only pixel: nothing arrives.
        x, w, dy = row(5), row(3), row(1, 2)
        options = {"stride": (1, 8), "padding": (0, 0, 10, 0)}
        np.testing.assert_array_equal(conv2d(x, w, **options), row(0, 0))
        np.testing.assert_array_equal(conv2d_input_grad(dy, w, x.shape, **options), row(0))

    @pytest.mark.parametrize(
        ("padding", "stride", "expected"),
        [
            # kernel 1, 10, 100 on 1, 2, 3, 4
            ("valid", 1, [321, 432]),
            ("same", 1, [210, 321, 432, 43]),
            ("same_upper", 1, [210, 321, 432, 43]),
            ("same_lower", 1, [210, 321, 432, 43]),
            ("same_upper", 2, [321, 43]),
            ("same_lower", 2, [210, 432]),
            ((0, 1), 2, [210, 432]),
            ((0, 0, 0, 2), 1, [321, 432, 43, 4]),
            ((0, 0, 2, 0), 1, [100, 210, 321, 432]),
        ],
    )
    def test_forms_of_padding(self, padding, stride, expected):
        y = conv2d(row(1, 2, 3, 4), row(1, 10, 100), padding=padding, stride=(1, stride))
        np.testing.assert_array_equal(y, row(*expected))

    def test_same_with_an_even_kernel_pads_more_at_the_end(self):
        x, w = row(1, 2, 3), row(1, 10, 100, 1000)
        np.testing.assert_array_equal(conv2d(x, w, padding="same"), row(3210, 321, 32))
        np.testing.assert_array_equal(conv2d(x, w, padding="same_lower"), row(2100, 3210, 321))

    def test_groups_see_their_own_channels(self):
        x = np.array([1.0, 2, 3, 4]).reshape(4, 1, 1)
        w = np.array([[1.0, 10], [2, 20], [3, 30], [4, 40]]).reshape(4, 2, 1, 1)
        y = conv2d(x, w, groups=2)
        np.testing.assert_array_equal(y.ravel(), [21, 42, 129, 172])

    def test_bias_per_filter_and_per_pixel(self):
        x, w = np.zeros((2, 1, 2, 2)), np.zeros((2, 1, 1, 1))
        y = conv2d(x, w, np.array([1.0, 2]))
        np.testing.assert_array_equal(y, np.broadcast_to([[[1.0]], [[2.0]]], (2, 2, 2, 2)))
        b = np.arange(8.0).reshape(2, 2, 2)
        np.testing.assert_array_equal(conv2d(x, w, b), np.stack([b, b]))


CASES = [
    ConvCase(2, 2, 4, 5, 3, 2, 3, 1, 0, 1, 1),
    ConvCase(1, 1, 6, 6, 1, 3, 3, 1, "same", 1, 1),
    ConvCase(2, 2, 6, 7, 2, 3, 2, (2, 3), (1, 2), 1, 1),
    ConvCase(1, 2, 5, 6, 2, 3, 3, 2, "same_upper", 1, 1),
    ConvCase(1, 2, 6, 5, 2, 2, 3, 2, "same_lower", 1, 1),
    ConvCase(1, 1, 7, 8, 2, 2, 3, 2, (0, 3, 2, 1), (3, 2), 1),
    ConvCase(1, 4, 4, 4, 6, 3, 3, 1, 1, 1, 2),
    ConvCase(2, 3, 5, 5, 6, 3, 3, 2, 1, 1, 3),
    ConvCase(1, 1, 2, 2, 1, 1, 1, 2, 4, 1, 1),
    ConvCase(None, 2, 4, 4, 2, 3, 3, 1, "valid", 1, 1),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_finite_differences(case):
    rng = np.random.default_rng(1)
    x, w, dy = (rng.standard_normal(shape) for shape in case.shapes)
    b, b_map = rng.standard_normal(case.K), rng.standard_normal(case.output_shape[-3:])

    def loss(x, w, b):
        return np.sum(dy * conv2d(x, w, b, **case.options))

    # Linear in each argument: a step of 1 has no truncation error.
    close = {"rtol": 1e-10, "atol": 1e-10}
    dx = conv2d_input_grad(dy, w, x.shape, **case.options)
    np.testing.assert_allclose(dx, numeric_gradient(lambda v: loss(v, w, b), x, step=1), **close)
    dw = conv2d_weight_grad(x, dy, w.shape, **case.options)
    np.testing.assert_allclose(dw, numeric_gradient(lambda v: loss(x, v, b), w, step=1), **close)
    db = conv2d_bias_grad(dy)
    np.testing.assert_allclose(db, numeric_gradient(lambda v: loss(x, w, v), b, step=1), **close)
    db_map = conv2d_bias_grad(dy, per_pixel=True)
    np.testing.assert_allclose(
        db_map, numeric_gradient(lambda v: loss(x, w, v), b_map, step=1), **close
    )


@settings(deadline=None, max_examples=60)
@given(case=conv_cases(max_channels=3), seed=seeds())
def test_loops_are_equal_on_integers(case, seed):
    rng = np.random.default_rng(seed)
    x, w, dy = (small_integers(rng, shape, np.float32) for shape in case.shapes)
    bias_shape = (case.K,) if seed % 2 else case.output_shape[-3:]
    b = small_integers(rng, bias_shape, np.float32)
    # exact in either type of arithmetic, whatever the order of the sums
    with compute_in("input" if seed % 3 else "float64"):
        y = conv2d(x, w, b, **case.options)
        dx = conv2d_input_grad(dy, w, x.shape, **case.options)
        dw = conv2d_weight_grad(x, dy, w.shape, **case.options)
    assert (y.shape, dx.shape, dw.shape) == (dy.shape, x.shape, w.shape)
    np.testing.assert_array_equal(y, loops.conv2d(x, w, b, **case.options))
    np.testing.assert_array_equal(dx, loops.conv2d_input_grad(dy, w, x.shape, **case.options))
    np.testing.assert_array_equal(dw, loops.conv2d_weight_grad(x, dy, w.shape, **case.options))


@settings(deadline=None, max_examples=100)
@given(case=conv_cases(max_length=14, max_channels=8), seed=seeds())
def test_adjoint_identity(case, seed):
    """<conv(x, w), dy> = <x, dx> = <w, dw>, exactly on integers."""
    rng = np.random.default_rng(seed)
    x, w, dy = (small_integers(rng, shape) for shape in case.shapes)
    product = np.sum(conv2d(x, w, **case.options) * dy)
    assert np.sum(x * conv2d_input_grad(dy, w, x.shape, **case.options)) == product
    assert np.sum(w * conv2d_weight_grad(x, dy, w.shape, **case.options)) == product


def test_pieces_of_a_large_batch_add_up(monkeypatch):
    rng = np.random.default_rng(2)
    x, w = small_integers(rng, (7, 2, 6, 6)), small_integers(rng, (3, 2, 3, 3))
    dy = small_integers(rng, (7, 3, 4, 4))
    whole = conv2d(x, w), conv2d_weight_grad(x, dy, w.shape)
    # room for the columns of two images: 2 channels, 3x3 cells, 4x4 outputs, 8 bytes
    monkeypatch.setattr("fastcnn.reference.conv.COLUMN_BYTES", 2 * (2 * 9 * 16 * 8))
    np.testing.assert_array_equal(conv2d(x, w), whole[0])
    np.testing.assert_array_equal(conv2d_weight_grad(x, dy, w.shape), whole[1])


def test_scipy_agrees_on_what_valid_and_full_mean():
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 3, 9, 8)), rng.standard_normal((4, 3, 3, 2))
    dy = rng.standard_normal((2, 4, 7, 7))
    y, dx = np.zeros_like(dy), np.zeros_like(x)
    dw = np.zeros_like(w)
    for n, k, c in np.ndindex(2, 4, 3):
        y[n, k] += correlate2d(x[n, c], w[k, c], mode="valid")
        dx[n, c] += convolve2d(dy[n, k], w[k, c], mode="full")
        dw[k, c] += correlate2d(x[n, c], dy[n, k], mode="valid")
    np.testing.assert_allclose(conv2d(x, w), y, atol=1e-12)
    np.testing.assert_allclose(conv2d_input_grad(dy, w, x.shape), dx, atol=1e-12)
    np.testing.assert_allclose(conv2d_weight_grad(x, dy, w.shape), dw, atol=1e-12)


def test_float32_is_rounded_once():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((2, 8, 9, 9)).astype(np.float32)
    w = rng.standard_normal((4, 8, 3, 3)).astype(np.float32)
    exact = conv2d(x.astype(np.float64), w.astype(np.float64))
    np.testing.assert_array_equal(conv2d(x, w), exact.astype(np.float32))


def test_nan_and_inf_stay_within_the_windows_that_see_them():
    x = np.zeros((1, 1, 5, 5))
    x[0, 0, 0, 0], x[0, 0, 4, 4] = np.nan, np.inf
    y = conv2d(x, np.ones((1, 1, 2, 2)))
    expected = np.zeros((4, 4))
    expected[0, 0], expected[3, 3] = np.nan, np.inf
    np.testing.assert_array_equal(y[0, 0], expected)


def test_input_without_rows_gives_the_bias_where_padding_makes_windows():
    x, w, b = np.zeros((1, 1, 0, 3)), np.ones((1, 1, 2, 3)), np.array([5.0])
    np.testing.assert_array_equal(conv2d(x, w, b, padding=(1, 0)), [[[[5.0]]]])


class TestErrors:
    x, w = np.ones((2, 4, 5, 5)), np.ones((6, 4, 3, 3))

    @pytest.mark.parametrize(
        ("x_shape", "w_shape", "options", "message"),
        [
            (
                (2, 3, 5, 5),
                (6, 4, 3, 3),
                {},
                r"Given groups=1, weight of size \[6, 4, 3, 3\], expected input\[2, 3, 5, 5\] "
                "to have 4 channels, but got 3 channels instead",
            ),
            (
                (2, 4, 5, 5),
                (3, 2, 3, 3),
                {"groups": 2},
                "Given groups=2, expected weight to be divisible by 2 at dimension 0, "
                r"but got weight of size \[3, 2, 3, 3\] instead",
            ),
            (
                (1, 1, 2, 5),
                (1, 1, 2, 3),
                {"padding": (1, 0), "dilation": 4},
                r"Calculated padded input size per channel: \(4 x 5\). Kernel size: \(5 x 9\). "
                "Kernel size can't be greater than actual input size",
            ),
            ((5, 5), (1, 1, 3, 3), {}, r"Expected 3D \(unbatched\) or 4D \(batched\) input"),
            ((1, 1, 5, 5), (1, 3, 3), {}, r"expected a weight of shape \(K, C/groups, R, S\)"),
            ((1, 0, 5, 5), (1, 0, 3, 3), {}, "without zero sizes"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": "foo"}, "Invalid padding string: 'foo'"),
            (
                (1, 1, 5, 5),
                (1, 1, 3, 3),
                {"padding": "same", "stride": 2},
                "padding='same' is not supported for strided convolutions",
            ),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": -1}, "padding must be at least 0"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": (1, 2, 3)}, "padding must be .* 4 ints"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"stride": 0}, "stride must be at least 1"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"stride": (1, 2, 3)}, "stride must be .* 2 ints"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"dilation": (1, 0)}, "dilation must be at least 1"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"groups": 0}, "groups must be at least 1"),
        ],
    )
    def test_shapes_that_do_not_fit(self, x_shape, w_shape, options, message):
        for function in (conv2d, loops.conv2d):
            with pytest.raises(ValueError, match=message):
                function(np.ones(x_shape), np.ones(w_shape), **options)

    @pytest.mark.parametrize("value", [1.5, "2", True, (1, 2.0), None])
    def test_options_that_are_no_ints(self, value):
        with pytest.raises(TypeError, match="stride must be an int or 2 ints, but got"):
            conv2d(self.x, self.w, stride=value)

    @pytest.mark.parametrize("shape", [(5,), (1, 1), (6, 1, 1), (6, 5, 5), (1, 6, 3, 3), ()])
    def test_bias(self, shape):
        for function in (conv2d, loops.conv2d):
            with pytest.raises(
                ValueError,
                match=r"Given weight of size \[6, 4, 3, 3\], expected bias to be 1-dimensional "
                "with 6 elements, but got bias of size .* instead",
            ):
                function(self.x, self.w, np.ones(shape))

    @pytest.mark.parametrize("shape", [(2, 6, 1, 1), (1, 6, 3, 3), (6, 3, 3), (2, 6, 4, 3)])
    def test_dy_does_not_broadcast(self, shape):
        for module in (loops, reference):
            with pytest.raises(ValueError, match=r"dy must have shape \(2, 6, 3, 3\)"):
                module.conv2d_input_grad(np.ones(shape), self.w, self.x.shape)
            with pytest.raises(ValueError, match=r"dy must have shape \(2, 6, 3, 3\)"):
                module.conv2d_weight_grad(self.x, np.ones(shape), self.w.shape)

    def test_shape_arguments(self):
        dy = np.ones((2, 6, 3, 3))
        with pytest.raises(ValueError, match="input_shape must be 3 ints or 4 ints"):
            conv2d_input_grad(dy, self.w, (5, 5))
        with pytest.raises(TypeError, match="input_shape must be 3 ints or 4 ints"):
            conv2d_input_grad(dy, self.w, (None, 4, 5, 5))
        with pytest.raises(ValueError, match="input_shape must be at least 0"):
            conv2d_input_grad(dy, self.w, (-1, 4, 5, 5))
        with pytest.raises(ValueError, match="dy must be 4-D or 3-D"):
            conv2d_bias_grad(np.ones((6, 3)))
