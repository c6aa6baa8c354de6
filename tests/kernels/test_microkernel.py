"""The register-tile products: values, and the assembly for CPUs that may not be at hand."""

import re

import numpy as np
import pytest
from llvmlite import ir
from numba import types

from fastcnn.kernels.cpu import microkernel
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import RUN, emit_product, pick, short_product, tall_product
from fastcnn.kernels.cpu.pixel_dots import dots, emit_dots
from fastcnn.kernels.cpu.row_dots import emit_row_dots, emit_sums, row_dots, row_dots_of_one
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.units import UNITS, vector_unit
from fastcnn.kernels.cpu.winograd_product import emit_panel
from tests.kernels.crosscompile import CPUS, compiled, inner_loops, on_stack

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
FLOATS = (np.float32, np.float64)


def words(numbers):
    """Lane numbers as a vector's runs hold them."""
    return np.array([*numbers, *[0] * (16 - len(numbers))], np.uint8).view(np.int64).tolist()


@kernel
def multiplying(
    tall, rounds, depth, a, a0, b_near, b_far, far, b0, offsets, o0, runs, r0, step, ahead,
    c_near, c_far, direct, c0, c_step, accumulate, ends, e0, finish,
):  # fmt: skip
    if tall:
        tall_product(
            rounds, depth, a, a0, b_near, b_far, far, b0, offsets, o0, runs, r0, step, ahead,
            c_near, c_far, direct, c0, c_step, accumulate, ends, e0, finish,
        )  # fmt: skip
    else:
        short_product(
            rounds, depth, a, a0, b_near, b_far, far, b0, offsets, o0, runs, r0, step, ahead,
            c_near, c_far, direct, c0, c_step, accumulate, ends, e0, finish,
        )  # fmt: skip


@kernel
def picking(rounds, depth, near, far_away, far, b0, offsets, o0, runs, r0, step, t0):
    pick(rounds, depth, near, far_away, far, b0, offsets, o0, runs, r0, step, t0)


@kernel
def dotting(rounds, a, a0, a_jump, b, b0, b_jump, c, c0):
    dots(rounds, a, a0, a_jump, b, b0, b_jump, c, c0)


@kernel
def dotting_rows(
    one, depth, a, a0, a_step, rows, b, b0, b_step, columns, f0, f1, c, c0, c_step, start, fresh
):
    if one:
        row_dots_of_one(
            depth, a, a0, a_step, rows, b, b0, b_step, columns, f0, f1, c, c0, c_step, start, fresh
        )
    else:
        row_dots(
            depth, a, a0, a_step, rows, b, b0, b_step, columns, f0, f1, c, c0, c_step, start, fresh
        )


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("finish", [0, 1, 2])
@pytest.mark.parametrize(("rounds", "depth"), [(1, 1), (1, 7), (3, 5), (4, 1)])
def test_product_is_the_contract(dtype, tall, accumulate, finish, rounds, depth):
    """Equal on integers; NaN all around what is read of A, B and C does not show, the buffers that
    are not chosen are NaN, and nothing around C is written. What is fetched may be no memory."""
    rows = UNIT.rows if tall else UNIT.short_rows
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    columns = UNIT.vectors * lanes
    rng = np.random.default_rng(rounds * 10 + depth)
    step, c_step, offset = 5 * columns + 3, columns + 5, 7
    # rounds in another order, as taps of a rotated kernel are
    offsets = np.array([9, *(depth * step * np.arange(rounds)[::-1])])
    a = np.full(offset + rounds * depth * rows + 64, np.nan, dtype)
    b = np.full(offset + rounds * depth * step + 64, np.nan, dtype)
    c = np.full(offset + rows * c_step + 64, np.nan, dtype)
    ends = np.full(offset + rows + 64, np.nan, dtype)
    a_rows = rng.integers(-8, 9, (rounds, depth, rows))
    b_rows = rng.integers(-8, 9, (rounds, depth, columns))
    before = rng.integers(-8, 9, (rows, columns))
    last = rng.integers(-8, 9, rows)
    a[offset : offset + a_rows.size] = a_rows.ravel()
    ends[offset : offset + rows] = last
    # vector v: lanes below 3*v + 1 from one run, the others from a second one behind all first ones
    splits = [min(lanes, 3 * v + 1) for v in range(UNIT.vectors)]
    runs = [9, 9]
    for v, split in enumerate(splits):
        first, second = 2 * v * lanes, 2 * (UNIT.vectors + v) * lanes
        numbers = [lane if lane < split else lanes + lane for lane in range(lanes)]
        runs += [first, second, split, *words(numbers)]
        for o in range(rounds):
            for k in range(depth):
                start = offset + offsets[1 + o] + k * step
                values = b_rows[o, k, v * lanes : (v + 1) * lanes]
                b[start + first : start + first + split] = values[:split]
                b[start + second + split : start + second + lanes] = values[split:]
    inside = np.lib.stride_tricks.as_strided(
        c[offset:], (rows, columns), (c_step * c.itemsize, c.itemsize)
    )
    if accumulate:  # else it is NaN, which must not come through
        inside[...] = before
    untouched = np.ones(c.shape, bool)
    for row in range(rows):
        untouched[offset + row * c_step : offset + row * c_step + columns] = False
    other = np.full(1, np.nan, dtype)
    for far in (False, True):
        near_b, far_b = (other, b) if far else (b, other)
        near_c, far_c = (other, c) if far else (c, other)
        result = c.copy()
        multiplying(
            tall, rounds, depth, a, offset, near_b, far_b, far, offset, offsets, 1,
            np.array(runs), 2, step, far << 40, near_c, far_c, far, offset, c_step, accumulate,
            ends, offset, finish,
        )  # fmt: skip
        expected = np.einsum("okm,okj->mj", a_rows, b_rows) + accumulate * before
        expected = expected + last[:, np.newaxis] * (finish >= 1)
        expected = np.maximum(expected, 0) if finish == 2 else expected
        np.testing.assert_array_equal(inside, expected)
        assert np.isnan(c[untouched]).all()
        c[...] = result


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rounds", [1, 2, 9])
def test_dots_are_the_contract(dtype, rounds):
    """As above; c has whole vectors, to which it adds."""
    rows, columns = UNIT.dots
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    length, offset = UNIT.vectors * lanes, 5
    a_jump, b_jump = rows * length + 3, columns * length + 7
    rng = np.random.default_rng(rounds)
    a = np.full(offset + rounds * a_jump + 64, np.nan, dtype)
    b = np.full(offset + rounds * b_jump + 64, np.nan, dtype)
    whole = -(-rows * columns // lanes) * lanes
    c = np.full(offset + whole + 64, np.nan, dtype)
    a_rows = rng.integers(-8, 9, (rounds, rows, length))
    b_rows = rng.integers(-8, 9, (rounds, columns, length))
    before = rng.integers(-8, 9, whole)
    for o in range(rounds):
        a[offset + o * a_jump :][: rows * length] = a_rows[o].ravel()
        b[offset + o * b_jump :][: columns * length] = b_rows[o].ravel()
    c[offset : offset + whole] = before
    dotting(rounds, a, offset, a_jump, b, offset, b_jump, c, offset)
    expected = before.copy()
    expected[: rows * columns] += np.einsum("oml,ojl->mj", a_rows, b_rows).ravel()
    np.testing.assert_array_equal(c[offset : offset + whole], expected)
    assert np.isnan(c[:offset]).all()
    assert np.isnan(c[offset + whole :]).all()


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("one", [False, True])
def test_row_dots_are_the_contract(dtype, fresh, one):
    """For every number of rows and columns that exist; what is not theirs is NaN, and stays."""
    height, width = UNIT.dots[0], 1 if one else UNIT.dots[1]
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    rng = np.random.default_rng(8)
    for depth in (1, lanes - 1, lanes, 3 * lanes + 1):
        for rows in range(1, height + 1):
            for columns in range(1, width + 1):
                a, b, c = (np.full((n, m), np.nan, dtype) for n, m in (
                    (height + 2, depth + 3), (width + 2, depth + 5), (width + 2, height + 4),
                ))  # fmt: skip
                start = np.full(2 * height, np.nan, dtype)
                a[1 : 1 + rows, 2 : 2 + depth] = rng.integers(-8, 9, (rows, depth))
                b[1 : 1 + columns, 2 : 2 + depth] = rng.integers(-8, 9, (columns, depth))
                start[:rows] = rng.integers(-8, 9, rows)
                c[1 : 1 + columns, 2 : 2 + rows] = np.nan if fresh else 5
                expected = c.copy()
                expected[1 : 1 + columns, 2 : 2 + rows] = (
                    b[1 : 1 + columns, 2 : 2 + depth] @ a[1 : 1 + rows, 2 : 2 + depth].T
                    + (start[:rows] if fresh else 5)
                )  # fmt: skip
                steps = [m.shape[1] for m in (a, b, c)]
                dotting_rows(
                    one, depth, a.ravel(), steps[0] + 2, steps[0], rows,
                    b.ravel(), steps[1] + 2, steps[1], columns, 0, 10**6,
                    c.ravel(), steps[2] + 2, steps[2], start, fresh,
                )  # fmt: skip
                np.testing.assert_array_equal(c, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("far", [False, True])
def test_lanes_are_picked_by_their_numbers(dtype, far):
    """By `pick`, and by the short tile where the unit can, from two vectors in any order; else the
    numbers say what the split says. What is not picked is NaN."""
    rng = np.random.default_rng(3)
    lanes, rounds, depth, step = UNIT.lanes(np.dtype(dtype).itemsize), 2, 3, 90
    columns, rows = UNIT.vectors * lanes, UNIT.short_rows
    b = np.full(7 + rounds * 400, np.nan, dtype)
    offsets, runs = np.array([9, 400, 0]), [9]
    values = rng.integers(-8, 9, (rounds, depth, columns)).astype(dtype)
    for v in range(UNIT.vectors):
        first, second = 2 * v * lanes, 2 * v * lanes + lanes + 3
        split = v + 1
        numbers = np.array([lane + lanes * (lane >= split) for lane in range(lanes)])
        if UNIT.picks:
            numbers, split = rng.permutation(2 * lanes)[:lanes], 0
        runs += [first, second, split, *words(numbers)]
        places = np.where(numbers < lanes, first + numbers, second + numbers - lanes)
        for o in range(rounds):
            for k in range(depth):
                of_vector = values[o, k, v * lanes : (v + 1) * lanes]
                b[7 + offsets[1 + o] + k * step + places] = of_vector
    runs = np.array(runs)
    packed = np.full(5 + values.size + 5, np.nan, dtype)
    near = np.concatenate([packed, b])
    b0 = 7 if far else 7 + packed.size
    picking(rounds, depth, near, b if far else packed, far, b0, offsets, 1, runs, 1, step, 5)
    np.testing.assert_array_equal(near[5:-5][: values.size], values.ravel())
    assert np.isnan(near[[*range(5), *range(5 + values.size, packed.size)]]).all()
    a = rng.integers(-8, 9, (rounds, depth, rows)).astype(dtype)
    c = np.full((rows, columns), np.nan, dtype)
    multiplying(
        False, rounds, depth, a.ravel(), 0, b, b, far, 7, offsets, 1, runs, 1, step, 0,
        c.ravel(), c.ravel(), far, 0, columns, False, a.ravel(), 0, 0,
    )  # fmt: skip
    np.testing.assert_array_equal(c, np.einsum("okm,okj->mj", a, values))


@on_vectors
def test_cover_holds_every_row_and_wastes_less_than_a_short_tile():
    for rows in range(1, 300):
        tall_tiles, short_tiles = microkernel.cover(rows)
        whole = tall_tiles * UNIT.rows + short_tiles * UNIT.short_rows
        assert whole == microkernel.padded(rows)
        assert rows <= whole < rows + max(UNIT.rows, UNIT.short_rows)
    if UNIT.name == "AVX-512":
        assert [microkernel.padded(k) for k in (64, 128, 256)] == [64, 128, 256]


def assembly(cpu, triple, unit, tile):
    """One tile's product, as a function of numbers and pointers, compiled for a CPU."""
    integer, pointer = ir.IntType(64), ir.PointerType()
    module = ir.Module()
    numbers = 6 + RUN * unit.vectors
    signature = ir.FunctionType(
        ir.VoidType(), [integer] * numbers + [pointer] * 5 + [ir.IntType(1)]
    )
    function = ir.Function(module, signature, "product")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = Emitter(None, builder, llvm_type(types.float32), unit.lanes(4), unit.fused)
    sizes, pointers = function.args[:numbers], function.args[numbers:]
    if tile == "panel":
        tile_size = unit.rows, unit.vectors
        emit_panel(emit, *tile_size, sizes[:3], pointers[:3], pointers[5], next_b=pointers[3])
    elif tile == "dots":
        emit_dots(emit, unit.dots, unit.vectors, sizes[:3], pointers[:3])
    elif tile == "row dots":
        height, width = unit.dots
        a, b, c, start, ahead, fresh = pointers
        a_rows, b_rows, c_rows = (
            [emit.at(first, builder.mul(step, emit.index(i))) for i in range(count)]
            for first, step, count in (
                (a, sizes[1], height),
                (b, sizes[2], width),
                (c, sizes[3], 4),
            )
        )
        totals = emit_row_dots(emit, unit.vectors, sizes[0], a_rows, b_rows, [ahead, c])
        emit_sums(emit, totals, height, sizes[4], c_rows, start, fresh)
    else:
        rows = unit.rows if tile == "tall" else unit.short_rows
        runs = [tuple(sizes[6 + RUN * v : 6 + RUN * (v + 1)]) for v in range(unit.vectors)]
        c_step, finish, ahead = sizes[3:6]
        emit_product(
            emit, unit, rows, sizes[:3], pointers[:5], runs, ahead, c_step, pointers[5], finish
        )  # fmt: skip
    builder.ret_void()
    return compiled(module, cpu, triple)


@pytest.mark.parametrize(("cpu", "triple", "name", "register", "multiply"), CPUS)
@pytest.mark.parametrize("tile", ["tall", "short", "dots", "row dots", "panel"])
def test_the_loop_in_assembly(cpu, triple, name, register, multiply, tile):
    """Whole vectors, one multiply-add per vector of the tile, nothing to or from the stack; but
    where masks have no registers of their own, in the loop that has none."""
    (unit,) = (u for u in UNITS if u.name == name)
    rounds = {
        "tall": unit.rows * unit.vectors,
        "panel": unit.rows * unit.vectors,
        "short": unit.short_rows * unit.vectors,
        "dots": unit.dots[0] * unit.dots[1] * unit.vectors,
        "row dots": unit.dots[0] * unit.dots[1] * unit.vectors,
    }
    loops = inner_loops(assembly(cpu, triple, unit, tile), multiply)
    assert loops
    spilt = [bool(on_stack(loop)) for loop in loops]
    assert not (all(spilt) if "dots" not in tile and not unit.mask_registers else any(spilt))
    for loop in loops:
        products = [line for line in loop if re.match(multiply, line)]
        assert products
        assert len(products) % rounds[tile] == 0
        assert all(len(re.findall(register, line)) >= 2 for line in products)
        assert not [line for line in loop if re.match(r"(call|bl)\b", line)]
