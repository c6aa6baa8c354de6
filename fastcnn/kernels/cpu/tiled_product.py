"""The product on register tiles that a convolution is.

    C[row, pixel] = sum over taps of A[row, tap] * B[tap, pixel]

Rows are filters or channels; B[tap, pixel] is the source element that a tap multiplies for a pixel
of a grid, and never stands in memory whole. A task owns some rows and some blocks of pixels:

    for each block of register tiles of pixels
        for each chunk of taps: some channels, all positions of the kernel
            the source's rows into planes, unless they are read where they are
            for each tile of pixels                           its part of B stays in L1
                for each panel of rows                        A's chunk stays in L2
                    C[panel, tile] += A[panel, chunk] B[chunk, tile]

C's tile is the result's own memory where its pixels follow each other there; else it is put where
it belongs in the end. Every element is added up by one task in the order of the chunks: bits do not
depend on threads.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.block_product import multiply_block
from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.jit import inner, kernel
from fastcnn.kernels.cpu.masked_moves import put
from fastcnn.kernels.cpu.microkernel import IN_ORDER, RUN, pick, short_product, tall_product
from fastcnn.kernels.cpu.pixel_tiles import add_bias, cut, fill, store, store_in_turn
from fastcnn.kernels.cpu.planes import (
    IN_BLOCKS,
    IN_PLACE,
    IN_PLANES,
    MOST_RESIDUES,
    NOWHERE,
    PICKED,
    lay,
    locate,
)
from fastcnn.kernels.cpu.product_tables import Product
from fastcnn.kernels.cpu.threads import launch

# Rows per group that fill enough of a register tile.
LEAST_ROWS = 4
NO_UNIT = "no vector unit that is known here, or nothing is compiled"


@kernel
def _reached(taps, t0, t1, pieces, p0, p1, sizes):
    """Positions of t0 … t1-1 from the first to the last that reads a row of the source for any of
    the pieces; at least one. What lies beyond the image's rows need not be multiplied."""
    if pieces[p0, 3] != pieces[p1 - 1, 3]:
        return t0, t1
    top, bottom = pieces[p0, 4] * sizes[3], pieces[p1 - 1, 4] * sizes[3]
    while t0 < t1 - 1 and (bottom + taps[t0, 0] < 0 or top + taps[t0, 0] >= sizes[1]):
        t0 += 1
    while t0 < t1 - 1 and (bottom + taps[t1 - 1, 0] < 0 or top + taps[t1 - 1, 0] >= sizes[1]):
        t1 -= 1
    return t0, t1


@inner
def _finish(
    s, number, together, c, at_c, at_sums, sums, steps, valid, k, bias, relu, out, out_sizes,
    ahead, pieces, p0, p1, followed,
):  # fmt: skip
    """Store a complete tile, channel k's row first, that does not stand in the result's memory."""
    if s.in_turn:
        if number == together - 1:  # the last of the parts; the others' sums stand in c
            store_in_turn(
                c, sums, steps, at_c - at_sums, c.size - s.lanes, valid, s.columns, out, out_sizes,
                k, s.clear, ahead, pieces, p0, p1, s.lanes,
            )  # fmt: skip
        return
    if followed:
        to = (pieces[p0, 3] * s.out_channels + k) * s.grid_h * s.grid_w
        to += pieces[p0, 4] * s.grid_w + pieces[p0, 5]
        for v in range(0, s.columns, s.lanes):
            put(
                valid, c, at_c + v, s.columns, out, to + v, s.grid_h * s.grid_w, 1, 0, s.lanes
            )  # fmt: skip
        return
    if bias.size > s.out_channels:
        add_bias(
            c, at_c, valid, s.columns, bias, k, pieces, p0, p1, s.grid_h, s.grid_w, s.lanes
        )  # fmt: skip
        if relu:
            rectify(c[at_c:], valid * s.columns)
    store(c, at_c, valid, s.columns, out, out_sizes, k, pieces, p0, p1, s.lanes)


@inner
def _multiply(
    s, number, together, source, packed, taps, offsets, corners, panels, bias, relu, out, sizes,
    out_sizes, b, c, sums, steps, ends, end, pieces, starts, tiles, runs, found, places, group,
    first, last, lead, n,
):  # fmt: skip
    """The product of a part on one block of `n` pixels, panels first … last-1, stored if it is
    complete: the `number`-th of those that are stored together, whose sums stand in c in turn and
    which find B in the same planes."""
    lanes, columns, channels, positions = s.lanes, s.columns, s.channels, s.positions
    plane, of_tile = s.grid_h * s.grid_w, RUN * (columns // lanes)
    own_runs = RUN * (s.block // lanes)
    out_plane, first_row = out_sizes[1] * out_sizes[2], group * s.rows + panels[first, 0]
    per_pixel = bias.size > s.out_channels
    for t in range(positions):
        places[t] = offsets[s.first_tap + t]
    at_sums = number * s.c
    if s.in_turn:
        sums[out_sizes[4]] = at_sums
    if number == 0:
        locate(
            runs, found, pieces, starts, tiles, s.mode, s.pitch, s.image_step, s.extra_rows, lanes,
            s.end, s.picks != 0,
        )  # fmt: skip
    done = 0
    for c0 in range(0, channels, s.some_channels):
        c1 = min(channels, c0 + s.some_channels)
        base = group * channels
        if s.mode == IN_PLANES and (number == 0 or s.some_channels < channels):
            lay(
                b, pieces, starts[tiles], source, sizes, corners, s.row, s.col, base + c0,
                base + c1, s.step, s.plane, s.pitch, s.extra_rows, lanes,
            )  # fmt: skip
        for t0 in range(0, positions, s.some_positions):
            t1 = min(positions, t0 + s.some_positions)
            depth = (c1 - c0) * (t1 - t0)
            for t in range(t1 - t0):
                places[positions + t] = t * (c1 - c0) * columns
            whole = done + depth == channels * positions
            for tile in range(tiles):
                p0, p1 = starts[tile], starts[tile + 1]
                image, pixel = pieces[p0, 3], pieces[p0, 4] * s.grid_w + pieces[p0, 5]
                followed = (
                    s.dense and not per_pixel and pixel + columns <= plane
                    and (tile + 1) * columns <= lead + n and (tile > 0 or lead == 0)
                )  # fmt: skip
                u0, u1 = _reached(taps, t0, t1, pieces, p0, p1, sizes)
                far = found[tile] != NOWHERE and s.mode == IN_PLACE
                at_b, o0, r0, step = 0, u0, tile * of_tile, s.step
                if far:
                    at_b = (base + c0) * step
                # packed, unless the first panel's product, and so all, can read it where it is
                picked = found[tile] == PICKED
                if found[tile] == NOWHERE or (picked and panels[first, 2] == s.tall):
                    if picked:
                        pick(
                            u1 - u0, c1 - c0, b, source, far, at_b, places, o0, runs, r0, step,
                            s.laid,
                        )  # fmt: skip
                    else:
                        fill(
                            b[s.laid :], 0, pieces[p0:p1], p1 - p0, source, sizes, taps, u0, u1,
                            base + c0, base + c1, columns, lanes,
                        )  # fmt: skip
                    far, at_b, o0, r0, step = False, s.laid, positions, own_runs, columns
                onward = 0  # where the next tile reads
                if far and tile + 1 < tiles and found[tile + 1] != NOWHERE:
                    onward = runs[r0 + of_tile] - runs[r0]
                for p in range(first, last):
                    k, valid, height = group * s.rows + panels[p, 0], panels[p, 1], panels[p, 2]
                    at_a = (group * s.padded_rows + panels[p, 3]) * channels * positions
                    at_a += s.packed + (done + (u0 - t0) * (c1 - c0)) * height
                    at_c, c_step = (panels[p, 3] - panels[first, 3]) * s.block, columns
                    at_c += at_sums + tile * height * columns
                    direct = followed and valid == height
                    if direct:
                        at_c, c_step = (image * s.out_channels + k) * plane + pixel, plane
                    if height == s.tall:
                        tall_product(
                            u1 - u0, c1 - c0, packed, at_a, b, source, far, at_b, places, o0,
                            runs, r0, step, onward, c, out, direct, at_c, c_step, done > 0,
                            ends, panels[p, 3], end if whole else 0,
                        )  # fmt: skip
                    else:
                        short_product(
                            u1 - u0, c1 - c0, packed, at_a, b, source, far, at_b, places, o0,
                            runs, r0, step, onward, c, out, direct, at_c, c_step, done > 0,
                            ends, panels[p, 3], end if whole else 0,
                        )  # fmt: skip
                    if whole and not direct:
                        # the next panel's rows, or the first one's of the next tile
                        ahead = height * out_plane
                        if p == last - 1:
                            ahead = 2 * columns - (k - first_row) * out_plane
                        _finish(
                            s, number, together, c, at_c, at_sums, sums, steps, valid, k, bias,
                            relu, out, out_sizes, ahead, pieces, p0, p1, followed,
                        )  # fmt: skip
            done += depth


@kernel
def _product_chunk(
    task, source, packed, all_taps, offsets, all_corners, panels, bias, relu, out, source_sizes,
    out_sizes, parts, order,
):  # fmt: skip
    """Some blocks of pixels and some panels of one group of one part."""
    part, task = order[task, 0], order[task, 1]
    s, beyond = parts[part], part + parts[part].together
    some_places, room = s.positions + s.some_positions, s.b
    for other in range(part + 1, beyond):
        o = parts[other]
        some_places, room = max(some_places, o.positions + o.some_positions), max(room, o.b)
    rest, number = divmod(task, s.spans)
    group, panel_block = divmod(rest, (panels.shape[0] + s.some_panels - 1) // s.some_panels)
    first = panel_block * s.some_panels
    last = min(panels.shape[0], first + s.some_panels)
    lanes, columns, of_tile = s.lanes, s.columns, RUN * (s.columns // s.lanes)
    a, b = np.empty(s.a, source.dtype), np.empty(room, source.dtype)
    # behind the sums a vector of zeros, for columns of the result that no part makes
    c = np.empty(s.together * s.c + lanes, source.dtype)
    c[s.together * s.c :] = source.dtype.type(0)
    # where the sums of each residue of columns begin, and what `store_in_turn` makes of it
    sums, steps = np.full(MOST_RESIDUES, -1), np.empty(2 * MOST_RESIDUES, np.int64)
    ends = np.zeros(s.padded_rows, source.dtype)
    per_pixel = bias.size > s.out_channels
    if bias.size > 0 and not per_pixel:
        for p in range(first, last):
            for m in range(panels[p, 1]):
                ends[panels[p, 3] + m] = bias[group * s.rows + panels[p, 0] + m]
    end = 0 if per_pixel else 2 if relu else 1 if bias.size > 0 else 0
    pieces = np.empty((s.pieces, 7), np.int64)
    starts = np.empty(s.block // columns + 1, np.int64)
    found, joined = np.empty(s.block // columns, np.int64), np.empty(s.block // columns, np.bool_)
    # Behind the block's tiles stands a tile of packed B: whole vectors, its own offsets of taps.
    own_runs = RUN * (s.block // lanes)
    runs = np.empty(own_runs + of_tile, np.int64)
    for v in range(columns // lanes):
        at = own_runs + RUN * v
        runs[at], runs[at + 1], runs[at + 2] = v * lanes, v * lanes, lanes
        runs[at + 3], runs[at + 4] = IN_ORDER
    places = np.empty(some_places, np.int64)
    # Pixels before the first place of the result that a whole vector could be aligned to take the
    # end of a vector of their own: the vectors of all rows are aligned then, where rows are.
    # Unaligned stores took twice as long (1x1, 64 to 256 channels).
    shift = 0
    if s.aligned:
        shift = out.ctypes.data // out.itemsize % lanes
    for q0 in range(number * s.span, min(shift + s.pixels, (number + 1) * s.span), s.block):
        lead, j0 = shift if q0 == 0 else 0, max(0, q0 - shift)
        n = min(q0 + s.block - shift, s.pixels) - j0
        tiles = cut(pieces, starts, j0, n, lead, s.grid_h, s.grid_w, columns, lanes)
        if s.mode == IN_BLOCKS:
            multiply_block(
                s, source, packed, all_taps[s.first_tap : s.first_tap + 1], panels, bias, relu, out,
                source_sizes[part], out_sizes[part], a, b, c, sums, steps, ends, end, pieces,
                starts, tiles, runs, found, joined, group, first, last, lead, j0, n,
            )  # fmt: skip
            continue
        for other in range(part, beyond):
            o = parts[other]
            _multiply(
                o, other - part, s.together, source, packed,
                all_taps[o.first_tap : o.first_tap + o.positions], offsets,
                all_corners[o.first_corner : o.first_corner + o.corners], panels, bias, relu, out,
                source_sizes[other], out_sizes[other], b, c, sums, steps, ends, end, pieces,
                starts, tiles, runs, found, places, group, first, last, lead, n,
            )  # fmt: skip


def run(
    product: Product,
    source: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    relu: bool,
    out: np.ndarray,
) -> None:
    """Multiply; `packed` is from `pack`."""
    p = product
    launch(
        _product_chunk, p.tasks, p.flops,
        source.reshape(-1), packed, p.taps, p.offsets, p.corners, p.panels, bias, relu,
        out.reshape(-1), p.source_sizes, p.out_sizes, p.parts, p.order,
    )  # fmt: skip
