"""The highest element, the exponentials and the sum of one row, on vectors.

    m = max_i x_i            y_i = e^(x_i - m)            s = sum_i y_i, in float64

LLVM makes vectors of plain loops too, but four at a time, and does one by one what they leave over:
48 elements of a row of 112. Here whole vectors are followed by one under a mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.jit import in_place_of
from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.transcendental import emit_exp_below_zero

# Elements of a vector on every machine, so that sums have one order: two registers of AVX-512 in
# float32, whose comparisons need not wait for each other. A shorter row is mostly mask.
LANES = 32


def _emit_row(emit, n, start, each):
    """Carry values over the vectors of a row: each(offset, mask or None, values) gives the next."""
    builder = emit.builder
    whole = builder.sdiv(n, emit.index(LANES))
    done = builder.mul(whole, emit.index(LANES))
    with emit.where(builder.icmp_signed(">", whole, emit.index(0)), start) as branch:
        with emit.loop(whole, start) as block:
            offset = builder.mul(block.number, emit.index(LANES))
            block.next = each(offset, None, block.values)
        branch.next = block.next
    rest = builder.sub(n, done)
    with emit.where(builder.icmp_signed(">", rest, emit.index(0)), branch.next) as last:
        last.next = each(done, emit.below(rest), branch.next)
    return last.next


def _largest(emit, vector):
    """The largest lane of a vector without NaN."""
    lanes = emit.lanes
    while lanes > 1:
        lanes //= 2
        low, high = (emit.pick(vector, vector, list(range(h, h + lanes))) for h in (0, lanes))
        vector = emit.builder.select(emit.builder.fcmp_ordered(">", high, low), high, low)
    return emit.builder.extract_element(vector, emit.index(0))


def _row(context, builder, x, arguments):
    """An emitter for the arrays' type, and the place of element i of x; of arguments x, i, …"""
    emit = Emitter(context, builder, llvm_type(x.dtype), LANES)
    return emit, emit.at(emit.data(x, arguments[0]), arguments[1])


def highest(x: Any, i: int, n: int) -> Any:
    """The highest of x[i : i+n]; where that holds NaN, of the others, or NaN."""
    return np.max(x[i : i + n])


def _highest_typer(typingctx, x, i, n):
    def codegen(context, builder, signature, arguments):
        emit, source = _row(context, builder, x, arguments)
        lowest = emit.constant(float("-inf"))

        def compare(offset, mask, values):
            place = emit.at(source, offset)
            v = emit.load(place) if mask is None else emit.masked_load(place, mask, lowest)
            return [emit.at_least(values[0], v)]

        return _largest(emit, _emit_row(emit, arguments[2], [lowest], compare)[0])

    return x.dtype(x, types.intp, types.intp), codegen


_highest: Any = intrinsic(_highest_typer)


@in_place_of(highest)
def _highest_on_vectors(x, i, n):
    return lambda x, i, n: _highest(x, i, n)


def exponentials(x: Any, i: int, n: int, m: Any, y: Any) -> Any:
    """y[i : i+n] = e^(x[i : i+n] - m), m the highest of them; their sum, in float64."""
    y[i : i + n] = np.exp(x[i : i + n] - m)
    return y[i : i + n].sum(dtype=np.float64)


def _exponentials_typer(typingctx, x, i, n, m, y):
    def codegen(context, builder, signature, arguments):
        emit, source = _row(context, builder, x, arguments)
        wide, m = emit.widened(), emit.splat(arguments[3])
        target = emit.at(emit.data(y, arguments[4]), arguments[1])

        def raise_e(offset, mask, values):
            place = emit.at(source, offset)
            v = emit.load(place) if mask is None else emit.masked_load(place, mask, emit.zero())
            e = emit_exp_below_zero(emit, builder.fsub(v, m))
            place = emit.at(target, offset)
            if mask is None:
                emit.store(e, place)
            else:
                emit.masked_store(e, place, mask)
                e = builder.select(mask, e, emit.zero())
            return [wide.add(values[0], emit.widen(e))]

        return wide.total(_emit_row(emit, arguments[2], [wide.zero()], raise_e)[0])

    return types.float64(x, types.intp, types.intp, x.dtype, y), codegen


_exponentials: Any = intrinsic(_exponentials_typer)


@in_place_of(exponentials)
def _exponentials_on_vectors(x, i, n, m, y):
    return lambda x, i, n, m, y: _exponentials(x, i, n, m, y)


def multiply(y: Any, i: int, n: int, factor: Any) -> None:
    """y[i : i+n] *= factor."""
    y[i : i + n] *= factor


def _multiply_typer(typingctx, y, i, n, factor):
    def codegen(context, builder, signature, arguments):
        emit, target = _row(context, builder, y, arguments)
        factor = emit.splat(arguments[3])

        def scale(offset, mask, values):
            place = emit.at(target, offset)
            if mask is None:
                emit.store(builder.fmul(emit.load(place), factor), place)
            else:
                value = emit.masked_load(place, mask, emit.zero())
                emit.masked_store(builder.fmul(value, factor), place, mask)
            return []

        _emit_row(emit, arguments[2], [], scale)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, y.dtype), codegen


_multiply: Any = intrinsic(_multiply_typer)


@in_place_of(multiply)
def _multiply_on_vectors(y, i, n, factor):
    return lambda y, i, n, factor: _multiply(y, i, n, factor)
