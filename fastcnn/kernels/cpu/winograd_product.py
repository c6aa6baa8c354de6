"""The other two parts of Winograd's algorithm: filters transformed, and products of panels.

U[i, j] of a layer is a matrix of filters and channels for each (i, j) of its points, in panels of
as many filters as a register tile has rows: [panel][channel][row]. V[i, j] is a matrix of channels
and tiles, one row per channel; M[i, j] the product of one of each, or the sum of some, one row per
filter.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import multiply_tile, prefetch_line
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_forms import TAPS, form_of
from fastcnn.kernels.cpu.winograd_tiles import emitter
from fastcnn.kernels.cpu.winograd_transforms import Vectors
from fastcnn.kernels.cpu.winograd_transforms import multiply_tile as transform_tile


def _transposed(emit, rows):
    """Vector j of the result holds lane j of every row; as many rows as lanes."""
    lanes, rows = emit.lanes, list(rows)
    width = lanes // 2
    while width:  # swap the blocks off the diagonal, in ever smaller squares
        upper = [i if not i & width else lanes + i - width for i in range(lanes)]
        lower = [i + width if not i & width else lanes + i for i in range(lanes)]
        for i in range(lanes):
            if not i & width:
                pair = rows[i], rows[i + width]
                rows[i], rows[i + width] = emit.pick(*pair, upper), emit.pick(*pair, lower)
        width //= 2
    return rows


def _across_typer(typingctx, w, w0, row_step, rows, count, ahead, t, t0):
    """`across(w, w0, row_step, rows, count, ahead, t, t0)`: turn rows into vectors across them.

    Vector j, at t[t0 + j*lanes], has element j of each of `rows` rows of w, row_step elements
    apart; zeros for more rows, and from element `count` on. Reads nothing else, and fetches what
    lies `ahead` of each row.
    """

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, w.dtype)
        wv, w0, row_step, rows, count, ahead, tv, t0 = arguments
        first, nothing = emit.at(emit.data(w, wv), w0), emit.index(0)
        loaded = []
        for row in range(emit.lanes):
            there = builder.icmp_signed("<", emit.index(row), rows)
            offset = builder.select(there, builder.mul(row_step, emit.index(row)), nothing)
            mask = emit.between(nothing, builder.select(there, count, nothing))
            place = emit.at(first, offset)
            prefetch_line(builder, emit.at(place, ahead), write=False)
            loaded.append(emit.masked_load(place, mask, emit.zero()))
        target = emit.at(emit.data(t, tv), t0)
        for j, vector in enumerate(_transposed(emit, loaded)):
            emit.store(vector, emit.at(target, emit.index(j * emit.lanes)))
        return context.get_dummy_value()

    i = types.intp
    return types.void(w, i, i, i, i, i, t, i), codegen


across: Any = intrinsic(_across_typer)


def emit_weights(emit, form, pointers, u_step, width):
    """U[i, j][0 … width-1] = G g G^T of a filter in each lane.

    pointers are the vectors of taps, the table that says how many elements further on each tap's
    is, or, negative, that it is zero, and U; u_step is from U[i, j] to U[i, j + 1].
    """
    builder = emit.builder
    w, table, u = pointers
    stored = emit.between(emit.index(0), width)
    taps = []
    for i in range(TAPS * TAPS):
        place = emit.integer(table, emit.index(i))
        exists = builder.icmp_signed(">=", place, emit.index(0))
        vector = emit.load(emit.at(w, builder.select(exists, place, emit.index(0))))
        taps.append(builder.select(exists, vector, emit.zero()))
    tile = [taps[i : i + TAPS] for i in range(0, len(taps), TAPS)]
    points = [u for row in transform_tile(form.g, tile, Vectors(emit)) for u in row]
    for number, vector in enumerate(points):
        emit.masked_store(vector, emit.at(u, builder.mul(u_step, emit.index(number))), stored)


def _weights_typer(typingctx, form, w, w0, places, p0, u, u0, u_step, width):
    """`transform_weights(form, w, w0, places, p0, u, u0, u_step, width)`: see `emit_weights`."""

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, w.dtype)
        _, wv, w0, pv, p0, uv, u0, u_step, width = arguments
        pointers = (
            emit.at(emit.data(w, wv), w0), emit.at_integer(emit.data(places, pv), p0),
            emit.at(emit.data(u, uv), u0),
        )  # fmt: skip
        emit_weights(emit, form_of(form), pointers, u_step, width)
        return context.get_dummy_value()

    i = types.intp
    return types.void(form, w, i, places, i, u, i, i, i), codegen


transform_weights: Any = intrinsic(_weights_typer)


def emit_panel(emit, rows, vectors, sizes, pointers, accumulate, a_step=None, next_b=None):
    """C[row, j] = (C[row, j] if accumulate else 0)
                   + sum over k < depth of a[k*a_step + row] * b[k*b_step + j]   j < vectors * lanes

    C's rows are c_step apart; sizes are (depth, b_step, c_step), depth at least 1. A is packed
    where no a_step is given. With `next_b` the next panel of a packed A is fetched, and a line of
    each of the depth rows of B that begin there.
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
    next_a = emit.at(a, builder.mul(depth, emit.index(rows)))

    def fetch(number):
        prefetch_line(builder, emit.at(next_a, builder.mul(number, emit.index(rows))), write=False)
        prefetch_line(builder, emit.at(next_b, builder.mul(number, b_step)), write=False)

    each = None if next_b is None else fetch
    totals = multiply_tile(emit, depth, a, b, b_step, rows, vectors, start, a_step, each)
    for place, total in zip(places, totals, strict=True):
        emit.store(total, place)


def _panel(rows_of, vectors_of):
    """Make the intrinsic `f(depth, a, a0, b, b0, next_b, b_step, c, c0, c_step, accumulate)`."""

    def typer(typingctx, depth, a, a0, b, b0, next_b, b_step, c, c0, c_step, accumulate):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            depth, av, a0, bv, b0, next_b, b_step, cv, c0, c_step, accumulate = arguments
            pointers = [
                emit.at(emit.data(kind, value), offset)
                for kind, value, offset in ((a, av, a0), (b, bv, b0), (c, cv, c0))
            ]
            unit = known_unit()
            sizes = (depth, b_step, c_step)
            tile = rows_of(unit), vectors_of(unit)
            following = emit.at(emit.data(b, bv), next_b)
            emit_panel(emit, *tile, sizes, pointers, accumulate, next_b=following)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, a, i, b, i, i, i, c, i, i, types.boolean), codegen

    return intrinsic(typer)


# Tall and short panels, times tiles of as many vectors as a register tile has, or of one.
tall_wide: Any = _panel(lambda unit: unit.rows, lambda unit: unit.vectors)
short_wide: Any = _panel(lambda unit: unit.short_rows, lambda unit: unit.vectors)
tall_narrow: Any = _panel(lambda unit: unit.rows, lambda unit: 1)
short_narrow: Any = _panel(lambda unit: unit.short_rows, lambda unit: 1)
