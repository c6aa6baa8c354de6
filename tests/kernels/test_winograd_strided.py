"""Winograd's convolution of stride 2: borders, padding of either parity, biases, exact sums, what
is not finite."""

import dataclasses
import re

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels import plans
from fastcnn.kernels.cpu import implicit_gemm, winograd_blocks, winograd_calls, winograd_strided
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded
from tests.geometries import ConvCase
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on
from tests.kernels.test_winograd import arrays, assert_near, wide
from tests.layouts import PoisonedPool

pytestmark = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# Odd and even planes; results of whole tiles and of parts of them; strips that end a row and begin
# another, and several images to a vector; padding of one side, none and more than the filter is
# wide; the last row and column of the image not reached; more channels than are added up at a
# time; groups; several blocks of tiles and of filters.
ODD = [
    ConvCase(2, 5, 56, 56, 20, 3, 3, 2, 1, 1, 1),
    ConvCase(3, 300, 14, 14, 7, 3, 3, 2, 1, 1, 1),
    ConvCase(9, 3, 13, 13, 66, 3, 3, 2, 1, 1, 1),
    ConvCase(1, 2, 30, 9, 3, 3, 3, 2, (3, 0, 5, 4), 1, 1),
    ConvCase(2, 4, 28, 25, 5, 3, 3, 2, (1, 2, 1, 0), 1, 1),
    ConvCase(2, 12, 10, 70, 150, 3, 3, 2, 1, 1, 2),
    ConvCase(1, 1, 5, 8, 1, 3, 3, 2, 1, 1, 1),
]
EVEN = [
    ConvCase(2, 5, 21, 23, 9, 3, 3, 2, 0, 1, 1),
    ConvCase(1, 3, 12, 18, 4, 3, 3, 2, (0, 1, 2, 3), 1, 1),
]
dtypes = pytest.mark.parametrize("dtype", FLOATS)
operations = pytest.mark.parametrize("operation", ["conv2d", "conv2d_input_grad"])


@pytest.fixture(params=[0, 1 << 30], ids=["by blocks", "by phases"])
def order(request, monkeypatch):
    """The order of the work, which otherwise depends on the number of threads."""
    monkeypatch.setattr(winograd_blocks, "OWN_BLOCKS", request.param)


@pytest.mark.parametrize("case", ODD + EVEN, ids=str)
@dtypes
def test_forward_in_poisoned_memory(case, dtype, order, monkeypatch):
    monkeypatch.setattr(winograd_blocks, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, w, _ = arrays(case, dtype)
    rng = np.random.default_rng(2)
    for shape in (None, (g.K,), (g.K, g.P, g.Q)):
        b = None if shape is None else guarded(rng.standard_normal(shape).astype(dtype))
        want = reference.conv2d(wide(x), wide(w), wide(b), **case.options)
        for relu in (False, True):
            out = Guarded(g.output_shape, dtype)
            assert winograd_strided.conv2d(g, x, w, b, out.array, relu=relu) is None
            out.assert_untouched_around()
            assert_near(out.array, np.maximum(want, 0) if relu else want, dtype)


@pytest.mark.parametrize("case", ODD, ids=str)
@dtypes
def test_input_grad_in_poisoned_memory(case, dtype, order, monkeypatch):
    monkeypatch.setattr(winograd_blocks, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    _, w, dy = arrays(case, dtype)
    out = Guarded(g.input_shape, dtype)
    assert winograd_strided.conv2d_input_grad(g, dy, w, out.array) is None
    out.assert_untouched_around()
    want = reference.conv2d_input_grad(wide(dy), wide(w), g.input_shape, **case.options)
    assert_near(out.array, want, dtype)


@pytest.mark.parametrize("case", ODD, ids=str)
def test_sums_of_small_integers_are_exact(case):
    """No factor but 1 and -1 is met: results are equal to a direct convolution's."""
    g, rng = geometry_of(case), np.random.default_rng(4)
    x, w, dy = (rng.integers(-8, 9, shape).astype(np.float32) for shape in case.shapes)
    y, dx = np.empty(g.output_shape, np.float32), np.empty(g.input_shape, np.float32)
    assert winograd_strided.conv2d(g, x, w, None, y) is None
    assert winograd_strided.conv2d_input_grad(g, dy, w, dx) is None
    assert np.array_equal(y, reference.conv2d(x, w, **case.options))
    assert np.array_equal(dx, reference.conv2d_input_grad(dy, w, g.input_shape, **case.options))


@pytest.mark.parametrize("case", ODD, ids=str)
@dtypes
def test_kept_weights_give_the_same_bits(case, dtype):
    """And w itself is not looked at any more."""
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    other, nothing = dataclasses.replace(g, N=g.N + 3), np.full_like(w, np.nan)
    for operation, source, shape, more in (
        ("conv2d", x, g.output_shape, (None,)),
        ("conv2d_input_grad", dy, g.input_shape, ()),
    ):
        run = getattr(winograd_strided, operation)
        fresh, again = (np.full(shape, np.nan, dtype) for _ in range(2))
        run(g, source, w, *more, fresh)
        kept = winograd_strided.pack(operation, other, w)
        run(g, source, nothing, *more, again, packed=kept)
        assert again.tobytes() == fresh.tobytes()


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, 2e30])
@pytest.mark.parametrize("place", [(0, 0), (0, -1), (-1, 0), (-1, -1), (5, 6)])
def test_what_is_not_finite_or_huge_is_left_to_implicit_gemm(dtype, value, place):
    """Bit for bit, and it is said that it is; wherever the filter reaches it."""
    case = ConvCase(2, 5, 13, 15, 4, 3, 3, 2, 1, 1, 1)
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    x[1, 2][place] = dy[1, 2][place] = value
    y, z = (np.full(g.output_shape, 7, dtype) for _ in range(2))
    assert winograd_strided.conv2d(g, x, w, None, y) == winograd_calls.AGAIN
    implicit_gemm.conv2d(g, x, w, None, z)
    assert y.tobytes() == z.tobytes()
    dx, dz = (np.full(g.input_shape, 7, dtype) for _ in range(2))
    assert winograd_strided.conv2d_input_grad(g, dy, w, dx) == winograd_calls.AGAIN
    implicit_gemm.conv2d_input_grad(g, dy, w, dz)
    assert dx.tobytes() == dz.tobytes()


@operations
def test_infinite_weights_are_left_to_implicit_gemm(operation):
    case = ODD[0]
    g = geometry_of(case)
    x, w, dy = arrays(case, np.float32)
    w[3, 2, 1, 0] = np.inf
    if operation == "conv2d":
        remark = winograd_strided.conv2d(g, x, w, None, np.empty(g.output_shape, np.float32))
    else:
        dx = np.empty(g.input_shape, np.float32)
        remark = winograd_strided.conv2d_input_grad(g, dy, w, dx)
    assert remark == winograd_calls.AGAIN


@operations
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stride": 1}, "3 x 3 filters of stride 2"),
        ({"stride": (2, 1)}, "3 x 3 filters of stride 2"),
        ({"dilation": 2}, "3 x 3 filters of stride 2"),
        ({"S": 5}, "3 x 3 filters of stride 2"),
        ({"C": 20, "K": 20, "groups": 20}, "1 .* per group fill too little"),
    ],
)
def test_refusals(operation, changes, reason):
    g = geometry_of(dataclasses.replace(ODD[0], **changes))
    assert re.search(reason, winograd_strided.refusal(operation, g, 4))


@pytest.mark.parametrize("case", EVEN, ids=str)
def test_the_gradient_takes_odd_padding_alone(case):
    g = geometry_of(case)
    assert winograd_strided.refusal("conv2d", g, 4) is None
    assert "odd padding" in winograd_strided.refusal("conv2d_input_grad", g, 4)


def test_precisions_and_a_layer_it_is_chosen_for():
    """As it multiplies transformed numbers, "ieee" leaves it out."""
    g = geometry_of(ConvCase(8, 128, 56, 56, 128, 3, 3, 2, 1, 1, 1))
    for operation in ("conv2d", "conv2d_input_grad"):
        assert plans.plan(operation, g, "float32").implementation.name == "winograd_strided"
    with fastcnn.precision("ieee"), pytest.raises(ValueError, match='"ieee" leaves out'):
        functional.conv2d(
            np.zeros((1, 5, 9, 9), np.float32), np.zeros((4, 5, 3, 3), np.float32), stride=2,
            algorithm="winograd_strided",
        )  # fmt: skip


PROGRAM = """
import numpy as np
from fastcnn import functional, reference
from fastcnn.kernels.cpu.units import vector_unit
rng = np.random.default_rng(0)
options = {"stride": 2, "padding": 1}
for dtype, bound in ((np.float32, 1e-6), (np.float64, 1e-15)):
    for shape, k in (((2, 5, 56, 28), 20), ((9, 3, 13, 14), 9), ((1, 6, 31, 9), 7)):
        x, w = rng.standard_normal(shape), rng.standard_normal((k, shape[1], 3, 3))
        x, w = x.astype(dtype), w.astype(dtype)
        chosen = {"algorithm": "winograd_strided", **options}
        y = functional.conv2d(x, w, **chosen)
        dx = functional.conv2d_input_grad(y, w, x.shape, **chosen)
        for got, want in (
            (y, reference.conv2d(x.astype(float), w.astype(float), **options)),
            (dx, reference.conv2d_input_grad(y.astype(float), w.astype(float), x.shape, **options)),
        ):
            assert np.linalg.norm(got - want) <= bound * np.linalg.norm(want)
print(vector_unit().name)
"""


@needs_longer_vectors
def test_on_avx2():
    run_on("AVX2", PROGRAM)
