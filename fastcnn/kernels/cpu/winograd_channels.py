"""Winograd's transforms on vectors whose lanes are channels (or filters), for sums over tiles.

Tiles are taken from rows of planes 4 columns at a time: from each of `lanes` planes 4 neighbours,
turned in registers into 4 vectors of one pixel in all of them. Padding is a mask.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, prefetch_line
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_product import emit_panel
from fastcnn.kernels.cpu.winograd_transforms import Vectors, multiply, transforms
from fastcnn.memory import LINE_BYTES

# F(3 x 3, 4 x 4): a tile of dY is 4 x 4, and moves over 6 x 6 of X to the 3 x 3 of a filter.
TILE, TAPS, POINTS = 4, 3, 6
_MATRICES = transforms(TAPS, TILE)
# Rows of G as whole numbers; what each was divided by is left to A^T, which meets sums over all
# tiles where G meets each of them: no rounding of 1/3 in dY's tiles.
_SCALES = [next(entry for entry in row if entry) for row in _MATRICES.g]
_X = _MATRICES.bt
_DY = tuple(
    tuple(entry / scale for entry in row) for row, scale in zip(_MATRICES.g, _SCALES, strict=True)
)
_DW = tuple(
    tuple(entry * scale for entry, scale in zip(row, _SCALES, strict=True)) for row in _MATRICES.at
)


def _growth(matrix: Any) -> Fraction:
    """The largest factor between the largest |number| before and after a transform of tiles."""
    return max(sum(abs(entry) for entry in row) for row in matrix) ** 2


# |A^T M A| is at most this times tiles, max |x| and max |dy|, and so are the sums on the way.
GROWTH = float(_growth(_X) * _growth(_DY) * max(_growth(_DW), Fraction(1)))


def _four_columns(emit, places, mask):
    """4 vectors: element 0, 1, 2 and 3 behind each of `lanes` places, zero beyond the mask."""
    rows = [emit.masked_part(place, mask) for place in places]
    lanes = emit.lanes
    if lanes < TILE:
        return [emit.pick(*rows, [j, TILE + j]) for j in range(TILE)]
    joined = []
    for start in range(TILE):  # places start, start + 4 …
        parts = rows[start::TILE]
        while len(parts) > 1:
            names = list(range(2 * parts[0].type.count))
            parts = [emit.pick(a, b, names) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        joined.append(parts[0])

    def mixed(a, b, pattern):
        """The pattern of 4 lanes of a (0 … 3) and b (4 … 7), in each four."""
        fours = range(0, lanes, TILE)
        return emit.pick(
            a, b, [at + (n if n < TILE else lanes + n - TILE) for at in fours for n in pattern]
        )

    found = []
    for pairs in ([0, 4, 1, 5], [2, 6, 3, 7]):
        a, b = (mixed(x, y, pairs) for x, y in (joined[:2], joined[2:]))
        found += [mixed(a, b, [0, 1, 4, 5]), mixed(a, b, [2, 3, 6, 7])]
    return found


def emit_spread(emit, matrix, count, place, steps, pointers):
    """Emit `spread`; place is (H, W, h, w), steps are (plane, t_step, p_step, apart)."""
    builder, ops = emit.builder, Vectors(emit)
    height, width, h, w = place
    plane, t_step, p_step, apart = steps
    source, target, peaks, coming = pointers
    side = len(matrix[0])
    shared = side - TILE  # columns that a tile has in common with the one before
    planes = [emit.at(source, builder.mul(plane, emit.index(i))) for i in range(emit.lanes)]
    rows = [builder.add(h, emit.index(row)) for row in range(side)]
    inside = [builder.icmp_unsigned("<", row, height) for row in rows]
    ahead = [builder.mul(row, width) for row in rows]

    def columns(first, peak):
        """Columns first … first + 3 of a tile, transformed; and the largest number so far."""
        mask, found = emit.part_between(first, width, TILE), []
        for row in range(side):
            offset = builder.add(ahead[row], first)
            some = builder.select(inside[row], mask, mask.type([0] * TILE))
            found.append(_four_columns(emit, [emit.at(p, offset) for p in planes], some))
            for vector in found[-1]:
                peak = emit.larger(emit.magnitude(vector), peak)
        return [multiply(matrix, column, ops) for column in zip(*found, strict=True)], peak

    kind = emit.magnitude(emit.zero()).type
    at_peak = builder.bitcast(peaks, kind.as_pointer())
    peak, start = builder.load(at_peak, align=emit.element_bytes, typ=kind), []
    if shared:
        found, peak = columns(builder.sub(w, emit.index(TILE - shared)), peak)
        start = [value for column in found[TILE - shared :] for value in column]
    with emit.loop(count, [*start, peak]) as loop:
        *values, peak = loop.values
        here = emit.at(target, builder.mul(loop.number, t_step))
        per_line = emit.index(LINE_BYTES // emit.element_bytes)
        line = emit.at(coming, builder.mul(loop.number, per_line))
        for i in range(emit.lanes):
            prefetch_line(builder, emit.at(line, builder.mul(apart, emit.index(i))), False)
        first = builder.add(builder.mul(loop.number, emit.index(TILE)), emit.index(shared))
        found, peak = columns(builder.add(w, first), peak)
        kept = [values[i * POINTS : (i + 1) * POINTS] for i in range(shared)]
        points = [multiply(matrix, row, ops) for row in zip(*kept, *found, strict=True)]
        for number, value in enumerate(value for row in points for value in row):
            emit.store(value, emit.at(here, builder.mul(p_step, emit.index(number))))
        new = [value for column in found[TILE - shared :] for value in column] if shared else []
        loop.next = [*new, peak]
    builder.store(loop.next[-1], at_peak, align=emit.element_bytes)


def _spread(matrix):
    """Make the intrinsic that transforms a row of tiles.

    `spread(count, source, s0, plane, H, W, h, w, target, t0, t_step, p_step, peaks, p0, coming, n0,
    apart)`: tile t
    begins at row h and column w + 4*t of planes of H x W, the first of which begins at source[s0]
    and the others `plane` further on each; what lies outside of a plane is zero and is not read.
    Point p = 0 … 35 of tile t in lane l goes to target[t0 + t*t_step + p*p_step + l]. Lanes p0 …
    of `peaks` are raised to the largest |number| read, whose bits are compared, so that NaN is
    larger than any. With each tile a cache line of `coming` is fetched for each lane, from n0 on,
    `apart` from lane to lane: as much as the 4 rows of the next row of tiles.
    """

    def typer(
        typingctx, count, source, s0, plane, height, width, h, w, target, t0, t_step, p_step,
        peaks, p0, coming, n0, apart,
    ):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            count, sv, s0, plane, height, width, h, w, tv, t0, t_step, p_step, *rest = arguments
            pv, p0, nv, n0, apart = rest
            pointers = (
                emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0),
                emit.at(emit.data(peaks, pv), p0), emit.at(emit.data(coming, nv), n0),
            )  # fmt: skip
            place, steps = (height, width, h, w), (plane, t_step, p_step, apart)
            emit_spread(emit, matrix, count, place, steps, pointers)
            return context.get_dummy_value()

        i = types.intp
        return (
            types.void(i, source, i, i, i, i, i, i, target, i, i, i, peaks, i, coming, i, i),
            codegen,
        )

    return intrinsic(typer)


spread_x: Any = _spread(_X)
spread_dy: Any = _spread(_DY)


def emit_fold(emit, step, source, target):
    """Emit `fold`."""
    builder, ops, lanes = emit.builder, Vectors(emit), emit.lanes
    columns = []
    for j in range(POINTS):
        at = [builder.mul(step, emit.index(i * POINTS + j)) for i in range(POINTS)]
        columns.append(multiply(_DW, [emit.load(emit.at(source, o)) for o in at], ops))
    taps = [tap for row in zip(*columns, strict=True) for tap in multiply(_DW, row, ops)]
    for i in range(len(taps)):
        wanted = [divmod(i * lanes + lane, len(taps)) for lane in range(lanes)]
        vector = taps[0]
        for number, tap in enumerate(taps):  # one permutation each
            names = [
                lanes + channel if which == number else lane
                for lane, (channel, which) in enumerate(wanted)
            ]
            if any(name >= lanes for name in names):
                vector = emit.pick(vector, tap, names)
        emit.store(vector, emit.at(target, emit.index(i * lanes)))


def _fold_typer(typingctx, source, s0, step, target, t0):
    """fold(source, s0, step, target, t0): A^T M A for M in `lanes` channels, M's points `step`
    apart; to target[t0 + channel*9 + tap].
    """

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        sv, s0, step, tv, t0 = arguments
        pointers = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        emit_fold(emit, step, *pointers)
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, target, i), codegen


fold: Any = intrinsic(_fold_typer)


def _outer(rows_of):
    """Make the intrinsic of a register tile of M.

    `outer(depth, a, a0, a_step, b, b0, b_step, c, c0, accumulate)`: c[m*columns + j] += sum over
    k < depth of a[k*a_step + m] * b[k*b_step + j], as winograd_product.py has it.
    """

    def typer(typingctx, depth, a, a0, a_step, b, b0, b_step, c, c0, accumulate):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            depth, av, a0, a_step, bv, b0, b_step, cv, c0, accumulate = arguments
            pointers = [
                emit.at(emit.data(kind, value), offset)
                for kind, value, offset in ((a, av, a0), (b, bv, b0), (c, cv, c0))
            ]
            unit = known_unit()
            sizes = (depth, b_step, emit.index(unit.vectors * emit.lanes))
            emit_panel(emit, rows_of(unit), unit.vectors, sizes, pointers, accumulate, a_step)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, a, i, i, b, i, i, c, i, types.boolean), codegen

    return intrinsic(typer)


tall_outer: Any = _outer(lambda unit: unit.rows)
short_outer: Any = _outer(lambda unit: unit.short_rows)
