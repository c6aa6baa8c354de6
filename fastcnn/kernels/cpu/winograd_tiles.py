"""Winograd's transforms on vectors whose lanes are tiles, straight from and to images.

A tile is m x m pixels of the result; it reads n x n of the source, at steps of m, or of another
number where there is a stride (winograd_forms.py). Tiles are numbered image by image and row by
row; `lanes` in a row are a *group*, and each quarter of these a *strip*, whose pixels in one row,
4 to a tile at the most, one vector holds. From a group's 4 vectors of a row of the source, and 4
more that begin a step further right, come by shuffles the n vectors that hold pixel 0, pixel 1 …
n-1 of every tile.

A strip may end one row of tiles and begin another: it is read and written in up to two *pieces*,
under masks that also leave out padding. What is where is described by a group's entry in a table of
int64, `Fields`; lanes that no mask names are neither read nor written in images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import Emitter, llvm_type, prefetch_line
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_forms import Form, form_of
from fastcnn.kernels.cpu.winograd_transforms import Vectors, multiply

# Strips of a group: as many as a tile has pixels in a row, of source or result, at the most.
STRIPS = 4


@dataclass(frozen=True)
class Fields:
    """Where a group's entry has what, as offsets in int64.

    sources, results : 4 x 2 each; offsets from the first image's first pixel, in one channel, to
        lane 0 of a strip, for each piece as if its row went on in both directions
    pixels : 4 x 2; the same in a plane of the result
    valid : bits of the lanes that are tiles
    split : 1 if a strip has two pieces
    reads : n x 4 x 2 x 2 masks: row of the source, strip, piece, whether a step further right
    writes : m x 4 x 2 masks: row of the result, strip, piece
    """

    form: Form
    sources: ClassVar[int] = 0
    results: ClassVar[int] = 2 * STRIPS
    pixels: ClassVar[int] = 4 * STRIPS
    valid: ClassVar[int] = 6 * STRIPS
    split: ClassVar[int] = 6 * STRIPS + 1
    reads: ClassVar[int] = 6 * STRIPS + 2

    @property
    def writes(self) -> int:
        return self.reads + 4 * self.form.n * STRIPS

    @property
    def size(self) -> int:
        return self.writes + 2 * self.form.m * STRIPS


def _apart(emit, vectors, step, wanted):
    """Pixel j of every tile, j < wanted, from the vectors of a row's strips, whose tiles begin
    `step` apart: lane t is tile t's."""
    lanes, found = emit.lanes, []
    tiles, half = lanes // STRIPS, lanes // 2
    for j in range(0, wanted, 2):  # of two strips' tiles first pixel j, then pixel j + 1
        names = [
            at + step * t + pixel
            for pixel in (j, j + 1) for at in (0, lanes) for t in range(tiles)
        ]  # fmt: skip
        low, high = (emit.pick(a, b, names) for a, b in (vectors[:2], vectors[2:]))
        for first in (0, half):
            ends = [range(at + first, at + first + half) for at in (0, lanes)]
            found.append(emit.pick(low, high, [*ends[0], *ends[1]]))
    return found[:wanted]


def _together(emit, pixels):
    """The inverse of `_apart`: the strips' vectors of a row from its pixels 0 … m-1 of every tile;
    where m is 2 the second half of each is anything."""
    lanes, half, found = emit.lanes, emit.lanes // 2, []
    if len(pixels) == 2:
        tiles = lanes // STRIPS
        for first in range(0, lanes, tiles):
            names = [at + first + t for t in range(tiles) for at in (0, lanes)]
            found.append(emit.pick(*pixels, names + names))
        return found
    for first in (0, half):
        ends = [*range(first, first + half), *range(lanes + first, lanes + first + half)]
        # of half the tiles pixels 0 and 1, pixels 2 and 3
        low, high = (emit.pick(a, b, ends) for a, b in (pixels[:2], pixels[2:]))
        names = [at + tile for tile in range(half) for at in (0, half, lanes, lanes + half)]
        found += [emit.pick(low, high, names[:lanes]), emit.pick(low, high, names[lanes:])]
    return found


class _Group:
    """A group's entry of the table, read at run time."""

    def __init__(self, emit, form, table, entry):
        self._emit, self._table, self._entry = emit, table, entry
        self.fields = Fields(form)

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
        return [self._field(first + 2 * strip + piece) for strip in range(STRIPS)]

    def reads(self, row, strip, piece, right):
        number = ((row * STRIPS + strip) * 2 + piece) * 2 + right
        return self._emit.mask(self._field(self.fields.reads + number))

    def writes(self, row, strip, piece):
        number = (row * STRIPS + strip) * 2 + piece
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


def emit_input(emit, form, pointers, width, plane, entry, step):
    """V[i, j][tile] = B^T d B for the tiles d of one group in one channel.

    pointers are the channel's first pixel in the first image, the table, and the group's first
    tile in V's row of the channel for (0, 0); those of the following (i, j) are `step` elements
    apart; and a vector that is raised to the largest |number| read, whose bits are compared, so
    that NaN is larger than any. The next channel, `plane` elements further on, is fetched.
    """
    builder, ops = emit.builder, Vectors(emit)
    x, table, v, peaks = pointers
    group = _Group(emit, form, table, entry)
    kind = emit.magnitude(emit.zero()).type
    peaks = builder.bitcast(peaks, kind.as_pointer())
    peak = builder.load(peaks, align=emit.element_bytes, typ=kind)
    split, apart, bt = group.split(), form.step, form.bt
    starts = [[emit.at(x, s) for s in group.starts(group.fields.sources, i)] for i in (0, 1)]
    rows = []
    for row in range(form.n):
        ahead = builder.mul(width, emit.index(row))
        for start in starts[0]:
            prefetch_line(
                builder, emit.at(emit.at(start, ahead), plane), write=False, from_memory=True
            )

        def taken(piece, otherwise, row=row, ahead=ahead):
            found = []
            for number, old in enumerate(otherwise):
                right, strip = divmod(number, STRIPS)
                place = emit.at(emit.at(starts[piece][strip], ahead), emit.index(right * apart))
                found.append(emit.masked_load(place, group.reads(row, strip, piece, right), old))
            return found

        first = taken(0, [emit.zero()] * (2 * STRIPS))
        both = _if(emit, split, first, lambda taken=taken, first=first: taken(1, first))
        pixels = _apart(emit, both[:STRIPS], apart, apart)
        pixels += _apart(emit, both[STRIPS:], apart, form.n - apart)
        for pixel in pixels:
            peak = emit.larger(emit.magnitude(pixel), peak)
        rows.append(multiply(bt, pixels, ops))
    builder.store(peak, peaks, align=emit.element_bytes)
    columns = [multiply(bt, column, ops) for column in zip(*rows, strict=True)]
    points = [column[i] for i in range(len(bt)) for column in columns]
    for number, point in enumerate(points):
        emit.store(point, emit.at(v, builder.mul(step, emit.index(number))))


def emit_output(emit, form, pointers, sizes, entry, bias, least, per_pixel):
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
    group = _Group(emit, form, table, entry)
    split, at = group.split(), form.at
    n = len(at[0])
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


def _input_typer(typingctx, form, x, x0, width, plane, table, entry, v, v0, step, peaks, p0):
    """`transform_input(form, x, x0, width, plane, table, entry, v, v0, step, peaks, p0)`: see
    `emit_input`."""

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, x.dtype)
        _, xv, x0, width, plane, tv, entry, vv, v0, step, pv, p0 = arguments
        pointers = (
            emit.at(emit.data(x, xv), x0), emit.data(table, tv), emit.at(emit.data(v, vv), v0),
            emit.at(emit.data(peaks, pv), p0),
        )  # fmt: skip
        emit_input(emit, form_of(form), pointers, width, plane, entry, step)
        return context.get_dummy_value()

    i = types.intp
    return types.void(form, x, i, i, i, table, i, v, i, i, peaks, i), codegen


def _output_typer(
    typingctx, form, source, s0, step, table, entry, y, y0, width, biases, b0, per_pixel, bias,
    least, sums,
):  # fmt: skip
    """`transform_output(form, source, s0, step, table, entry, y, y0, width, biases, b0, per_pixel,
    bias, least, sums)`: see `emit_output`."""

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, y.dtype)
        _, sv, s0, step, tv, entry, yv, y0, width, bv, b0, per_pixel, bias, least, nv = arguments
        pointers = (
            emit.at(emit.data(source, sv), s0), emit.data(table, tv),
            emit.at(emit.data(y, yv), y0), emit.at(emit.data(biases, bv), b0),
            emit.data(sums, nv),
        )  # fmt: skip
        numbers = emit.splat(bias), emit.splat(least)
        emit_output(emit, form_of(form), pointers, (step, width), entry, *numbers, per_pixel)
        return context.get_dummy_value()

    i, element = types.intp, y.dtype
    return (
        types.void(
            form, source, i, i, table, i, y, i, i, biases, i, types.boolean, element, element, sums
        ),
        codegen,
    )


transform_input: Any = intrinsic(_input_typer)
transform_output: Any = intrinsic(_output_typer)
