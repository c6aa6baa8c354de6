"""The register tile of a weight gradient, and how its two factors are laid out.

    C[v][m, lane] += sum over o < rounds, k < depth of A[m, o*depth + k] * B[o, k, v, lane]

for `rows` rows m and `vectors` vectors v. Pixels are the depth: A has a row of them for each filter
as memory has them, with rows `line(...)` elements apart, a constant, so that all are reached from
one pointer; B has a vector for each, whose lanes are channels. Vector v of B[o, k] begins at
b[b0 + offsets[o] + first_v + k*step], C[v][m] at c[c_v + m*lanes]: arrays are flat, nothing need be
aligned beyond its elements. Each element is added up in the order of o, then k, from zero, and then
added to C. `tall_sums` has unit.rows rows, `short_sums` unit.short_rows.

What is laid out next is fetched into the caches meanwhile, runs of 2 << f_bits lines `f_step`
elements apart: in round i = o*depth + k pair number f_pair + (i >> f_shift) of all their lines. The
short tile does without, and units of 16 registers: LLVM unrolls those loops, whose numbers would
not all have a register.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, flat_floats, multiply_runs, prefetch_line
from fastcnn.kernels.cpu.units import VectorUnit, known_unit
from fastcnn.memory import LINE_BYTES

# Bytes of pixels of one row of A: a panel of 14 rows takes 12.5 KB of a 48 KB L1, and as many
# pixels of B 14 to 28 KB. 224 pixels in float32: 196, so often met in 14x14, 28x28 and 56x56, fit.
PIXEL_BYTES = 896


def most_pixels(itemsize: int) -> int:
    """Pixels of a row of A at the most."""
    return PIXEL_BYTES // itemsize


def line(unit: VectorUnit, itemsize: int) -> int:
    """Elements from row to row of A: a vector more than pixels, so that whole vectors can be
    written and the rows of a panel fall on different sets of a cache."""
    return most_pixels(itemsize) + unit.lanes(itemsize)


def _fetching_runs(emit, pointer, step, bits, first, shift):
    """What fetches in round i pair number first + (i >> shift) of lines, 1 << bits of a run, runs
    `step` apart; it takes a number to which that of a round is added."""
    builder, two_lines = emit.builder, emit.index(2 * LINE_BYTES // emit.element_bytes)
    # as few numbers as can be, for a tile leaves the loop few registers
    beyond = builder.sub(step, builder.shl(two_lines, bits))  # a run's end
    skipped = builder.shl(first, shift)

    def after(before):
        before = builder.add(before, skipped)

        def fetch(number):
            pair = builder.lshr(builder.add(before, number), shift)
            place = emit.at(pointer, builder.mul(builder.lshr(pair, bits), beyond))
            place = emit.at(place, builder.mul(pair, two_lines))
            for j in (0, LINE_BYTES // emit.element_bytes):
                prefetch_line(builder, emit.at(place, emit.index(j)), write=False, from_memory=True)

        return fetch

    return after


def emit_sums(emit, unit, rows, sizes, pointers, firsts, ends, fetched):
    """Emit the product of this file's text; sizes are (rounds, depth, step), pointers those of a,
    b and offsets, firsts and ends those of each vector in b and of its rows in c, fetched (the
    first run, f_step, f_bits, f_pair, f_shift) or None."""
    builder, vectors = emit.builder, len(firsts)
    rounds, depth, step = sizes
    a, b, offsets = pointers
    fetch_after = None if fetched is None else _fetching_runs(emit, *fetched)
    places = [emit.at(end, emit.index(m * emit.lanes)) for m in range(rows) for end in ends]
    for place in places:
        prefetch_line(builder, place, write=True)
    with emit.loop(rounds, [emit.zero()] * len(places)) as loop:
        before = builder.mul(loop.number, depth)
        in_a = emit.at(a, before)
        in_b = emit.at(b, emit.integer(offsets, loop.number))
        runs = [(emit.at(in_b, first), None, None) for first in firsts]
        loop.next = multiply_runs(
            emit, depth, in_a, runs, step, rows, loop.values, a_step=emit.index(1),
            each=fetch_after and fetch_after(before), a_row=line(unit, emit.element_bytes),
        )  # fmt: skip
    assert len(loop.next) == rows * vectors
    for place, total in zip(places, loop.next, strict=True):
        emit.store(emit.add(emit.load(place), total), place)


def _sums(tall):
    """`sums(rounds, depth, step, a, a0, b, b0, offsets, o0, firsts, f0, c, c0, ends, e0, near, far,
    of_far, r0, f_step, f_bits, f_pair, f_shift)`; first_v is firsts[f0 + v], c_v is c0 + ends[e0 +
    v]; what is fetched, which may be no memory, begins at far[r0] or else at near[r0]."""

    def typer(
        typingctx, rounds, depth, step, a, a0, b, b0, offsets, o0, firsts, f0, c, c0, ends, e0,
        near, far, of_far, r0, f_step, f_bits, f_pair, f_shift,
    ):  # fmt: skip
        if not flat_floats(a, b, c, near, far):
            return None

        def codegen(context, builder, signature, arguments):
            emit, unit = emitter(context, builder, a.dtype), known_unit()
            (
                rounds, depth, step, av, a0, bv, b0, ov, o0, fv, f0, cv, c0, ev, e0, nv, rv,
                of_far, r0, f_step, f_bits, f_pair, f_shift,
            ) = arguments  # fmt: skip
            in_firsts, in_ends = emit.data(firsts, fv), emit.data(ends, ev)
            numbers = [emit.index(v) for v in range(unit.vectors)]
            in_c = emit.at(emit.data(c, cv), c0)
            source = builder.select(of_far, emit.data(far, rv), emit.data(near, nv))
            fetched = emit.at(source, r0), f_step, f_bits, f_pair, f_shift
            emit_sums(
                emit, unit, unit.rows if tall else unit.short_rows, (rounds, depth, step),
                (
                    emit.at(emit.data(a, av), a0), emit.at(emit.data(b, bv), b0),
                    emit.at_integer(emit.data(offsets, ov), o0),
                ),
                [emit.integer(in_firsts, builder.add(f0, v)) for v in numbers],
                [emit.at(in_c, emit.integer(in_ends, builder.add(e0, v))) for v in numbers],
                fetched if tall and unit.registers > 16 else None,
            )  # fmt: skip
            return context.get_dummy_value()

        i = types.intp
        signature = types.void(
            i, i, i, a, i, b, i, offsets, i, firsts, i, c, i, ends, i, near, far, types.boolean, i,
            i, i, i, i,
        )  # fmt: skip
        return signature, codegen

    return intrinsic(typer)


tall_sums: Any = _sums(tall=True)
short_sums: Any = _sums(tall=False)


# Half a row of 784 bytes is copied in less time than its first line takes to come.
_ROWS_AHEAD = 4


# Vectors that are copied and added up by pairs before their sum is widened, which takes as long as
# four additions.
_TOGETHER = 8


def _copied_and_added(emit, there, here, n, ahead):
    """Emit the copying of a row of n elements, at least one; returns their sum, in float64.

    Vectors are added up in their own type, at most _TOGETHER of them, all else in float64.
    """
    builder, wide = emit.builder, emit.widened()
    length = emit.index(_TOGETHER * emit.lanes)
    blocks, lanes = builder.udiv(n, length), emit.index(emit.lanes)
    done = builder.mul(blocks, length)
    rest = builder.sub(n, done)
    start = [wide.zero()]
    with emit.where(builder.icmp_signed(">", blocks, emit.index(0)), start) as branch:
        with emit.loop(blocks, start) as block:
            first, vectors = builder.mul(block.number, length), []
            for v in range(_TOGETHER):
                j = builder.add(first, emit.index(v * emit.lanes))
                place = emit.at(there, j)
                prefetch_line(builder, emit.at(place, ahead), write=False, from_memory=True)
                vectors.append(emit.load(place))
                emit.store(vectors[-1], emit.at(here, j))
            sums = emit.widen(emit.by_pairs(vectors))
            block.next = [wide.add(block.values[0], sums)]
        branch.next = block.next
    total, start = branch.next, [emit.zero()]
    with emit.where(builder.icmp_signed(">", rest, emit.index(0)), start) as branch:
        vectors = builder.udiv(builder.add(rest, emit.index(emit.lanes - 1)), lanes)
        with emit.loop(vectors, start) as loop:
            j = builder.mul(loop.number, lanes)
            mask = emit.below(emit.minimum(builder.sub(rest, j), lanes))
            place = emit.at(there, builder.add(done, j))
            prefetch_line(builder, emit.at(place, ahead), write=False, from_memory=True)
            vector = emit.masked_load(place, mask, emit.zero())
            emit.store(vector, emit.at(here, builder.add(done, j)))
            loop.next = [emit.add(loop.values[0], vector)]
        branch.next = loop.next
    return wide.total(wide.add(total[0], emit.widen(branch.next[0])))


def _lay_rows_typer(typingctx, rows, n, source, s0, s_step, target, t0, t_step):
    """The intrinsic that copies rows.

    `lay_rows(rows, n, source, s0, s_step, target, t0, t_step)`: target[t0 + m*t_step + j] =
    source[s0 + m*s_step + j] for m < rows, j < n, both at least 1. Writes up to a vector beyond
    each row, reads nothing else, and fetches _ROWS_AHEAD rows into the cache before it reads them.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        rows, n, sv, s0, s_step, tv, t0, t_step = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        lanes = emit.index(emit.lanes)
        ahead = builder.mul(s_step, emit.index(_ROWS_AHEAD))
        vectors = builder.udiv(builder.add(n, emit.index(emit.lanes - 1)), lanes)
        with emit.loop(rows, []) as row:
            there = emit.at(s, builder.mul(row.number, s_step))
            here = emit.at(t, builder.mul(row.number, t_step))
            with emit.loop(vectors, []) as loop:
                j = builder.mul(loop.number, lanes)
                mask = emit.below(emit.minimum(builder.sub(n, j), lanes))
                place = emit.at(there, j)
                prefetch_line(builder, emit.at(place, ahead), write=False, from_memory=True)
                emit.store(emit.masked_load(place, mask, emit.zero()), emit.at(here, j))
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, source, i, i, target, i, i), codegen


def _lay_rows_adding_typer(typingctx, rows, n, source, s0, s_step, target, t0, t_step, totals, at):
    """`lay_rows(…)`, and the float64 totals[at + m] += the sum of row m."""
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        rows, n, sv, s0, s_step, tv, t0, t_step, totals_, at = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        in_totals = emit.widened().at(emit.data(totals, totals_), at)
        ahead = builder.mul(s_step, emit.index(_ROWS_AHEAD))
        with emit.loop(rows, []) as row:
            there = emit.at(s, builder.mul(row.number, s_step))
            here = emit.at(t, builder.mul(row.number, t_step))
            place = emit.widened().at(in_totals, row.number)
            added = _copied_and_added(emit, there, here, n, ahead)
            before = builder.load(place, typ=added.type)
            builder.store(builder.fadd(before, added), place)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, source, i, i, target, i, i, totals, i), codegen


lay_rows: Any = intrinsic(_lay_rows_typer)
lay_rows_adding: Any = intrinsic(_lay_rows_adding_typer)


def _turned(emit, stride, rows, s, s_step, step, ahead, first, last):
    """Emit what `_lay_turned` loads, turned: a vector for each pixel."""
    builder, square = emit.builder, []
    mask = emit.between(first, last)
    low, high = emit.pairs_between(first, last)
    for m in range(emit.lanes):
        exists = builder.icmp_signed(">", rows, emit.index(m))
        row = emit.at(s, builder.mul(s_step, emit.index(m)))
        prefetch_line(builder, emit.at(row, ahead), write=False, from_memory=True)
        if stride == 2:
            beyond = builder.add(ahead, emit.index(emit.lanes))
            prefetch_line(builder, emit.at(row, beyond), write=False, from_memory=True)
            pair = (row, low), (emit.at(row, emit.index(emit.lanes)), high)
            read = [(at, builder.select(exists, half, emit.none())) for at, half in pair]
            halves = [emit.masked_load(at, half, emit.zero()) for at, half in read]
            square.append(emit.evens(*halves))
        else:
            read = builder.select(exists, mask, emit.none())
            square.append(
                emit.masked_load(row, read, emit.zero())
                if stride == 1
                else emit.gather(row, step, read, emit.zero())
            )
    return emit.transposed(square)


def _lay_turned(stride):
    """Make the intrinsic that turns rows of a source into vectors over the rows.

    `lay(rows, source, s0, s_step, stride, ahead, target, t0, first, last)`: for j < lanes, lane m
    of the vector at target[t0 + j*lanes] = source[s0 + m*s_step + j*stride] for m < rows and first
    <= j < last, else zero. Reads no other element; fetches what lies `ahead` elements further on
    into the cache.
    """

    def typer(typingctx, rows, source, s0, s_step, step, ahead, target, t0, first, last):
        if not flat_floats(source, target):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            rows, sv, s0, s_step, step, ahead, tv, t0, first, last = arguments
            s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
            columns = _turned(emit, stride, rows, s, s_step, step, ahead, first, last)
            for j, column in enumerate(columns):
                emit.store(column, emit.at(t, emit.index(j * emit.lanes)))
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, source, i, i, i, i, target, i, i, i), codegen

    return intrinsic(typer)


def _lay_turned_adding_typer(
    typingctx, rows, source, s0, s_step, ahead, target, t0, first, last, totals, at
):
    """`lay_turned(…)` of stride 1, and the float64 totals[at + m] += the sum of what was read of
    row m, added up by pairs in its own type."""
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        rows, sv, s0, s_step, ahead, tv, t0, first, last, totals_, at = arguments
        wide = emit.widened()
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        columns = _turned(emit, 1, rows, s, s_step, None, ahead, first, last)
        for j, column in enumerate(columns):
            emit.store(column, emit.at(t, emit.index(j * emit.lanes)))
        place, there = wide.at(emit.data(totals, totals_), at), wide.below(rows)
        before = wide.masked_load(place, there, wide.zero())
        wide.masked_store(wide.add(before, emit.widen(emit.by_pairs(columns))), place, there)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, source, i, i, i, target, i, i, i, totals, i), codegen


lay_turned: Any = _lay_turned(1)
lay_turned_adding: Any = intrinsic(_lay_turned_adding_typer)
lay_turned_second: Any = _lay_turned(2)
lay_turned_stepped: Any = _lay_turned(None)
