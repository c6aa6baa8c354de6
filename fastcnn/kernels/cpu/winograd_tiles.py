"""Winograd's transforms on vectors whose lanes are tiles, straight from and to images.

A tile is m x m pixels of the result; it reads n x n of the source, n = m + r - 1, at steps of m.
Tiles are numbered image by image and row by row; `lanes` in a row are a *group*, and each lanes/m
of these a *strip*, whose pixels in one row of the result fill one vector. From a group's m vectors
of a row of the source, and m more that begin m pixels further right, come by shuffles the n vectors
that hold pixel 0, pixel 1 … n-1 of every tile.

A strip may end one row of tiles and begin another: it is read and written in up to two *pieces*,
under masks that also leave out padding. What is where is described by a group's entry in a table of
int64, `Fields`; lanes that no mask names are neither read nor written in images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import Emitter, llvm_type, prefetch_line
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_transforms import Vectors, multiply, transforms

# Filters are 3 x 3.
TAPS = 3


@dataclass(frozen=True)
class Fields:
    """Where a group's entry has what, for F(m x m, 3 x 3), as offsets in int64.

    sources, results : m x 2 each; offsets from the first image's first pixel, in one channel, to
        lane 0 of a strip, for each piece as if its row went on in both directions
    pixels : m x 2; the same in a plane of the result
    valid : bits of the lanes that are tiles
    split : 1 if a strip has two pieces
    reads : n x m x 2 x 2 masks: row of the source, strip, piece, whether m pixels further right
    writes : m x m x 2 masks: row of the result, strip, piece
    """

    m: int

    @property
    def n(self) -> int:
        return self.m + TAPS - 1

    @property
    def sources(self) -> int:
        return 0

    @property
    def results(self) -> int:
        return 2 * self.m

    @property
    def pixels(self) -> int:
        return 4 * self.m

    @property
    def valid(self) -> int:
        return 6 * self.m

    @property
    def split(self) -> int:
        return 6 * self.m + 1

    @property
    def reads(self) -> int:
        return 6 * self.m + 2

    @property
    def writes(self) -> int:
        return self.reads + 4 * self.n * self.m

    @property
    def size(self) -> int:
        return self.writes + 2 * self.m * self.m


def _apart(emit, vectors, wanted):
    """Pixel j of every tile, j < wanted, from the m vectors of a row: lane t is tile t's."""
    m, lanes = len(vectors), emit.lanes
    if m == 2:
        return [emit.pick(*vectors, list(range(j, 2 * lanes, 2))) for j in range(wanted)]
    found = []
    for j in range(0, wanted, 2):  # of two vectors' tiles first pixel j, then pixel j + 1
        names = [*range(j, 2 * lanes, m), *range(j + 1, 2 * lanes, m)]
        low, high = (emit.pick(a, b, names) for a, b in (vectors[:2], vectors[2:]))
        half = lanes // 2
        for first in (0, half):
            ends = [range(at + first, at + first + half) for at in (0, lanes)]
            found.append(emit.pick(low, high, [*ends[0], *ends[1]]))
    return found


def _together(emit, pixels):
    """The inverse of `_apart`: m vectors of a row from pixel 0 … m-1 of every tile."""
    m, lanes = len(pixels), emit.lanes
    if m == 2:
        both = [i + at for i in range(lanes) for at in (0, lanes)]
        return [emit.pick(*pixels, both[:lanes]), emit.pick(*pixels, both[lanes:])]
    half, found = lanes // 2, []
    for first in (0, half):
        ends = [*range(first, first + half), *range(lanes + first, lanes + first + half)]
        # of half the tiles pixels 0 and 1, pixels 2 and 3
        low, high = (emit.pick(a, b, ends) for a, b in (pixels[:2], pixels[2:]))
        names = [at + tile for tile in range(half) for at in (0, half, lanes, lanes + half)]
        found += [emit.pick(low, high, names[:lanes]), emit.pick(low, high, names[lanes:])]
    return found


class _Group:
    """A group's entry of the table, read at run time."""

    def __init__(self, emit, m, table, entry):
        self._emit, self._table, self._entry = emit, table, entry
        self.fields = Fields(m)

    def _field(self, offset):
        emit = self._emit
        return emit.integer(self._table, emit.builder.add(self._entry, emit.index(offset)))

    def split(self):
        return self._emit.builder.icmp_signed(
            "!=", self._field(self.fields.split), self._emit.index(0)
        )

    def valid(self):
        return self._emit.mask(self._field(self.fields.valid))

    def starts(self, first, piece):
        return [self._field(first + 2 * strip + piece) for strip in range(self.fields.m)]

    def reads(self, row, strip, piece, right):
        number = ((row * self.fields.m + strip) * 2 + piece) * 2 + right
        return self._emit.mask(self._field(self.fields.reads + number))

    def writes(self, row, strip, piece):
        number = (row * self.fields.m + strip) * 2 + piece
        return self._emit.mask(self._field(self.fields.writes + number))


def _if(emit, condition, values, change):
    """The values, or, where the condition holds, what `change()` makes of them."""
    builder, before = emit.builder, emit.builder.block
    with builder.if_then(condition):
        changed = change()
        during = builder.block
    found = []
    for old, new in zip(values, changed, strict=True):
        value = builder.phi(emit.vector)
        value.add_incoming(old, before)
        value.add_incoming(new, during)
        found.append(value)
    return found


def emit_input(emit, m, pointers, width, plane, entry, step):
    """V[i, j][tile] = B^T d B for the tiles d of one group in one channel.

    pointers are the channel's first pixel in the first image, the table, and the group's first
    tile in V's row of the channel for (0, 0); those of the following (i, j) are `step` elements
    apart; and a vector that is raised to the largest |number| read, whose bits are compared, so
    that NaN is larger than any. The next channel, `plane` elements further on, is fetched.
    """
    builder, ops = emit.builder, Vectors(emit)
    x, table, v, peaks = pointers
    group = _Group(emit, m, table, entry)
    kind = emit.magnitude(emit.zero()).type
    peaks = builder.bitcast(peaks, kind.as_pointer())
    peak = builder.load(peaks, align=emit.element_bytes, typ=kind)
    n, split, bt = group.fields.n, group.split(), transforms(m, TAPS).bt
    starts = [[emit.at(x, s) for s in group.starts(group.fields.sources, i)] for i in (0, 1)]
    rows = []
    for row in range(n):
        ahead = builder.mul(width, emit.index(row))
        for start in starts[0]:
            prefetch_line(builder, emit.at(emit.at(start, ahead), plane), write=False)

        def taken(piece, otherwise, row=row, ahead=ahead):
            found = []
            for number, old in enumerate(otherwise):
                right, strip = divmod(number, m)
                place = emit.at(emit.at(starts[piece][strip], ahead), emit.index(right * m))
                found.append(emit.masked_load(place, group.reads(row, strip, piece, right), old))
            return found

        first = taken(0, [emit.zero()] * (2 * m))
        both = _if(emit, split, first, lambda taken=taken, first=first: taken(1, first))
        pixels = _apart(emit, both[:m], m) + _apart(emit, both[m:], n - m)
        for pixel in pixels:
            peak = emit.larger(emit.magnitude(pixel), peak)
        rows.append(multiply(bt, pixels, ops))
    builder.store(peak, peaks, align=emit.element_bytes)
    columns = [multiply(bt, column, ops) for column in zip(*rows, strict=True)]
    for i in range(n):
        for j in range(n):
            emit.store(columns[j][i], emit.at(v, builder.mul(step, emit.index(i * n + j))))


def emit_output(emit, m, pointers, sizes, entry, bias, least, per_pixel):
    """max(A^T M A + bias, least) for the tiles of one group in one channel of the result.

    pointers are the group's first tile in M's row of the channel for (0, 0), the table, the
    channel's first pixel in the first image, its first bias where every pixel has one
    (`per_pixel`), and a vector to which the sums of the tiles' results are added: NaN or infinite
    where one of them is. sizes are the elements from (i, j) to (i, j + 1) in M, and the result's
    width.
    """
    builder, ops = emit.builder, Vectors(emit)
    source, table, y, biases, sums = pointers
    step, width = sizes
    group = _Group(emit, m, table, entry)
    n, split, at = group.fields.n, group.split(), transforms(m, TAPS).at
    columns = []
    for j in range(n):
        places = [emit.at(source, builder.mul(step, emit.index(i * n + j))) for i in range(n)]
        columns.append(multiply(at, [emit.load(place) for place in places], ops))
    rows = [multiply(at, row, ops) for row in zip(*columns, strict=True)]
    total = emit.zero()
    for pixels in rows:
        for pixel in pixels:
            total = emit.add(total, pixel)
    total = builder.select(group.valid(), total, emit.zero())
    emit.store(emit.add(emit.load(sums), total), sums)
    starts = [group.starts(group.fields.results, piece) for piece in (0, 1)]
    offsets = [group.starts(group.fields.pixels, piece) for piece in (0, 1)]
    for i, pixels in enumerate(rows):
        vectors = _together(emit, [emit.add(pixel, bias) for pixel in pixels])
        ahead = builder.mul(width, emit.index(i))

        def biased(vectors=vectors, i=i, ahead=ahead):
            found = vectors
            for piece in (0, 1):
                addends = [
                    emit.masked_load(
                        emit.at(biases, builder.add(offset, ahead)),
                        group.writes(i, strip, piece),
                        emit.zero(),
                    )
                    for strip, offset in enumerate(offsets[piece])
                ]
                found = [emit.add(a, b) for a, b in zip(found, addends, strict=True)]
            return found

        vectors = _if(emit, per_pixel, vectors, biased)
        vectors = [builder.select(builder.fcmp_ordered("<", a, least), least, a) for a in vectors]

        def put(piece, vectors=vectors, i=i, ahead=ahead):
            for strip, (vector, start) in enumerate(zip(vectors, starts[piece], strict=True)):
                place = emit.at(y, builder.add(start, ahead))
                emit.masked_store(vector, place, group.writes(i, strip, piece))

        put(0)
        with builder.if_then(split):
            put(1)


def emitter(context, builder, dtype):
    unit = known_unit()
    return Emitter(context, builder, llvm_type(dtype), unit.lanes(dtype.bitwidth // 8))


def _input(m):
    """Make the intrinsic `f(x, x0, width, plane, table, entry, v, v0, step, peaks, p0)`: see
    `emit_input`.
    """

    def typer(typingctx, x, x0, width, plane, table, entry, v, v0, step, peaks, p0):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, x.dtype)
            xv, x0, width, plane, tv, entry, vv, v0, step, pv, p0 = arguments
            pointers = (
                emit.at(emit.data(x, xv), x0), emit.data(table, tv), emit.at(emit.data(v, vv), v0),
                emit.at(emit.data(peaks, pv), p0),
            )  # fmt: skip
            emit_input(emit, m, pointers, width, plane, entry, step)
            return context.get_dummy_value()

        i = types.intp
        return types.void(x, i, i, i, table, i, v, i, i, peaks, i), codegen

    return intrinsic(typer)


def _output(m):
    """Make the intrinsic `f(source, s0, step, table, entry, y, y0, width, biases, b0, per_pixel,
    bias, least, sums)`: see `emit_output`."""

    def typer(
        typingctx, source, s0, step, table, entry, y, y0, width, biases, b0, per_pixel, bias, least,
        sums,
    ):  # fmt: skip
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, y.dtype)
            sv, s0, step, tv, entry, yv, y0, width, bv, b0, per_pixel, bias, least, nv = arguments
            pointers = (
                emit.at(emit.data(source, sv), s0), emit.data(table, tv),
                emit.at(emit.data(y, yv), y0), emit.at(emit.data(biases, bv), b0),
                emit.data(sums, nv),
            )  # fmt: skip
            numbers = emit.splat(bias), emit.splat(least)
            emit_output(emit, m, pointers, (step, width), entry, *numbers, per_pixel)
            return context.get_dummy_value()

        i = types.intp
        element = y.dtype
        return (
            types.void(
                source, i, i, table, i, y, i, i, biases, i, types.boolean, element, element, sums
            ),
            codegen,
        )

    return intrinsic(typer)


input_4: Any = _input(4)
output_4: Any = _output(4)
