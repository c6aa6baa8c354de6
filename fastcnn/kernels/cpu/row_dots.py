"""Products of rows with rows, on register tiles whose vectors lie along the rows.

    row_dots   c[j, m] = (start[m] if fresh else c[j, m])
                         + sum over i < depth of a[m, i] * b[j, i]            m < M, j < J

- a[m] begins at a[a0 + m*a_step], b[j] at b[b0 + j*b_step], c[j] at c[c0 + j*c_step]; nothing is
  packed, and nothing need be aligned beyond its elements. Arrays are flat and of one type, float32
  or float64.
- M, J = unit.dots for `row_dots`; `row_dots_of_one` has J = 1, for what remains: a single row of b
  takes a third of a whole tile's time.
- Of a only `rows` rows exist, of b and c only `columns`: for the others the last is taken again, so
  that nothing else is read or written.
- `start` is M elements, rounded up to a power of two.
- Every element is added up lane by lane in order, then the lanes by halves: the bits depend on the
  depth alone.
- Of what is to be read later, the lines of depth elements from a[f0] and a[f1] on are fetched into
  the cache meanwhile. They may lie beyond the array.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import Emitter, emitter, flat_floats, prefetch_line
from fastcnn.kernels.cpu.units import known_unit


def emit_row_dots(emit, vectors, depth, a_rows, b_rows, ahead):
    """Emit the products; a_rows and b_rows are pointers to the rows, ahead to what is fetched.

    A round takes `vectors` vectors of every row: LLVM would make rounds of two out of those of one,
    and then keep some totals on the stack. Returns vectors of partial sums, that of (m, j) at
    j*M + m.
    """
    builder, rows, length = emit.builder, len(a_rows), emit.index(vectors * emit.lanes)

    def added(totals, load):
        totals = list(totals)
        bs = [load(row) for row in b_rows]
        for m, row in enumerate(a_rows):
            factor = load(row)
            for j, b in enumerate(bs):
                totals[j * rows + m] = emit.fma(factor, b, totals[j * rows + m])
        return totals

    rounds, rest = builder.sdiv(depth, length), builder.srem(depth, length)
    zeros = [emit.zero()] * (rows * len(b_rows))
    with emit.where(builder.icmp_signed(">", rounds, emit.index(0)), zeros) as branch:
        with emit.loop(rounds, zeros) as loop:
            first, totals = builder.mul(loop.number, length), loop.values
            for v in range(vectors):
                at = builder.add(first, emit.index(v * emit.lanes))
                for pointer in ahead:
                    prefetch_line(builder, emit.at(pointer, at), write=False, from_memory=True)
                totals = added(totals, lambda row, at=at: emit.load(emit.at(row, at)))
            loop.next = totals
        branch.next = loop.next
    totals = branch.next
    with emit.where(builder.icmp_signed(">", rest, emit.index(0)), totals) as branch:
        first = builder.mul(rounds, length)
        for v in range(vectors):
            mask = emit.below(builder.sub(rest, emit.index(v * emit.lanes)))
            at = builder.add(first, emit.index(v * emit.lanes))
            totals = added(
                totals,
                lambda row, at=at, mask=mask: emit.masked_load(emit.at(row, at), mask, emit.zero()),
            )
        branch.next = totals
    return branch.next


def emit_sums(emit, totals, rows, valid, c_rows, start, fresh):
    """Add up the lanes of `emit_row_dots`, and put the sums into c, `valid` of each row."""
    builder = emit.builder
    width = min(emit.lanes, 1 << (rows - 1).bit_length())
    part = Emitter(emit.context, builder, emit.element, width)
    slots, partials = [], []  # as many sums of one row of c as fit a vector, or half, or a quarter
    for j, row in enumerate(c_rows):
        for m in range(0, rows, width):
            mask = part.below(builder.sub(valid, emit.index(m)))
            slots.append((emit.at(row, emit.index(m)), emit.at(start, emit.index(m)), mask))
            some = totals[j * rows + m : j * rows + min(rows, m + width)]
            partials += [*some, *[emit.zero()] * (width - len(some))]
    summed = []
    for i in range(0, len(partials), emit.lanes):
        vector = emit.sums(partials[i : i + emit.lanes])
        summed += [
            emit.pick(vector, vector, list(range(lane, lane + width)))
            for lane in range(0, min(emit.lanes, len(partials) - i), width)
        ]
    # all of c is read before any is written: a row that is taken again gets the same sum again
    before = [
        builder.select(fresh, part.load(first), part.masked_load(place, mask, part.zero()))
        for place, first, mask in slots
    ]
    for (place, _, mask), old, new in zip(slots, before, summed, strict=True):
        part.masked_store(part.add(old, new), place, mask)


# The arguments of the products, in order.
_ARGUMENTS = (
    "depth", "a", "a0", "a_step", "rows", "b", "b0", "b_step", "columns", "f0", "f1",
    "c", "c0", "c_step", "start", "fresh",
)  # fmt: skip


def _row_dots(tile_of):
    def typer(
        typingctx, depth, a, a0, a_step, rows, b, b0, b_step, columns, f0, f1, c, c0, c_step,
        start, fresh,
    ):  # fmt: skip
        if not flat_floats(a, b, c, start):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            given = dict(zip(_ARGUMENTS, arguments, strict=True))
            height, width = tile_of(known_unit())
            data = {
                name: emit.data(kind, given[name])
                for name, kind in zip(_ARGUMENTS, signature.args, strict=True)
                if isinstance(kind, types.Array)
            }

            def rows_of(name, exist, count):
                first = emit.at(data[name], given[name + "0"])
                last = builder.sub(given[exist], emit.index(1))
                numbers = [emit.minimum(emit.index(i), last) for i in range(count)]
                return [emit.at(first, builder.mul(n, given[name + "_step"])) for n in numbers]

            totals = emit_row_dots(
                emit, known_unit().vectors, given["depth"],
                rows_of("a", "rows", height), rows_of("b", "columns", width),
                [emit.at(data["a"], given[name]) for name in ("f0", "f1")],
            )  # fmt: skip
            emit_sums(
                emit, totals, height, given["rows"], rows_of("c", "columns", width),
                data["start"], given["fresh"],
            )  # fmt: skip
            return context.get_dummy_value()

        i = types.intp
        signature = types.void(
            i, a, i, i, i, b, i, i, i, i, i, c, i, i, start, types.boolean
        )  # fmt: skip
        return signature, codegen

    return intrinsic(typer)


row_dots: Any = _row_dots(lambda unit: unit.dots)
row_dots_of_one: Any = _row_dots(lambda unit: (unit.dots[0], 1))
