"""The register tile's product with a packed tile of B: values, borders, assembly; and its tasks."""

import re

import numpy as np
import pytest
from llvmlite import ir
from numba import types

from fastcnn.functional import conv2d
from fastcnn.kernels.cpu.block_tiles import (
    copy_panels,
    emit_block_product,
    line,
    short_block,
    tall_block,
)
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import RUN
from fastcnn.kernels.cpu.product_tables import shares
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.units import UNITS, vector_unit
from tests.kernels.crosscompile import CPUS, compiled, inner_loops, on_stack

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@kernel
def multiplying(
    tall, depth, a, a0, by_rows, b, b0, source, fresh, s0, runs, r0, s_step, w, of_w, f0, f_step,
    f_shift, c_near, c_far, direct, c0, c_step, c_ahead, c_shift, accumulate, ends, e0, finish,
):  # fmt: skip
    if tall:
        tall_block(
            depth, a, a0, by_rows, b, b0, source, fresh, s0, runs, r0, s_step, w, of_w, f0, f_step,
            f_shift, c_near, c_far, direct, c0, c_step, c_ahead, c_shift, accumulate, ends, e0,
            finish,
        )  # fmt: skip
    else:
        short_block(
            depth, a, a0, by_rows, b, b0, source, fresh, s0, runs, r0, s_step, w, of_w, f0, f_step,
            f_shift, c_near, c_far, direct, c0, c_step, c_ahead, c_shift, accumulate, ends, e0,
            finish,
        )  # fmt: skip


@on_vectors
@dtypes
@pytest.mark.parametrize("tall", [False, True])
@pytest.mark.parametrize("by_rows", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(("depth", "finish"), [(1, 0), (7, 1), (40, 2)])
def test_product_is_the_contract(dtype, tall, by_rows, accumulate, fresh, depth, finish):
    """Equal on integers; NaN all around what is read of A, B and C does not show, the buffer that
    is not chosen is NaN, and nothing around C or a tile that is packed on the way is written. What
    is fetched may be no memory."""
    itemsize = np.dtype(dtype).itemsize
    rows = UNIT.rows if tall else UNIT.short_rows
    columns = UNIT.vectors * UNIT.lanes(itemsize)
    rng = np.random.default_rng(depth)
    c_step, offset = columns + 5, 7
    a_rows = rng.integers(-8, 9, (depth, rows))
    b_rows = rng.integers(-8, 9, (depth, columns))
    before = rng.integers(-8, 9, (rows, columns))
    last = rng.integers(-8, 9, rows)
    a = np.full(offset + rows * line(UNIT, itemsize) + 64, np.nan, dtype)
    if by_rows:
        for m in range(rows):
            a[offset + m * line(UNIT, itemsize) :][:depth] = a_rows[:, m]
    else:
        a[offset : offset + a_rows.size] = a_rows.ravel()
    b = np.full(offset + b_rows.size + 64, np.nan, dtype)
    source, runs = np.full(9, np.nan, dtype), np.zeros(RUN * UNIT.vectors + 1, np.int64)
    if fresh:
        # one vector behind the other, the first of two places where the unit can
        lanes = UNIT.lanes(itemsize)
        source = np.full(offset + depth * (s_step := 3 * columns), np.nan, dtype)
        for v in range(UNIT.vectors):
            of_two = tall and UNIT.mask_registers and v == 0 and depth > 1
            cut = lanes - 3 if of_two else lanes
            first, second = v * lanes, (2 * columns - 5 if cut < lanes else v * lanes)
            runs[1 + RUN * v :][:3] = first, second, cut
            for k in range(depth):
                row = source[offset + k * s_step :]
                row[first : first + cut] = b_rows[k, v * lanes :][:cut]
                row[second + cut : second + lanes] = b_rows[k, v * lanes + cut :][: lanes - cut]
    else:
        s_step = 0
        b[offset : offset + b_rows.size] = b_rows.ravel()
    ends = np.full(offset + rows + 64, np.nan, dtype)
    ends[offset : offset + rows] = last
    expected = np.einsum("km,kj->mj", a_rows, b_rows) + accumulate * before
    expected = expected + last[:, np.newaxis] * (finish >= 1)
    expected = np.maximum(expected, 0) if finish == 2 else expected
    other = np.full(1, np.nan, dtype)
    for direct in (False, True):
        c = np.full(offset + rows * c_step + 64, np.nan, dtype)
        inside = np.lib.stride_tricks.as_strided(
            c[offset:], (rows, columns), (c_step * c.itemsize, c.itemsize)
        )
        untouched = np.ones(c.shape, bool)
        for row in range(rows):
            untouched[offset + row * c_step :][:columns] = False
        if accumulate:
            inside[...] = before
        near, far = (other, c) if direct else (c, other)
        multiplying(
            tall, depth, a, offset, by_rows, b, offset, source, fresh, offset, runs, 1, s_step, b,
            accumulate, direct << 40, direct << 20, 3 * direct, near, far, direct, offset, c_step,
            direct << 40, 2 * direct, accumulate, ends, offset, finish,
        )  # fmt: skip
        np.testing.assert_array_equal(inside, expected)
        assert np.isnan(c[untouched]).all()
        np.testing.assert_array_equal(b[offset : offset + b_rows.size], b_rows.ravel())
        assert np.isnan(b[:offset]).all()
        assert np.isnan(b[offset + b_rows.size :]).all()


@kernel
def copying_panels(depth, panels, source, s0, s_step, target, t0, t_step):
    copy_panels(depth, panels, source, s0, s_step, target, t0, t_step)


@on_vectors
@dtypes
@pytest.mark.parametrize("panels", [1, 3])
def test_panels_are_columns_of_weights(dtype, panels):
    """Reads no further than w's end, and writes nothing beside the panels."""
    depth, rows, offset = 5, UNIT.rows, 7
    w = np.arange(depth * (panels * rows + offset), dtype=dtype).reshape(depth, -1)
    t_step = depth * rows + 9
    target = np.full(4 + panels * t_step, np.nan, dtype)
    copying_panels(depth, panels, w.reshape(-1), offset, w.shape[1], target, 4, t_step)
    for p in range(panels):
        panel = target[4 + p * t_step :][: depth * rows].reshape(depth, rows)
        np.testing.assert_array_equal(panel, w[:, offset + p * rows :][:, :rows])
        assert np.isnan(target[4 + p * t_step + depth * rows :][:9]).all()
    assert np.isnan(target[:4]).all()


@pytest.mark.parametrize("tiles", [1, 7, 13, 49, 98, 784])
@pytest.mark.parametrize("panels", [1, 5, 37, 148])
def test_tasks_hold_all_tiles_and_leave_little_idle(tiles, panels):
    for most in (1, 6, 32):
        size, some_panels, some_blocks = shares(tiles, most, panels, 1, 1, True)
        assert 1 <= size <= most
        assert 1 <= some_panels <= panels
        spans, parts = -(-tiles // (size * some_blocks)), -(-panels // some_panels)
        tasks = [
            min(size * some_blocks, tiles - s * size * some_blocks)
            * min(some_panels, panels - p * some_panels)
            for p in range(parts) for s in range(spans)
        ]  # fmt: skip
        assert sum(tasks) == tiles * panels
        if tiles * panels >= 13 * 37:
            longer = max(sum(half) for half in np.array_split(tasks, 2))
            assert longer <= 0.55 * sum(tasks)


def assembly(cpu, triple, unit, tall):
    """The product, as a function of numbers and pointers, compiled for a CPU."""
    integer, pointer, yes = ir.IntType(64), ir.PointerType(), ir.IntType(1)
    module = ir.Module()
    signature = ir.FunctionType(ir.VoidType(), [integer] * 8 + [pointer] * 7 + [yes] * 3)
    function = ir.Function(module, signature, "product")
    emit = Emitter(
        None, ir.IRBuilder(function.append_basic_block()), llvm_type(types.float32), unit.lanes(4),
        unit.fused,
    )  # fmt: skip
    numbers, pointers, choices = function.args[:8], function.args[8:15], function.args[15:]
    depth, finish, *steps = numbers
    rows = unit.rows if tall else unit.short_rows
    emit_block_product(emit, unit, rows, depth, pointers, steps, *choices, finish)
    emit.builder.ret_void()
    return compiled(module, cpu, triple)


@pytest.mark.parametrize(("cpu", "triple", "name", "register", "multiply"), CPUS)
@pytest.mark.parametrize("tall", [False, True])
def test_the_loops_in_assembly(cpu, triple, name, register, multiply, tall):
    """Of either order of A, B packed or not: whole vectors, a multiply-add for each total, nothing
    on the stack."""
    (unit,) = (u for u in UNITS if u.name == name)
    loops = inner_loops(assembly(cpu, triple, unit, tall), multiply)
    assert loops
    for loop in loops:
        products = [line for line in loop if re.match(multiply, line)]
        assert products
        assert len(products) % ((unit.rows if tall else unit.short_rows) * unit.vectors) == 0
        assert all(len(re.findall(register, line)) >= 2 for line in products)
        assert not on_stack(loop)


@on_vectors
@dtypes
@pytest.mark.parametrize("plane", [7, 5, 3])
def test_tiles_of_several_images_keep_them_apart(dtype, plane):
    """An image of NaN spoils none of its neighbours, which share tiles with it. A vector lies in
    two images where planes have 49 pixels, and in more where they have 9."""
    rng = np.random.default_rng(plane)
    x = rng.integers(-8, 9, (5, 20, plane, plane)).astype(dtype)
    w = rng.integers(-8, 9, (30, 20, 1, 1)).astype(dtype)
    want = np.einsum("kc,ncij->nkij", w[:, :, 0, 0], x)
    x[2] = np.nan
    y = conv2d(x, w, algorithm="implicit_gemm")
    np.testing.assert_array_equal(y[[0, 1, 3, 4]], want[[0, 1, 3, 4]])
    assert np.isnan(y[2]).all()
