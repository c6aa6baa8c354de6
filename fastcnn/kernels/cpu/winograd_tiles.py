"""Winograd's transforms on vectors whose lanes are tiles, straight from and to images.

A tile is m x m pixels of the result; it reads n x n of the source, n = m + r - 1, at steps of m.
A *strip* is up to lanes/m tiles side by side in one row of tiles, whose pixels in one row of the
result fill one vector. A *group* is m strips, and so `lanes` tiles: from its m vectors of a row of
the source, and m more that begin m pixels further right, come by shuffles the n vectors that hold
pixel 0, pixel 1 … n-1 of every tile.

What is read and written is described by a group's entry in a table of int64, `Fields`. Lanes that
no mask names are neither read nor written in images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import Emitter, llvm_type
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_transforms import Vectors, multiply, transforms

# Filters are 3 x 3.
TAPS = 3


@dataclass(frozen=True)
class Fields:
    """Where a group's entry has what: offsets in int64, for F(m x m, 3 x 3).

    places : m; columns of V and M where the strips' tiles begin, each after the last
    dense : 1 if the strips follow one another without a gap, so that one vector holds them
    sources, results : m each; offsets of the strips' first pixels from the first image's first
    pixels : m; the same in a plane of the result
    valid : bits of the lanes that are tiles
    reads : n x m x 2 masks: row of the source, strip, and whether m pixels further right
    writes : m x m masks: row of the result, strip
    """

    m: int

    @property
    def n(self) -> int:
        return self.m + TAPS - 1

    @property
    def dense(self) -> int:
        return self.m

    @property
    def sources(self) -> int:
        return self.m + 1

    @property
    def results(self) -> int:
        return 2 * self.m + 1

    @property
    def pixels(self) -> int:
        return 3 * self.m + 1

    @property
    def valid(self) -> int:
        return 4 * self.m + 1

    @property
    def reads(self) -> int:
        return 4 * self.m + 2

    @property
    def writes(self) -> int:
        return self.reads + 2 * self.n * self.m

    @property
    def size(self) -> int:
        return self.writes + self.m * self.m


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

    def __init__(self, emit, fields, table, entry):
        self._emit, self._fields, self._table, self._entry = emit, fields, table, entry

    def _field(self, offset):
        emit = self._emit
        return emit.integer(self._table, emit.builder.add(self._entry, emit.index(offset)))

    def places(self):
        return [self._field(i) for i in range(self._fields.m)]

    def dense(self):
        zero = self._emit.index(0)
        return self._emit.builder.icmp_signed("!=", self._field(self._fields.dense), zero)

    def valid(self):
        return self._emit.mask(self._field(self._fields.valid))

    def starts(self, first):
        return [self._field(first + i) for i in range(self._fields.m)]

    def reads(self, row, strip, right):
        fields = self._fields
        return self._emit.mask(self._field(fields.reads + (row * fields.m + strip) * 2 + right))

    def writes(self, row, strip):
        return self._emit.mask(self._field(self._fields.writes + row * self._fields.m + strip))


def emit_input(emit, m, pointers, width, entry, step):
    """V[i, j][place of every tile] = B^T d B for the tiles d of one group in one channel.

    pointers are the channel's first pixel in the first image, the table and V's row of the channel
    for (0, 0); V's rows for the following (i, j) are `step` elements apart each.
    """
    builder, fields, ops = emit.builder, Fields(m), Vectors(emit)
    x, table, v = pointers
    group = _Group(emit, fields, table, entry)
    starts = [emit.at(x, start) for start in group.starts(fields.sources)]
    bt, rows = transforms(m, TAPS).bt, []
    for row in range(fields.n):
        ahead = builder.mul(width, emit.index(row))
        sides = []
        for right in (0, 1):
            places = [emit.at(emit.at(start, ahead), emit.index(right * m)) for start in starts]
            sides.append(
                [
                    emit.masked_load(place, group.reads(row, strip, right), emit.zero())
                    for strip, place in enumerate(places)
                ]
            )
        pixels = _apart(emit, sides[0], m) + _apart(emit, sides[1], fields.n - m)
        rows.append(multiply(bt, pixels, ops))
    columns = [multiply(bt, column, ops) for column in zip(*rows, strict=True)]
    order = [columns[j][i] for i in range(fields.n) for j in range(fields.n)]
    places = group.places()
    per = emit.lanes // m

    def every(store):
        for number, vector in enumerate(order):
            store(vector, emit.at(v, builder.mul(step, emit.index(number))))

    def by_strips(vector, row):
        # in order: what a strip of fewer tiles writes too much, the next one overwrites
        for strip, place in enumerate(places):
            part = emit.pick(vector, vector, list(range(strip * per, strip * per + per)))
            emit.store(part, emit.at(row, place))

    with builder.if_else(group.dense()) as (dense, gaps):
        with dense:
            every(lambda vector, row: emit.store(vector, emit.at(row, places[0])))
        with gaps:
            every(by_strips)


def emit_output(emit, m, pointers, sizes, entry, bias, least, per_pixel):
    """max(A^T M A + bias, least) for the tiles of one group in one channel of the result.

    pointers are M's row of the channel for (0, 0), the table, the channel's first pixel in the
    first image, its first bias where every pixel has one (`per_pixel`), and a vector to which the
    sums of the tiles' results are added: NaN or infinite where one of them is. sizes are the
    elements from (i, j) to (i, j + 1) in M, and the result's width.
    """
    builder, fields, ops = emit.builder, Fields(m), Vectors(emit)
    source, table, y, biases, sums = pointers
    step, width = sizes
    group = _Group(emit, fields, table, entry)
    n, per, places, at = fields.n, emit.lanes // m, group.places(), transforms(m, TAPS).at

    def dense(row):
        return emit.load(emit.at(row, places[0]))

    def by_strips(row):
        parts = [emit.load_part(emit.at(row, place), per) for place in places]
        while len(parts) > 1:
            lanes = list(range(2 * parts[0].type.count))
            parts = [emit.pick(a, b, lanes) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def columns(load):
        """A^T M, one column of M after the other, and the block in which that ends."""
        found = []
        for j in range(n):
            rows = [emit.at(source, builder.mul(step, emit.index(i * n + j))) for i in range(n)]
            found.append(multiply(at, [load(row) for row in rows], ops))
        return found, builder.block

    with builder.if_else(group.dense()) as (is_dense, has_gaps):
        with is_dense:
            one = columns(dense)
        with has_gaps:
            other = columns(by_strips)
    down = [
        [_either(emit, (a, one[1]), (b, other[1])) for a, b in zip(*pair, strict=True)]
        for pair in zip(one[0], other[0], strict=True)
    ]
    rows = [multiply(at, row, ops) for row in zip(*down, strict=True)]
    total = emit.zero()
    for pixels in rows:
        for pixel in pixels:
            total = emit.add(total, pixel)
    total = builder.select(group.valid(), total, emit.zero())
    emit.store(emit.add(emit.load(sums), total), sums)
    starts, offsets = group.starts(fields.results), group.starts(fields.pixels)
    for i, pixels in enumerate(rows):
        vectors = _together(emit, [emit.add(pixel, bias) for pixel in pixels])
        ahead = builder.mul(width, emit.index(i))
        masks = [group.writes(i, strip) for strip in range(m)]
        before = builder.block
        with builder.if_then(per_pixel):
            added = []
            for vector, offset, mask in zip(vectors, offsets, masks, strict=True):
                place = emit.at(biases, builder.add(offset, ahead))
                added.append(emit.add(vector, emit.masked_load(place, mask, emit.zero())))
            during = builder.block
        pairs = zip(vectors, added, strict=True)
        values = [_either(emit, (a, before), (b, during)) for a, b in pairs]
        for value, start, mask in zip(values, starts, masks, strict=True):
            value = builder.select(builder.fcmp_ordered("<", value, least), least, value)
            emit.masked_store(value, emit.at(y, builder.add(start, ahead)), mask)


def _either(emit, one, other):
    """The value of whichever block was run; each comes with its block."""
    value = emit.builder.phi(emit.vector)
    value.add_incoming(*one)
    value.add_incoming(*other)
    return value


def emitter(context, builder, dtype):
    unit = known_unit()
    return Emitter(context, builder, llvm_type(dtype), unit.lanes(dtype.bitwidth // 8))


def _input(m):
    """Make the intrinsic `f(x, x0, width, table, entry, v, v0, step)`: see `emit_input`."""

    def typer(typingctx, x, x0, width, table, entry, v, v0, step):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, x.dtype)
            xv, x0, width, tv, entry, vv, v0, step = arguments
            pointers = (
                emit.at(emit.data(x, xv), x0), emit.data(table, tv), emit.at(emit.data(v, vv), v0)
            )  # fmt: skip
            emit_input(emit, m, pointers, width, entry, step)
            return context.get_dummy_value()

        i = types.intp
        return types.void(x, i, i, table, i, v, i, i), codegen

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
input_2: Any = _input(2)
output_4: Any = _output(4)
output_2: Any = _output(2)
