"""Optimizer steps on kernels: by hand, like the reference, and refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from fastcnn import functional, reference
from fastcnn.functional import adam_step, momentum_step, sgd_step
from tests.functional.accuracy import DTYPES, tolerance
from tests.geometries import seeds

# Name -> how to call the step with w, dw and two arrays of memory, and how many of these it takes.
STEPS = {
    "sgd": (lambda f, w, dw: f.sgd_step(w, dw, 0.1), 0),
    "momentum": (lambda f, w, dw, v: f.momentum_step(w, dw, v, 0.1, 0.8), 1),
    "nesterov": (lambda f, w, dw, v: f.momentum_step(w, dw, v, 0.1, 0.8, nesterov=True), 1),
    "adam": (lambda f, w, dw, m, v: f.adam_step(w, dw, m, v, 3, 0.1, 0.8, 0.95, 1e-6), 2),
}
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
every_step = pytest.mark.parametrize(("step", "memories"), STEPS.values(), ids=STEPS)


def data(rng, memories, shape, dtype):
    """w, dw and the step's memory; the last is not negative, as Adam's v is not."""
    arrays = [rng.standard_normal(shape).astype(dtype) for _ in range(2 + memories)]
    if memories:
        arrays[-1] = np.abs(arrays[-1])
    return arrays


@settings(deadline=None, max_examples=80)
@given(
    name=st.sampled_from(sorted(STEPS)),
    shape=array_shapes(min_dims=0, max_dims=3, min_side=0),
    dtype=st.sampled_from(DTYPES),
    seed=seeds(),
)
def test_against_the_reference(name, shape, dtype, seed):
    step, memories = STEPS[name]
    ours = [np.asarray(a) for a in data(np.random.default_rng(seed), memories, shape, dtype)]
    theirs = [a.copy() for a in ours]
    assert step(functional, *ours) is ours[0]
    step(reference, *theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, strict=True, **tolerance(dtype, 8, largest=1))


@every_dtype
@every_step
def test_longer_than_a_chunk(step, memories, dtype):
    ours = data(np.random.default_rng(1), memories, (3, 5001), dtype)
    theirs = [a.copy() for a in ours]
    step(functional, *ours)
    step(reference, *theirs)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance(dtype, 8, largest=1))


class TestByHand:
    @every_dtype
    def test_sgd(self, dtype):
        w = np.array([1, 2], dtype)
        assert sgd_step(w, np.array([10, -20], dtype), 0.125) is w
        np.testing.assert_array_equal(w, [-0.25, 4.5])

    @every_dtype
    def test_momentum(self, dtype):
        w, dw, velocity = (np.array([n], dtype) for n in (8, 2, 0))
        for expected in ((6, 2), (3, 3)):
            momentum_step(w, dw, velocity, 1.0, momentum=0.5)
            np.testing.assert_array_equal([w[0], velocity[0]], expected)

    @every_dtype
    def test_nesterov(self, dtype):
        w, dw, velocity = (np.array([n], dtype) for n in (8, 2, 2))
        momentum_step(w, dw, velocity, 1.0, momentum=0.5, nesterov=True)
        np.testing.assert_array_equal([w[0], velocity[0]], [4.5, 3])

    @every_dtype
    def test_adam(self, dtype):
        w, dw, m, v = (np.array([n], dtype) for n in (1, 2, 4, 1))
        adam_step(w, dw, m, v, 2, learning_rate=1.0, beta_1=0.5, beta_2=0.75, epsilon=1.0)
        # m = (4 + 2)/2, v = (3*1 + 4)/4; m/(3/4) = 4, v/(7/16) = 4; 1 - 4/(2 + 1)
        np.testing.assert_allclose([w[0], m[0], v[0]], [-1 / 3, 3, 1.75], rtol=1e-6)

    @every_dtype
    def test_adam_of_no_gradient_stays(self, dtype):
        w, (dw, m, v) = np.ones(3, dtype), np.zeros((3, 3), dtype)
        for step in (1, 2, 100_000):
            adam_step(w, dw, m, v, step)
        np.testing.assert_array_equal(w, 1)


def test_only_the_view_is_written():
    table = np.zeros((3, 4), np.float32)
    sgd_step(table[:, 1], np.ones(3, np.float32), 1.0)
    np.testing.assert_array_equal(table, [[0, -1, 0, 0]] * 3)


@every_step
def test_a_gradient_in_the_memory_that_is_written(step, memories):
    """dw is a view of w one element on: every element must be read before it changes."""
    count = 10_000
    buffer = np.random.default_rng(4).standard_normal(count + 1)
    rest = [np.ones(count) for _ in range(memories)]
    expected = buffer[1:].copy()
    step(functional, expected, buffer[:-1].copy(), *[a.copy() for a in rest])
    step(functional, buffer[1:], buffer[:-1], *rest)
    np.testing.assert_array_equal(buffer[1:], expected)


def test_the_velocity_as_its_own_gradient():
    w, velocity = np.ones(3), np.full(3, 2.0)
    momentum_step(w, velocity, velocity, 1.0, momentum=0.5, nesterov=True)
    # v = 0.5*2 + 2 = 3; w = 1 - (2 + 0.5*3)
    np.testing.assert_array_equal([w, velocity], [[-2.5] * 3, [3.0] * 3])


@every_step
def test_bad_numbers_stay_where_they_are(step, memories):
    arrays = data(np.random.default_rng(5), memories, 9, np.float32)
    arrays[1][[2, 7]] = np.nan, np.inf
    step(functional, *arrays)
    assert np.isnan(arrays[0][2])
    assert not np.isfinite(arrays[0][7])
    assert np.isfinite(np.delete(arrays[0], [2, 7])).all()


@every_step
class TestErrors:
    """Whatever is refused, nothing has changed."""

    def refused(self, step, arrays, error, message):
        before = [np.array(a) for a in arrays]
        with pytest.raises(error, match=message):
            step(functional, *arrays)
        for array, original in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(array, original)

    def names(self, memories):
        return ("w", "dw", *{0: (), 1: ("velocity",), 2: ("m", "v")}[memories])

    @pytest.mark.parametrize("shape", [(), (1,), (1, 2), (3,)])
    def test_shapes(self, step, memories, shape):
        for place in range(1, 2 + memories):
            arrays = [np.ones(2) for _ in range(2 + memories)]
            arrays[place] = np.ones(shape)
            message = rf"{self.names(memories)[place]} must have shape \(2,\) \(the shape of w\)"
            self.refused(step, arrays, ValueError, message)

    def test_types(self, step, memories):
        for place in range(1, 2 + memories):
            arrays = [np.ones(2, np.float32) for _ in range(2 + memories)]
            arrays[place] = np.ones(2)
            message = f"mixed types: {self.names(memories)[place]} is float64, but .* float32"
            self.refused(step, arrays, TypeError, message)
        arrays = [np.ones(2, np.int64) for _ in range(2 + memories)]
        self.refused(step, arrays, TypeError, "w must be float32 or float64, but got int64")


class TestNumbers:
    W, DW, M, V = np.ones((4, 2))

    def test_learning_rate(self):
        for bad in ("0.1", None, [0.1], 1j):
            with pytest.raises(TypeError, match="learning_rate must be a number, but got"):
                sgd_step(self.W, self.DW, bad)
        for good in (1, np.float32(1), np.int64(1), np.array(1.0)):
            assert sgd_step(np.zeros(1), np.ones(1), good) == -1

    @pytest.mark.parametrize("name", ["momentum", "learning_rate"])
    def test_momentum(self, name):
        with pytest.raises(TypeError, match=f"{name} must be a number, but got 'x'"):
            momentum_step(self.W, self.DW, self.V, **{"learning_rate": 0.1, name: "x"})

    def test_step(self):
        for bad in (0, -3):
            with pytest.raises(ValueError, match=f"step must be at least 1, but got {bad}"):
                adam_step(self.W, self.DW, self.M, self.V, bad)
        for wrong in (1.0, "1", None, True):
            with pytest.raises(TypeError, match="step must be an int, but got"):
                adam_step(self.W, self.DW, self.M, self.V, wrong)

    @pytest.mark.parametrize("name", ["beta_1", "beta_2"])
    @pytest.mark.parametrize("beta", [-0.1, 1.0, 2, np.nan])
    def test_betas(self, name, beta):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 and below 1, but got"):
            adam_step(self.W, self.DW, self.M, self.V, 1, **{name: beta})

    def test_betas_of_zero(self):
        """Adam without memory: every element moves by the learning rate."""
        w, dw, m, v = np.ones(3), np.array([2.0, -3.0, 1e-3]), np.zeros(3), np.zeros(3)
        adam_step(w, dw, m, v, 1, 0.5, beta_1=0, beta_2=0, epsilon=0)
        np.testing.assert_allclose(w, [0.5, 1.5, 0.5])
        np.testing.assert_array_equal([m, v], [dw, dw * dw])


@every_dtype
class TestTorch:
    @pytest.mark.parametrize("nesterov", [False, True])
    def test_momentum(self, nesterov, dtype):
        torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
        rng = np.random.default_rng(6)
        w, velocity = rng.standard_normal(40).astype(dtype), np.zeros(40, dtype)
        parameter = torch.nn.Parameter(torch.tensor(w))
        optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=nesterov)
        for _ in range(5):
            dw = rng.standard_normal(40).astype(dtype)
            parameter.grad = torch.tensor(dw)
            optimizer.step()
            momentum_step(w, dw, velocity, 0.1, 0.9, nesterov)
        near = tolerance(dtype, 16, largest=1)
        np.testing.assert_allclose(w, parameter.detach(), **near)

    def test_adam(self, dtype):
        torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
        rng = np.random.default_rng(7)
        w, (m, v) = rng.standard_normal(40).astype(dtype), np.zeros((2, 40), dtype)
        parameter = torch.nn.Parameter(torch.tensor(w))
        optimizer = torch.optim.Adam([parameter], lr=0.1, betas=(0.8, 0.95), eps=1e-6)
        for step in range(1, 6):
            dw = rng.standard_normal(40).astype(dtype)
            parameter.grad = torch.tensor(dw)
            optimizer.step()
            adam_step(w, dw, m, v, step, 0.1, 0.8, 0.95, 1e-6)
        np.testing.assert_allclose(w, parameter.detach(), **tolerance(dtype, 32, largest=1))
