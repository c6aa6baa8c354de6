"""Activations: values by hand, gradients by finite differences, and the extremes."""

import numpy as np
import pytest

from fastcnn.reference import (
    flatten,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_grad,
    tanh,
    tanh_grad,
)
from tests.finite_differences import numeric_gradient

LOG3 = np.log(3.0)
EXTREMES = np.array([-1e4, -750.0, -90.0, 0.0, 90.0, 750.0, 1e4])


class TestRelu:
    def test_values(self):
        np.testing.assert_array_equal(relu([-2.0, 0.0, 3.0]), [0, 0, 3])

    def test_nan_and_inf(self):
        np.testing.assert_array_equal(relu([np.nan, np.inf, -np.inf]), [np.nan, np.inf, 0])

    def test_gradient_is_one_at_zero_as_the_lecture_has_it(self):
        np.testing.assert_array_equal(relu_grad([5.0, 6.0, 7.0], [-1.0, 0.0, 1.0]), [0, 6, 7])

    @pytest.mark.parametrize(("at_zero", "expected"), [(0.0, 0), (0.5, 3), (1.0, 6)])
    def test_gradient_at_zero_is_a_choice(self, at_zero, expected):
        dx = relu_grad([5.0, 6.0, 7.0], [-1.0, -0.0, 1.0], at_zero)
        np.testing.assert_array_equal(dx, [0, expected, 7])

    def test_gradient_selects(self):
        dy = np.array([np.inf, np.nan, np.inf])
        np.testing.assert_array_equal(relu_grad(dy, np.array([-1.0, -1.0, 0.0]), 0.0), [0, 0, 0])
        np.testing.assert_array_equal(relu_grad([2.0], [np.nan]), [2])


class TestSigmoid:
    def test_values(self):
        np.testing.assert_allclose(sigmoid([0.0, LOG3, -LOG3]), [0.5, 0.75, 0.25], rtol=1e-15)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_extremes(self, dtype):
        y = sigmoid(EXTREMES.astype(dtype))
        assert np.all((y >= 0) & (y <= 1))
        assert np.all(np.diff(y) >= 0)
        np.testing.assert_array_equal(y[[0, 3, -1]], [0, 0.5, 1])
        np.testing.assert_array_equal(sigmoid([np.nan, np.inf, -np.inf]), [np.nan, 1, 0])

    def test_small_values_keep_their_digits(self):
        np.testing.assert_allclose(sigmoid([-100.0]), np.exp(-100.0), rtol=1e-14)

    def test_gradient_by_hand(self):
        np.testing.assert_allclose(sigmoid_grad([8.0, 8.0], [0.5, 0.25]), [2.0, 1.5])


class TestTanh:
    def test_values(self):
        # tanh(log 3) = (9 - 1) / (9 + 1)
        np.testing.assert_allclose(tanh([0.0, LOG3, -LOG3]), [0, 0.8, -0.8], rtol=1e-15)
        np.testing.assert_array_equal(tanh(EXTREMES)[[0, -1]], [-1, 1])

    def test_gradient_by_hand(self):
        np.testing.assert_allclose(tanh_grad([100.0, 10.0], [0.8, 0.0]), [36, 10])


class TestSoftmax:
    def test_values(self):
        np.testing.assert_allclose(softmax([[0.0, LOG3], [LOG3, LOG3]]), [[0.25, 0.75], [0.5, 0.5]])

    def test_axis(self):
        x = np.random.default_rng(0).standard_normal((2, 3, 4))
        np.testing.assert_allclose(softmax(x, axis=1).sum(axis=1), np.ones((2, 4)))
        np.testing.assert_array_equal(softmax(x, axis=1), softmax(x, axis=-2))
        with pytest.raises(ValueError, match="axis 3 is out of bounds"):
            softmax(x, axis=3)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_extremes(self, dtype):
        y = softmax(np.array([[-1e4, 0, 1e4], [1e4, 1e4, -1e4]], dtype))
        np.testing.assert_array_equal(y, [[0, 0, 1], [0.5, 0.5, 0]])

    def test_masked_classes(self):
        np.testing.assert_array_equal(softmax([[-np.inf, 0.0, 0.0]]), [[0, 0.5, 0.5]])

    def test_gradient_by_hand(self):
        # s = (1/4, 3/4): ds0/dz0 = 3/16, ds1/dz0 = -3/16
        dz = softmax_grad([[16.0, 0.0], [0.0, 32.0]], [[0.25, 0.75], [0.25, 0.75]])
        np.testing.assert_allclose(dz, [[3, -3], [-6, 6]])

    def test_the_whole_jacobian(self):
        z = np.array([0.3, -1.2, 0.7])
        s = softmax(z)
        jacobian = np.diag(s) - np.outer(s, s)
        rows = [softmax_grad(unit, s) for unit in np.eye(3)]
        np.testing.assert_allclose(rows, jacobian, rtol=1e-14)

    def test_empty_batch(self):
        assert softmax(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (relu, lambda dy, x, y: relu_grad(dy, x)),
        (sigmoid, lambda dy, x, y: sigmoid_grad(dy, y)),
        (tanh, lambda dy, x, y: tanh_grad(dy, y)),
        (softmax, lambda dy, x, y: softmax_grad(dy, y)),
        (lambda x: softmax(x, axis=0), lambda dy, x, y: softmax_grad(dy, y, axis=0)),
    ],
    ids=["relu", "sigmoid", "tanh", "softmax", "softmax axis 0"],
)
def test_gradients_are_finite_differences(forward, backward):
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((4, 5)), rng.standard_normal((4, 5))
    assert np.abs(x).min() > 1e-3  # away from relu's kink
    numeric = numeric_gradient(lambda v: np.sum(dy * forward(v)), x)
    np.testing.assert_allclose(backward(dy, x, forward(x)), numeric, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("backward", [relu_grad, sigmoid_grad, tanh_grad, softmax_grad])
def test_gradients_do_not_broadcast(backward):
    with pytest.raises(ValueError, match=r"dy must have shape \(2, 3\)"):
        backward(np.ones((2, 1)), np.ones((2, 3)))


@pytest.mark.parametrize("function", [relu, sigmoid, tanh])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 2, 3, 4, 5)])
def test_any_shape(function, shape):
    result = function(np.zeros(shape, np.float32))
    assert isinstance(result, np.ndarray)
    assert result.shape == shape


class TestFlatten:
    def test_one_row_per_image(self):
        x = np.arange(12.0).reshape(2, 3, 1, 2)
        np.testing.assert_array_equal(flatten(x), np.arange(12.0).reshape(2, 6))

    def test_empty_batch_keeps_its_features(self):
        assert flatten(np.zeros((0, 2, 3))).shape == (0, 6)

    def test_no_batch_axis(self):
        with pytest.raises(ValueError, match=r"expected x to have a batch axis, \(N, ...\)"):
            flatten(np.float64(1))
