"""The dense layer: by hand, by finite differences, and its shapes."""

import numpy as np
import pytest

from fastcnn.reference import dense, dense_bias_grad, dense_input_grad, dense_weight_grad
from tests.finite_differences import numeric_gradient


class TestByHand:
    x = np.array([[1.0, 2, 3], [4, 5, 6]])
    w = np.array([[1.0, 0, -1], [0, 10, 100]])
    dy = np.array([[1.0, 2], [3, 4]])

    def test_forward(self):
        np.testing.assert_array_equal(dense(self.x, self.w), [[-2, 320], [-2, 650]])
        y = dense(self.x, self.w, np.array([1.0, 2]))
        np.testing.assert_array_equal(y, [[-1, 322], [-1, 652]])

    def test_gradients(self):
        dx = dense_input_grad(self.dy, self.w)
        np.testing.assert_array_equal(dx, [[1, 20, 199], [3, 40, 397]])
        dw = dense_weight_grad(self.x, self.dy)
        np.testing.assert_array_equal(dw, [[13, 17, 21], [18, 24, 30]])
        np.testing.assert_array_equal(dense_bias_grad(self.dy), [4, 6])

    def test_one_image_without_a_batch_axis(self):
        x, dy, b = self.x[0], self.dy[0], np.array([1.0, 2])
        np.testing.assert_array_equal(dense(x, self.w, b), [-1, 322])
        np.testing.assert_array_equal(dense_input_grad(dy, self.w), [1, 20, 199])
        np.testing.assert_array_equal(dense_weight_grad(x, dy), [[1, 2, 3], [2, 4, 6]])
        np.testing.assert_array_equal(dense_bias_grad(dy), dy)

    def test_the_bias_gradient_is_not_dy_itself(self):
        assert not np.shares_memory(dense_bias_grad(self.dy[0]), self.dy)


def test_gradients_are_finite_differences():
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal((3, 4)), rng.standard_normal((2, 4)), rng.standard_normal(2)
    dy = rng.standard_normal((3, 2))

    def loss(x, w, b):
        return np.sum(dy * dense(x, w, b))

    close = {"rtol": 1e-10, "atol": 1e-10}
    dx = numeric_gradient(lambda v: loss(v, w, b), x, step=1)
    np.testing.assert_allclose(dense_input_grad(dy, w), dx, **close)
    dw = numeric_gradient(lambda v: loss(x, v, b), w, step=1)
    np.testing.assert_allclose(dense_weight_grad(x, dy), dw, **close)
    db = numeric_gradient(lambda v: loss(x, w, v), b, step=1)
    np.testing.assert_allclose(dense_bias_grad(dy), db, **close)


def test_empty_batch():
    x, w, dy = np.zeros((0, 3)), np.ones((2, 3)), np.zeros((0, 2))
    assert dense(x, w, np.ones(2)).shape == (0, 2)
    assert dense_input_grad(dy, w).shape == (0, 3)
    np.testing.assert_array_equal(dense_weight_grad(x, dy), np.zeros((2, 3)))
    np.testing.assert_array_equal(dense_bias_grad(dy), np.zeros(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: dense(np.ones((2, 3)), np.ones((3, 2))),
            "expected x to have 2 features, but got 3",
        ),
        (lambda: dense(np.ones((2, 3, 1)), np.ones((3, 1))), "flatten it first"),
        (lambda: dense(np.ones((2, 3)), np.ones(3)), r"expected w to be \(out, in\)"),
        (
            lambda: dense(np.ones((2, 3)), np.ones((4, 3)), np.ones(1)),
            r"b must have shape \(4,\)",
        ),
        (
            lambda: dense(np.ones((2, 3)), np.ones((4, 3)), np.ones((1, 4))),
            r"b must have shape \(4,\)",
        ),
        (
            lambda: dense_input_grad(np.ones((2, 3)), np.ones((4, 3))),
            "expected dy to have 4 features, but got 3",
        ),
        (
            lambda: dense_weight_grad(np.ones((2, 3)), np.ones((1, 4))),
            "expected x and dy of equally many images",
        ),
        (
            lambda: dense_weight_grad(np.ones(3), np.ones((1, 4))),
            "expected x and dy of equally many images",
        ),
        (lambda: dense_bias_grad(np.ones((2, 3, 4))), "expected dy to be"),
    ],
)
def test_shapes_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
