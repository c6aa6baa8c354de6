"""A register tile's product with a tile of B that is packed, or packed meanwhile.

    C[m, j] = (C[m, j] if accumulate else 0) + sum over k < depth of A[m, k] * b[k*columns + j]

finished as in microkernel.py, whose terms these are. A[m, k] is a[m*line + k] if `by_rows`, with
`line` a constant, so that all rows are reached from one pointer, else a[k*rows + m]: either is what
a matrix of weights holds, so that a panel of it is copied and never turned. B is packed, so that no
vector is put together of two. Where it is `fresh` it is not yet: then vector v of row k is read
of source[s0 …], at k*s_step + first and k*s_step + second, where first, second, split are
runs[r0 + RUN*v …] as in microkernel.py, and stored to b on the way. The loop has room for that
beside its multiply-adds, and waits for the caches less than a copy before it does. In a short tile,
hardly ever a task's first, and without mask registers all vectors must follow the first.

Two things are fetched into the caches meanwhile: C's tile `c_ahead` elements further on, where the
next product stores, row k >> c_shift in round k; and rows `f_step` apart of what is copied later,
row k >> f_shift in round k: of the source, for the next block of B, or of the weights, for the next
panels of A. Loads wait behind more lines at a time than a core has requests in flight.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.flow import chosen
from fastcnn.kernels.cpu.microkernel import (
    RUN,
    choosing,
    emit_tile,
    fetch_row,
    fetch_tile,
    fetching_lines,
)
from fastcnn.kernels.cpu.simd import emitter, flat_floats, multiply_runs
from fastcnn.kernels.cpu.units import VectorUnit, known_unit

# Bytes of a chunk of one row of A at the most: a panel of 14 rows takes 29 KB of a 48 KB L1.
DEPTH_BYTES = 2048


def most_channels(itemsize: int) -> int:
    """Channels of a chunk at the most."""
    return DEPTH_BYTES // itemsize


def line(unit: VectorUnit, itemsize: int) -> int:
    """Elements from row to row of A: a vector more than channels, so that whole vectors can be
    written and the rows of a panel fall on different sets of a cache."""
    return most_channels(itemsize) + unit.lanes(itemsize)


def _unpacked(emit, unit, source, runs):
    """A fresh tile's vectors, as `multiply_runs` takes them: one behind the other, of two places
    each, and whether the former is so."""
    builder, lanes = emit.builder, emit.index(emit.lanes)
    follow, of_two = [], []
    begin = emit.integer(runs, emit.index(0))
    in_order = [builder.add(begin, emit.index(v * emit.lanes)) for v in range(unit.vectors)]
    for v, place in enumerate(in_order):
        first, second, split = (emit.integer(runs, emit.index(RUN * v + i)) for i in range(3))
        follow += [
            builder.icmp_signed(">=", split, lanes), builder.icmp_signed("==", first, place)
        ]  # fmt: skip
        of_two.append((emit.at(source, first), emit.at(source, second), choosing(emit, split)))
    in_one = [(emit.at(source, place), None, None) for place in in_order]
    return in_one, of_two, reduce(builder.and_, follow)


def emit_block_product(
    emit, unit, rows, depth, pointers, steps, fresh, by_rows, accumulate, finish,
):  # fmt: skip
    """Emit the product; pointers are those of a, b, the source, runs, what is fetched, c and ends;
    steps (s_step, f_step, f_shift, c_step, c_ahead, c_shift)."""
    builder = emit.builder
    a, b, source, runs, fetched, c, ends = pointers
    s_step, f_step, f_shift, c_step, c_ahead, c_shift = steps
    step = emit.index(unit.vectors * emit.lanes)
    packed = [(emit.at(b, emit.index(v * emit.lanes)), None, None) for v in range(unit.vectors)]
    copied_later = fetching_lines(emit, fetched, f_step, unit.vectors, f_shift)
    c_later = emit.at(c, c_ahead)

    def both(number):
        copied_later(number)
        row = emit.minimum(builder.lshr(number, c_shift), emit.index(rows - 1))
        fetch_row(emit, emit.at(c_later, builder.mul(row, c_step)), unit.vectors)

    def sums(start):
        def along(a_step, a_row):
            def product(vectors, step, kept):
                # a fresh tile's loop has no register left for C's lines
                if kept is not None:
                    fetch_tile(emit, c_later, c_step, rows, unit.vectors)
                return multiply_runs(
                    emit, depth, a, vectors, step, rows, start, emit.index(a_step),
                    both if kept is None else copied_later, a_row, kept,
                )  # fmt: skip

            def unpacked():
                in_one, of_two, one = _unpacked(emit, unit, source, runs)
                if not unit.mask_registers or rows < unit.rows:
                    return product(in_one, s_step, b)
                # two loads a vector cost 2 to 4 % of a layer of large planes
                return chosen(
                    builder, one, lambda: product(in_one, s_step, b),
                    lambda: product(of_two, s_step, b),
                )  # fmt: skip

            return lambda: chosen(builder, fresh, unpacked, lambda: product(packed, step, None))

        by_columns = along(rows, 1)
        return chosen(builder, by_rows, along(1, line(unit, emit.element_bytes)), by_columns)

    emit_tile(emit, rows, unit.vectors, c, c_step, accumulate, ends, finish, sums)


def _block_product(rows_of):
    def typer(
        typingctx, depth, a, a0, by_rows, b, b0, source, fresh, s0, runs, r0, s_step, w, of_w, f0,
        f_step, f_shift, c_near, c_far, direct, c0, c_step, c_ahead, c_shift, accumulate, ends, e0,
        finish,
    ):  # fmt: skip
        if not flat_floats(a, b, source, w, c_near, c_far, ends):
            return None

        def codegen(context, builder, signature, arguments):
            emit, unit = emitter(context, builder, a.dtype), known_unit()
            (
                depth, av, a0, by_rows, bv, b0, sv, fresh, s0, rv, r0, s_step, wv, of_w, f0,
                f_step, f_shift, near, far, direct, c0, c_step, c_ahead, c_shift, accumulate, ev,
                e0, finish,
            ) = arguments  # fmt: skip
            in_source = emit.data(source, sv)
            fetched = builder.select(of_w, emit.data(w, wv), in_source)
            in_c = builder.select(direct, emit.data(c_far, far), emit.data(c_near, near))
            pointers = (
                emit.at(emit.data(a, av), a0), emit.at(emit.data(b, bv), b0),
                emit.at(in_source, s0), emit.at_integer(emit.data(runs, rv), r0),
                emit.at(fetched, f0), emit.at(in_c, c0), emit.at(emit.data(ends, ev), e0),
            )  # fmt: skip
            emit_block_product(
                emit, unit, rows_of(unit), depth, pointers,
                (s_step, f_step, f_shift, c_step, c_ahead, c_shift), fresh, by_rows, accumulate,
                finish,
            )  # fmt: skip
            return context.get_dummy_value()

        i, yes = types.intp, types.boolean
        signature = types.void(
            i, a, i, yes, b, i, source, yes, i, runs, i, i, w, yes, i, i, i, c_near, c_far, yes, i,
            i, i, i, yes, ends, i, i,
        )  # fmt: skip
        return signature, codegen

    return intrinsic(typer)


# `product(depth, a, a0, by_rows, b, b0, source, fresh, s0, runs, r0, s_step, w, of_w, f0,
# f_step, f_shift, c_near, c_far, direct, c0, c_step, c_ahead, c_shift, accumulate, ends, e0,
# finish)`; what is fetched is of w, or else of the source.
tall_block: Any = _block_product(lambda unit: unit.rows)
short_block: Any = _block_product(lambda unit: unit.short_rows)


def emit_panels(emit, height, sizes, pointers, steps):
    """Emit `copy_panels`; sizes are (depth, panels), pointers (source, target), steps (s_step,
    t_step)."""
    builder = emit.builder
    (depth, panels), (source, target), (s_step, t_step) = sizes, pointers, steps
    rows = emit.index(height)
    with emit.loop(depth, []) as outer:
        there = emit.at(source, builder.mul(outer.number, s_step))
        here = emit.at(target, builder.mul(outer.number, rows))
        with emit.loop(panels, []) as loop:
            read = emit.at(there, builder.mul(loop.number, rows))
            written = emit.at(here, builder.mul(loop.number, t_step))
            for m in range(0, height, emit.lanes):
                at_read, at_written = (emit.at(o, emit.index(m)) for o in (read, written))
                if m + emit.lanes <= height:
                    emit.store(emit.load(at_read), at_written)
                else:
                    mask = emit.below(emit.index(height - m))
                    vector = emit.masked_load(at_read, mask, emit.zero())
                    emit.masked_store(vector, at_written, mask)


def _panels_typer(typingctx, depth, panels, source, s0, s_step, target, t0, t_step):
    """`copy_panels(depth, panels, source, s0, s_step, target, t0, t_step)`: the tall panels of A
    that follow each other in w by columns, row by row of w:

        target[t0 + p*t_step + k*rows + m] = source[s0 + k*s_step + p*rows + m],
        p < panels, k < depth, m < rows = unit.rows

    Reads and writes nothing else.
    """
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit, height = emitter(context, builder, source.dtype), known_unit().rows
        depth, panels, sv, s0, s_step, tv, t0, t_step = arguments
        pointers = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        emit_panels(emit, height, (depth, panels), pointers, (s_step, t_step))
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, source, i, i, target, i, i), codegen


copy_panels: Any = intrinsic(_panels_typer)
