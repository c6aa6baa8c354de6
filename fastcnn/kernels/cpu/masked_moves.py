"""Moves of vectors under masks: between planes of images and what the register tiles work on.

Arrays are flat and of one type, float32 or float64, with an offset each, in elements; nothing need
be aligned beyond its elements. Of planes only the elements that a move names are read or written,
so that the arrays of a caller are never touched beyond their ends.

    take_every, take_second, take_fourth, take_stepped    vectors out of planes, by their stride
    rows_whole, rows_in_two, rows_in_three, rows_in_four  rows, in all residues of a stride at once
    turn                                                  rows to columns
    put                                                   vectors into planes
    put_two, put_three, put_four                          vectors in turn, all residues of a stride
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, flat_floats, prefetch_line
from fastcnn.memory import LINE_BYTES


def _take(stride):
    """Make the intrinsic that takes vectors out of planes.

    `take(count, source, s0, plane, stride, target, t0, t_step, first, last, fresh)`: for n < count,
    lanes first … last-1 of the vector at target[t0 + n*t_step] = source[s0 + n*plane + lane*stride]
    and the other lanes zero if fresh, else kept. Reads no other element of source.
    """

    def typer(typingctx, count, source, s0, plane, step, target, t0, t_step, first, last, fresh):
        if not flat_floats(source, target):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            count, sv, s0, plane, step, tv, t0, t_step, first, last, fresh = arguments
            s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
            mask = emit.between(first, last)
            parts = []  # the vectors in which the lanes' elements lie, each with its mask
            if stride is not None:
                ends = [builder.mul(n, emit.index(stride)) for n in (first, last)]
                ends[1] = builder.sub(ends[1], emit.index(stride - 1))
                for start in range(0, stride * emit.lanes, emit.lanes):
                    inside = [builder.sub(end, emit.index(start)) for end in ends]
                    parts.append((emit.index(start), emit.between(*inside)))
            with emit.loop(count, []) as loop:
                there = emit.at(s, builder.mul(loop.number, plane))
                here = emit.at(t, builder.mul(loop.number, t_step))
                old = builder.select(fresh, emit.zero(), emit.load(here))
                if stride == 1:
                    new = emit.masked_load(there, mask, old)
                elif stride is not None:
                    found = [emit.masked_load(emit.at(there, o), m, emit.zero()) for o, m in parts]
                    while len(found) > 1:
                        found = list(map(emit.evens, found[::2], found[1::2]))
                    new = builder.select(mask, found[0], old)
                else:
                    new = emit.gather(there, step, mask, old)
                emit.store(new, here)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, source, i, i, i, target, i, i, i, i, types.boolean), codegen

    return intrinsic(typer)


take_every: Any = _take(1)
take_second: Any = _take(2)
take_fourth: Any = _take(4)
take_stepped: Any = _take(None)


def _rows(n):
    """Make the intrinsic that takes rows of planes apart, by residues of columns modulo n.

    `rows(planes, plane, rows, row, source, s0, ahead, target, apart, t0, t_plane, t_row, first,
    last)`: for c < planes and i < rows, of elements first … last-1 of the n vectors at
    source[s0 + c*plane + i*row], and zeros for the others, element e goes to
    target[t0 + e % n * apart + c*t_plane + i*t_row + e // n]. Reads no other element of source,
    but fetches what lies `ahead` of them where n is above 1.
    """

    def typer(
        typingctx, planes, plane, rows, row, source, s0, ahead, target, apart, t0, t_plane, t_row,
        i, j,
    ):  # fmt: skip
        if not flat_floats(source, target):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            planes, plane, rows, row, sv, s0, ahead, tv, apart, t0, *steps, i, j = arguments
            t_plane, t_row = steps
            s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
            begin = [emit.index(v * emit.lanes) for v in range(n)]
            masks = [emit.between(builder.sub(i, o), builder.sub(j, o)) for o in begin]
            with emit.loop(planes, []) as outer:
                outer.next = []
                there = emit.at(s, builder.mul(outer.number, plane))
                here = emit.at(t, builder.mul(outer.number, t_plane))
                with emit.loop(rows, []) as loop:
                    line = emit.at(there, builder.mul(loop.number, row))
                    found = [
                        emit.masked_load(emit.at(line, o), mask, emit.zero())
                        for o, mask in zip(begin, masks, strict=True)
                    ]
                    fetched = n * emit.lanes if n > 1 else 0
                    for o in range(0, fetched, LINE_BYTES // emit.element_bytes):
                        onward = emit.at(emit.at(line, ahead), emit.index(o))
                        prefetch_line(builder, onward, write=False, from_memory=True)
                    place = emit.at(here, builder.mul(loop.number, t_row))
                    for residue, vector in enumerate(emit.apart(found)):
                        offset = builder.mul(apart, emit.index(residue))
                        emit.store(vector, emit.at(place, offset))
            return context.get_dummy_value()

        i64 = types.intp
        kinds = i64, i64, i64, i64, source, i64, i64, target, i64, i64, i64, i64, i64, i64
        return types.void(*kinds), codegen

    return intrinsic(typer)


rows_whole: Any = _rows(1)
rows_in_two: Any = _rows(2)
rows_in_three: Any = _rows(3)
rows_in_four: Any = _rows(4)


def _turn_typer(typingctx, rows, columns, source, s0, s_step, target, t0, places, p0):
    """The intrinsic that turns rows into columns.

    `turn(rows, columns, source, s0, s_step, target, t0, places, p0)`, rows and columns at most
    `lanes`: target[t0 + places[p0 + j] + m] = source[s0 + m*s_step + j] for m < rows, j < columns
    and places[p0 + j] >= 0. Writes nothing else, and reads nothing else but `lanes` places.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        rows, columns, sv, s0, s_step, tv, t0, pv, p0 = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        place = emit.at_integer(emit.data(places, pv), p0)
        read, written = emit.below(columns), emit.below(rows)
        square = []
        for m in range(emit.lanes):
            exists = builder.icmp_signed(">", rows, emit.index(m))
            mask = builder.select(exists, read, emit.none())
            row = emit.at(s, builder.mul(s_step, emit.index(m)))
            square.append(emit.masked_load(row, mask, emit.zero()))
        for j, column in enumerate(emit.transposed(square)):
            where = emit.integer(place, emit.index(j))
            wanted = builder.and_(
                builder.icmp_signed(">=", where, emit.index(0)),
                builder.icmp_signed(">", columns, emit.index(j)),
            )
            with builder.if_then(wanted):
                emit.masked_store(column, emit.at(t, where), written)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, source, i, i, target, i, places, i), codegen


turn: Any = intrinsic(_turn_typer)


def _put_typer(typingctx, count, source, s0, s_step, target, t0, plane, stride, first, last):
    """The intrinsic that puts vectors into planes.

    `put(count, source, s0, s_step, target, t0, plane, stride, first, last)`: for n < count, lanes
    first … last-1 of the vector at source[s0 + n*s_step] to target[t0 + n*plane + lane*stride].
    Reads and writes nothing else, but whole vectors for another stride than 1.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        count, sv, s0, s_step, tv, t0, plane, stride, first, last = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        mask = emit.between(first, last)

        def rows(put, take=emit.load):
            with emit.loop(count, []) as loop:
                vector = take(emit.at(s, builder.mul(loop.number, s_step)))
                put(vector, emit.at(t, builder.mul(loop.number, plane)))

        whole = builder.icmp_signed("==", builder.sub(last, first), emit.index(emit.lanes))
        dense = builder.icmp_signed("==", stride, emit.index(1))
        with builder.if_else(dense) as (is_dense, is_stepped):
            with is_dense, builder.if_else(whole) as (is_whole, is_part):
                with is_whole:
                    rows(emit.store)
                with is_part:
                    rows(
                        lambda vector, place: emit.masked_store(vector, place, mask),
                        lambda place: emit.masked_load(place, mask, emit.zero()),
                    )
            with is_stepped:
                rows(lambda vector, place: emit.scatter(vector, place, stride, mask))
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, source, i, i, target, i, i, i, i, i), codegen


put: Any = intrinsic(_put_typer)


def _put_in_turn(n):
    """Make the intrinsic that puts n vectors into planes, their elements in turn.

    `put(count, source, starts, o0, target, t0, plane, first, last, ahead)`: for m < count, element
    i of n vectors in a row goes to target[t0 + m*plane + i], first <= i < last; element e*n + r is
    element e of the vector at source[starts[o0 + 2*r] + m*starts[o0 + 2*r + 1]]. Reads whole
    vectors and writes nothing else; fetches the lines `ahead` elements behind what it writes into
    the cache, to be written.
    """

    def typer(typingctx, count, source, starts, o0, target, t0, plane, first, last, ahead):
        if not flat_floats(source, target):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            count, sv, ov, o0, tv, t0, plane, first, last, ahead = arguments
            s, t = emit.data(source, sv), emit.at(emit.data(target, tv), t0)
            numbers = emit.integers(emit.data(starts, ov), o0, 2 * n)
            pairs = list(zip(numbers[::2], numbers[1::2], strict=True))
            begin = [emit.index(v * emit.lanes) for v in range(n)]
            masks = [emit.between(builder.sub(first, o), builder.sub(last, o)) for o in begin]
            with emit.loop(count, []) as loop:
                place = emit.at(t, builder.mul(loop.number, plane))
                fetched = emit.at(place, ahead)
                for j in range(0, n * emit.lanes, LINE_BYTES // emit.element_bytes):
                    prefetch_line(builder, emit.at(fetched, emit.index(j)), write=True)
                vectors = [
                    emit.load(emit.at(emit.at(s, start), builder.mul(loop.number, step)))
                    for start, step in pairs
                ]
                for vector, o, mask in zip(emit.in_turn(vectors), begin, masks, strict=True):
                    emit.masked_store(vector, emit.at(place, o), mask)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, source, starts, i, target, i, i, i, i, i), codegen

    return intrinsic(typer)


put_two: Any = _put_in_turn(2)
put_three: Any = _put_in_turn(3)
put_four: Any = _put_in_turn(4)
