"""The weight gradient's register tile and its layouts: values, borders, assembly."""

import re

import numpy as np
import pytest
from llvmlite import ir
from numba import types

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.pixel_sums import (
    emit_sums,
    lay_rows,
    lay_turned,
    lay_turned_second,
    lay_turned_stepped,
    line,
    most_pixels,
    short_sums,
    tall_sums,
)
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.units import UNITS, vector_unit
from tests.kernels.crosscompile import CPUS, compiled, inner_loops, on_stack

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@kernel
def summing(
    tall, rounds, depth, step, a, a0, b, b0, offsets, o0, firsts, f0, c, c0, ends, e0, near, far,
    of_far, r0, f_step, f_bits, f_pair, f_shift,
):  # fmt: skip
    if tall:
        tall_sums(
            rounds, depth, step, a, a0, b, b0, offsets, o0, firsts, f0, c, c0, ends, e0, near, far,
            of_far, r0, f_step, f_bits, f_pair, f_shift,
        )  # fmt: skip
    else:
        short_sums(
            rounds, depth, step, a, a0, b, b0, offsets, o0, firsts, f0, c, c0, ends, e0, near, far,
            of_far, r0, f_step, f_bits, f_pair, f_shift,
        )  # fmt: skip


@kernel
def laying_rows(rows, n, source, s0, s_step, target, t0, t_step):
    lay_rows(rows, n, source, s0, s_step, target, t0, t_step)


@kernel
def laying_turned(rows, source, s0, s_step, stride, ahead, target, t0, first, last):
    if stride == 1:
        lay_turned(rows, source, s0, s_step, stride, ahead, target, t0, first, last)
    elif stride == 2:
        lay_turned_second(rows, source, s0, s_step, stride, ahead, target, t0, first, last)
    else:
        lay_turned_stepped(rows, source, s0, s_step, stride, ahead, target, t0, first, last)


@on_vectors
@dtypes
@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize(("rounds", "depth"), [(1, 1), (1, 9), (3, 5), (4, 1)])
def test_sums_are_the_contract(dtype, tall, rounds, depth):
    """Equal on integers, added to what is there; NaN all around what is read does not show, and
    nothing around C is written. What is fetched may be no memory."""
    rows, itemsize = UNIT.rows if tall else UNIT.short_rows, np.dtype(dtype).itemsize
    lanes, pitch = UNIT.lanes(itemsize), line(UNIT, itemsize)
    rng = np.random.default_rng(rounds * 10 + depth)
    step, block = 2 * lanes, 3 * depth * 2 * lanes
    a = np.full(5 + rows * pitch + 64, np.nan, dtype)
    b = np.full(3 + (rounds + 1) * block * UNIT.vectors + 64, np.nan, dtype)
    c = np.full(11 + UNIT.vectors * (rows + 2) * lanes + 64, np.nan, dtype)
    a_rows = rng.integers(-8, 9, (rows, rounds * depth))
    b_rows = rng.integers(-8, 9, (rounds, depth, UNIT.vectors, lanes))
    before = rng.integers(-8, 9, (UNIT.vectors, rows, lanes))
    offsets = np.array([-1, *(block * np.arange(rounds)[::-1])])
    firsts = np.array([-1, -1, *(np.arange(UNIT.vectors)[::-1] * (rounds + 1) * block)])
    ends = np.array([-1, *(2 + np.arange(UNIT.vectors) * (rows + 2) * lanes)])
    for m in range(rows):
        a[5 + m * pitch : 5 + m * pitch + rounds * depth] = a_rows[m]
    untouched = np.ones(c.shape, bool)
    for v in range(UNIT.vectors):
        for o in range(rounds):
            for k in range(depth):
                start = 3 + offsets[1 + o] + firsts[2 + v] + k * step
                b[start : start + lanes] = b_rows[o, k, v]
        place = slice(9 + ends[1 + v], 9 + ends[1 + v] + rows * lanes)
        c[place] = before[v].ravel()
        untouched[place] = False
    summing(
        tall, rounds, depth, step, a, 5, b, 3, offsets, 1, firsts, 2, c, 9, ends, 1, a, b, tall,
        tall << 40, 1 << 20, 3, 1 << 30, 1,
    )  # fmt: skip
    wanted = np.einsum("mok,okvl->vml", a_rows.reshape(rows, rounds, depth), b_rows) + before
    for v in range(UNIT.vectors):
        got = c[9 + ends[1 + v] : 9 + ends[1 + v] + rows * lanes]
        np.testing.assert_array_equal(got, wanted[v].ravel())
    assert np.isnan(c[untouched]).all()


@on_vectors
@dtypes
def test_rows_are_laid_and_no_more_than_a_vector_beyond(dtype):
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    for n in range(1, 2 * lanes + 2):
        s_step, t_step = n + 3, 4 * lanes
        source = np.full(2 + 3 * s_step, np.nan, dtype)
        target = np.full(5 + 3 * t_step, np.nan, dtype)
        values = 1 + np.arange(3 * n).reshape(3, n)
        for m in range(3):
            source[2 + m * s_step : 2 + m * s_step + n] = values[m]
        laying_rows(3, n, source[: 2 + 2 * s_step + n], 2, s_step, target, 5, t_step)
        whole = -(-n // lanes) * lanes
        for m in range(3):
            row = target[5 + m * t_step : 5 + (m + 1) * t_step]
            np.testing.assert_array_equal(row[:n], values[m])
            np.testing.assert_array_equal(row[n:whole], 0)
            assert np.isnan(row[whole:]).all()
        assert np.isnan(target[:5]).all()


@on_vectors
@dtypes
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_turned_rows_read_their_elements_alone(dtype, stride):
    """Rows beyond the last and columns beyond the mask are zero; they lie in poison, and before the
    array's first element. What is fetched ahead may lie anywhere."""
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    for rows in range(1, lanes + 1):
        for first, last in [(0, lanes), (0, 1), (lanes - 1, lanes), (1, lanes - 1), (1, 1)]:
            plane = lanes * stride + 5
            source = np.full((rows, plane), np.nan, dtype)
            target = np.full(3 + (lanes + 1) * lanes, np.nan, dtype)
            expected = np.zeros((lanes, lanes))
            for m in range(rows):
                wanted = 100 * (m + 1) + np.arange(last - first)
                source[m, : (last - first) * stride : stride] = wanted
                expected[first:last, m] = wanted
            laying_turned(
                rows, source.ravel(), 0 - first * stride, plane, stride, 10**12, target, 3, first,
                last,
            )  # fmt: skip
            np.testing.assert_array_equal(target[3 : 3 + lanes * lanes], expected.ravel())
            assert np.isnan(target[:3]).all()
            assert np.isnan(target[3 + lanes * lanes :]).all()


def test_a_row_of_pixels_has_room_for_whole_vectors():
    for unit in UNITS:
        for itemsize in (4, 8):
            assert line(unit, itemsize) == most_pixels(itemsize) + unit.lanes(itemsize)
            assert line(unit, itemsize) * itemsize % 4096


@pytest.mark.parametrize(("cpu", "triple", "name", "register", "multiply"), CPUS)
@pytest.mark.parametrize("tall", [False, True])
def test_the_loop_in_assembly(cpu, triple, name, register, multiply, tall):
    """Whole vectors, one multiply-add for each of the tile, nothing to or from the stack."""
    (unit,) = (u for u in UNITS if u.name == name)
    rows, integer, pointer = (
        unit.rows if tall else unit.short_rows,
        ir.IntType(64),
        ir.PointerType(),
    )
    module, numbers = ir.Module(), 4 + unit.vectors
    kinds = [integer] * (numbers + 3) + [pointer] * numbers
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "sums")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = Emitter(None, builder, llvm_type(types.float32), unit.lanes(4), unit.fused)
    given, pointers = function.args[: numbers + 3], function.args[numbers + 3 :]
    emit_sums(
        emit, unit, rows, given[:3], pointers[:3], given[7:], pointers[4:],
        (pointers[3], *given[3:7]) if tall and unit.registers > 16 else None,
    )  # fmt: skip
    builder.ret_void()
    loops = inner_loops(compiled(module, cpu, triple), multiply)
    assert loops
    for loop in loops:
        products = [instruction for instruction in loop if re.match(multiply, instruction)]
        assert products
        assert len(products) % (rows * unit.vectors) == 0
        assert all(len(re.findall(register, product)) >= 2 for product in products)
        assert not on_stack(loop)
