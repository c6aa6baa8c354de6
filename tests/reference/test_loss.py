"""Losses: values by hand, gradients by finite differences, certain mistakes, bad targets."""

import numpy as np
import pytest

from fastcnn import reference
from tests.finite_differences import numeric_gradient

NAMES = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "categorical_cross_entropy_with_logits",
    "half_squared_error",
]
LOG2, LOG4 = np.log(2.0), np.log(4.0)
REDUCTIONS = ["mean", "sum", "none"]


def functions(name):
    return getattr(reference, name), getattr(reference, f"{name}_grad")


class TestByHand:
    def check(self, name, p, y, each, gradient, count):
        """Losses and the gradient of their sum, and how many the mean is over."""
        loss, grad = functions(name)
        p, y = np.array(p), np.array(y)
        gradient = np.array(gradient)
        np.testing.assert_allclose(loss(p, y, "none"), each, rtol=1e-14)
        np.testing.assert_allclose(loss(p, y, "sum"), np.sum(each), rtol=1e-14)
        np.testing.assert_allclose(loss(p, y), np.sum(each) / count, rtol=1e-14)
        np.testing.assert_allclose(grad(p, y, "none"), gradient, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(grad(p, y, "sum"), gradient, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(grad(p, y), gradient / count, rtol=1e-14, atol=1e-15)

    def test_binary_cross_entropy_is_averaged_over_elements(self):
        # dp = (p - y) / (p (1 - p)): -0.75 / (3/16) = -4, and 0.5 / (1/4) = 2
        self.check(
            "binary_cross_entropy",
            [[0.25, 0.5], [0.5, 0.75]],
            [[1.0, 0.0], [0.5, 1.0]],
            [[LOG4, LOG2], [LOG2, np.log(4 / 3)]],
            [[-4.0, 2.0], [0.0, -4 / 3]],
            count=4,
        )

    def test_binary_cross_entropy_with_logits(self):
        # sigmoid(log 3) = 3/4
        self.check(
            "binary_cross_entropy_with_logits",
            [[np.log(3.0), 0.0]],
            [[0.0, 1.0]],
            [[LOG4, LOG2]],
            [[0.75, -0.5]],
            count=2,
        )

    @pytest.mark.parametrize(
        "y", [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], np.array([1, 2]), np.array([1, 2], np.uint8)]
    )
    def test_categorical_cross_entropy_is_averaged_over_images(self, y):
        self.check(
            "categorical_cross_entropy",
            [[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]],
            y,
            [LOG4, LOG2],
            [[0, -4.0, 0], [0, 0, -2.0]],
            count=2,
        )

    @pytest.mark.parametrize("y", [[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]], np.array([1, 2])])
    def test_categorical_cross_entropy_with_logits(self, y):
        self.check(
            "categorical_cross_entropy_with_logits",
            [[LOG2, 0.0, 0.0], [7.0, 7.0, 7.0 + LOG2]],
            y,
            [LOG4, LOG2],
            [[0.5, -0.75, 0.25], [0.25, 0.25, -0.5]],
            count=2,
        )

    def test_half_squared_error_is_summed_over_outputs(self):
        self.check(
            "half_squared_error",
            [[1.0, 2.0], [3.0, 4.0]],
            [[0.0, 4.0], [3.0, 0.0]],
            [[0.5, 2.0], [0.0, 8.0]],
            [[1.0, -2.0], [0.0, 4.0]],
            count=2,
        )

    def test_half_squared_error_of_one_output_per_image(self):
        self.check("half_squared_error", [1.0, 2.0], [0.0, 4.0], [0.5, 2], [1.0, -2.0], count=2)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences(name, reduction):
    loss, grad = functions(name)
    rng = np.random.default_rng(0)
    y = rng.dirichlet(np.ones(3), size=4)
    p = rng.standard_normal((4, 3)) if "logits" in name else rng.uniform(0.1, 0.9, (4, 3))
    numeric = numeric_gradient(lambda v: np.sum(loss(v, y, reduction)), p)
    np.testing.assert_allclose(grad(p, y, reduction), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("name", NAMES[2:4])
def test_integer_labels_are_one_hot_targets(name, reduction):
    p = reference.softmax(np.random.default_rng(0).standard_normal((5, 4)))
    labels = np.array([3, 0, 1, 1, 2], np.int32)
    for function in functions(name):
        by_label = function(p, labels, reduction)
        np.testing.assert_array_equal(by_label, function(p, np.eye(4)[labels], reduction))


class TestCertainty:
    """Probabilities of 0 and 1, and logits of +-1e4: finite, and right."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_binary_probabilities(self, dtype):
        p, y = np.array([0, 0, 1, 1], dtype), np.array([0, 1, 0, 1], dtype)
        loss, grad = functions("binary_cross_entropy")
        np.testing.assert_array_equal(loss(p, y, "none"), [0, 100, 100, 0])
        np.testing.assert_allclose(grad(p, y, "sum"), [0, -1e12, 1e12, 0], rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_binary_logits(self, dtype):
        z, y = np.array([-1e4, -1e4, 1e4, 1e4], dtype), np.array([0, 1, 0, 1], dtype)
        loss, grad = functions("binary_cross_entropy_with_logits")
        np.testing.assert_array_equal(loss(z, y, "none"), [0, 1e4, 1e4, 0])
        np.testing.assert_array_equal(grad(z, y), [0, -0.25, 0.25, 0])

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_categorical_probabilities(self, dtype):
        p = np.array([[0, 1], [1, 0]], dtype)
        loss, grad = functions("categorical_cross_entropy")
        np.testing.assert_array_equal(loss(p, [0, 0], "none"), [100, 0])
        np.testing.assert_allclose(grad(p, [0, 0], "sum"), [[-1e12, 0], [-1, 0]], rtol=1e-6)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_categorical_logits(self, dtype):
        z = np.array([[-1e4, 1e4], [1e4, -1e4]], dtype)
        loss, grad = functions("categorical_cross_entropy_with_logits")
        np.testing.assert_array_equal(loss(z, [0, 0], "none"), [2e4, 0])
        np.testing.assert_array_equal(grad(z, [0, 0]), [[-0.5, 0.5], [0, 0]])

    def test_masked_classes_cost_nothing_where_they_are_not_the_target(self):
        z = np.array([[-np.inf, 0.0, 0.0]])
        loss, grad = functions("categorical_cross_entropy_with_logits")
        np.testing.assert_allclose(loss(z, [1]), LOG2)
        np.testing.assert_array_equal(grad(z, [1]), [[0, -0.5, 0.5]])

    @pytest.mark.parametrize("name", NAMES)
    def test_nan_is_not_hidden(self, name):
        loss, grad = functions(name)
        p, y = np.array([[np.nan, 0.5]]), np.array([[1.0, 0.0]])
        assert np.isnan(loss(p, y))
        assert np.isnan(grad(p, y)[0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_empty_batch(name):
    loss, grad = functions(name)
    p = np.zeros((0, 3))
    assert np.isnan(loss(p, p))
    assert loss(p, p, "sum") == 0
    assert grad(p, p).shape == (0, 3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_reduced_losses_are_numpy_scalars(name, reduction, kind):
    p = np.full((2, 2), 0.5, kind)
    assert type(functions(name)[0](p, p, reduction)) is kind


def test_long_sums_of_float32_are_exact():
    with reference.compute_in("input"):
        # float32 stops counting by halves at 2^23
        p = np.ones(1 + 2**20, np.float32)
        p[0] = 2**12
        assert reference.half_squared_error(p, 0 * p, "sum") == 2**23 + 2**19


class TestErrors:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("which", [0, 1])
    def test_reduction(self, name, which):
        p = np.full((2, 2), 0.5)
        with pytest.raises(ValueError, match="'avg' is not a valid value for reduction"):
            functions(name)[which](p, p, "avg")

    @pytest.mark.parametrize("name", [NAMES[0], NAMES[1], NAMES[4]])
    @pytest.mark.parametrize("which", [0, 1])
    def test_columns_against_rows(self, name, which):
        function = functions(name)[which]
        column, flat = np.full((4, 1), 0.5), np.full(4, 0.5)
        with pytest.raises(
            ValueError, match=r"\(4, 1\) against \(4,\): use y.reshape\(4, 1\) or y\[:, None\]"
        ):
            function(column, flat)
        with pytest.raises(ValueError, match=r"\(4,\) against \(4, 1\): use y.reshape\(4\)"):
            function(flat, column)
        with pytest.raises(ValueError, match=r"\(4, 1\) against \(4, 2\)$"):
            function(column, np.ones((4, 2)))

    @pytest.mark.parametrize("name", NAMES[2:4])
    @pytest.mark.parametrize("which", [0, 1])
    def test_labels(self, name, which):
        function = functions(name)[which]
        p = np.full((2, 3), 0.5)
        with pytest.raises(ValueError, match=r"expected labels in 0..2, but got 3 \(y\[1\]\)"):
            function(p, [0, 3])
        with pytest.raises(ValueError, match=r"expected labels in 0..2, but got -1 \(y\[0\]\)"):
            function(p, [-1, 3])
        with pytest.raises(ValueError, match=r"expected integer labels y of shape \(2,\)"):
            function(p, [[0], [1]])
        with pytest.raises(ValueError, match=r"expected integer labels y of shape \(2,\)"):
            function(p, np.eye(3, dtype=int)[:2])
        with pytest.raises(ValueError, match=r"to be \(N, classes\), but got shape \(3,\)"):
            function(p[0], [0])
        with pytest.raises(ValueError, match=r"\(2, 3\) against \(2,\)"):
            function(p, np.array([0.0, 1.0]))
        with pytest.raises(TypeError, match=r"mixed types: y is float32, but . is float64"):
            function(p, p.astype(np.float32))

    @pytest.mark.parametrize("name", [NAMES[0], NAMES[1], NAMES[4]])
    def test_integer_targets(self, name):
        with pytest.raises(TypeError, match="y must be float32 or float64, but got int64"):
            functions(name)[0](np.array([0.5]), np.array([1]))

    def test_half_squared_error_needs_images(self):
        with pytest.raises(ValueError, match="expected p to have a batch axis"):
            reference.half_squared_error(np.float64(1), np.float64(2))
