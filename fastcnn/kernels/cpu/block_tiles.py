"""A register tile's product with a packed tile of B, and how such a tile is copied.

    C[m, j] = (C[m, j] if accumulate else 0) + sum over k < depth of A[m, k] * b[k*columns + j]

finished as in microkernel.py, whose terms these are. A[m, k] is a[m*line + k] if `by_rows`, with
`line` a constant, so that all rows are reached from one pointer, else a[k*rows + m]: either is what
a matrix of weights holds, so that a panel of it is copied and never turned. B is packed, so that no
vector is put together of two, and two things are fetched into the caches meanwhile: C's tile
`c_ahead` elements further on, where the next product stores, and rows `f_step` apart of what is
copied later: of the source, for the next block of B, or of the weights, for the next panels of A.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.flow import chosen
from fastcnn.kernels.cpu.microkernel import emit_tile, fetching_lines
from fastcnn.kernels.cpu.simd import emitter, flat_floats, multiply_tile
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


def emit_block_product(emit, unit, rows, depth, pointers, steps, by_rows, accumulate, finish):
    """Emit the product; pointers are those of a, b, what is fetched, c and ends; steps (f_step,
    c_step, c_ahead)."""
    builder = emit.builder
    a, b, fetched, c, ends = pointers
    f_step, c_step, c_ahead = steps
    step = emit.index(unit.vectors * emit.lanes)
    fetch = fetching_lines(emit, fetched, f_step, unit.vectors)

    def sums(start):
        def along(a_step, a_row):
            return lambda: multiply_tile(
                emit, depth, a, b, step, rows, unit.vectors, start, emit.index(a_step), fetch, a_row
            )

        by_columns = along(rows, 1)
        return chosen(builder, by_rows, along(1, line(unit, emit.element_bytes)), by_columns)

    emit_tile(emit, rows, unit.vectors, c, c_step, c_ahead, accumulate, ends, finish, sums)


def _block_product(rows_of):
    def typer(
        typingctx, depth, a, a0, by_rows, b, b0, source, w, of_w, f0, f_step, c_near, c_far,
        direct, c0, c_step, c_ahead, accumulate, ends, e0, finish,
    ):  # fmt: skip
        if not flat_floats(a, b, source, w, c_near, c_far, ends):
            return None

        def codegen(context, builder, signature, arguments):
            emit, unit = emitter(context, builder, a.dtype), known_unit()
            (
                depth, av, a0, by_rows, bv, b0, sv, wv, of_w, f0, f_step, near, far, direct, c0,
                c_step, c_ahead, accumulate, ev, e0, finish,
            ) = arguments  # fmt: skip
            fetched = builder.select(of_w, emit.data(w, wv), emit.data(source, sv))
            in_c = builder.select(direct, emit.data(c_far, far), emit.data(c_near, near))
            pointers = (
                emit.at(emit.data(a, av), a0), emit.at(emit.data(b, bv), b0),
                emit.at(fetched, f0), emit.at(in_c, c0),
                emit.at(emit.data(ends, ev), e0),
            )  # fmt: skip
            emit_block_product(
                emit, unit, rows_of(unit), depth, pointers, (f_step, c_step, c_ahead), by_rows,
                accumulate, finish,
            )  # fmt: skip
            return context.get_dummy_value()

        i, yes = types.intp, types.boolean
        signature = types.void(
            i, a, i, yes, b, i, source, w, yes, i, i, c_near, c_far, yes, i, i, i, yes, ends, i, i
        )
        return signature, codegen

    return intrinsic(typer)


# `product(depth, a, a0, by_rows, b, b0, source, w, of_w, f0, f_step, c_near, c_far, direct, c0,
# c_step, c_ahead, accumulate, ends, e0, finish)`; what is fetched is of w, or else of the source.
tall_block: Any = _block_product(lambda unit: unit.rows)
short_block: Any = _block_product(lambda unit: unit.short_rows)


def _copy_typer(typingctx, count, source, s0, s_step, target, t0):
    """`copy_tile(count, source, s0, s_step, target, t0)`: `count` rows of a tile of B, `s_step`
    apart in the source, to target[t0 …], one behind the other."""
    if not flat_floats(source, target):
        return None

    def codegen(context, builder, signature, arguments):
        emit, vectors = emitter(context, builder, source.dtype), known_unit().vectors
        count, sv, s0, s_step, tv, t0 = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        columns = emit.index(vectors * emit.lanes)
        with emit.loop(count, []) as loop:
            there = emit.at(s, builder.mul(loop.number, s_step))
            here = emit.at(t, builder.mul(loop.number, columns))
            for v in range(vectors):
                o = emit.index(v * emit.lanes)
                emit.store(emit.load(emit.at(there, o)), emit.at(here, o))
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, source, i, i, target, i), codegen


copy_tile: Any = intrinsic(_copy_typer)


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
