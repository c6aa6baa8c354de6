"""The dense layer on kernels: exactly, on whole numbers, for sizes that leave every remainder."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import reference
from fastcnn.functional import dense, dense_bias_grad, dense_input_grad, dense_weight_grad
from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cpu.dense import COLUMNS, DEPTH, ROWS, TERMS
from fastcnn.kernels.cpu.dense_dots import IMAGES
from fastcnn.kernels.cpu.dense_sums import DEPTH as CHUNK
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.plans import plan
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.accuracy import DTYPES, tolerance
from tests.functional.operations import Guarded, guarded, implementations
from tests.geometries import seeds, small_integers

every_dtype = pytest.mark.parametrize("dtype", DTYPES)

# Images, features, outputs: across every block size of the kernels, with remainders, and none.
SIZES = [
    (1, 1, 1),
    (4, 8, 2),
    (ROWS, DEPTH, ROWS),
    (ROWS + 3, DEPTH + 5, ROWS + 1),
    (2 * TERMS + 2, COLUMNS + 1, 3),
    (3, 2 * COLUMNS + 7, TERMS + 5),
    (1, 2 * DEPTH + 9, 11),
    (200, 4, 1),
    (IMAGES + 6, 1100, 13),
    (2 * IMAGES + 1, 70, 50),
    (1, 130, CHUNK + 3),
    (40, 2 * CHUNK + 9, CHUNK + 3),
    (CHUNK + 1, 100, 29),
    (19, 64, 600),
    (0, 3, 2),
    (3, 0, 2),
    (3, 2, 0),
    (0, 0, 0),
]


def assert_exact(sizes, dtype, seed):
    """Equal to the reference; inputs lie in NaN, so that reading beyond them shows."""
    n, i, o = sizes
    rng = np.random.default_rng(seed)
    shapes = ((n, i), (o, i), (o,), (n, o))
    x, w, b, dy = (guarded(small_integers(rng, shape, dtype)) for shape in shapes)
    for ours, theirs in (
        (dense(x, w, b), reference.dense(x, w, b)),
        (dense(x, w), reference.dense(x, w)),
        (dense_input_grad(dy, w), reference.dense_input_grad(dy, w)),
        (dense_weight_grad(x, dy), reference.dense_weight_grad(x, dy)),
        (dense_bias_grad(dy), reference.dense_bias_grad(dy)),
    ):
        np.testing.assert_array_equal(ours, theirs, strict=True)


@every_dtype
@pytest.mark.parametrize("sizes", SIZES)
def test_equal_on_integers_across_blocks(sizes, dtype):
    assert_exact(sizes, dtype, 1)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(*[st.integers(0, 20)] * 3),
    dtype=st.sampled_from(DTYPES),
    seed=seeds(),
)
def test_equal_on_integers(sizes, dtype, seed):
    assert_exact(sizes, dtype, seed)


OPERATIONS = ("dense", "dense_input_grad", "dense_weight_grad")


def run_guarded(operation, algorithm, sizes, dtype):
    """One implementation's result and the right one; None where it refuses, with a reason."""
    n, i, o = sizes
    g, name = DenseGeometry(n, i, o), np.dtype(dtype).name
    (entry,) = (e for e in IMPLEMENTATIONS[operation] if e.name == algorithm)
    problem = Problem(operation, g, name)
    reason = entry.supports(problem)
    if reason is not None:
        assert reason
        return None
    assert entry.cost(problem) > 0
    assert 0 <= entry.workspace(problem) <= 4 << 20
    rng = np.random.default_rng(2)
    x, w, b, dy = (
        guarded(small_integers(rng, shape, dtype)) for shape in ((n, i), (o, i), (o,), (n, o))
    )
    arguments, shape, expected = {
        "dense": ((x, w, b), (n, o), x @ w.T + b),
        "dense_input_grad": ((dy, w), (n, i), dy @ w),
        "dense_weight_grad": ((x, dy), (o, i), dy.T @ x),
    }[operation]
    out = Guarded(shape, dtype, np.nan)
    plan(operation, g, name, algorithm).run(g, *arguments, out.array)
    out.assert_untouched_around()
    return out.array, expected


@every_dtype
@pytest.mark.parametrize(("operation", "algorithm"), implementations(*OPERATIONS))
def test_kernels_write_every_element_and_none_beyond(operation, algorithm, dtype):
    """Inputs lie in NaN too, so that reading beyond them shows."""
    results = [run_guarded(operation, algorithm, sizes, dtype) for sizes in SIZES]
    for result in filter(None, results):
        np.testing.assert_array_equal(*result)
    if algorithm == "portable":
        assert None not in results
    elif vector_unit() is not None:
        refused = [sizes for sizes, r in zip(SIZES, results, strict=True) if r is None]
        assert refused == [sizes for sizes in SIZES if 0 in sizes]


@every_dtype
@pytest.mark.parametrize(("operation", "algorithm"), implementations(*OPERATIONS))
@pytest.mark.parametrize("n", [1, 2, 3, 7, 16, 30])
def test_kernels_on_every_rest(operation, algorithm, n, dtype):
    """Outputs and features that leave every number of rows, columns and lanes over."""
    for o in (*range(1, 9), 14, 16, 33):
        for i in (1, 15, 32, 33):
            result = run_guarded(operation, algorithm, (n, i, o), dtype)
            if result is not None:
                np.testing.assert_array_equal(*result)


@every_dtype
@pytest.mark.parametrize("algorithm", [e.name for e in IMPLEMENTATIONS["dense"]])
def test_one_bias_for_all_outputs_and_none(algorithm, dtype):
    g, name = DenseGeometry(9, 700, 20), np.dtype(dtype).name
    (entry,) = (e for e in IMPLEMENTATIONS["dense"] if e.name == algorithm)
    if entry.supports(Problem("dense", g, name)) is not None:
        pytest.skip("refused")
    rng = np.random.default_rng(4)
    x, w = (small_integers(rng, shape, dtype) for shape in ((9, 700), (20, 700)))
    for b in (None, np.full(1, 3, dtype)):
        y = np.full((9, 20), np.nan, dtype)
        plan("dense", g, name, algorithm).run(g, x, w, b, y)
        np.testing.assert_array_equal(y, x @ w.T + (0 if b is None else 3))


@pytest.mark.skipif(vector_unit() is None, reason="no vector unit here, or nothing is compiled")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_register_tiles_serve_all_but_tiny_layers(operation):
    for sizes in ((64, 400, 120), (128, 9216, 128), (16, 4096, 4096)):
        chosen = plan(operation, DenseGeometry(*sizes), "float32").implementation
        assert chosen.name == "register_tiles"
    assert plan(operation, DenseGeometry(1, 4, 1), "float32").implementation.name == "portable"


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.tuples(*[st.integers(1, 40)] * 3),
    dtype=st.sampled_from(DTYPES),
    seed=seeds(),
)
def test_close_on_real_numbers(sizes, dtype, seed):
    n, i, o = sizes
    rng = np.random.default_rng(seed)
    x, w, b, dy = (rng.standard_normal(s).astype(dtype) for s in ((n, i), (o, i), o, (n, o)))
    for ours, theirs, terms in (
        (dense(x, w, b), reference.dense(x, w, b), i),
        (dense_input_grad(dy, w), reference.dense_input_grad(dy, w), o),
        (dense_weight_grad(x, dy), reference.dense_weight_grad(x, dy), n),
        (dense_bias_grad(dy), reference.dense_bias_grad(dy), n),
    ):
        # products of about 1, and sums of them of about sqrt(terms)
        np.testing.assert_allclose(ours, theirs, **tolerance(dtype, 8, largest=terms**0.5))


@every_dtype
def test_one_image_is_a_row_of_a_batch(dtype):
    rng = np.random.default_rng(3)
    x, w, b, dy = (small_integers(rng, s, dtype) for s in ((7,), (5, 7), (5,), (5,)))
    np.testing.assert_array_equal(dense(x, w, b), dense(x[None], w, b)[0], strict=True)
    ours = dense_input_grad(dy, w)
    np.testing.assert_array_equal(ours, dense_input_grad(dy[None], w)[0], strict=True)
    np.testing.assert_array_equal(dense_weight_grad(x, dy), np.outer(dy, x), strict=True)
    np.testing.assert_array_equal(dense_bias_grad(dy), dy, strict=True)


def test_by_hand():
    x, w, b = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([10.0, 20.0])
    np.testing.assert_array_equal(dense(x, w, b), [[21, 37]])
    dy = np.array([[1.0, -1.0]])
    np.testing.assert_array_equal(dense_input_grad(dy, w), [[-2, -2]])
    np.testing.assert_array_equal(dense_weight_grad(x, dy), [[1, 2], [-1, -2]])
    np.testing.assert_array_equal(dense_bias_grad(dy), [1, -1])


@every_dtype
def test_bad_numbers_stay_in_their_row(dtype):
    """Every product is formed: NaN and infinity reach what they are multiplied into, no more."""
    x, w = np.ones((9, 10), dtype), np.ones((6, 10), dtype)
    x[4, 3], x[7, 9] = np.nan, np.inf
    y = dense(x, w)
    np.testing.assert_array_equal(y, reference.dense(x, w))
    assert np.isnan(y[4]).all()
    assert np.isposinf(y[7]).all()
    dy = np.ones((9, 6), dtype)
    np.testing.assert_array_equal(dense_weight_grad(x, dy)[:, [0, 3, 9]], [[9, np.nan, np.inf]] * 6)
    # 0 times infinity is NaN: no product with zero is left out
    np.testing.assert_array_equal(dense(x[7:8], 0 * w), [[np.nan] * 6])


class TestErrors:
    X, W, B = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)

    def test_features(self):
        with pytest.raises(
            ValueError, match=r"x must have 3 features for w \(out, in\) of shape \(4, 3\), but got"
        ):
            dense(np.ones((2, 5)), self.W)
        with pytest.raises(ValueError, match=r"dy must have 4 features .*got shape \(3,\)"):
            dense_input_grad(np.ones(3), self.W)

    def test_bias(self):
        for shape in ((3,), (1, 4), (4, 1), ()):
            with pytest.raises(ValueError, match=r"b must have shape \(4,\) \(one bias per output"):
                dense(self.X, self.W, np.ones(shape))

    def test_images_must_be_flat(self):
        image = np.ones((2, 1, 3, 3))
        for call in (
            lambda: dense(image, self.W),
            lambda: dense_input_grad(image, self.W),
            lambda: dense_weight_grad(image, self.X),
            lambda: dense_bias_grad(image),
        ):
            with pytest.raises(ValueError, match=r"got shape \(2, 1, 3, 3\); use flatten first"):
                call()
        with pytest.raises(ValueError, match="w must be 2-D, but got 1-D"):
            dense(self.X, np.ones(3))

    @pytest.mark.parametrize("shape", [(3, 4), (4,)])
    def test_as_many_images(self, shape):
        with pytest.raises(ValueError, match="x and dy must have equally many images, but got"):
            dense_weight_grad(self.X, np.ones(shape))

    def test_types(self):
        with pytest.raises(TypeError, match=r"mixed types: w is float64, but .* float32"):
            dense(self.X.astype(np.float32), self.W)
        with pytest.raises(TypeError, match="mixed types: b is float32"):
            dense(self.X, self.W, self.B.astype(np.float32))
        with pytest.raises(TypeError, match="mixed types: dy is float32"):
            dense_weight_grad(self.X, np.ones((2, 4), np.float32))
        with pytest.raises(TypeError, match="x must be float32 or float64, but got int64"):
            dense(np.ones((2, 3), np.int64), self.W)


@every_dtype
def test_torch(dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
    rng = np.random.default_rng(6)
    x, w, b, dy = (
        rng.standard_normal(s).astype(dtype) for s in ((17, 30), (12, 30), (12,), (17, 12))
    )
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    ty = torch.nn.functional.linear(*tensors)
    dx, dw, db = torch.autograd.grad(ty, tensors, torch.tensor(dy))
    near = tolerance(dtype, 8, largest=30**0.5)
    np.testing.assert_allclose(dense(x, w, b), ty.detach(), **near)
    np.testing.assert_allclose(dense_input_grad(dy, w), dx, **near)
    np.testing.assert_allclose(dense_weight_grad(x, dy), dw, **near)
    np.testing.assert_allclose(dense_bias_grad(dy), db, **near)
