"""Winograd's weight gradient: borders, chunks, parts, large and infinite inputs."""

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels import plans
from fastcnn.kernels.cpu import gemm_weight_grad, winograd_weight_grad, winograd_weight_tables
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.cpu.winograd_limits import LARGEST
from fastcnn.verification.bounds import TRANSFORMED
from tests.functional.operations import FLOATS, Guarded, convolve, geometry_of, guarded
from tests.geometries import ConvCase
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on
from tests.layouts import PoisonedPool

pytestmark = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# Whole and partial tiles; channels and filters that leave remainders in vectors, panels and blocks;
# rows shorter than a vector and longer than two; padding of no side, of one, wider than the image;
# filters in pieces, the last of which are not whole.
CASES = [
    ConvCase(2, 40, 13, 9, 70, 3, 3, 1, 1, 1, 1),
    ConvCase(1, 70, 8, 33, 130, 3, 3, 1, (0, 2, 1, 0), 1, 1),
    ConvCase(3, 5, 7, 6, 3, 3, 3, 1, 0, 1, 1),
    ConvCase(2, 64, 14, 14, 64, 3, 3, 1, (2, 0, 3, 1), 1, 1),
    ConvCase(1, 3, 1, 1, 2, 3, 3, 1, (9, 4, 2, 7), 1, 1),
    ConvCase(1, 2, 1, 40, 2, 3, 3, 1, 1, 1, 1),
    ConvCase(2, 1, 3, 3, 1, 3, 3, 1, 0, 1, 1),
    ConvCase(2, 40, 13, 9, 20, 5, 5, 1, 2, 1, 1),
    ConvCase(1, 16, 12, 23, 33, 4, 7, 1, (1, 0, 8, 2), 1, 1),
    ConvCase(2, 5, 14, 13, 3, 11, 3, 1, (0, 3, 0, 1), 1, 1),
]
# Bytes and numbers that cut these small layers as the real ones cut large layers: many chunks;
# blocks of M that are not kept; parts of the channels and filters; all of it.
BLOCKINGS = [
    {},
    {"CHUNK": 1 << 16},
    {"FEW_BLOCKS": 1, "PANELS": 1, "FILTERS": 32},
    {"PART": 32},
    {"CHUNK": 1 << 15, "PART": 64, "PANELS": 1, "SPANS": 1},
]
dtypes = pytest.mark.parametrize("dtype", FLOATS)


@pytest.fixture
def blocking(request, monkeypatch):
    for name, value in request.param.items():
        monkeypatch.setattr(winograd_weight_tables, name, value)
    winograd_weight_tables.tabulate.cache_clear()
    yield
    winograd_weight_tables.tabulate.cache_clear()


def arrays(case, dtype, seed=1):
    rng = np.random.default_rng(seed)
    g = geometry_of(case)
    shapes = (g.input_shape, g.output_shape)
    return [guarded(rng.standard_normal(shape).astype(dtype)) for shape in shapes]


def assert_near(got, want, dtype):
    """In norm; scaled, so that no square overflows."""
    got, want = (array.astype(np.float64) / abs(want).max() for array in (got, want))
    assert np.linalg.norm(got - want) <= TRANSFORMED * np.finfo(dtype).eps * np.linalg.norm(want)


def truth(case, x, dy):
    g = geometry_of(case)
    wide = [a.astype(np.float64) for a in (x, dy)]
    return reference.conv2d_weight_grad(*wide, g.weight_shape, **case.options)


@pytest.mark.parametrize("blocking", BLOCKINGS, indirect=True, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
@dtypes
def test_close_in_poisoned_memory(case, dtype, blocking, monkeypatch):
    """NaN around the arrays is not read, in the result not left, in scratch memory not used."""
    monkeypatch.setattr(winograd_weight_grad, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, dy = arrays(case, dtype)
    out = Guarded(g.weight_shape, dtype)
    assert winograd_weight_grad.conv2d_weight_grad(g, x, dy, out.array) is None
    out.assert_untouched_around()
    assert_near(out.array, truth(case, x, dy), dtype)


@pytest.mark.parametrize("blocking", BLOCKINGS, indirect=True, ids=str)
@pytest.mark.parametrize("case", CASES[:2], ids=str)
def test_the_same_bits_on_any_number_of_threads(case, blocking, monkeypatch):
    monkeypatch.setattr("fastcnn.kernels.cpu.threads.WORTH_SHARING", 0)
    g = geometry_of(case)
    x, dy = arrays(case, np.float32)
    results = []
    before = fastcnn.get_num_threads()
    try:
        for threads in (1, 2, 5):
            fastcnn.set_num_threads(threads)
            dw = np.full(g.weight_shape, np.nan, np.float32)
            winograd_weight_grad.conv2d_weight_grad(g, x, dy, dw)
            results.append(dw.tobytes())
    finally:
        fastcnn.set_num_threads(before)
    assert len(set(results)) == 1


@pytest.mark.parametrize("blocking", BLOCKINGS[:2], indirect=True, ids=str)
def test_many_tiles_of_one_sign(blocking):
    """After a ReLU and with gradients of one sign, where no error meets one of the other sign."""
    case = ConvCase(6, 3, 112, 112, 4, 3, 3, 1, 1, 1, 1)
    x, dy = (abs(a) for a in arrays(case, np.float32))
    dw = np.empty(geometry_of(case).weight_shape, np.float32)
    winograd_weight_grad.conv2d_weight_grad(geometry_of(case), x, dy, dw)
    assert_near(dw, truth(case, x, dy), np.float32)


CASE = ConvCase(3, 5, 13, 14, 4, 3, 3, 1, (0, 1, 1, 2), 1, 1)


def assert_as_direct(x, dy):
    """The result is implicit GEMM's, bit for bit, and it is said that it is."""
    g = geometry_of(CASE)
    want, got = (np.full(g.weight_shape, 7, x.dtype) for _ in range(2))
    gemm_weight_grad.conv2d_weight_grad(g, x, dy, want)
    assert winograd_weight_grad.conv2d_weight_grad(g, x, dy, got) == winograd_weight_grad.AGAIN
    assert got.tobytes() == want.tobytes()


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.5e30, -1.5e30])
@pytest.mark.parametrize("place", [(0, 0), (0, -1), (-1, 0), (-1, -1), (5, 6)])
def test_large_inputs_are_left_to_implicit_gemm(dtype, value, place):
    """Wherever they are: at every corner and in the middle, in x and in dy."""
    for number in range(2):
        inputs = arrays(CASE, dtype)
        inputs[number][1, 2][place] = value
        assert_as_direct(*inputs)


@dtypes
def test_what_might_overflow_is_left_to_implicit_gemm(dtype):
    """Large numbers that never meet: the direct sums are finite, those of tiles are not."""
    x, dy = arrays(CASE, dtype)
    size = float(np.finfo(dtype).max) ** 0.52
    if size >= LARGEST:
        size = 0.9 * LARGEST  # products of such do not overflow
        x[0, 0, 0, 0], dy[0, 0, 5, 5] = size, size
        g = geometry_of(CASE)
        dw = np.empty(g.weight_shape, dtype)
        assert winograd_weight_grad.conv2d_weight_grad(g, x, dy, dw) is None
        assert np.isfinite(dw).all()
        return
    x[0, 0, 0, 0], dy[0, 0, 0, 3] = size, size
    assert np.isfinite(truth(CASE, x, dy)).all()
    assert_as_direct(x, dy)


@dtypes
def test_huge_results_that_do_not_overflow(dtype):
    g = geometry_of(CASE)
    x, dy = arrays(CASE, dtype)
    dw = np.full(g.weight_shape, np.nan, dtype)
    for in_x, in_dy in ((1e28, 1), (1e-3, 1e28)):
        huge = [(x * in_x).astype(dtype), (dy * in_dy).astype(dtype)]
        assert winograd_weight_grad.conv2d_weight_grad(g, *huge, dw) is None
        assert_near(dw, truth(CASE, *huge), dtype)


def test_a_result_computed_otherwise_is_traced(monkeypatch, capsys):
    x, dy = arrays(CASE, np.float32)
    w = np.empty(geometry_of(CASE).weight_shape, np.float32)
    monkeypatch.setenv("FASTCNN_VERBOSE", "1")
    plans.forget()
    convolve(functional, "conv2d_weight_grad", CASE, x, w, dy, algorithm="winograd")
    assert winograd_weight_grad.AGAIN not in capsys.readouterr().err
    x[0, 0, 0, 0] = np.inf
    convolve(functional, "conv2d_weight_grad", CASE, x, w, dy, algorithm="winograd")
    assert capsys.readouterr().err.endswith(f": {winograd_weight_grad.AGAIN}\n")


def test_a_tape_of_its_launches_tells_what_it_could_not_take():
    """And says that numbers decide, so that whoever runs it again must look, or not keep it."""
    x, dy = arrays(CASE, np.float32)
    with plans.recording() as tape:
        convolve(functional, "conv2d_weight_grad", CASE, x, None, dy, algorithm="winograd")
    assert tape.conditional
    (told,) = [launch.args[-1] for launch in tape.launches if launch.tells]
    assert told == 0
    x[0, 0, 0, 0] = np.inf
    tape.run()
    assert told > 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stride": 2}, "stride 1"),
        ({"dilation": 2}, "dilation 1"),
        ({"weight": (4, 6, 3, 2)}, "not 3 x 2"),
        ({"weight": (4, 3, 3, 3), "groups": 2}, "one group"),
    ],
)
def test_refusals(changes, reason):
    shape = changes.pop("weight", (4, 6, 3, 3))
    x = np.zeros((1, 6, 9, 9), np.float32)
    dy = functional.conv2d(x, np.zeros(shape, np.float32), **changes)
    with pytest.raises(ValueError, match=f"algorithm='winograd' cannot serve .*{reason}"):
        functional.conv2d_weight_grad(x, dy, shape, algorithm="winograd", **changes)


def test_ieee_leaves_it_out():
    x, dy = np.zeros((1, 5, 9, 9), np.float32), np.zeros((1, 4, 7, 7), np.float32)
    with fastcnn.precision("ieee"), pytest.raises(ValueError, match='precision "ieee" leaves out'):
        functional.conv2d_weight_grad(x, dy, (4, 5, 3, 3), algorithm="winograd")


def test_shared_memory_is_bounded():
    """Whatever the layer: V and Y of a chunk, M of a part."""
    for shape, filters in (((256, 64, 224, 224), 64), ((4, 4096, 28, 28), 4096)):
        g = geometry_of(ConvCase(*shape, filters, 3, 3, 1, 1, 1, 1))
        for itemsize in (4, 8):
            assert winograd_weight_tables.tabulate(g, itemsize).shared < 19 * itemsize << 20


PROGRAM = """
import numpy as np
from fastcnn import functional, reference
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.cpu.winograd_limits import LARGEST
rng = np.random.default_rng(0)
for dtype, bound in ((np.float32, 1e-5), (np.float64, 1e-13)):
    for shape, k in (((2, 5, 56, 28), 20), ((9, 33, 7, 7), 9), ((1, 6, 30, 9), 7)):
        x = rng.standard_normal(shape).astype(dtype)
        dy = rng.standard_normal((shape[0], k, *shape[2:])).astype(dtype)
        kind = (k, shape[1], 3, 3)
        dw = functional.conv2d_weight_grad(x, dy, kind, padding=1, algorithm="winograd")
        wide = (x.astype(float), dy.astype(float))
        want = reference.conv2d_weight_grad(*wide, kind, padding=1)
        assert np.linalg.norm(dw - want) <= bound * np.linalg.norm(want)
print(vector_unit().name)
"""


@needs_longer_vectors
def test_on_avx2():
    run_on("AVX2", PROGRAM)
