"""The kernels for few channels: their tiles' contracts and assembly, borders, refusals, ReLU."""

import re

import numpy as np
import pytest
from llvmlite import ir
from numba import types

from fastcnn import functional, reference
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels.cpu import (
    small_channel,
    small_channel_full,
    small_channel_input_grad,
    small_channel_weight_grad,
)
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.small_channel_panels import tile_product
from fastcnn.kernels.cpu.small_channel_products import PRODUCTS, emit_products, products
from fastcnn.kernels.cpu.small_channel_tiles import TILES, cover, emit_tile
from fastcnn.kernels.cpu.units import UNITS, vector_unit
from tests.functional.operations import Guarded, convolve, geometry_of, guarded, result_shape
from tests.geometries import ConvCase, small_integers
from tests.kernels.crosscompile import CPUS, compiled, inner_loops, on_stack

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
FLOATS = (np.float32, np.float64)


@kernel
def dotting(rows, whole, rest, x, x0, taps, t0, dy, dy0, planes, k0, places, c, c0):
    products(rows, whole, rest, x, x0, taps, t0, dy, dy0, planes, k0, places, c, c0)


# A masked vector: a mask in braces, a load of its own, or on NEON a branch for each lane.
MASKED = r"\{%k|vmaskmov|tbz|tbnz"


def poisoned(rng, size, dtype, around=70):
    """Whole numbers in the middle of NaN."""
    array = np.full(size + 2 * around, np.nan, dtype)
    array[around : around + size] = rng.integers(-8, 9, size)
    return array


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("lowest", [-np.inf, 0])
@pytest.mark.parametrize("cut", [0, 1])
def test_tile_is_the_contract(dtype, number, lowest, cut):
    """Equal on integers; what lies beyond the lanes, rows and arrays is not touched."""
    (rows, width), lanes = TILES[UNIT.name][number], UNIT.lanes(np.dtype(dtype).itemsize)
    rng, depth, plane = np.random.default_rng(number), 5, 1000
    count, valid = lanes - cut, rows - cut
    a = poisoned(rng, (depth + 1) * rows, dtype)
    taps, starts = rng.integers(0, 90, depth), rng.integers(0, 50, width)
    x = poisoned(rng, 140 + lanes, dtype)
    vectors = np.stack([starts, 3 + np.arange(width) * (lanes + 2)], axis=1)
    expected = np.full(7 + rows * plane, np.nan, dtype)
    panel = a[70:-70].reshape(depth + 1, rows)
    for m in range(valid):
        for start, place in vectors:
            rows_of_x = [x[70 + tap + start :][:count] for tap in taps]
            total = panel[0, m] + panel[1:, m] @ np.array(rows_of_x)
            expected[7 + m * plane + place :][:count] = np.maximum(total, lowest)
    for ahead in (None, 1 << 40):  # what is fetched may be no memory
        y = np.full(7 + rows * plane, np.nan, dtype)
        tile_product(
            number, depth, a, 70, x, 70, taps, vectors, 0, y, 7, plane, valid, count,
            dtype(lowest), False, ahead,
        )  # fmt: skip
        np.testing.assert_array_equal(y, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("number", [0, 1, 2, 3])
@pytest.mark.parametrize("moved", [0, 1])
def test_past_the_caches_the_same_is_stored(dtype, number, moved):
    """Where vectors are aligned, and where they are not."""
    rows, width = TILES[UNIT.name][number]
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(number)
    a, x = (rng.standard_normal(n).astype(dtype) for n in (rows * 4, 200 + lanes))
    taps, vectors = np.arange(3) * 7, np.stack([np.arange(width), np.arange(width) * lanes], axis=1)
    plane = lanes * width
    results = []
    for past in (False, True):
        memory = np.full(rows * plane + 3 * lanes, np.nan, dtype)
        first = -(memory.ctypes.data // memory.itemsize) % lanes + lanes + moved
        tile_product(
            number, 3, a, 0, x, 0, taps, vectors, 0, memory, first, plane, rows - 1, lanes,
            dtype(-np.inf), past, None,
        )  # fmt: skip
        results.append(memory[first - lanes :][: rows * plane + lanes].copy())
    np.testing.assert_array_equal(*results)
    assert np.isfinite(results[1][lanes:-plane]).all()
    assert np.isnan(results[1][-plane:]).all()


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("whole", "rest"), [(0, 1), (1, 0), (2, 1), (3, 3)])
def test_products_are_the_contract(dtype, rows, whole, rest):
    """As above: rows lie in poison and end where they end."""
    filters, columns = PRODUCTS[UNIT.name]
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    rest = min(rest, lanes - 1)
    length, rng = whole * lanes + rest, np.random.default_rng(rows)
    taps, planes = np.arange(2 + columns) * 300, np.arange(1 + filters) * 400
    places = np.stack([5 + np.arange(rows) * 90, 9 + np.arange(rows) * 110], axis=1)
    x, dy = (np.full(n, np.nan, dtype) for n in (300 * (2 + columns), 400 * (1 + filters)))
    for start, of_dy in places:
        for tap in taps:
            x[tap + start :][:length] = rng.integers(-8, 9, length)
        for filter_ in planes:
            dy[filter_ + of_dy :][:length] = rng.integers(-8, 9, length)
    size = -(-filters * columns // lanes) * lanes
    before = rng.integers(-8, 9, size)
    c = np.full(size + 20, np.nan, dtype)
    c[6 : 6 + size] = before
    dotting(rows, whole, rest, x, 0, taps, 2, dy, 0, planes, 1, places, c, 6)
    for m in range(filters):
        for j in range(columns):
            before[m * columns + j] += sum(
                dy[planes[1 + m] + q :][:length] @ x[taps[2 + j] + p :][:length] for p, q in places
            )
    np.testing.assert_array_equal(c[6 : 6 + size], before)
    assert np.isnan(c[:6]).all()
    assert np.isnan(c[6 + size :]).all()


@on_vectors
@pytest.mark.parametrize("depth", [9, 147])
def test_cover_holds_every_row_and_wastes_few(depth):
    heights = [height for height, _ in TILES[UNIT.name]]
    for rows in range(1, 300):
        found = cover(rows, depth)
        whole = sum(heights[number] for number in found)
        assert rows <= whole < rows + min(heights)
        assert list(found) == sorted(found)
    if UNIT.name == "AVX-512":
        assert [cover(rows, depth) for rows in (4, 6)] == [(3,), (2,)]


def assembly(cpu, triple, unit, shape, inner, ahead):
    """One tile as a function of numbers, pointers and the lowest value, compiled for a CPU."""
    element = llvm_type(types.float32)
    integer, pointer = ir.IntType(64), ir.PointerType()
    module = ir.Module()
    signature = ir.FunctionType(ir.VoidType(), [integer] * 6 + [pointer] * 5 + [element])
    function = ir.Function(module, signature, "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = Emitter(None, builder, element, unit.lanes(4))
    n, p, lowest = function.args[:6], function.args[6:11], function.args[11]
    if inner:
        sources = [
            [emit.at(p[i], o) for o in emit.integers(p[2], n[3], count)]
            for i, count in ((0, shape[1]), (1, shape[0]))
        ]
        emit_products(emit, shape, n[0], n[1], n[2], p[3], *sources, p[4])
    else:
        table = emit.integers(p[3], n[4], 2 * shape[1])
        places = list(zip(table[::2], table[1::2], strict=True))
        least = emit.splat(lowest)
        emit_tile(
            emit, shape, n[0], p[0], p[1], p[2], places, p[4], n[1], n[2], n[3], least,
            builder.icmp_signed("<", n[4], n[0]), n[5] if ahead else None,
        )  # fmt: skip
    builder.ret_void()
    return compiled(module, cpu, triple)


# Not the generic unit, whose masked vectors are a branch for each lane in the midst of the loop.
@pytest.mark.parametrize(
    ("cpu", "triple", "name", "register", "multiply"), [cpu for cpu in CPUS if cpu[2] != "generic"]
)
@pytest.mark.parametrize("number", [0, 1, 2, 3, "products"])
@pytest.mark.parametrize("ahead", [False, True])
def test_the_loop_in_assembly(cpu, triple, name, register, multiply, number, ahead):
    """Whole vectors, one multiply-add per vector of the tile, nothing to or from the stack."""
    (unit,) = (u for u in UNITS if u.name == name)
    inner = number == "products"
    shape = PRODUCTS[name] if inner else TILES[name][number]
    loops = inner_loops(assembly(cpu, triple, unit, shape, inner, ahead), multiply)
    assert loops
    for loop in loops:
        found = [line for line in loop if re.match(multiply, line)]
        if inner and len(loops) > 1 and re.search(MASKED, " ".join(loop)):
            continue  # once for each row; the stack holds its pointers
        assert found
        assert len(found) % (shape[0] * shape[1]) == 0
        assert all(len(re.findall(register, line)) >= 2 for line in found)
        assert not on_stack(loop)


# More rows than a block, and more units than tasks; strides, dilation, four-sided padding; rows
# shorter than a vector; segments of dx; channels one by one; no pixel that all taps miss.
CASES = [
    ConvCase(3, 3, 75, 60, 18, 7, 7, 2, 3, 1, 1),
    ConvCase(1, 2, 130, 40, 7, 3, 3, 1, 1, 1, 1),
    ConvCase(19, 6, 14, 14, 16, 5, 5, 1, 0, 1, 1),
    ConvCase(2, 3, 40, 41, 20, 11, 11, 4, 2, 1, 1),
    ConvCase(2, 3, 24, 150, 5, 11, 11, 1, (5, 3, 0, 7), 1, 1),
    ConvCase(2, 4, 23, 37, 9, 3, 4, (1, 3), (0, 2, 3, 1), (3, 2), 1),
    ConvCase(2, 1, 9, 9, 3, 2, 2, 3, 4, 1, 1),
    ConvCase(2, 1, 15, 8, 3, 5, 3, 1, 0, (3, 1), 1),
]
# Groups of few channels; several images in a block, fewer in the last; padding beyond the full one,
# where dY is cropped; more groups than tasks.
GROUPED = [
    ConvCase(3, 12, 9, 21, 20, 3, 3, 1, 1, 1, 4),
    ConvCase(11, 8, 7, 7, 16, 3, 3, 1, 1, 1, 2),
    ConvCase(2, 40, 13, 13, 40, 3, 2, 1, (2, 3, 2, 1), (1, 2), 20),
    ConvCase(5, 66, 14, 14, 33, 3, 3, 2, 1, 1, 33),
    ConvCase(2, 48, 20, 20, 32, 3, 3, 1, 1, 1, 2),
]
CASES += GROUPED
cases = pytest.mark.parametrize("case", CASES, ids=str)


@on_vectors
@cases
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("operation", "kernel_file"),
    [
        ("conv2d", small_channel),
        ("conv2d_input_grad", small_channel_input_grad),
        ("conv2d_input_grad", small_channel_full),
        ("conv2d_weight_grad", small_channel_weight_grad),
    ],
)
def test_equal_on_integers(operation, kernel_file, case, dtype):
    """Every element, and nothing else; what the reference makes of the same numbers."""
    g, rng = geometry_of(case), np.random.default_rng(8)
    reason = kernel_file.refusal(operation, g, np.dtype(dtype).itemsize)
    if kernel_file is small_channel_full and g.stride != (1, 1):
        assert "stride" in reason
        return
    if kernel_file is small_channel_input_grad and case in GROUPED:
        assert "group" in reason
        return
    assert reason is None
    x, w, dy = (guarded(small_integers(rng, shape, dtype)) for shape in case.shapes)
    out = Guarded(result_shape(operation, case), dtype)
    inputs = {
        "conv2d": (x, w, None), "conv2d_input_grad": (dy, w), "conv2d_weight_grad": (x, dy),
    }[operation]  # fmt: skip
    getattr(kernel_file, operation)(g, *inputs, out.array)
    np.testing.assert_array_equal(out.array, convolve(reference, operation, case, x, w, dy))
    out.assert_untouched_around()


@on_vectors
@cases
@pytest.mark.parametrize("dtype", FLOATS)
def test_fused_relu_is_relu_of_the_result(case, dtype):
    """Bit for bit, after the bias, with zeros of both signs; NaN stays NaN."""
    g, rng = geometry_of(case), np.random.default_rng(6)
    x, w, _ = (guarded(small_integers(rng, shape, dtype)) for shape in case.shapes)
    x[0, 0, 5, 5] = np.nan
    for bias in (None, np.ones(g.K), rng.integers(-9, 9, (g.K, g.P, g.Q))):
        b = None if bias is None else guarded(bias.astype(dtype))
        z = np.empty(g.output_shape, dtype)
        small_channel.conv2d(g, x, w, b, z)
        out = Guarded(g.output_shape, dtype)
        small_channel.conv2d(g, x, w, b, out.array, relu=True)
        out.assert_untouched_around()
        assert out.array.tobytes() == functional.relu(z).tobytes()
        assert np.isnan(out.array).any()
        assert (z < 0).any()
        assert (out.array > 0).any()


REFUSED = [
    (((1, 33, 20, 20), (4, 33, 3, 3)), {}, "33 channels are not few: 32 at the most"),
    (((1, 66, 20, 20), (4, 33, 3, 3)), {"groups": 2}, "33 channels per group are not few"),
    (
        ((1, 8, 3, 40000), (4, 8, 3, 3)),
        {},
        r"the rows that one row of outputs reads take \d+ bytes",
    ),
    (((1, 8, 9, 9), (4096, 8, 3, 3)), {}, "294912 weights are more than every task may pack"),
]


@on_vectors
@pytest.mark.parametrize(("shapes", "options", "reason"), REFUSED)
def test_refuses_what_it_cannot_serve(shapes, options, reason):
    g = conv2d_geometry(*shapes, **options)
    for operation, kernel_file in (
        ("conv2d", small_channel),
        ("conv2d_weight_grad", small_channel_weight_grad),
    ):
        assert re.match(reason, kernel_file.refusal(operation, g, 4))


@on_vectors
@pytest.mark.parametrize(
    ("kernel_file", "shapes", "options", "reason"),
    [
        (small_channel_input_grad, ((1, 9, 9, 9), (4, 9, 3, 3)), {}, "9 channels are not few"),
        (small_channel_input_grad, ((1, 8, 9, 9), (4096, 8, 3, 3)), {}, "294912 weights are more"),
        (small_channel_input_grad, ((1, 4, 9, 9), (4, 2, 3, 3)), {"groups": 2}, "it serves one"),
        (small_channel_full, ((1, 3, 9, 9), (33, 3, 3, 3)), {}, "33 channels are not few"),
        (small_channel_full, ((1, 3, 9, 9), (8, 3, 3, 3)), {"stride": (1, 2)}, r"stride \(1, 2\)"),
    ],
)
def test_input_gradients_refuse_what_they_cannot_serve(kernel_file, shapes, options, reason):
    g = conv2d_geometry(*shapes, **options)
    assert re.match(reason, kernel_file.refusal("conv2d_input_grad", g, 4))


@on_vectors
def test_the_input_gradient_refuses_a_ring_that_no_cache_holds():
    g = conv2d_geometry((1, 1, 100, 500), (2, 1, 41, 41))
    assert small_channel.refusal("conv2d", g, 4) is None
    reason = small_channel_input_grad.refusal("conv2d_input_grad", g, 4)
    assert re.match(r"the ring of tap rows of one channel takes \d+ bytes", reason)
