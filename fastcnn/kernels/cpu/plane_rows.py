"""Rows of a plane as vectors, for operations that slide a small kernel over it.

What plane_product.py and plane_dots.py share. A step of their loops does a band of rows, one vector
of each: a vector of the source is loaded once for all rows of the band that it serves.

- Rows beyond the source are read from a row of zeros that the caller provides: a choice of
  pointers, once per band.
- Columns beyond are left out by masks, in the first and last vectors of a row alone.
- Of stride 2, neighbouring vectors are parted into even and odd columns.
"""

from __future__ import annotations

from fastcnn.kernels.cpu.simd import Emitter, llvm_type, prefetch_line
from fastcnn.kernels.cpu.units import streams_to_l2

# Bytes ahead of a row that are fetched, twice that for rows longer than a vector: no prefetcher
# follows nine short rows at a time. 28x28 out of memory: 1.4 ms without, 0.42 with; half as much
# gave the same within 10 %.
AHEAD_BYTES = 4096
# Rows from which on a product's source is a stream that may go to L2 alone: on Zen 4 56x56 and
# 112x112 took 0.52 to 0.7 of the time with it, 28x28 1.15.
STREAM_ROW_BYTES = 192


class SourceRow:
    """Vectors of a source's rows at one place of the column loop, whole or under masks."""

    def __init__(self, emit, stencil, column, whole, width, count):
        self.emit, self.stencil, self.column = emit, stencil, column
        self.masks = None
        if not whole:
            self.masks = {first: self._mask(first, width, count) for first, _ in stencil.vectors}

    def _mask(self, first, width, count):
        """Masks of the parts of a load: inside the row, and below `count` lanes."""
        emit, builder, step = self.emit, self.emit.builder, self.stencil.columns.step
        start = builder.add(self.column, emit.index(first))
        begin = builder.neg(start)
        wanted = builder.mul(count, emit.index(step))
        end = emit.minimum(builder.sub(width, start), wanted)
        parts = []
        for part in range(self.stencil.source_parts):
            lanes = emit.index(part * emit.lanes)
            parts.append(emit.between(builder.sub(begin, lanes), builder.sub(end, lanes)))
        return parts

    def load(self, row):
        """{offset: vector} of the row that begins at a pointer."""
        emit, found = self.emit, {}
        for first, offsets in self.stencil.vectors:
            start = emit.at(row, emit.builder.add(self.column, emit.index(first)))
            parts = []
            for part in range(self.stencil.source_parts):
                place = emit.at(start, emit.index(part * emit.lanes))
                if self.masks is None:
                    parts.append(emit.load(place))
                else:
                    parts.append(emit.masked_load(place, self.masks[first][part], emit.zero()))
            if self.stencil.columns.step == 1:
                found[first] = parts[0]
                continue
            low, high = [*parts, emit.zero()][:2]
            for offset in offsets:
                found[offset] = (emit.evens if offset == first else emit.odds)(low, high)
        return found


def row_or(emit, plane, number, count, width, otherwise):
    """Pointer to a row of a plane, or to another row if there is none of this number."""
    inside = emit.builder.icmp_unsigned("<", number, count)
    there = emit.at(plane, emit.builder.mul(number, width))
    return emit.builder.select(inside, there, otherwise)


def rows_of_band(emit, stencil, i, sizes, pointers):
    """{offset: pointer} of the source rows of a band whose first row is i."""
    H, W, top = sizes
    source, zeros = pointers
    builder, step = emit.builder, stencil.rows.step
    first = builder.add(builder.mul(i, emit.index(step)), top)
    needed = {b * step + u for b in range(stencil.band) for u in stencil.rows.offsets}
    return {
        u: row_or(emit, source, builder.add(first, emit.index(u)), H, W, zeros)
        for u in sorted(needed)
    }


def rows_served(stencil):
    """source row offset -> [(row in the band, phase, row of the kernel)]."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for b in range(stencil.band):
        for phase, offset, tap in stencil.rows.terms:
            found.setdefault(b * stencil.rows.step + offset, []).append((b, phase, tap))
    return found


def prefetch_rows(emit, stencil, rows, column, ahead, width=None):
    """Fetch what lies `ahead` elements beyond the rows that a band reads and the next does not; it
    is no stream where the source's `width` is given and small."""

    def fetch(from_memory):
        for u in list(rows)[: stencil.band * stencil.rows.step]:
            place = emit.at(rows[u], emit.builder.add(column, ahead))
            for part in range(stencil.source_parts):
                line = emit.at(place, emit.index(part * emit.lanes))
                prefetch_line(emit.builder, line, write=False, from_memory=from_memory)

    if width is None or not streams_to_l2():
        fetch(True)
        return
    least = emit.index(STREAM_ROW_BYTES // emit.element_bytes)
    long = emit.builder.icmp_signed(">=", width, least)
    with emit.builder.if_else(long) as (is_long, is_short):
        with is_long:
            fetch(True)
        with is_short:
            fetch(False)


def lies_inside(emit, stencil, j, left, W):
    """Whether all that a vector of outputs reads lies inside the source's rows."""
    builder, step = emit.builder, stencil.columns.step
    column = builder.add(builder.mul(j, emit.index(step)), left)
    end = builder.add(column, emit.index(stencil.reach + step * emit.lanes))
    return builder.and_(
        builder.icmp_signed(">=", column, emit.index(0)), builder.icmp_signed("<=", end, W)
    )


def literals(*values):
    return [value.literal_value for value in values]


def begin(context, builder, array, lanes):
    return Emitter(context, builder, llvm_type(array.dtype), lanes.literal_value)
