"""Convolution by Fourier transforms: spectra, borders, a fused ReLU, what is not finite."""

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.kernels.cpu import (
    fourier,
    fourier_blocks,
    fourier_phases,
    gemm_weight_grad,
    implicit_gemm,
)
from fastcnn.kernels.cpu.fourier_tiles import (
    ROWS,
    TERM,
    multiply,
    multiply_turned,
    spectrum,
    square,
)
from fastcnn.kernels.cpu.fourier_transforms import PAIR, PAIRS, SIZE
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.verification.bounds import TRANSFORMED
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded
from tests.geometries import ConvCase
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on
from tests.layouts import PoisonedPool

pytestmark = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# One square to an image, with and without a gradient that fits into one; several, the last of which
# stick out; padding of one side, wider than the filter; filters beyond half a square and of one
# row; both sides near; more terms than are multiplied at a time, and than panels hold.
CASES = [
    ConvCase(8, 40, 16, 16, 20, 7, 7, 1, 0, 1, 1),
    ConvCase(3, 3, 30, 23, 7, 5, 5, 1, 2, 1, 1),
    ConvCase(2, 5, 17, 40, 4, 11, 3, 1, (0, 3, 1, 4), 1, 1),
    ConvCase(1, 2, 14, 13, 3, 12, 9, 1, (3, 0, 8, 2), 1, 1),
    ConvCase(1, 1, 6, 5, 1, 6, 5, 1, 0, 1, 1),
    ConvCase(2, 4, 9, 50, 10, 1, 7, 1, (0, 0, 3, 3), 1, 1),
    ConvCase(2, 170, 11, 12, 80, 4, 6, 1, (1, 2, 0, 3), 1, 1),
    ConvCase(1, 1, 30, 31, 2, 3, 3, 1, 1, 1, 1),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)
dtypes = pytest.mark.parametrize("dtype", FLOATS)


def arrays(case, dtype, seed=1):
    rng = np.random.default_rng(seed)
    return [guarded(rng.standard_normal(shape).astype(dtype)) for shape in case.shapes]


def wide(array):
    return None if array is None else array.astype(np.float64)


def assert_near(got, want, dtype):
    """In norm; scaled, so that no square overflows."""
    got, want = (array / abs(want).max() for array in (got, want))
    assert np.linalg.norm(got - want) <= TRANSFORMED * np.finfo(dtype).eps * np.linalg.norm(want)


def complex_spectrum(pairs):
    """The half spectrum F(u, v), v = 0 … 8, of pairs as this file's transforms put them."""
    found = np.zeros((SIZE, SIZE // 2 + 1), complex)
    half = SIZE // 2
    for v in range(1, PAIRS):
        numbers = pairs[v, 0] + 1j * pairs[v, 1]
        found[: half + 1, v] = numbers[: half + 1]
        for u in range(1, half):
            found[SIZE - u, v] = np.conj(numbers[half + u])
    for v, lanes in ((0, slice(0, half)), (half, slice(half, SIZE))):
        re, im = pairs[0, 0, lanes], pairs[0, 1, lanes]
        found[0, v], found[half, v] = re[0], im[0]
        for u in range(1, half):
            found[u, v] = re[u] + 1j * im[u]
            found[SIZE - u, v] = np.conj(found[u, v])
    return found


@kernel
def _transformed(x, pairs, peaks):
    spectrum(x, 0, 0, SIZE, 0, SIZE, 0, SIZE, pairs, 0, PAIR, peaks)


@kernel
def _transformed_back(pairs, y, lowest, sums):
    zero = y.dtype.type(0)
    square(pairs, 0, zero, lowest, y, 0, 0, SIZE, 0, SIZE, 0, SIZE, sums)


@dtypes
def test_spectra_are_those_of_numpy_and_come_back(dtype):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SIZE, SIZE)).astype(dtype)
    pairs, peaks = np.full((PAIRS, 2, SIZE), np.nan, dtype), np.zeros(SIZE, dtype)
    _transformed(x.reshape(-1), pairs.reshape(-1), peaks)
    want = np.fft.rfft2(x.astype(np.float64))
    assert (
        np.abs(complex_spectrum(pairs.astype(np.float64)) - want).max() < 100 * np.finfo(dtype).eps
    )
    assert np.array_equal(peaks, np.abs(x).max(axis=0))
    y, sums = np.full((SIZE, SIZE), np.nan, dtype), np.zeros(SIZE, dtype)
    _transformed_back(pairs.reshape(-1), y.reshape(-1), dtype(-np.inf), sums)
    assert np.abs(y - x).max() < 20 * np.finfo(dtype).eps


@kernel
def _multiplied(depth, a, b, c, turned, accumulate):
    for pair in range(PAIRS):
        at = pair * depth * TERM
        if turned:
            multiply_turned(depth, a, at, b, at, c, pair * PAIR, accumulate, pair == 0)
        else:
            multiply(depth, a, at, b, at, c, pair * PAIR, accumulate, pair == 0)


@dtypes
@pytest.mark.parametrize("turned", [False, True])
def test_products_are_those_of_complex_numbers(dtype, turned):
    rng, depth = np.random.default_rng(1), 3
    a, b = (rng.standard_normal((PAIRS, depth, ROWS, 2, SIZE)).astype(dtype) for _ in range(2))
    c = rng.standard_normal((ROWS, ROWS, PAIRS, 2, SIZE)).astype(dtype)
    in_a, in_b, before = (
        np.array([[complex_spectrum(p) for p in row] for row in grid])
        for grid in (a.transpose(1, 2, 0, 3, 4), b.transpose(1, 2, 0, 3, 4), c)
    )
    for accumulate in (True, False):
        got = c.copy() if accumulate else np.full_like(c, np.nan)
        _multiplied(depth, a.reshape(-1), b.reshape(-1), got.reshape(-1), turned, accumulate)
        want = np.einsum("tiuv,tjuv->ijuv", np.conj(in_a) if turned else in_a, in_b)
        want = want + before * accumulate
        found = np.array([[complex_spectrum(p) for p in row] for row in got])
        assert np.abs(found - want).max() < 100 * np.finfo(dtype).eps


@cases
@dtypes
def test_close_in_poisoned_memory(case, dtype, monkeypatch):
    """NaN around the arrays is not read, in the result not left, in scratch memory not used."""
    monkeypatch.setattr(fourier_blocks, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    rng = np.random.default_rng(2)
    for shape in (None, (g.K,), (g.K, g.P, g.Q)):
        b = None if shape is None else guarded(rng.standard_normal(shape).astype(dtype))
        out = Guarded(g.output_shape, dtype)
        assert fourier.conv2d(g, x, w, b, out.array) is None
        out.assert_untouched_around()
        want = reference.conv2d(wide(x), wide(w), wide(b), **case.options)
        assert_near(out.array, want, dtype)
    for operation, shape, given, options in (
        ("conv2d_input_grad", g.input_shape, (dy, w), (g.input_shape,)),
        ("conv2d_weight_grad", g.weight_shape, (x, dy), (g.weight_shape,)),
    ):
        out = Guarded(shape, dtype)
        assert getattr(fourier, operation)(g, *given, out.array) is None
        out.assert_untouched_around()
        want = getattr(reference, operation)(*map(wide, given), *options, **case.options)
        assert_near(out.array, want, dtype)


@cases
def test_fused_relu_is_relu_of_the_result(case):
    """Bit for bit, after the bias."""
    g = geometry_of(case)
    x, w, _ = arrays(case, np.float32)
    b = np.random.default_rng(3).standard_normal(g.K).astype(np.float32)
    z, y = (np.full(g.output_shape, np.nan, np.float32) for _ in range(2))
    fourier.conv2d(g, x, w, b, z)
    fourier.conv2d(g, x, w, b, y, relu=True)
    assert y.tobytes() == functional.relu(z).tobytes()


@pytest.mark.parametrize("near", [64 << 10, 1 << 20])
@pytest.mark.parametrize("c", [9 << 10, 1 << 20])
def test_bits_do_not_depend_on_how_it_is_cut(near, c, monkeypatch):
    case = CASES[-2]
    g = geometry_of(case)
    x, w, _ = arrays(case, np.float32)
    y, again = (np.full(g.output_shape, np.nan, np.float32) for _ in range(2))
    fourier.conv2d(g, x, w, None, y)
    monkeypatch.setattr(fourier_blocks, "NEAR_BYTES", near)
    monkeypatch.setattr(fourier_blocks, "C_BYTES", c)
    fourier._forward.cache_clear()
    try:
        fourier.conv2d(g, x, w, None, again)
    finally:
        fourier._forward.cache_clear()
    assert again.tobytes() == y.tobytes()


CASE = ConvCase(3, 5, 19, 14, 4, 4, 3, 1, (0, 1, 1, 2), 1, 1)


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01e30, -3e37])
def test_what_is_not_finite_or_huge_is_left_to_implicit_gemm(dtype, value):
    """All three results are implicit GEMM's, bit for bit, and it is said that they are."""
    g = geometry_of(CASE)
    for place in [(0, 0), (0, -1), (-1, 0), (-1, -1), (6, 7)]:
        x, w, dy = arrays(CASE, dtype)
        x[1, 2][place] = dy[2, 1][place] = value
        for shape, direct, function, given in (
            (g.output_shape, implicit_gemm.conv2d, fourier.conv2d, (x, w, None)),
            (
                g.input_shape, implicit_gemm.conv2d_input_grad, fourier.conv2d_input_grad, (dy, w),
            ),
            (
                g.weight_shape, gemm_weight_grad.conv2d_weight_grad, fourier.conv2d_weight_grad,
                (x, dy),
            ),
        ):  # fmt: skip
            want, got = (np.full(shape, 7, dtype) for _ in range(2))
            direct(g, *given, want)
            assert function(g, *given, got) == fourier.AGAIN
            assert got.tobytes() == want.tobytes()


@dtypes
def test_what_overflows_is_left_to_implicit_gemm(dtype):
    """In products and sums whose factors are below the limit."""
    g = geometry_of(CASE)
    x, w, _ = (np.abs(a) for a in arrays(CASE, dtype))
    x, w = (x * dtype(1e29)), (w * dtype(min(1e29, float(np.finfo(dtype).max) / 1e10)))
    y, z = (np.full(g.output_shape, 7, dtype) for _ in range(2))
    if dtype == np.float64:  # its limit is the same, and it holds all sums of numbers below
        assert fourier.conv2d(g, x, w, None, y) is None
        return
    assert fourier.conv2d(g, x, w, None, y) == fourier.AGAIN
    implicit_gemm.conv2d(g, x, w, None, z)
    assert y.tobytes() == z.tobytes()


def test_a_bias_may_be_anything():
    """It is added to what has been found finite."""
    g = geometry_of(CASE)
    x, w, _ = arrays(CASE, np.float32)
    b = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    for relu in (False, True):
        y = np.zeros(g.output_shape, np.float32)
        assert fourier.conv2d(g, x, w, b, y, relu=relu) is None
        assert np.isnan(y[:, 0]).all()
        assert (y[:, 1] == np.inf).all()
        assert (y[:, 2] == (0 if relu else -np.inf)).all()
        assert np.isfinite(y[:, 3]).all()


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 2, 20, 20, 2, 5, 5, 2, 2, 1, 1),
        ConvCase(1, 2, 20, 20, 2, 5, 5, 1, 2, 2, 1),
        ConvCase(1, 2, 20, 20, 2, 5, 5, 1, 2, 1, 2),
        ConvCase(1, 2, 20, 20, 2, 13, 5, 1, 2, 1, 1),
    ],
    ids=str,
)
def test_what_it_refuses(case):
    """Strides, dilation, groups; filters that leave little of a square."""
    for operation in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        assert fourier.refusal(operation, geometry_of(case), 4)


@pytest.mark.parametrize(
    "case",
    [
        ConvCase(1, 2, 20, 20, 2, 5, 5, 1, 2, 1, 1),
        ConvCase(1, 2, 20, 20, 2, 5, 1, 2, 2, 1, 1),
        ConvCase(1, 2, 20, 20, 2, 5, 5, 2, 2, 2, 1),
        ConvCase(1, 2, 20, 20, 2, 5, 5, 2, 2, 1, 2),
        ConvCase(1, 2, 40, 20, 2, 26, 5, 2, 2, 1, 1),
    ],
    ids=str,
)
def test_what_phases_refuse(case):
    assert fourier_phases.refusal("conv2d", geometry_of(case), 4)


# Strides 4, 2 and 3, 3 and 1; taps that are no multiple; phases narrower than a vector, and of
# several squares.
STRIDED = [
    ConvCase(2, 3, 35, 29, 5, 11, 11, 4, 2, 1, 1),
    ConvCase(2, 4, 31, 90, 6, 7, 5, (2, 3), (1, 0, 2, 3), 1, 1),
    ConvCase(1, 2, 60, 9, 3, 3, 3, (3, 1), 0, 1, 1),
]
strided = pytest.mark.parametrize("case", STRIDED, ids=str)


@strided
@dtypes
def test_phases_close_in_poisoned_memory(case, dtype, monkeypatch):
    monkeypatch.setattr(fourier_blocks, "SCRATCH", PoisonedPool())
    monkeypatch.setattr(fourier_phases, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, w, _ = arrays(case, dtype)
    rng = np.random.default_rng(2)
    for shape in (None, (g.K,), (g.K, g.P, g.Q)):
        b = None if shape is None else guarded(rng.standard_normal(shape).astype(dtype))
        out = Guarded(g.output_shape, dtype)
        assert fourier_phases.conv2d(g, x, w, b, out.array) is None
        out.assert_untouched_around()
        want = reference.conv2d(wide(x), wide(w), wide(b), **case.options)
        assert_near(out.array, want, dtype)


@strided
def test_phases_leave_what_is_not_finite_to_implicit_gemm(case):
    g = geometry_of(case)
    x, w, _ = arrays(case, np.float32)
    x[0, 1, 6, 7] = np.inf
    y, z = (np.full(g.output_shape, 7, np.float32) for _ in range(2))
    assert fourier_phases.conv2d(g, x, w, None, y, relu=True) == fourier.AGAIN
    implicit_gemm.conv2d(g, x, w, None, z, relu=True)
    assert y.tobytes() == z.tobytes()


PROGRAM = """
import numpy as np
from fastcnn import functional, reference
from fastcnn.kernels.cpu.units import vector_unit

rng = np.random.default_rng(0)
x, w, dy = (rng.standard_normal(s).astype(np.float32) for s in (
    (2, 4, 21, 17), (5, 4, 5, 4), (2, 5, 19, 16)))
for operation, given in (
    ("conv2d", (x, w)), ("conv2d_input_grad", (dy, w, x.shape)),
    ("conv2d_weight_grad", (x, dy, w.shape)),
):
    got = getattr(functional, operation)(*given, padding=1, algorithm="fourier")
    want = getattr(reference, operation)(*given, padding=1)
    assert np.linalg.norm(got - want) <= 1e-6 * np.linalg.norm(want), operation
print(vector_unit().name)
"""


@needs_longer_vectors
@pytest.mark.parametrize("unit", ["AVX2", "generic"])
def test_on_shorter_vectors(unit):
    run_on(unit, PROGRAM)
