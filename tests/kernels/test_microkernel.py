"""The register-tile product and the moves around it: values, borders, and the assembly for CPUs
that may not be at hand."""

import re

import numpy as np
import pytest
from llvmlite import binding, ir
from numba import types

from fastcnn.kernels.cpu import microkernel
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import (
    dots,
    emit_dots,
    emit_product,
    put,
    short_product,
    take_every,
    take_second,
    take_stepped,
    tall_product,
)
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.units import UNITS, vector_unit

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
FLOATS = (np.float32, np.float64)


@kernel
def tall(rounds, depth, a, a0, b, b0, step, jump, c, c0, accumulate):
    tall_product(rounds, depth, a, a0, b, b0, step, jump, c, c0, accumulate)


@kernel
def short(rounds, depth, a, a0, b, b0, step, jump, c, c0, accumulate):
    short_product(rounds, depth, a, a0, b, b0, step, jump, c, c0, accumulate)


@kernel
def dotting(rounds, a, a0, a_jump, b, b0, b_jump, c, c0):
    dots(rounds, a, a0, a_jump, b, b0, b_jump, c, c0)


@kernel
def taking(count, s, s0, plane, stride, t, t0, step, first, last, fresh):
    if stride == 1:
        take_every(count, s, s0, plane, stride, t, t0, step, first, last, fresh)
    elif stride == 2:
        take_second(count, s, s0, plane, stride, t, t0, step, first, last, fresh)
    else:
        take_stepped(count, s, s0, plane, stride, t, t0, step, first, last, fresh)


@kernel
def putting(count, s, s0, step, t, t0, plane, stride, first, last):
    put(count, s, s0, step, t, t0, plane, stride, first, last)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("tile", ["tall", "short"])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize(("rounds", "depth"), [(1, 1), (1, 7), (3, 5), (4, 1)])
def test_product_is_the_contract(dtype, tile, accumulate, rounds, depth):
    """Equal on integers; NaN all around A, B and C is neither read nor overwritten."""
    run, rows = (tall, UNIT.rows) if tile == "tall" else (short, UNIT.short_rows)
    columns = UNIT.vectors * UNIT.lanes(np.dtype(dtype).itemsize)
    step, jump, offset = columns + 3, depth * (columns + 3) + 5, 7
    rng = np.random.default_rng(rounds * 10 + depth)
    a = np.full(offset + rounds * depth * rows + 64, np.nan, dtype)
    b = np.full(offset + rounds * jump + 64, np.nan, dtype)
    c = np.full(offset + rows * columns + 64, np.nan, dtype)
    a_rows = rng.integers(-8, 9, (rounds, depth, rows))
    b_rows = rng.integers(-8, 9, (rounds, depth, columns))
    before = rng.integers(-8, 9, (rows, columns))
    a[offset : offset + a_rows.size] = a_rows.ravel()
    for o in range(rounds):
        for k in range(depth):
            start = offset + o * jump + k * step
            b[start : start + columns] = b_rows[o, k]
    inside = slice(offset, offset + rows * columns)
    if accumulate:  # else it is NaN, which must not come through
        c[inside] = before.ravel()
    run(rounds, depth, a, offset, b, offset, step, jump, c, offset, accumulate)
    expected = np.einsum("okm,okj->mj", a_rows, b_rows) + accumulate * before
    np.testing.assert_array_equal(c[inside].reshape(rows, columns), expected)
    assert np.isnan(c[:offset]).all()
    assert np.isnan(c[inside.stop :]).all()


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
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize("fresh", [False, True])
def test_take_reads_its_lanes_alone(dtype, stride, fresh):
    """Lanes beyond the mask lie in poison, and before the array's first element."""
    lanes, count, plane, step = UNIT.lanes(np.dtype(dtype).itemsize), 3, 200, 70
    for first in range(lanes):
        for last in range(first, lanes + 1):
            source = np.full(count * plane, np.nan, dtype)
            target = np.arange(count * step, dtype=dtype)
            expected = target.copy()
            s0 = 0 - first * stride  # lane `first` is the first element of the array
            for n in range(count):
                wanted = 1000 * (n + 1) + np.arange(last - first)
                source[n * plane : n * plane + (last - first) * stride : stride] = wanted
                if fresh:
                    expected[5 + n * step : 5 + n * step + lanes] = 0
                expected[5 + n * step + first : 5 + n * step + last] = wanted
            taking(count, source, s0, plane, stride, target, 5, step, first, last, fresh)
            np.testing.assert_array_equal(target, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_put_writes_its_lanes_alone(dtype, stride):
    lanes, count, plane, step = UNIT.lanes(np.dtype(dtype).itemsize), 3, 150, 40
    source = np.arange(count * step, dtype=dtype)
    for first in range(lanes):
        for last in range(first, lanes + 1):
            target = np.full(count * plane, np.nan, dtype)
            expected = target.copy()
            for n in range(count):
                places = n * plane + np.arange(last - first) * stride
                expected[places] = source[2 + n * step + np.arange(first, last)]
            putting(count, source, 2, step, target, 0 - first * stride, plane, stride, first, last)
            np.testing.assert_array_equal(target, expected)


@on_vectors
def test_cover_holds_every_row_and_wastes_less_than_a_short_tile():
    for rows in range(1, 300):
        tall_tiles, short_tiles = microkernel.cover(rows)
        whole = tall_tiles * UNIT.rows + short_tiles * UNIT.short_rows
        assert whole == microkernel.padded(rows)
        assert rows <= whole < rows + max(UNIT.rows, UNIT.short_rows)
    if UNIT.name == "AVX-512":
        assert [microkernel.padded(k) for k in (64, 128, 256)] == [64, 128, 256]


# CPU, triple, unit, the register of a vector, the multiply-add
CPUS = [
    ("skylake-avx512", "x86_64-unknown-linux-gnu", "AVX-512", r"%zmm\d+", r"vfn?madd\d+ps"),
    ("znver5", "x86_64-unknown-linux-gnu", "AVX-512", r"%zmm\d+", r"vfn?madd\d+ps"),
    ("znver3", "x86_64-unknown-linux-gnu", "AVX2", r"%ymm\d+", r"vfn?madd\d+ps"),
    ("haswell", "x86_64-unknown-linux-gnu", "AVX2", r"%ymm\d+", r"vfn?madd\d+ps"),
    ("neoverse-n1", "aarch64-unknown-linux-gnu", "NEON", r"v\d+\.4s", r"fmla"),
    ("apple-m1", "arm64-apple-macosx", "NEON", r"\bv\d+", r"fmla\.4s"),
]


def assembly(cpu, triple, unit, tile):
    """One tile's product, as a function of numbers and pointers, compiled for a CPU."""
    integer, pointer = ir.IntType(64), ir.PointerType()
    module = ir.Module()
    module.triple = triple
    signature = ir.FunctionType(ir.VoidType(), [integer] * 4 + [pointer] * 3 + [ir.IntType(1)])
    function = ir.Function(module, signature, "product")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = Emitter(None, builder, llvm_type(types.float32), unit.lanes(4))
    arguments = function.args
    if tile == "dots":
        emit_dots(emit, unit.dots, unit.vectors, arguments[:3], arguments[4:7])
    else:
        rows = unit.rows if tile == "tall" else unit.short_rows
        emit_product(emit, rows, unit.vectors, arguments[:4], arguments[4:7], arguments[7])
    builder.ret_void()
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=cpu, opt=3)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(3))
    passes.getModulePassManager().run(parsed, passes)
    return machine.emit_assembly(parsed)


def inner_loops(text, multiply):
    """Instructions of each block that multiplies and branches back to its own label."""
    found = []
    for label, body in re.findall(r"^([.L]\w+):(.*?)(?=^\S+:|\Z)", text, re.M | re.S):
        lines = [line.strip() for line in body.splitlines()]
        back = [i for i, line in enumerate(lines) if re.search(rf"\s{re.escape(label)}$", line)]
        if back and any(re.match(multiply, line) for line in lines):
            found.append(lines[: back[-1] + 1])
    return found


@pytest.mark.parametrize(("cpu", "triple", "name", "register", "multiply"), CPUS)
@pytest.mark.parametrize("tile", ["tall", "short", "dots"])
def test_the_loop_in_assembly(cpu, triple, name, register, multiply, tile):
    """Whole vectors, one multiply-add per vector of the tile, nothing to or from the stack."""
    (unit,) = (u for u in UNITS if u.name == name)
    rounds = {
        "tall": unit.rows * unit.vectors,
        "short": unit.short_rows * unit.vectors,
        "dots": unit.dots[0] * unit.dots[1] * unit.vectors,
    }
    loops = inner_loops(assembly(cpu, triple, unit, tile), multiply)
    assert loops
    for loop in loops:
        products = [line for line in loop if re.match(multiply, line)]
        assert products
        assert len(products) % rounds[tile] == 0
        assert all(len(re.findall(register, line)) >= 2 for line in products)
        assert not [line for line in loop if re.search(r"[re]sp\b|\[sp|\[x29", line)]
        assert not [line for line in loop if re.match(r"(call|bl)\b", line)]
