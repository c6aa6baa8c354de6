"""Winograd's convolution: borders, kept weights, a fused ReLU, what is not finite."""

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, reference
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels import plans
from fastcnn.kernels.cpu import implicit_gemm, winograd, winograd_blocks
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.verification.bounds import TRANSFORMED
from tests.functional.operations import FLOATS, Guarded, convolve, geometry_of, guarded
from tests.geometries import ConvCase
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on
from tests.layouts import PoisonedPool

pytestmark = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# Strips of 1 to 4 tiles, with gaps and without; images narrower than a strip and wider than a
# group; several images to a vector; a last block of few tiles; padding of no side, one side, wider
# than the filter; more channels than are added up at a time; groups; filters in pieces, the last
# of which are filled up, and of so many channels that blocks are halved.
CASES = [
    ConvCase(2, 5, 56, 56, 20, 3, 3, 1, 1, 1, 1),
    ConvCase(3, 300, 14, 14, 7, 3, 3, 1, 1, 1, 1),
    ConvCase(9, 3, 7, 7, 66, 3, 3, 1, 1, 1, 1),
    ConvCase(1, 2, 30, 9, 3, 3, 3, 1, (3, 0, 5, 4), 1, 1),
    ConvCase(2, 4, 28, 25, 5, 3, 3, 1, (0, 2, 1, 0), 1, 1),
    ConvCase(1, 1, 3, 3, 1, 3, 3, 1, 0, 1, 1),
    ConvCase(5, 1, 3, 5, 2, 3, 3, 1, 1, 1, 1),
    ConvCase(2, 12, 10, 70, 20, 3, 3, 1, 1, 1, 4),
    ConvCase(2, 19, 27, 27, 20, 5, 5, 1, 2, 1, 1),
    ConvCase(2, 8, 12, 23, 12, 4, 7, 1, (1, 0, 8, 2), 1, 2),
    ConvCase(1, 3, 13, 14, 5, 11, 3, 1, (0, 3, 0, 1), 1, 1),
    ConvCase(8, 200, 12, 12, 6, 6, 8, 1, 3, 1, 1),
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


@pytest.fixture(params=[0, 1 << 30], ids=["by blocks", "by phases"])
def order(request, monkeypatch):
    """The order of the work, which otherwise depends on the number of threads."""
    monkeypatch.setattr(winograd_blocks, "OWN_BLOCKS", request.param)


@cases
@dtypes
def test_close_in_poisoned_memory(case, dtype, order, monkeypatch):
    """NaN around the arrays is not read, in the result not left, in scratch memory not used."""
    monkeypatch.setattr(winograd_blocks, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    rng = np.random.default_rng(2)
    for shape in (None, (g.K,), (g.K, g.P, g.Q)):
        b = None if shape is None else guarded(rng.standard_normal(shape).astype(dtype))
        out = Guarded(g.output_shape, dtype)
        assert winograd.conv2d(g, x, w, b, out.array) is None
        out.assert_untouched_around()
        want = reference.conv2d(wide(x), wide(w), wide(b), **case.options)
        assert_near(out.array, want, dtype)
    out = Guarded(g.input_shape, dtype)
    assert winograd.conv2d_input_grad(g, dy, w, out.array) is None
    out.assert_untouched_around()
    want = reference.conv2d_input_grad(wide(dy), wide(w), g.input_shape, **case.options)
    assert_near(out.array, want, dtype)


@cases
@dtypes
def test_same_bits_by_blocks_and_by_phases(case, dtype, monkeypatch):
    """Which of them it is depends on the number of threads."""
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    found = []
    for own_blocks in (0, 1 << 30):
        monkeypatch.setattr(winograd_blocks, "OWN_BLOCKS", own_blocks)
        y, dx = np.empty(g.output_shape, dtype), np.empty(g.input_shape, dtype)
        assert winograd.conv2d(g, x, w, None, y) is None
        assert winograd.conv2d_input_grad(g, dy, w, dx) is None
        found.append((y, dx))
    for by_blocks, by_phases in zip(*found, strict=True):
        assert np.array_equal(by_blocks, by_phases)


@cases
@dtypes
def test_fused_relu_is_relu_of_the_result(case, dtype):
    """Bit for bit, after the bias."""
    g = geometry_of(case)
    x, w, _ = arrays(case, dtype)
    b = np.random.default_rng(3).standard_normal(g.K).astype(dtype)
    z, y = (np.full(g.output_shape, np.nan, dtype) for _ in range(2))
    winograd.conv2d(g, x, w, b, z)
    winograd.conv2d(g, x, w, b, y, relu=True)
    assert y.tobytes() == functional.relu(z).tobytes()


@cases
@dtypes
def test_kept_weights_give_the_same_bits_on_any_batch(case, dtype):
    """And w itself is not looked at any more."""
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    other = conv2d_geometry((g.N + 4, *g.input_shape[1:]), g.weight_shape, **case.options)
    nothing = np.full_like(w, np.nan)
    y, again = (np.full(g.output_shape, np.nan, dtype) for _ in range(2))
    winograd.conv2d(g, x, w, None, y)
    winograd.conv2d(g, x, nothing, None, again, packed=winograd.pack("conv2d", other, w))
    assert again.tobytes() == y.tobytes()
    kept = winograd.pack("conv2d_input_grad", other, w)
    dx, again = (np.full(g.input_shape, np.nan, dtype) for _ in range(2))
    winograd.conv2d_input_grad(g, dy, w, dx)
    winograd.conv2d_input_grad(g, dy, nothing, again, packed=kept)
    assert again.tobytes() == dx.tobytes()


CASE = ConvCase(3, 5, 13, 14, 4, 3, 3, 1, (0, 1, 1, 2), 1, 1)


def assert_as_direct(x, w, dy, b=None, relu=False):
    """Both results are implicit GEMM's, bit for bit, and it is said that they are."""
    g = geometry_of(CASE)
    z, y = (np.full(g.output_shape, 7, x.dtype) for _ in range(2))
    implicit_gemm.conv2d(g, x, w, b, z, relu=relu)
    assert winograd.conv2d(g, x, w, b, y, relu=relu) == winograd.AGAIN
    assert y.tobytes() == z.tobytes()
    dz, dx = (np.full(g.input_shape, 7, x.dtype) for _ in range(2))
    implicit_gemm.conv2d_input_grad(g, dy, w, dz)
    assert winograd.conv2d_input_grad(g, dy, w, dx) == winograd.AGAIN
    assert dx.tobytes() == dz.tobytes()


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.01e30, -3e37])
def test_what_is_not_finite_or_huge_is_left_to_implicit_gemm(dtype, order, value):
    """Wherever it is: at every corner, in the middle, in weights; with ReLU and without."""
    for number, place in enumerate([(0, 0), (0, -1), (-1, 0), (-1, -1), (6, 7)]):
        x, w, dy = arrays(CASE, dtype)
        x[1, 2][place] = dy[2, 1][place] = value
        assert_as_direct(x, w, dy, relu=number % 2 == 1)
    x, w, dy = arrays(CASE, dtype)
    w[2, 3, 1, 1] = value
    if not np.isfinite(value):
        assert_as_direct(x, w, dy)


def test_what_is_beside_a_huge_number_keeps_its_digits():
    """Results that do not depend on it are those of a direct convolution; below the limit they are
    not, where they share a tile with it."""
    x, w, _ = arrays(CASE, np.float32)
    far = np.full(geometry_of(CASE).output_shape, True)
    far[1, :, 4:8, 4:9] = False
    for value, again in ((2e30, True), (9e29, False)):
        x[1, 2, 6, 7] = value
        y = functional.conv2d(x, w, algorithm="winograd", **CASE.options)
        direct = functional.conv2d(x, w, algorithm="implicit_gemm", **CASE.options)
        assert np.array_equal(y[far], direct[far]) == again


@dtypes
def test_what_overflows_is_left_to_implicit_gemm(dtype):
    """In the transform of images, where the direct form is finite, or in products, where it
    overflows too, but not everywhere. That of weights makes none of them larger."""
    largest = float(np.finfo(dtype).max)
    for scale in ((largest / 20, 1e-3), (largest**0.6, largest**0.5)):
        x, w, dy = (np.abs(a) % 1 for a in arrays(CASE, dtype))
        x[1, 2, 5, 6] = dy[1, 2, 5, 6] = 1
        w[0, 2, 1, 1] = w[2, 0, 1, 1] = 1
        x, w, dy = x * scale[0], w * scale[1], dy * scale[0]
        assert all(np.isfinite(a).all() for a in (x, w, dy))
        assert_as_direct(x.astype(dtype), w.astype(dtype), dy.astype(dtype))


@dtypes
def test_huge_results_that_do_not_overflow(dtype):
    g = geometry_of(CASE)
    x, w, _ = arrays(CASE, dtype)
    y = np.full(g.output_shape, np.nan, dtype)
    largest = float(np.finfo(dtype).max)
    for in_x, in_w in ((1e28, 1), (1e-9, largest / 8)):
        huge, heavy = (x * in_x).astype(dtype), (w * in_w).astype(dtype)
        assert winograd.conv2d(g, huge, heavy, None, y) is None
        assert_near(y, reference.conv2d(wide(huge), wide(heavy), **CASE.options), dtype)


def test_a_bias_may_be_anything():
    """It is added to what has been found finite."""
    g = geometry_of(CASE)
    x, w, _ = arrays(CASE, np.float32)
    b = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    for relu in (False, True):
        y = np.zeros(g.output_shape, np.float32)
        assert winograd.conv2d(g, x, w, b, y, relu=relu) is None
        assert np.isnan(y[:, 0]).all()
        assert (y[:, 1] == np.inf).all()
        assert (y[:, 2] == (0 if relu else -np.inf)).all()
        assert np.isfinite(y[:, 3]).all()


def test_a_result_computed_again_is_traced(monkeypatch, capsys):
    x, w, dy = arrays(CASE, np.float32)
    monkeypatch.setenv("FASTCNN_VERBOSE", "1")
    plans.forget()
    for operation in ("conv2d", "conv2d_input_grad"):
        convolve(functional, operation, CASE, x, w, dy, algorithm="winograd")
        assert winograd.AGAIN not in capsys.readouterr().err
        w[0, 0, 0, 0] = np.inf
        convolve(functional, operation, CASE, x, w, dy, algorithm="winograd")
        assert capsys.readouterr().err.endswith(f"groups=1 P=12 Q=15: {winograd.AGAIN}\n")
        w[0, 0, 0, 0] = 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stride": 2}, "stride 1"),
        ({"dilation": 2}, "dilation 1"),
        ({"weight": (4, 5, 3, 2)}, "3 x 3 filters"),
        ({"weight": (5, 1, 3, 3), "groups": 5}, "1 filters per group fill too little"),
        ({"image": (2049, 3, 9), "weight": (4, 2049, 3, 3)}, "2049 channels to a sum"),
    ],
)
def test_refusals(changes, reason):
    x = np.zeros((1, *changes.pop("image", (5, 9, 9))), np.float32)
    w = np.zeros(changes.pop("weight", (4, 5, 3, 3)), np.float32)
    with pytest.raises(ValueError, match=f"algorithm='winograd' cannot serve .*{reason}"):
        functional.conv2d(x, w, algorithm="winograd", **changes)


def test_ieee_leaves_it_out():
    x, w = np.zeros((1, 5, 9, 9), np.float32), np.zeros((4, 5, 3, 3), np.float32)
    with fastcnn.precision("ieee"), pytest.raises(ValueError, match='precision "ieee" leaves out'):
        functional.conv2d(x, w, algorithm="winograd")


PROGRAM = """
import numpy as np
from fastcnn import functional, reference
from fastcnn.kernels.cpu.replay import recording
from fastcnn.kernels.cpu.units import vector_unit
rng = np.random.default_rng(0)
for dtype, bound in ((np.float32, 1e-5), (np.float64, 1e-13)):
    for shape, k, r in (
        ((2, 5, 56, 28), 20, 3), ((9, 3, 7, 7), 9, 3), ((1, 6, 30, 9), 7, 3), ((2, 5, 20, 30), 9, 5)
    ):
        x, w = rng.standard_normal(shape), rng.standard_normal((k, shape[1], r, r))
        x, w = x.astype(dtype), w.astype(dtype)
        y = functional.conv2d(x, w, padding=1, algorithm="winograd")
        dx = functional.conv2d_input_grad(y, w, x.shape, padding=1, algorithm="winograd")
        for got, want in (
            (y, reference.conv2d(x.astype(float), w.astype(float), padding=1)),
            (dx, reference.conv2d_input_grad(y.astype(float), w.astype(float), x.shape, padding=1)),
        ):
            assert np.linalg.norm(got - want) <= bound * np.linalg.norm(want)
print(vector_unit().name)
"""


@needs_longer_vectors
def test_on_avx2():
    run_on("AVX2", PROGRAM)


def test_a_tape_of_launches_tells_what_it_could_not_take():
    """And says that numbers decide, so that whoever runs it again must look, or not keep it."""
    x, w, dy = arrays(CASE, np.float32)
    for operation, first in (("conv2d", x), ("conv2d_input_grad", dy)):
        with plans.recording() as tape:
            convolve(functional, operation, CASE, x, w, dy, algorithm="winograd")
        assert tape.conditional
        (told,) = [launch.args[-1] for launch in tape.launches if launch.tells]
        assert told == 0
        first[0, 0, 0, 0] = np.inf
        tape.run()
        assert told > 0
