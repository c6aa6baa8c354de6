"""Moves of vectors under masks: between planes of images and what the register tiles work on.

Arrays are flat and of one type, float32 or float64, with an offset each, in elements; nothing need
be aligned beyond its elements. Of planes only the elements that a move names are read or written,
so that the arrays of a caller are never touched beyond their ends.

    take_every, take_second, take_fourth, take_stepped    vectors out of planes, by their stride
    take_both                                             both residues of a stride of 2 at once
    turn                                                  rows to columns
    put, put_pairs                                        vectors into planes
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


def _take_both_typer(typingctx, count, source, s0, plane, ahead, target, even, odd, t_step, i, j):
    """The intrinsic that takes every second element of planes, and the others, at once.

    `take_both(count, source, s0, plane, ahead, target, even, odd, t_step, i, j)`: of elements i …
    j-1 of the two vectors at source[s0 + n*plane], for n < count, the even ones to the vector at
    target[even + n*t_step] and the odd ones to that at target[odd + n*t_step], and zeros for the
    others. Reads no other element of source, but fetches what lies `ahead` of them.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        count, sv, s0, plane, ahead, tv, even, odd, t_step, i, j = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.data(target, tv)
        lanes = emit.index(emit.lanes)
        low, high = emit.between(i, j), emit.between(*[builder.sub(n, lanes) for n in (i, j)])
        with emit.loop(count, []) as loop:
            there = emit.at(s, builder.mul(loop.number, plane))
            here = builder.mul(loop.number, t_step)
            for k in range(0, 2 * emit.lanes, LINE_BYTES // emit.element_bytes):
                onward = emit.at(emit.at(there, ahead), emit.index(k))
                prefetch_line(builder, onward, write=False)
            pair = [
                emit.masked_load(emit.at(there, n), mask, emit.zero())
                for n, mask in ((emit.index(0), low), (lanes, high))
            ]
            emit.store(emit.evens(*pair), emit.at(emit.at(t, even), here))
            emit.store(emit.odds(*pair), emit.at(emit.at(t, odd), here))
        return context.get_dummy_value()

    n = types.intp
    return types.void(n, source, n, n, n, target, n, n, n, n, n), codegen


take_both: Any = intrinsic(_take_both_typer)


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


def _put_pairs_typer(
    typingctx, count, source, e0, e_step, o0, o_step, target, t0, plane, first, last, ahead
):
    """The intrinsic that puts pairs of vectors into planes, their elements in turn.

    `put_pairs(count, source, e0, e_step, o0, o_step, target, t0, plane, first, last, ahead)`: for
    n < count, element i of the pair goes to target[t0 + n*plane + i], first <= i < last; elements
    0, 2, 4 … are the vector at source[e0 + n*e_step], the others that at source[o0 + n*o_step].
    Reads whole vectors and writes nothing else; fetches the lines `ahead` elements behind what it
    writes into the cache, to be written.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        count, sv, e0, e_step, o0, o_step, tv, t0, plane, first, last, ahead = arguments
        s, t = emit.data(source, sv), emit.at(emit.data(target, tv), t0)
        even, odd = emit.at(s, e0), emit.at(s, o0)
        lanes = emit.index(emit.lanes)
        low = emit.between(first, last)
        high = emit.between(builder.sub(first, lanes), builder.sub(last, lanes))
        with emit.loop(count, []) as loop:
            place = emit.at(t, builder.mul(loop.number, plane))
            fetched = emit.at(place, ahead)
            for j in range(0, 2 * emit.lanes, LINE_BYTES // emit.element_bytes):
                prefetch_line(builder, emit.at(fetched, emit.index(j)), write=True)
            pair = emit.interleaved(
                emit.load(emit.at(even, builder.mul(loop.number, e_step))),
                emit.load(emit.at(odd, builder.mul(loop.number, o_step))),
            )
            emit.masked_store(pair[0], place, low)
            emit.masked_store(pair[1], emit.at(place, lanes), high)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, source, i, i, i, i, target, i, i, i, i, i), codegen


put_pairs: Any = intrinsic(_put_pairs_typer)
