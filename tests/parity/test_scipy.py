"""The kernels against SciPy's correlation, convolution and maximum filter."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter
from scipy.signal import convolve, correlate

from fastcnn.functional import (
    conv2d,
    conv2d_input_grad,
    conv2d_weight_grad,
    max_pool2d,
)

CLOSE = {np.float32: {"rtol": 1e-4, "atol": 1e-4}, np.float64: {"rtol": 1e-12, "atol": 1e-12}}
floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@floats
@pytest.mark.parametrize("size", [(9, 8), (3, 40), (21, 20)])
def test_convolution_is_scipys_valid_and_its_gradients_are_full_and_valid(dtype, size):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 5, *size)).astype(dtype)
    w = rng.standard_normal((6, 5, 3, 4)).astype(dtype)
    y = conv2d(x, w)
    dy = rng.standard_normal(y.shape).astype(dtype)
    dx, dw = conv2d_input_grad(dy, w, x.shape), conv2d_weight_grad(x, dy, w.shape)
    wide = [a.astype(np.float64) for a in (x, w, dy)]
    x, w, dy = wide
    expected_y, expected_dx = np.zeros(y.shape), np.zeros(x.shape)
    expected_dw = np.zeros(w.shape)
    for n, k in np.ndindex(2, 6):
        # over all channels at once: the third axis has one valid position
        expected_y[n, k] = correlate(x[n], w[k], mode="valid", method="direct")[0]
        for c in range(5):
            expected_dx[n, c] += convolve(dy[n, k], w[k, c], mode="full", method="direct")
            expected_dw[k, c] += correlate(x[n, c], dy[n, k], mode="valid", method="direct")
    np.testing.assert_allclose(y, expected_y, **CLOSE[dtype])
    np.testing.assert_allclose(dx, expected_dx, **CLOSE[dtype])
    np.testing.assert_allclose(dw, expected_dw, **CLOSE[dtype])


@floats
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_strided_convolution_is_every_nth_of_scipys_same(dtype, stride):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 1, 15, 16)).astype(dtype)
    w = rng.standard_normal((1, 1, 5, 3)).astype(dtype)
    y = conv2d(x, w, stride=stride, padding=(2, 1))
    whole = correlate(x[0, 0].astype(float), w[0, 0].astype(float), mode="same", method="direct")
    v, h = (stride, stride) if isinstance(stride, int) else stride
    np.testing.assert_allclose(y[0, 0], whole[::v, ::h], **CLOSE[dtype])


@floats
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("window", [(3, 3), (5, 1), (17, 17)])
def test_pooling_is_every_nth_of_scipys_maximum_filter(dtype, stride, window):
    x = np.random.default_rng(3).standard_normal((2, 3, 20, 21)).astype(dtype)
    whole = maximum_filter(x, (1, 1, *window), mode="constant", cval=-np.inf)
    v, h = (stride, stride) if isinstance(stride, int) else stride
    padding = (window[0] // 2, window[1] // 2)
    y = max_pool2d(x, window, stride, padding)
    np.testing.assert_array_equal(y, whole[:, :, ::v, ::h])
