"""One plane correlated with one small kernel, on vectors along rows.

    out[i, j] = bias + sum over taps of w[tap] * source[row(i, tap), column(j, tap)]

with zeros where the source ends. The kernel's weights stay in registers for a whole plane, as far
as there is room. Rows beyond the output are written to a row that nobody reads.

Of a transposed convolution (the input gradient) with stride 2, even and odd columns of the output
are computed apart and interleaved; its rows and columns of one residue have their own taps, so that
nothing is multiplied by an inserted zero (portable.py).
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.plane_rows import (
    AHEAD_BYTES,
    SourceRow,
    begin,
    lies_inside,
    literals,
    prefetch_rows,
    row_or,
    rows_of_band,
    rows_served,
)
from fastcnn.kernels.cpu.simd import prefetch_line
from fastcnn.kernels.cpu.stencil import SHORT, Stencil, axes_of


def _correlated(emit, stencil, taps, from_source, source_rows, bias):
    """Totals of one vector of each row of the band, by row, row's phase and column's phase."""
    rows, columns = stencil.rows, stencil.columns
    totals = {
        (b, a, c): bias
        for b in range(stencil.band)
        for a in range(rows.phases)
        for c in range(columns.phases)
    }
    uses = rows_served(stencil)
    for u in source_rows:
        vectors = from_source.load(source_rows[u]) if u in uses else {}
        for phase, offset, s in columns.terms:
            for b, a, r in uses.get(u, []):
                key = (b, a, phase)
                weight = taps[r * stencil.width + s]
                totals[key] = emit.fma(weight, vectors[offset], totals[key])
    return totals


def _put(emit, stencil, totals, floor, out_rows, start, OW, whole):
    """Store totals, or floor where that is larger, from column `start` of the output on."""
    builder, phases = emit.builder, stencil.columns.phases
    masks = []
    for part in range(stencil.out_parts):
        left_over = builder.sub(builder.sub(OW, start), emit.index(part * emit.lanes))
        masks.append(emit.between(emit.index(0), left_over))
    for (b, a), row in out_rows.items():
        parts = [emit.at_least(totals[b, a, c], floor) for c in range(phases)]
        if phases == 2:
            parts = emit.in_turn(parts)
        for part, value in enumerate(parts[: stencil.out_parts]):
            at = emit.at(row, builder.add(start, emit.index(part * emit.lanes)))
            if whole:
                emit.store(value, at)
            else:
                emit.masked_store(value, at, masks[part])


def emit_plane_product(emit, stencil, narrow, sizes, pointers, bias, floor):
    """Emit `plane_product`.

    sizes are (first, end, H, W, top, left, OH, OW); pointers are (source, weights, zeros, out,
    trash); bias and floor are vectors.
    """
    builder = emit.builder
    first, end, H, W, top, left, OH, OW = sizes
    source, weights, zeros, out, trash = pointers
    rows, columns, lanes = stencil.rows, stencil.columns, emit.index(emit.lanes)
    taps = {}
    for _, _, r in rows.terms:
        for _, _, s in columns.terms:
            place = r * stencil.width + s
            taps[place] = emit.broadcast(emit.at(weights, emit.index(place)))
    phases = emit.index(columns.phases)
    ahead = (AHEAD_BYTES if narrow else 2 * AHEAD_BYTES) // emit.element_bytes
    grid = builder.sdiv(builder.add(OW, emit.index(columns.phases - 1)), phases)

    def block(j, source_rows, out_rows, whole):
        """One vector of each row of the band."""
        column = builder.add(builder.mul(j, emit.index(columns.step)), left)
        from_source = SourceRow(emit, stencil, column, whole, W, builder.sub(grid, j))
        totals = _correlated(emit, stencil, taps, from_source, source_rows, bias)
        start = builder.mul(j, phases)
        prefetch_rows(emit, stencil, source_rows, column, emit.index(ahead), W)
        if not narrow:  # 112x112, stride 2: dX 0.9 ms to 0.55; 14x14 and 7x7 lost 20 % by it
            for row in out_rows.values():
                for part in range(stencil.out_parts):
                    at = builder.add(start, emit.index(ahead + part * emit.lanes))
                    prefetch_line(builder, emit.at(row, at), True)
        _put(emit, stencil, totals, floor, out_rows, start, OW, whole)

    count = builder.sub(end, first)
    bands = builder.sdiv(builder.add(count, emit.index(stencil.band - 1)), emit.index(stencil.band))
    with emit.loop(bands, []) as band:
        # the last band overlaps the one before
        i = builder.add(first, builder.mul(band.number, emit.index(stencil.band)))
        i = emit.minimum(i, builder.sub(end, emit.index(stencil.band)))
        source_rows = rows_of_band(emit, stencil, i, (H, W, top), (source, zeros))
        out_rows = {}
        for b in range(stencil.band):
            for a in range(rows.phases):
                number = builder.mul(builder.add(i, emit.index(b)), emit.index(rows.phases))
                number = builder.add(number, emit.index(a))
                out_rows[b, a] = row_or(emit, out, number, OH, OW, trash)
        if narrow:
            block(emit.index(0), source_rows, out_rows, False)
        else:
            blocks = builder.sdiv(builder.add(grid, emit.index(emit.lanes - 1)), lanes)
            with emit.loop(blocks, []) as across:
                j = emit.minimum(builder.mul(across.number, lanes), builder.sub(grid, lanes))
                inside = lies_inside(emit, stencil, j, left, W)
                fits = builder.mul(builder.add(j, lanes), phases)
                inside = builder.and_(inside, builder.icmp_signed("<=", fits, OW))
                with builder.if_else(inside) as (is_inside, is_edge):
                    with is_inside:
                        block(j, source_rows, out_rows, True)
                    with is_edge:
                        block(j, source_rows, out_rows, False)


def _plane_product_typer(
    typingctx, source, s0, w, w0, zeros, out, o0, trash, bias, floor,
    first, end, H, W, top, left, OH, OW,
    R, S, sh, sw, dh, dw, transposed, residues, band, narrow, lanes,
):  # fmt: skip
    """The intrinsic of this file's text.

    plane_product(source, s0, w, w0, zeros, out, o0, trash, bias, floor, first, end, H, W, top,
    left, OH, OW, <constants>): rows first … end-1 of the grid, `band` at the least, of the plane at
    out[o0], OH x OW, from the plane at source[s0], H x W, and the kernel at w[w0]. Output row i and
    tap r meet in source row i*sh + top + r*dh; transposed, in that of `transposed_axis`, of which
    top is what depends on the padding, and the grid's rows are sh of the output. Results below
    floor become floor. zeros has W zeros, trash room for OW elements.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, source, lanes)
        sv, s0, wv, w0, zv, ov, o0, tv, bias, floor, *sizes = arguments[:18]
        axes = axes_of(*literals(R, S, sh, sw, dh, dw, transposed, residues))
        width, together = literals(S, band)
        stencil = Stencil(*axes, width, together, narrow.literal_value == SHORT)
        pointers = [
            emit.at(emit.data(source, sv), s0), emit.at(emit.data(w, wv), w0),
            emit.data(zeros, zv), emit.at(emit.data(out, ov), o0), emit.data(trash, tv),
        ]  # fmt: skip
        emit_plane_product(
            emit, stencil, narrow.literal_value, sizes, pointers, emit.splat(bias),
            emit.splat(floor),
        )  # fmt: skip
        return context.get_dummy_value()

    i, element = types.intp, source.dtype
    constants = (R, S, sh, sw, dh, dw, transposed, residues, band, narrow, lanes)
    return types.void(
        source, i, w, i, zeros, out, i, trash, element, element, i, i, i, i, i, i, i, i, *constants
    ), codegen


plane_product: Any = intrinsic(prefer_literal=True)(_plane_product_typer)
