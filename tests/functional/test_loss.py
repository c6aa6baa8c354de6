"""Losses on kernels: against the reference, saturated, with certain probabilities, and refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from fastcnn import functional, reference
from fastcnn.functional import (
    binary_cross_entropy,
    binary_cross_entropy_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_grad,
    categorical_cross_entropy,
    categorical_cross_entropy_grad,
    categorical_cross_entropy_with_logits,
    categorical_cross_entropy_with_logits_grad,
    half_squared_error,
    half_squared_error_grad,
)
from tests.functional.accuracy import DTYPES, tolerance
from tests.geometries import seeds
from tests.layouts import dlpack

ELEMENTWISE = ("binary_cross_entropy", "binary_cross_entropy_with_logits", "half_squared_error")
CATEGORICAL = ("categorical_cross_entropy", "categorical_cross_entropy_with_logits")
REDUCTIONS = ("mean", "sum", "none")

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_loss = pytest.mark.parametrize("name", [*ELEMENTWISE, *CATEGORICAL])
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def data(rng, name, shape, dtype):
    """Scores and targets; some scores are extreme."""
    y = rng.random(shape).astype(dtype)
    if name.endswith("logits"):
        p = rng.normal(0, 5, shape)
        p = np.where(rng.random(shape) < 0.1, rng.choice([-1e4, 1e4, 0, -90, 90]), p)
    elif name == "half_squared_error":
        p = rng.normal(0, 5, shape)
    else:
        p = rng.random(shape)
        p = np.where(rng.random(shape) < 0.1, rng.choice([0, 1, 1e-30]), p)
    return p.astype(dtype), y


def assert_like_reference(name, p, y, reduction):
    """Same type, shape and numbers, for the loss and its gradient."""
    for suffix in ("", "_grad"):
        ours = getattr(functional, name + suffix)(p, y, reduction)
        theirs = getattr(reference, name + suffix)(p, y, reduction)
        assert type(ours) is type(theirs)
        assert ours.dtype == theirs.dtype == p.dtype
        assert ours.shape == theirs.shape
        near = tolerance(p.dtype, 32)
        if name.endswith("logits") and suffix:
            near = tolerance(p.dtype, 16, largest=1)  # a difference of probabilities
        elif name == "categorical_cross_entropy_with_logits":
            near = tolerance(p.dtype, 16, largest=np.abs(p).max())  # a difference of logits
        elif name == "binary_cross_entropy_with_logits":
            # the reference's max(z, 0) - z y, in float64
            near["atol"] = tolerance(np.float64, 4, largest=np.abs(p).max())["atol"]
        np.testing.assert_allclose(ours, theirs, **near)


class TestAgainstTheReference:
    @settings(deadline=None, max_examples=100)
    @given(
        name=st.sampled_from(ELEMENTWISE),
        shape=array_shapes(min_dims=1, max_dims=3),
        reduction=st.sampled_from(REDUCTIONS),
        dtype=st.sampled_from(DTYPES),
        seed=seeds(),
    )
    def test_elementwise(self, name, shape, reduction, dtype, seed):
        p, y = data(np.random.default_rng(seed), name, shape, dtype)
        assert_like_reference(name, p, y, reduction)

    @settings(deadline=None, max_examples=100)
    @given(
        name=st.sampled_from(CATEGORICAL),
        shape=array_shapes(min_dims=2, max_dims=2),
        reduction=st.sampled_from(REDUCTIONS),
        labels=st.sampled_from(["int8", "uint8", "int32", "int64", "uint64", None]),
        dtype=st.sampled_from(DTYPES),
        seed=seeds(),
    )
    def test_categorical(self, name, shape, reduction, labels, dtype, seed):
        rng = np.random.default_rng(seed)
        p, y = data(rng, name, shape, dtype)
        if labels is not None:
            y = rng.integers(0, shape[1], shape[0]).astype(labels)
        assert_like_reference(name, p, y, reduction)

    @every_dtype
    @every_loss
    @every_reduction
    @pytest.mark.parametrize("shape", [(1001, 10), (2, 9001), (5000, 1)])
    def test_longer_than_a_chunk(self, name, shape, reduction, dtype):
        rng = np.random.default_rng(12)
        p, y = data(rng, name, shape, dtype)
        y[rng.random(shape) < 0.5] = 0
        assert_like_reference(name, p, y, reduction)

    @every_dtype
    def test_long_sums_keep_their_digits(self, dtype):
        """A million losses of 0.005: a running float32 sum would be off by a thousandth."""
        p = np.full(10**6, 0.1, dtype)
        total = half_squared_error(p, np.zeros_like(p), "sum")
        np.testing.assert_allclose(total, 1e6 * np.square(p[0], dtype=float) / 2, rtol=1e-6)


class TestSaturated:
    """Every loss and gradient is finite for |z| up to 1e4 and for probabilities of 0 and 1."""

    Z = np.array([1e4, -1e4, 1e4, -1e4, 0.0])
    Y = np.array([0.0, 1.0, 1.0, 0.0, 1.0])

    @every_dtype
    def test_binary_logits(self, dtype):
        z, y = self.Z.astype(dtype), self.Y.astype(dtype)
        log2 = np.log(dtype(2))
        losses = binary_cross_entropy_with_logits(z, y, "none")
        np.testing.assert_allclose(losses, [1e4, 1e4, 0, 0, log2], rtol=1e-6)
        dz = binary_cross_entropy_with_logits_grad(z, y, "sum")
        np.testing.assert_array_equal(dz, [1, -1, 0, 0, -0.5])
        # document 001: +-1/m however saturated
        dz = binary_cross_entropy_with_logits_grad(z[:2], y[:2])
        np.testing.assert_array_equal(dz, [0.5, -0.5])

    @every_dtype
    @pytest.mark.parametrize(("z", "y"), [(20.0, 1.0), (-20.0, 0.0)])
    def test_a_nearly_certain_answer_still_has_a_gradient(self, z, y, dtype):
        """float32's sigmoid(20) is 1: taken literally, sigmoid(z) - y would be 0."""
        dz = binary_cross_entropy_with_logits_grad(np.array([z], dtype), np.array([y], dtype))
        np.testing.assert_allclose(dz, -np.sign(z) * np.exp(-20.0), rtol=1e-6)

    @every_dtype
    def test_categorical_logits(self, dtype):
        z = np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4], [-1e4, -1e4, -1e4]], dtype)
        labels = np.array([1, 0, 2])
        losses = categorical_cross_entropy_with_logits(z, labels, "none")
        np.testing.assert_allclose(losses, [2e4, np.log(2), np.log(3)], rtol=1e-6)
        dz = categorical_cross_entropy_with_logits_grad(z, labels, "sum")
        third = dtype(1) / dtype(3)
        expected = [[1, -1, 0], [-0.5, 0.5, 0], [third, third, third - dtype(1)]]
        np.testing.assert_array_equal(dz, np.array(expected, dtype))

    @every_dtype
    def test_impossible_classes_cost_nothing_unless_true(self, dtype):
        z = np.array([[-np.inf, 0, 0]], dtype)
        assert categorical_cross_entropy_with_logits(z, np.array([1])) == np.log(dtype(2))
        assert categorical_cross_entropy_with_logits(z, np.array([0])) == np.inf

    @every_dtype
    def test_certain_probabilities(self, dtype):
        p, y = np.array([0, 1, 0, 1], dtype), np.array([1, 0, 0, 1], dtype)
        losses = binary_cross_entropy(p, y, "none")
        np.testing.assert_array_equal(losses, [100, 100, 0, 0])
        assert not np.signbit(losses).any()
        dp = binary_cross_entropy_grad(p, y, "sum")
        np.testing.assert_allclose(dp, [-1e12, 1e12, 0, 0])
        rows, labels = np.array([[0, 1], [0, 1]], dtype), np.array([0, 1])
        losses = categorical_cross_entropy(rows, labels, "none")
        np.testing.assert_array_equal(losses, [100, 0])
        dp = categorical_cross_entropy_grad(rows, labels, "sum")
        np.testing.assert_allclose(dp, [[-1e12, 0], [0, -1]])

    @every_dtype
    @every_loss
    def test_nan_is_not_hidden(self, name, dtype):
        y = np.full((2, 2), 0.5, dtype)
        for place in ((0, 0), (0, 1)):
            p = np.full((2, 2), 0.5, dtype)
            p[place] = np.nan
            assert np.isnan(getattr(functional, name)(p, y))
            losses = getattr(functional, name)(p, y, "none")
            assert np.isnan(losses[0]).any()
            assert np.isfinite(losses[1]).all()
            dp = getattr(functional, f"{name}_grad")(p, y)
            assert np.isnan(dp[place])
            assert np.isfinite(dp[1]).all()

    def test_probabilities_outside_0_to_1_are_nan(self):
        losses = binary_cross_entropy(np.array([-0.5, 1.5]), np.array([1.0, 0.0]), "none")
        np.testing.assert_array_equal(losses, [np.nan, np.nan])

    def test_sums_beyond_float32(self):
        p = np.full(4, 3e19, np.float32)
        assert half_squared_error(p, np.zeros_like(p), "sum") == np.inf


def test_by_hand():
    half, quarter = np.log(0.5), np.log(0.25)
    p, y = np.array([[0.5, 0.25]]), np.array([[1.0, 0.0]])
    np.testing.assert_allclose(binary_cross_entropy(p, y), -(half + np.log(0.75)) / 2)
    np.testing.assert_allclose(binary_cross_entropy_grad(p, y), [[-1, 2 / 3]])
    rows = np.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])
    np.testing.assert_allclose(categorical_cross_entropy(rows, [0, 1]), -(half + quarter) / 2)
    dp = categorical_cross_entropy_grad(rows, [0, 1])
    np.testing.assert_array_equal(dp, [[-1, 0, 0], [0, -2, 0]])
    p, y = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1.0, 4.0], [0.0, 4.0]])
    np.testing.assert_array_equal(half_squared_error(p, y, "none"), [[0, 2], [4.5, 0.5]])
    assert half_squared_error(p, y, "sum") == 7
    assert half_squared_error(p, y) == 3.5
    np.testing.assert_array_equal(half_squared_error_grad(p, y), [[0, -1], [1.5, 0.5]])
    np.testing.assert_array_equal(half_squared_error_grad(p, y, "none"), [[0, -2], [3, 1]])
    # without an axis of outputs, N images of one output each
    assert half_squared_error(p[0], y[0]) == 1


@every_dtype
@every_loss
def test_reductions_agree(name, dtype):
    p, y = data(np.random.default_rng(13), name, (4, 3), dtype)
    loss, grad = getattr(functional, name), getattr(functional, f"{name}_grad")
    each, total = loss(p, y, "none"), loss(p, y, "sum")
    count = 12 if name.startswith("binary") else 4
    assert each.shape == ((4,) if name in CATEGORICAL else (4, 3))
    assert isinstance(total, dtype)
    np.testing.assert_allclose(each.sum(dtype=float), total, rtol=1e-6)
    np.testing.assert_allclose(loss(p, y) * count, total, rtol=1e-6)
    np.testing.assert_allclose(grad(p, y) * count, grad(p, y, "sum"), rtol=1e-6)
    np.testing.assert_array_equal(grad(p, y, "none"), grad(p, y, "sum"))


@every_loss
def test_nothing_to_average(name):
    nothing = np.zeros((0, 3), np.float32)
    loss = getattr(functional, name)
    assert np.isnan(loss(nothing, nothing))
    assert loss(nothing, nothing, "sum") == 0
    assert loss(nothing, nothing, "none").shape == ((0,) if name in CATEGORICAL else (0, 3))
    assert getattr(functional, f"{name}_grad")(nothing, nothing).shape == (0, 3)


@pytest.mark.parametrize("suffix", ["", "_grad"])
class TestErrors:
    @every_loss
    def test_reduction(self, name, suffix):
        p = np.ones((2, 3))
        with pytest.raises(ValueError, match="'average' is not a valid value for reduction: must"):
            getattr(functional, name + suffix)(p, p, "average")

    @every_loss
    def test_types(self, name, suffix):
        function = getattr(functional, name + suffix)
        score = "z" if name.endswith("logits") else "p"
        with pytest.raises(TypeError, match=f"{score} must be float32 or float64, but got int64"):
            function(np.ones((2, 3), np.int64), np.ones((2, 3)))
        with pytest.raises(TypeError, match=r"mixed types: y is float64.*y\.astype\(np\.float32\)"):
            function(np.ones((2, 3), np.float32), np.ones((2, 3)))
        with pytest.raises(TypeError, match=r"y must be float32 or float64, but got bool.*astype"):
            function(np.ones((2, 3)), np.ones((2, 3), bool))

    @pytest.mark.parametrize("name", ELEMENTWISE)
    def test_shapes(self, name, suffix):
        function = getattr(functional, name + suffix)
        score = "z" if name.endswith("logits") else "p"
        advice = (
            rf"{score} and y must have the same shape, but got \(4, 1\) against \(4,\): "
            r"use y\.reshape\(4, 1\) or y\[:, None\]"
        )
        with pytest.raises(ValueError, match=advice):
            function(np.ones((4, 1)), np.ones(4))
        with pytest.raises(ValueError, match=r"\(4,\) against \(4, 1\): use y\.reshape\(4\)$"):
            function(np.ones(4), np.ones((4, 1)))
        with pytest.raises(ValueError, match=r"got \(4, 3\) against \(4, 2\)$"):
            function(np.ones((4, 3)), np.ones((4, 2)))

    @pytest.mark.parametrize("name", CATEGORICAL)
    def test_classes(self, name, suffix):
        function = getattr(functional, name + suffix)
        score = "z" if name.endswith("logits") else "p"
        with pytest.raises(ValueError, match=f"{score} must be 2-D, but got 1-D"):
            function(np.ones(3), np.ones(3))
        with pytest.raises(ValueError, match=f"{score} must have one class or more"):
            function(np.ones((3, 0)), np.ones((3, 0)))
        with pytest.raises(ValueError, match=r"got \(2, 3\) against \(3,\)$"):
            function(np.ones((2, 3)), np.ones(3))
        for labels in (np.array([0]), np.array([[0], [1]]), np.eye(3, dtype=int)[:2]):
            with pytest.raises(ValueError, match=r"integer labels y must have shape \(2,\) for"):
                function(np.ones((2, 3)), labels)

    @pytest.mark.parametrize("name", CATEGORICAL)
    @pytest.mark.parametrize(
        ("labels", "bad"),
        [
            (np.array([0, 3]), r"got 3 \(y\[1\]\)"),
            (np.array([-1, 0]), r"got -1 \(y\[0\]\)"),
            (np.array([0, 255], np.uint8), r"got 255 \(y\[1\]\)"),
            (np.array([0, 2**64 - 1], np.uint64), rf"got {2**64 - 1} \(y\[1\]\)"),
        ],
    )
    def test_labels_that_are_no_class(self, name, suffix, labels, bad):
        with pytest.raises(ValueError, match=rf"labels must be in 0\.\.2, but {bad}"):
            getattr(functional, name + suffix)(np.ones((2, 3)), labels)

    def test_half_squared_error_needs_images(self, suffix):
        with pytest.raises(ValueError, match="p must have a batch axis"):
            getattr(functional, f"half_squared_error{suffix}")(np.float32(1), np.float32(1))


class TestTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        self.torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")

    @every_dtype
    @every_reduction
    @every_loss
    def test_loss_and_gradient(self, name, reduction, dtype):
        F = self.torch.nn.functional
        rng = np.random.default_rng(17)
        p, y = data(rng, name, (6, 4), dtype)
        targets = y
        if name in CATEGORICAL:
            targets = rng.integers(0, 4, 6)
        tp, ty = self.torch.tensor(p, requires_grad=True), self.torch.tensor(targets)
        if name == "half_squared_error":
            loss = F.mse_loss(tp, ty, reduction=reduction.replace("mean", "sum")) / 2
            loss = loss / 6 if reduction == "mean" else loss
        elif name == "categorical_cross_entropy":
            loss = F.nll_loss(tp.log().clamp(min=-100), ty, reduction=reduction)
        elif name == "categorical_cross_entropy_with_logits":
            loss = F.cross_entropy(tp, ty, reduction=reduction)
        else:
            loss = getattr(F, name)(tp, ty, reduction=reduction)
        ours = getattr(functional, name)(p, targets, reduction)
        near = tolerance(dtype, 16, largest=np.abs(p).max())
        np.testing.assert_allclose(ours, loss.detach(), **near)
        # torch's log has no slope where its clamp holds; ours has the divisor's
        p_safe = p if name != "categorical_cross_entropy" else np.maximum(p, dtype(1e-3))
        if name == "categorical_cross_entropy":
            tp = self.torch.tensor(p_safe, requires_grad=True)
            loss = F.nll_loss(tp.log(), ty, reduction=reduction)
        (tdp,) = self.torch.autograd.grad(loss.sum(), tp)
        ours = getattr(functional, f"{name}_grad")(p_safe, targets, reduction)
        near = tolerance(dtype, 16, largest=1) | ({"rtol": 1e-7} if dtype == np.float64 else {})
        np.testing.assert_allclose(ours, tdp, **near)

    def test_targets_that_only_dlpack_reads(self):
        p = np.array([[np.nan, 0.5], [0.5, 0.5]])
        assert np.isnan(categorical_cross_entropy(p, dlpack(np.eye(2))[0]))
        with pytest.raises(ValueError, match=r"0\.\.1, but got 9 \(y\[1\]\)"):
            categorical_cross_entropy(p, dlpack(np.array([0, 9]))[0])

    def test_labels_as_a_tensor(self):
        p = np.array([[0.25, 0.75]], np.float32)
        loss = categorical_cross_entropy(p, self.torch.tensor([1]))
        assert loss == pytest.approx(-np.log(0.75), rel=2e-7)
