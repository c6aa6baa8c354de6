"""Small planes with a lane for each: as many planes as a vector has lanes, pixel by pixel.

    scratch[pixel][lane]     pixel of plane `lane`, in the padded image that a kernel slides over

A plane of 7x7 fills no vector along its rows; sixteen planes fill one at every pixel, without masks
or borders. They are turned over in registers on the way in and on the way out.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.plane_rows import begin, literals
from fastcnn.kernels.cpu.simd import prefetch_line
from fastcnn.kernels.cpu.stencil import Stencil, axes_of, forward_axis
from fastcnn.memory import LINE_BYTES

# Bytes of the pieces of rows that are put together to vectors: what every unit moves at once, and
# within which it shuffles fastest.
_PIECE = 16


def _in_pieces(emit, pick):
    """Lane numbers that do to each piece of two vectors what `pick` says; n + i: of the second."""
    size = len(pick)
    return [
        base + lane if lane < size else emit.lanes + base + lane - size
        for base in range(0, emit.lanes, size)
        for lane in pick
    ]


def _turned(emit, vectors):
    """Within pieces of as many elements as there are vectors: element j of each to vector j."""
    if len(vectors) == 1:
        return vectors
    if len(vectors) == 2:
        low, high = ([0, 2], [1, 3])
        return [emit.pick(*vectors, _in_pieces(emit, n)) for n in (low, high)]
    low, high = _in_pieces(emit, [0, 4, 1, 5]), _in_pieces(emit, [2, 6, 3, 7])
    pairs = [[emit.pick(a, b, n) for n in (low, high)] for a, b in (vectors[:2], vectors[2:])]
    low, high = _in_pieces(emit, [0, 1, 4, 5]), _in_pieces(emit, [2, 3, 6, 7])
    return [emit.pick(pairs[0][half], pairs[1][half], n) for half in (0, 1) for n in (low, high)]


def _joined(emit, parts):
    """Vectors one behind the other."""
    while len(parts) > 1:
        size = 2 * parts[0].type.count
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [emit.pick(a, b, list(range(size))) for a, b in pairs]
    return parts[0]


def _fetch(emit, plane, ahead, number, size):
    """Fetch the share of a part of all planes, which follow each other: `size` elements of each.

    Spread over the parts: all at once they took a third longer to come.
    """
    builder, share = emit.builder, emit.lanes * size
    start = builder.add(ahead, builder.mul(number, emit.index(share)))
    for line in range(0, share, LINE_BYTES // emit.element_bytes):
        place = emit.at(plane, builder.add(start, emit.index(line)))
        prefetch_line(builder, place, write=False)


def _planes_in_typer(typingctx, source, start, step, pixels, ahead, places, scratch, o, lanes):
    """`planes_in(source, start, step, pixels, ahead, places, scratch, o, lanes)`.

    Pixel p of as many planes as lanes, `step` apart from source[start] on, to the vector at
    scratch[o + places[p]]; at least a piece of pixels. Fetches what lies `ahead` elements further.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, source, lanes)
        sv, start, step, pixels, ahead, pv, xv, o, _ = arguments
        size = _PIECE // emit.element_bytes
        plane, table = emit.at(emit.data(source, sv), start), emit.data(places, pv)
        target = emit.at(emit.data(scratch, xv), o)
        pieces = builder.sdiv(builder.add(pixels, emit.index(size - 1)), emit.index(size))
        with emit.loop(pieces, []) as piece:
            # the last piece overlaps the one before
            first = builder.mul(piece.number, emit.index(size))
            first = emit.minimum(first, builder.sub(pixels, emit.index(size)))
            _fetch(emit, plane, ahead, piece.number, size)
            rows = [emit.at(plane, first)]
            while len(rows) < emit.lanes:
                rows.append(emit.at(rows[-1], step))
            loaded = [emit.load_part(row, size) for row in rows]
            vectors = [_joined(emit, loaded[row::size]) for row in range(size)]
            for j, vector in enumerate(_turned(emit, vectors)):
                at = emit.integer(table, builder.add(first, emit.index(j)))
                emit.store(vector, emit.at(target, at))
        return context.get_dummy_value()

    i = types.intp
    return types.void(source, i, i, i, i, places, scratch, i, lanes), codegen


def _planes_out_typer(typingctx, scratch, o, places, out, start, step, pixels, lanes):
    """`planes_out(scratch, o, places, out, start, step, pixels, lanes)`.

    The vector at scratch[o + places[p]] to pixel p of as many planes as lanes, `step` apart from
    out[start] on. `places` goes on to a whole number of vectors.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, scratch, lanes)
        xv, o, pv, ov, start, step, pixels, _ = arguments
        plane = emit.at(emit.data(out, ov), start)
        table, source = emit.data(places, pv), emit.at(emit.data(scratch, xv), o)
        squares = builder.add(pixels, emit.index(emit.lanes - 1))
        squares = builder.sdiv(squares, emit.index(emit.lanes))
        with emit.loop(squares, []) as square:
            first = builder.mul(square.number, emit.index(emit.lanes))
            there = emit.below(builder.sub(pixels, first))
            vectors = []
            for j in range(emit.lanes):
                at = emit.integer(table, builder.add(first, emit.index(j)))
                vectors.append(emit.load(emit.at(source, at)))
            place = emit.at(plane, first)
            for row in emit.transposed(vectors):
                emit.masked_store(row, place, there)
                place = emit.at(place, step)
        return context.get_dummy_value()

    i = types.intp
    return types.void(scratch, i, places, out, i, i, i, lanes), codegen


def _sources(stencil, across):
    """{row offset: {column offset: [(row phase, row tap, column b, phase, column tap)]}}.

    What `across` neighbouring columns of a row of the grid read.
    """
    found: dict[int, dict[int, list[tuple[int, int, int, int, int]]]] = {}
    for a, u, r in stencil.rows.terms:
        row = found.setdefault(u, {})
        for c, offset, s in stencil.columns.terms:
            for b in range(across):
                v = b * stencil.columns.step + offset
                row.setdefault(v, []).append((a, r, b, c, s))
    return found


def _reads(emit, stencil, across, i, j, pitch, source):
    """Yield the vectors that a block of the grid at (i, j) reads, each with its uses."""
    builder, lanes = emit.builder, emit.index(emit.lanes)
    column = builder.mul(builder.mul(j, emit.index(stencil.columns.step)), lanes)
    for u, columns in sorted(_sources(stencil, across).items()):
        row = builder.add(builder.mul(i, emit.index(stencil.rows.step)), emit.index(u))
        place = emit.at(emit.at(source, builder.mul(row, pitch)), column)
        for v, uses in sorted(columns.items()):
            yield emit.load(emit.at(place, emit.index(v * emit.lanes))), uses


def emit_across_product(emit, stencil, across, sizes, pointers, start, floor):
    """Emit `across_product`; sizes are (grid rows, grid columns, pitch, out_pitch)."""
    builder, lanes = emit.builder, emit.lanes
    grid_rows, grid_columns, pitch, out_pitch = sizes
    source, weights, out = pointers
    rows, columns = stencil.rows, stencil.columns
    taps = {}
    for _, _, r in rows.terms:
        for _, _, s in columns.terms:
            tap = r * stencil.width + s
            taps[tap] = emit.load(emit.at(weights, emit.index(tap * lanes)))
    blocks = builder.sdiv(builder.add(grid_columns, emit.index(across - 1)), emit.index(across))
    with emit.loop(grid_rows, []) as line, emit.loop(blocks, []) as block:
        i = line.number
        # the last block overlaps the one before
        j = emit.minimum(
            builder.mul(block.number, emit.index(across)),
            builder.sub(grid_columns, emit.index(across)),
        )
        phases = [(a, c) for a in range(rows.phases) for c in range(columns.phases)]
        totals = {(a, b, c): start for b in range(across) for a, c in phases}
        for vector, uses in _reads(emit, stencil, across, i, j, pitch, source):
            for a, r, b, c, s in uses:
                weight = taps[r * stencil.width + s]
                totals[a, b, c] = emit.fma(weight, vector, totals[a, b, c])
        for (a, b, c), total in totals.items():
            row = builder.add(builder.mul(i, emit.index(rows.phases)), emit.index(a))
            place = builder.add(builder.mul(j, emit.index(columns.phases * lanes)),
                                emit.index((b * columns.phases + c) * lanes))  # fmt: skip
            at = emit.at(emit.at(out, builder.mul(row, out_pitch)), place)
            emit.store(emit.at_least(total, floor), at)


def _across_product_typer(
    typingctx, scratch, source, weights, out, bias, k, with_bias, floor, grid_rows, grid_columns,
    pitch, out_pitch, R, S, sh, sw, dh, dw, transposed, residues, across, lanes,
):  # fmt: skip
    """`across_product(scratch, source, weights, out, bias, k, count, floor, sizes …, <constants>)`.

    The grid of a small convolution, or of its input gradient, as plane_product.py has it, over
    vectors of planes in scratch, which begin where the three numbers say. Sums begin with
    the biases from bias[k] on if `with_bias`; results below floor become floor. The padded source
    has its rows `pitch` elements apart, the output, phases side by side, `out_pitch`; `across`
    columns of the grid, at the most as many as it has, are done together.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, scratch, lanes)
        array, *starts = arguments[:4]
        pointers = [emit.at(emit.data(scratch, array), start) for start in starts]
        array, k, with_bias, floor = arguments[4:8]
        there = emit.below(builder.select(with_bias, emit.index(emit.lanes), emit.index(0)))
        start = emit.masked_load(emit.at(emit.data(bias, array), k), there, emit.zero())
        axes = axes_of(*literals(R, S, sh, sw, dh, dw, transposed, residues))
        width, together = literals(S, across)
        emit_across_product(
            emit, Stencil(*axes, width, 1), together, arguments[8:12], pointers, start,
            emit.splat(floor),
        )  # fmt: skip
        return context.get_dummy_value()

    i = types.intp
    constants = (R, S, sh, sw, dh, dw, transposed, residues, across, lanes)
    kind = scratch.dtype
    return types.void(
        scratch, i, i, i, bias, i, types.boolean, kind, i, i, i, i, *constants
    ), codegen


def emit_across_dots(emit, stencil, across, with_sum, sizes, pointers):
    """Emit `across_dots`; sizes are (P, Q, pitch)."""
    builder, lanes, wide = emit.builder, emit.lanes, emit.widened()
    P, Q, pitch = sizes
    x, dy, sums, dy_sums = pointers
    taps = (1 + max(r for _, _, r in stencil.rows.terms)) * stencil.width
    places = [emit.at(sums, emit.index(t * lanes)) for t in range(taps)]
    blocks = builder.sdiv(Q, emit.index(across))
    start = [emit.load(place) for place in places] + [wide.load(dy_sums)] * with_sum
    with emit.loop(P, start) as line:
        with emit.loop(blocks, line.values) as block:
            j = builder.mul(block.number, emit.index(across))
            first = builder.mul(builder.add(builder.mul(line.number, Q), j), emit.index(lanes))
            at = emit.at(dy, first)
            factors = [emit.load(emit.at(at, emit.index(b * lanes))) for b in range(across)]
            totals = list(block.values)
            for vector, uses in _reads(emit, stencil, across, line.number, j, pitch, x):
                for _, r, b, _, s in uses:
                    t = r * stencil.width + s
                    totals[t] = emit.fma(vector, factors[b], totals[t])
            if with_sum:
                totals[taps] = wide.add(totals[taps], emit.widen(emit.by_pairs(factors)))
            block.next = totals
        line.next = block.next
    for place, total in zip(places, line.next[:taps], strict=True):
        emit.store(total, place)
    if with_sum:
        wide.store(line.next[taps], dy_sums)


def _across_dots_typer(
    typingctx, scratch, x, dy, sums, dy_sums, at, P, Q, pitch,
    R, S, sh, sw, dh, dw, across, with_sum, lanes,
):  # fmt: skip
    """`across_dots(scratch, x, dy, sums, dy_sums, at, P, Q, pitch, <constants>)`.

    sums[tap] += the products of dY's vectors, P x Q of them, with the padded source's under that
    tap, all in scratch. `across` divides Q. If `with_sum`, the vector of float64 from dy_sums[at]
    on += those of dY: `across` of them are added up by pairs, all else in float64.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, scratch, lanes)
        array, *starts = arguments[:4]
        pointers = [emit.at(emit.data(scratch, array), start) for start in starts]
        pointers.append(emit.widened().at(emit.data(dy_sums, arguments[4]), arguments[5]))
        rows, columns, sh_, sw_, dh_, dw_ = literals(R, S, sh, sw, dh, dw)
        axes = forward_axis(rows, sh_, dh_), forward_axis(columns, sw_, dw_)
        width, together, with_sum_ = literals(S, across, with_sum)
        stencil = Stencil(*axes, width, 1)
        emit_across_dots(emit, stencil, together, with_sum_, arguments[6:9], pointers)
        return context.get_dummy_value()

    i, constants = types.intp, (R, S, sh, sw, dh, dw, across, with_sum, lanes)
    return types.void(scratch, i, i, i, dy_sums, i, i, i, i, *constants), codegen


_constants = intrinsic(prefer_literal=True)
planes_in: Any = _constants(_planes_in_typer)
planes_out: Any = _constants(_planes_out_typer)
across_product: Any = _constants(_across_product_typer)
across_dots: Any = _constants(_across_dots_typer)
