"""Register tiles of the kernels for few channels: offsets from tables, results where they belong.

`tile` multiplies for the forward pass and for the tap rows of the input gradient: R filters (or
taps) by V vectors of pixels, all of them in registers while every tap (or filter) adds its product,
then straight to the output. `add_rows` adds up tap rows.

- Arrays are flat, of one type, float32 or float64; those of offsets are int64. All is counted in
  elements, nothing need be aligned beyond its elements.
- `vectors[v]` = (where a vector of pixels is read, where it belongs), added to what a tap says.
  The last of a row overlaps the one before, so that all are whole; rows shorter than a vector are
  stored under a mask. Vectors that are read must lie in their array whole.
- Every element is added up in the order of the taps, with one rounding for each multiply-add.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, flat_floats, flat_integers, prefetch_line
from fastcnn.kernels.cpu.units import known_unit

# Rows and vectors of four tiles for each unit, as many accumulators as its registers hold beside
# the vectors loaded: many rows where they are many; few rows with more vectors where a layer has 6
# filters or 9 taps, of which a tile of 14 rows would compute zeros.
TILES = {
    "AVX-512": ((14, 2), (9, 3), (6, 4), (4, 6)),
    "AVX2": ((6, 2), (4, 3), (3, 3), (2, 5)),
    "NEON": ((8, 2), (6, 3), (4, 4), (2, 8)),
    "generic": ((4, 2), (3, 3), (2, 4), (2, 4)),
}


def emit_tile(
    emit, shape, depth, a, x, taps, places, y, plane, valid, count, lowest, past, ahead
):  # fmt: skip
    """Emit `tile` of this file's text; places are (where to read, where to write) of each vector,
    pointers have their offsets added."""
    builder, (rows, vectors) = emit.builder, shape
    bias = [emit.broadcast(emit.at(a, emit.index(m))) for m in range(rows)]
    start = [value for value in bias for _ in range(vectors)]
    a = emit.at(a, emit.index(rows))
    with emit.loop(depth, start) as loop:
        row = emit.at(a, builder.mul(loop.number, emit.index(rows)))
        source = emit.at(x, emit.integer(taps, loop.number))
        xs = [emit.load(emit.at(source, place)) for place, _ in places]
        if ahead is not None:
            onward = emit.at(source, ahead)
            for place, _ in places:
                prefetch_line(builder, emit.at(onward, place), write=False, from_memory=True)
        loop.next = []
        for m in range(rows):
            factor = emit.broadcast(emit.at(row, emit.index(m)))
            for v in range(vectors):
                loop.next.append(emit.fma(factor, xs[v], loop.values[m * vectors + v]))
    totals = []
    for total in loop.next:  # a NaN is not below anything, and stays
        below = builder.fcmp_ordered("<", total, lowest)
        totals.append(builder.select(below, lowest, total))
    mask = emit.between(emit.index(0), count)
    whole = builder.icmp_signed("==", count, emit.index(emit.lanes))

    def put(store):
        for m in range(rows):
            with builder.if_then(builder.icmp_signed("<", emit.index(m), valid)):
                target = emit.at(y, builder.mul(plane, emit.index(m)))
                for v, (_, place) in enumerate(places):
                    store(totals[m * vectors + v], emit.at(target, place))

    # whether every vector begins where a vector may: aligned for stores past the caches
    within = emit.index(emit.lanes - 1)
    offsets = reduce(builder.or_, [place for _, place in places], plane)
    first = builder.ptrtoint(y, offsets.type)
    first = builder.sdiv(first, emit.index(emit.element_bytes))
    rest = builder.and_(builder.or_(offsets, first), within)
    aligned = builder.icmp_signed("==", rest, emit.index(0))
    with builder.if_else(whole) as (is_whole, is_part):
        with is_whole, builder.if_else(builder.and_(past, aligned)) as (is_past, is_near):
            with is_past:
                put(emit.stream)
            with is_near:
                put(emit.store)
        with is_part:
            put(lambda vector, place: emit.masked_store(vector, place, mask))


def _tile(number):
    """Make the intrinsic of one of the unit's tiles, `rows` x `width`.

    `tile(depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, count, lowest, past, ahead)`:

        y[y0 + m*plane + vectors[v0+v, 1] + l] = max(lowest,
            a[a0 + m] + sum over t < depth of
            a[a0 + (t+1)*rows + m] * x[x0 + taps[t] + vectors[v0+v, 0] + l])

    for m < valid, v < width, l < count; depth is at least 1; a NaN is not raised to lowest. Where
    `past`, whole vectors that are aligned go past the caches. Unless `ahead` is None, what lies so
    many elements behind each vector that is read is fetched.
    """

    def typer(
        typingctx, depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, count, lowest,
        past, ahead,
    ):  # fmt: skip
        if not (flat_floats(a, x, y) and flat_integers(taps, vectors)):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, x.dtype)
            depth, av, a0, xv, x0, tv, vv, v0, yv, y0, plane, valid, count, *ends = arguments
            lowest, past, distance = ends
            data = [
                emit.data(kind, value)
                for kind, value in ((a, av), (x, xv), (y, yv), (taps, tv), (vectors, vv))
            ]
            places = [emit.at(p, o) for p, o in zip(data[:3], (a0, x0, y0), strict=True)]
            shape = TILES[known_unit().name][number]
            entry = builder.shl(v0, emit.index(1))
            table = emit.integers(data[4], entry, 2 * shape[1])
            pairs = list(zip(table[::2], table[1::2], strict=True))
            least = emit.splat(lowest)
            emit_tile(
                emit, shape, depth, places[0], places[1], data[3], pairs, places[2], plane, valid,
                count, least, past, None if ahead == types.none else distance,
            )  # fmt: skip
            return context.get_dummy_value()

        i = types.intp
        kinds = i, a, i, x, i, taps, vectors, i, y, i, i, i, i, x.dtype, types.boolean, ahead
        return types.void(*kinds), codegen

    return intrinsic(typer)


wide_tile: Any = _tile(0)
middle_tile: Any = _tile(1)
narrow_tile: Any = _tile(2)
flat_tile: Any = _tile(3)


def _fence_typer(typingctx):
    """fence(): what has been stored past the caches is there before what is stored after."""

    def codegen(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


fence: Any = intrinsic(_fence_typer)


def _add_rows_typer(typingctx, depth, t, t0, offsets, n, y, y0, count):
    """The intrinsic that adds up rows.

    `add_rows(depth, t, t0, offsets, n, y, y0, count)`: y[y0 + l] = sum over i < depth of
    t[t0 + offsets[i] + l], l < n; depth is at least 1. In vectors, the last of which overlaps the
    one before; a row of fewer elements than a vector is stored under a mask, and count = n, else
    count is the number of lanes.
    """
    if not (flat_floats(t, y) and flat_integers(offsets)):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, t.dtype)
        depth, tv, t0, ov, n, yv, y0, count = arguments
        source, target = emit.at(emit.data(t, tv), t0), emit.at(emit.data(y, yv), y0)
        table, lanes = emit.data(offsets, ov), emit.index(emit.lanes)
        mask = emit.between(emit.index(0), count)
        whole = builder.icmp_signed("==", count, lanes)
        last = builder.sub(n, count)
        pair = emit.index(2 * emit.lanes)
        rounds = builder.sdiv(builder.add(n, emit.index(2 * emit.lanes - 1)), pair)
        with emit.loop(rounds, []) as outer:
            outer.next = []
            first = builder.mul(outer.number, emit.index(2 * emit.lanes))
            places = [emit.minimum(p, last) for p in (first, builder.add(first, lanes))]
            with emit.loop(depth, [emit.zero()] * 2) as loop:
                row = emit.at(source, emit.integer(table, loop.number))
                loop.next = [
                    emit.add(total, emit.load(emit.at(row, place)))
                    for total, place in zip(loop.values, places, strict=True)
                ]
            with builder.if_else(whole) as (is_whole, is_part):
                with is_whole:
                    for total, place in zip(loop.next, places, strict=True):
                        emit.store(total, emit.at(target, place))
                with is_part:
                    emit.masked_store(loop.next[0], target, mask)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, t, i, offsets, i, y, i, i), codegen


add_rows: Any = intrinsic(_add_rows_typer)


# Cycles of a tile beside its multiply-adds, measured on a Zen 5 core with results in L2: 121, 51,
# 33 and 37 with 14, 9, 6 and 4 rows. Its stores go to as many places as it has rows.
_TILE, _ROWS = 20, 0.5


def tile_cycles(number: int, depth: int, near: bool = True) -> float:
    """Cycles of a tile with `depth` taps; whether what it reads is in L1, else in L2.

    Two multiply-adds a cycle, or two loads: a vector of pixels lies in two lines, each of which
    takes twice as long from L2. There no tile was faster than 0.9 of what it is in L1.
    """
    rows, vectors = TILES[known_unit().name][number]
    lines = vectors * (2 if near else 4)
    slower = 1 if near else 1.1
    return slower * depth * max(rows * vectors, rows + lines) / 2 + _TILE + _ROWS * rows * rows


@cache
def cover(rows: int, depth: int) -> tuple[int, ...]:
    """Which tiles (numbers into TILES) cover `rows` rows in the least time, in order."""
    tiles = TILES[known_unit().name]
    each = [tile_cycles(number, depth) / vectors for number, (_, vectors) in enumerate(tiles)]
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for n in range(1, rows + 1):
        before = [best[max(0, n - height)] for height, _ in tiles]
        best.append(min((b[0] + each[number], (*b[1], number)) for number, b in enumerate(before)))
    return tuple(sorted(best[-1][1]))


def covered(rows: int, depth: int) -> int:
    """Rows of the tiles that cover `rows` rows."""
    tiles = TILES[known_unit().name]
    return sum(tiles[number][0] for number in cover(rows, depth))
