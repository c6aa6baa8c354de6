"""The other two parts of Winograd's algorithm: filters transformed, and products of panels.

U[i, j] of a layer is a matrix of filters and channels for each (i, j) of the n*n points, in panels
of as many filters as a register tile has rows: [panel][channel][row]. V[i, j] is a matrix of
channels and tiles, one row per channel; M[i, j] = U[i, j] V[i, j], one row per filter.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import multiply_tile
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_tiles import TAPS, emitter
from fastcnn.kernels.cpu.winograd_transforms import Vectors, transforms
from fastcnn.kernels.cpu.winograd_transforms import multiply_tile as transform_tile


def emit_weights(emit, m, pointers, steps, valid, width):
    """U[i, j][0 … width-1] = G g G^T of a filter in each lane; zeros for lanes from `valid` on.

    pointers are the first lane's first tap and U; steps the elements between taps, between filters
    and from U[i, j] to U[i, j + 1].
    """
    builder = emit.builder
    w, u = pointers
    tap_step, row_step, u_step = steps
    nothing, g = emit.index(0), transforms(m, TAPS).g
    mask, stored = emit.between(nothing, valid), emit.between(nothing, width)
    taps = []
    for tap in range(TAPS * TAPS):
        place = emit.at(w, builder.mul(tap_step, emit.index(tap)))
        taps.append(emit.gather(place, row_step, mask, emit.zero()))
    tile = [taps[i : i + TAPS] for i in range(0, len(taps), TAPS)]
    points = [u for row in transform_tile(g, tile, Vectors(emit)) for u in row]
    for number, vector in enumerate(points):
        emit.masked_store(vector, emit.at(u, builder.mul(u_step, emit.index(number))), stored)


def _weights(m):
    """Make the intrinsic `f(w, w0, tap_step, row_step, u, u0, u_step, valid, width)`."""

    def typer(typingctx, w, w0, tap_step, row_step, u, u0, u_step, valid, width):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, w.dtype)
            wv, w0, tap_step, row_step, uv, u0, u_step, valid, width = arguments
            pointers = emit.at(emit.data(w, wv), w0), emit.at(emit.data(u, uv), u0)
            emit_weights(emit, m, pointers, (tap_step, row_step, u_step), valid, width)
            return context.get_dummy_value()

        i = types.intp
        return types.void(w, i, i, i, u, i, i, i, i), codegen

    return intrinsic(typer)


weights_4: Any = _weights(4)
weights_2: Any = _weights(2)


def emit_panel(emit, rows, vectors, sizes, pointers, accumulate, a_step=None):
    """C[row, j] = (C[row, j] if accumulate else 0)
                   + sum over k < depth of a[k*a_step + row] * b[k*b_step + j]   j < vectors * lanes

    C's rows are c_step apart; sizes are (depth, b_step, c_step), depth at least 1. A is packed
    where no a_step is given.
    """
    builder = emit.builder
    depth, b_step, c_step = sizes
    a, b, c = pointers
    starts = [emit.at(c, builder.mul(c_step, emit.index(row))) for row in range(rows)]
    places = [emit.at(s, emit.index(v * emit.lanes)) for s in starts for v in range(vectors)]
    before = builder.block
    with builder.if_then(accumulate):
        loaded = [emit.load(place) for place in places]
        during = builder.block
    start = []
    for value in loaded:
        total = builder.phi(emit.vector)
        total.add_incoming(emit.zero(), before)
        total.add_incoming(value, during)
        start.append(total)
    totals = multiply_tile(emit, depth, a, b, b_step, rows, vectors, start, a_step)
    for place, total in zip(places, totals, strict=True):
        emit.store(total, place)


def _panel(rows_of, vectors_of):
    """Make the intrinsic `f(depth, a, a0, b, b0, b_step, c, c0, c_step, accumulate)`."""

    def typer(typingctx, depth, a, a0, b, b0, b_step, c, c0, c_step, accumulate):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            depth, av, a0, bv, b0, b_step, cv, c0, c_step, accumulate = arguments
            pointers = [
                emit.at(emit.data(kind, value), offset)
                for kind, value, offset in ((a, av, a0), (b, bv, b0), (c, cv, c0))
            ]
            unit = known_unit()
            sizes = (depth, b_step, c_step)
            emit_panel(emit, rows_of(unit), vectors_of(unit), sizes, pointers, accumulate)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, a, i, b, i, i, c, i, i, types.boolean), codegen

    return intrinsic(typer)


# Tall and short panels, times tiles of as many vectors as a register tile has, or of one.
tall_wide: Any = _panel(lambda unit: unit.rows, lambda unit: unit.vectors)
short_wide: Any = _panel(lambda unit: unit.short_rows, lambda unit: unit.vectors)
tall_narrow: Any = _panel(lambda unit: unit.rows, lambda unit: 1)
short_narrow: Any = _panel(lambda unit: unit.short_rows, lambda unit: 1)
