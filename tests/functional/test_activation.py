"""Activations on kernels, against the reference, by hand, and where numbers end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from fastcnn import functional, reference
from fastcnn.functional import (
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
from tests.functional.accuracy import DTYPES, tolerance
from tests.geometries import seeds

FORWARD = ("relu", "sigmoid", "tanh", "softmax", "flatten")
BACKWARD = ("relu_grad", "sigmoid_grad", "tanh_grad", "softmax_grad")
# More elements than one chunk, and not a multiple of it.
LONG = 10_001

every_dtype = pytest.mark.parametrize("dtype", DTYPES)


class TestAgainstTheReference:
    @settings(deadline=None, max_examples=60)
    @given(shape=array_shapes(min_dims=0, min_side=0), dtype=st.sampled_from(DTYPES), seed=seeds())
    def test_elementwise(self, shape, dtype, seed):
        rng = np.random.default_rng(seed)
        x, dy = rng.normal(0, 5, (2, *shape)).astype(dtype)
        x = np.where(rng.random(shape) < 0.2, dtype(0), x)
        at_zero = rng.choice([0.0, 0.5, 1.0])
        np.testing.assert_array_equal(relu(x), reference.relu(x), strict=True)
        ours, theirs = relu_grad(dy, x, at_zero), reference.relu_grad(dy, x, at_zero)
        np.testing.assert_array_equal(ours, theirs, strict=True)
        for name in ("sigmoid", "tanh"):
            y = getattr(reference, name)(x)
            near = tolerance(dtype, largest=1)
            np.testing.assert_allclose(getattr(functional, name)(x), y, strict=True, **near)
            ours = getattr(functional, f"{name}_grad")(dy, y)
            theirs = getattr(reference, f"{name}_grad")(dy, y)
            np.testing.assert_allclose(ours, theirs, strict=True, **tolerance(dtype))

    @settings(deadline=None, max_examples=60)
    @given(
        shape=array_shapes(max_dims=4, max_side=7),
        axis=st.integers(-4, 3),
        dtype=st.sampled_from(DTYPES),
        seed=seeds(),
    )
    def test_softmax(self, shape, axis, dtype, seed):
        axis = axis % len(shape) - (len(shape) if axis < 0 else 0)
        rng = np.random.default_rng(seed)
        x, dy = rng.normal(0, 3, (2, *shape)).astype(dtype)
        y = reference.softmax(x, axis)
        # the exponent's rounding counts as many times as the exponent is large
        np.testing.assert_allclose(softmax(x, axis), y, strict=True, **tolerance(dtype, 32))
        ours, theirs = softmax_grad(dy, y, axis), reference.softmax_grad(dy, y, axis)
        near = tolerance(dtype, 8, largest=np.abs(dy).max())
        np.testing.assert_allclose(ours, theirs, strict=True, **near)

    @every_dtype
    @pytest.mark.parametrize("shape", [(LONG,), (73, 137), (137, 73), (2, LONG)])
    @pytest.mark.parametrize("axis", [0, -1])
    def test_longer_than_a_chunk(self, shape, axis, dtype):
        rng = np.random.default_rng(8)
        x, dy = rng.standard_normal((2, *shape)).astype(dtype)
        np.testing.assert_array_equal(relu(x), reference.relu(x))
        np.testing.assert_array_equal(relu_grad(dy, x), reference.relu_grad(dy, x))
        for name in ("sigmoid", "tanh"):
            y = getattr(reference, name)(x)
            ours, theirs = getattr(functional, f"{name}_grad"), getattr(reference, f"{name}_grad")
            near = tolerance(dtype, largest=1)
            np.testing.assert_allclose(getattr(functional, name)(x), y, **near)
            np.testing.assert_allclose(ours(dy, y), theirs(dy, y), **near)
        y = reference.softmax(x, axis)
        np.testing.assert_allclose(softmax(x, axis), y, **tolerance(dtype, 200))
        np.testing.assert_allclose(softmax(x, axis).sum(axis), 1, rtol=200 * np.finfo(dtype).eps)
        ours, theirs = softmax_grad(dy, y, axis), reference.softmax_grad(dy, y, axis)
        np.testing.assert_allclose(ours, theirs, **tolerance(dtype, 8, largest=1))


class TestWhereNumbersEnd:
    @every_dtype
    def test_relu(self, dtype):
        x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, -1e-40], dtype)
        np.testing.assert_array_equal(relu(x), np.array([np.nan, np.inf, 0, 0, 0, 0], dtype))

    @every_dtype
    def test_relu_grad_selects(self, dtype):
        dy = np.array([np.inf, np.nan, np.inf, 2, -3, np.nan], dtype)
        x = np.array([-1, -np.inf, 0, np.nan, np.inf, 1], dtype)
        expected = np.array([0, 0, 0, 2, -3, np.nan], dtype)
        np.testing.assert_array_equal(relu_grad(dy, x, at_zero=0), expected)

    @pytest.mark.parametrize(("at_zero", "expected"), [(0, 0), (0.25, 1), (1.0, 4)])
    def test_relu_grad_at_zero_is_a_choice(self, at_zero, expected):
        dx = relu_grad([4.0, 4.0, 4.0, 4.0], [-1.0, -0.0, 0.0, 1.0], at_zero)
        np.testing.assert_array_equal(dx, [0, expected, expected, 4])

    def test_relu_grad_is_one_at_zero_as_the_lecture_has_it(self):
        assert relu_grad(np.float32([5]), np.float32([0])) == 5

    @every_dtype
    def test_sigmoid(self, dtype):
        x = np.array([-np.inf, -1e4, -800, -90, 0, 90, 800, 1e4, np.inf, np.nan], dtype)
        y = sigmoid(x)
        np.testing.assert_array_equal(y[[0, 1, 4, 6, 7, 8, 9]], [0, 0, 0.5, 1, 1, 1, np.nan])
        np.testing.assert_allclose(y[3], np.exp(-90.0), rtol=1e-6)

    @every_dtype
    def test_tanh(self, dtype):
        x = np.array([-np.inf, -1e4, 0, 1e4, np.inf, np.nan], dtype)
        np.testing.assert_array_equal(tanh(x), [-1, -1, 0, 1, 1, np.nan])

    @every_dtype
    def test_saturated_gradients(self, dtype):
        dy = np.array([3, -2, np.nan, np.inf], dtype)
        np.testing.assert_array_equal(sigmoid_grad(dy, np.array([0, 1, 0.5, 0.5], dtype)),
                                      np.array([0, 0, np.nan, np.inf], dtype))  # fmt: skip
        np.testing.assert_array_equal(tanh_grad(dy, np.array([1, -1, 0, 0], dtype)),
                                      np.array([0, 0, np.nan, np.inf], dtype))  # fmt: skip

    def test_tanh_grad_keeps_its_digits_near_one(self):
        y = np.float32(1) - np.float32(2**-24)
        assert tanh_grad(np.float32([1]), np.float32([y])) == np.float32(2**-23)

    @every_dtype
    def test_softmax_of_large_numbers(self, dtype):
        x = np.array([[1e4, -1e4, 1e4], [-1e4, -1e4, -1e4], [-np.inf, 0, 1e-30]], dtype)
        third = dtype(1) / dtype(3)
        np.testing.assert_array_equal(softmax(x), [[0.5, 0, 0.5], [third] * 3, [0, 0.5, 0.5]])

    @every_dtype
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_softmax_makes_the_whole_row_nan(self, bad, place, dtype):
        x = np.zeros((2, 3), dtype)
        x[0, place] = bad
        y = softmax(x)
        assert np.isnan(y[0]).all()
        assert not np.isnan(y[1]).any()

    def test_softmax_grad_by_hand(self):
        # s = (1/2, 1/4, 1/4), ds = (8, 4, 0): sum s ds = 5, dz = s (ds - 5)
        dx = softmax_grad(np.float32([[8, 4, 0]]), np.float32([[0.5, 0.25, 0.25]]))
        np.testing.assert_array_equal(dx, np.float32([[1.5, -0.25, -1.25]]))

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
    @pytest.mark.parametrize("name", FORWARD)
    def test_nothing_in_nothing_out(self, name, shape):
        y = getattr(functional, name)(np.zeros(shape, np.float32))
        assert y.dtype == np.float32
        assert y.shape == ((shape[0], int(np.prod(shape[1:]))) if name == "flatten" else shape)
        assert getattr(reference, name)(np.zeros(shape)).shape == y.shape

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
    @pytest.mark.parametrize("name", BACKWARD)
    def test_no_gradient_of_nothing(self, name, shape):
        nothing = np.zeros(shape)
        assert getattr(functional, name)(nothing, nothing).shape == shape


def test_flatten_is_row_major():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(flatten(x), [range(12), range(12, 24)])
    np.testing.assert_array_equal(flatten(np.asfortranarray(x)), flatten(x))
    assert flatten([1.0, 2.0]).shape == (2, 1)


class TestErrors:
    @pytest.mark.parametrize("name", FORWARD)
    def test_types(self, name):
        function = getattr(functional, name)
        with pytest.raises(TypeError, match=r"x must be float32 or float64, but got int64.*astype"):
            function(np.ones((2, 2), np.int64))
        with pytest.raises(TypeError, match="x must be float32 or float64, but got float16"):
            function(np.ones((2, 2), np.float16))
        with pytest.raises(TypeError, match=r"x must be a NumPy array .* but got NoneType"):
            function(None)

    @pytest.mark.parametrize("name", BACKWARD)
    def test_gradients(self, name):
        function = getattr(functional, name)
        kept = "x" if name == "relu_grad" else "y"
        with pytest.raises(TypeError, match=f"mixed types: {kept} is float64|mixed types: dy is"):
            function(np.ones((2, 2), np.float32), np.ones((2, 2)))
        with pytest.raises(ValueError, match=rf"dy must have shape \(2, 1\) \(the shape of {kept}"):
            function(np.ones((2, 2)), np.ones((2, 1)))

    @pytest.mark.parametrize("axis", [2, -3])
    def test_no_such_axis(self, axis):
        x = np.ones((2, 3))
        for call in (lambda: softmax(x, axis), lambda: softmax_grad(x, x, axis)):
            with pytest.raises(ValueError, match=f"axis {axis} is out of bounds for array of dim"):
                call()
        with pytest.raises(TypeError, match="axis must be an int, but got 'rows'"):
            softmax(x, "rows")

    def test_softmax_needs_an_axis(self):
        with pytest.raises(ValueError, match="axis -1 is out of bounds for array of dimension 0"):
            softmax(np.float32(1))

    def test_flatten_needs_images(self):
        with pytest.raises(ValueError, match=r"x must have a batch axis, \(N, \.\.\.\)"):
            flatten(np.float32(1))

    def test_at_zero_is_a_number(self):
        with pytest.raises(TypeError, match="at_zero must be a number, but got '1'"):
            relu_grad(np.ones(2), np.ones(2), "1")


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")

    @every_dtype
    @pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax"])
    def test_forward_and_gradient(self, name, dtype):
        rng = np.random.default_rng(11)
        x, dy = rng.normal(0, 3, (2, 6, 8)).astype(dtype)
        x[0, :3] = 0, 1e4, -1e4
        tx = self.torch.tensor(x, requires_grad=True)
        ty = tx.softmax(1) if name == "softmax" else getattr(self.torch, name)(tx)
        (tdx,) = self.torch.autograd.grad(ty, tx, self.torch.tensor(dy))
        y = getattr(functional, name)(x)
        near = tolerance(dtype, 32, largest=1)
        np.testing.assert_allclose(y, ty.detach(), **near)
        if name == "relu":
            np.testing.assert_array_equal(relu_grad(dy, x, at_zero=0.0), tdx)
        else:
            ours = getattr(functional, f"{name}_grad")(dy, ty.detach().numpy())
            np.testing.assert_allclose(ours, tdx, **near)

    def test_tensors_come_in(self):
        x = self.torch.tensor([[-1.0, 2.0]])
        np.testing.assert_array_equal(relu(x), np.float32([[0, 2]]), strict=True)
        with pytest.raises(TypeError, match=r"pass x\.detach\(\)"):
            relu(x.requires_grad_())
