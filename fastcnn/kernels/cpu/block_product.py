"""The product on register tiles of a single tap: of a 1x1 convolution, at any stride.

    for each block of register tiles of pixels
        for each chunk of channels
            for each panel of rows, copied several at a time        A's panel stays in L1
                for each tile of pixels
                    C[panel, tile] += A[panel, chunk] B[chunk, tile]
                    the first panel copies B's part, one behind the other           stays in L2

In the image a tile of B is a line or two of every plane, kilobytes apart, each on a page of its
own and rarely aligned; every panel would read it so anew. Copied once it is read in order: by the
first panel's products, or before them where a tile's pixels do not follow each other in one image
or two. With panels outside, a panel's rows of the result are written in long runs, tile after tile.
What the next block copies is fetched evenly by nearly all products, and the weights that are copied
next in the last products before.
"""

from __future__ import annotations

from fastcnn.kernels.cpu.block_tiles import copy_panels, short_block, tall_block
from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.fetching import halvings
from fastcnn.kernels.cpu.jit import inner
from fastcnn.kernels.cpu.masked_moves import put
from fastcnn.kernels.cpu.microkernel import RUN
from fastcnn.kernels.cpu.pixel_sums import lay_rows
from fastcnn.kernels.cpu.pixel_tiles import add_bias, fill, store, store_in_turn


@inner
def lay_panels(s, w, o, depth, panels, p0, p1, by_rows, a, lanes):
    """Copy `depth` channels' weights of panels p0 … p1-1 of a group; w[o] is the first row's."""
    whole = p0
    if not by_rows:
        while whole < p1 and panels[whole, 1] == s.tall:
            whole += 1
        if whole > p0:
            copy_panels(
                depth, whole - p0, w, o + panels[p0, 0], s.channel_step, a, 0, s.a_step
            )  # fmt: skip
    for p in range(whole, p1):
        valid, height, at = panels[p, 1], panels[p, 2], (p - p0) * s.a_step
        row = o + panels[p, 0] * s.row_step
        if valid < height:  # the rest is multiplied too
            for i in range(s.a_step):
                a[at + i] = w.dtype.type(0)
        if by_rows:
            lay_rows(valid, depth, w, row, s.row_step, a, at, s.line)
        else:
            for m in range(0, valid, lanes):
                rows = min(lanes, valid - m)
                put(depth, w, row + m, s.channel_step, a, at + m, height, 1, 0, rows)


@inner
def _join(runs, pieces, p0, p1, grid_w, image_step, lanes):
    """Where the vectors of pieces p0 … p1-1 are in images that follow each other, `image_step`
    elements apart: in one or two of them."""
    for p in range(p0, p1):
        at, lane = pieces[p, 0] * RUN, pieces[p, 1]
        place = pieces[p, 3] * image_step + pieces[p, 4] * grid_w + pieces[p, 5] - lane
        if lane == 0:
            runs[at], runs[at + 1], runs[at + 2] = place, place, lanes
        elif place != runs[at + 1]:  # not the same image's next row
            runs[at + 1], runs[at + 2] = place, lane


@inner
def _weights_at(s, row, channel, depth, onward, group, c_shift):
    """What a product fetches of the weights that are copied next, `row` and `channel` their first:
    where it begins, the step of its rows, and which of these it is in which round."""
    at = group * s.group_step + row * s.row_step + channel * s.channel_step
    if s.channel_step != 1:
        return at + onward, s.channel_step, 0
    if s.row_step == depth:  # a panel is one run
        return at, s.tall, 0
    return at, s.row_step, c_shift  # where its rows begin


@inner
def _source_at(s, sizes, line, pixel, channel):
    """Where the source holds line number `line`, as long as a tile, of those that the tiles from
    `pixel` on are made of: stride rows * columns of them for each."""
    tile, line = divmod(line, sizes[3] * sizes[4])
    image, pixel = divmod(pixel + tile * s.columns, s.grid_h * s.grid_w)
    i, j = divmod(pixel, s.grid_w)
    at = (image * sizes[0] + channel) * sizes[1] * sizes[2]
    return at + i * sizes[3] * sizes[2] + j * sizes[4] + line * s.columns


@inner
def multiply_block(
    s, source, w, taps, panels, bias, relu, out, sizes, out_sizes, a, b, c, sums, steps, ends, end,
    pieces, starts, tiles, runs, followed, joined, group, first, last, lead, j0, n,
):  # fmt: skip
    """The product of a part on the block of `n` pixels from j0 on, panels first … last-1, stored;
    other names as in tiled_product.py. A tile is `followed` if its pixels follow each other in the
    result, and `joined` if they do in the source, or in two images of it."""
    lanes, columns, channels = s.lanes, s.columns, s.channels
    plane, size, per_pixel = s.grid_h * s.grid_w, sizes[1] * sizes[2], bias.size > s.out_channels
    several, by_rows = channels > s.some_channels, s.channel_step == 1
    if s.in_turn:
        sums[out_sizes[4]] = 0
    of_tile, of_two = RUN * (columns // lanes), s.masks and panels[first, 2] == s.tall
    for tile in range(tiles):
        p0 = starts[tile]
        full = (tile + 1) * columns <= lead + n and (tile > 0 or lead == 0)
        followed[tile] = full and pieces[p0, 4] * s.grid_w + pieces[p0, 5] + columns <= plane
        joined[tile] = s.step > 0 and (followed[tile] or (full and of_two and plane >= lanes))
        if joined[tile]:
            _join(runs, pieces, p0, starts[tile + 1], s.grid_w, sizes[0] * size, lanes)
    for c0 in range(0, channels, s.some_channels):
        c1 = min(channels, c0 + s.some_channels)
        base, whole = group * channels, c1 == channels
        for tile in range(tiles):
            p0, p1 = starts[tile], starts[tile + 1]
            if not joined[tile]:
                fill(
                    b[tile * s.tile :], 0, pieces[p0:p1], p1 - p0, source, sizes, taps, 0, 1,
                    base + c0, base + c1, columns, lanes,
                )  # fmt: skip
        # The next chunk's tiles, or the next block's, are fetched evenly, a share of their channels
        # in each product but the last before weights are copied, which fetch those: of the task's
        # first panels again, for the next chunk or block, behind the last. What whole products
        # fetched, two lines a round, waited for memory (Zen 4: 1.03 to 1.33 of the whole), and two
        # threads' bursts met in the memory that they share.
        of_weights = 1 if by_rows else (s.a_panels * s.tall + columns - 1) // columns
        products = (last - first) * tiles
        products -= (last - first + s.a_panels - 1) // s.a_panels * of_weights
        lines = sizes[3] * sizes[4]  # as many as a tile's pixels lie apart, each a tile long
        shift = halvings(min(products // (lines * tiles), c1 - c0))
        share, shared = 1 + (c1 - c0 - 1 >> shift), 0
        c_shift = halvings((c1 - c0) // s.tall)
        next_channel, next_pixel = (0, j0 + n) if whole else (c1, j0)
        for p in range(first, last):
            k, valid, height = group * s.rows + panels[p, 0], panels[p, 1], panels[p, 2]
            at_a = (p - first) % s.a_panels * s.a_step
            copied = p - (p - first) % s.a_panels + s.a_panels  # before which panels are
            if at_a == 0:
                o = group * s.group_step + c0 * s.channel_step
                lay_panels(s, w, o, c1 - c0, panels, p, min(copied, last), by_rows, a, lanes)
            for tile in range(tiles):
                p0, p1 = starts[tile], starts[tile + 1]
                direct = s.dense and not per_pixel and followed[tile] and valid == height
                at_c, c_step, c_ahead = 0, columns, 0
                if several:
                    at_c = (panels[p, 3] - panels[first, 3]) * s.block + tile * height * columns
                if direct:
                    pixel = pieces[p0, 4] * s.grid_w + pieces[p0, 5]
                    at_c = (pieces[p0, 3] * s.out_channels + k) * plane + pixel
                    c_step, c_ahead = plane, columns
                f0, f_step, f_shift = 0, 0, 0
                left = (min(copied, last) - p) * tiles - tile - 1
                of_w = left < of_weights < products
                if of_w:
                    panel, channel = (copied, c0) if copied < last else (first, next_channel)
                    f0, f_step, f_shift = _weights_at(
                        s, panels[panel, 0], channel, c1 - c0, left * columns, group, c_shift
                    )
                elif shared < lines * tiles << shift:
                    channel = base + next_channel + (shared & (1 << shift) - 1) * share
                    f0 = _source_at(s, sizes, shared >> shift, next_pixel, channel)
                    f_step, f_shift, shared = size, shift, shared + 1
                if height == s.tall:
                    tall_block(
                        c1 - c0, a, at_a, by_rows, b, tile * s.tile, source,
                        p == first and joined[tile], (base + c0) * size, runs, tile * of_tile, size,
                        w, of_w, f0, f_step, f_shift, c, out, direct, at_c, c_step, c_ahead,
                        c_shift, c0 > 0, ends, panels[p, 3], end if whole else 0,
                    )  # fmt: skip
                else:
                    short_block(
                        c1 - c0, a, at_a, by_rows, b, tile * s.tile, source,
                        p == first and joined[tile], (base + c0) * size, runs, tile * of_tile, size,
                        w, of_w, f0, f_step, f_shift, c, out, direct, at_c, c_step, c_ahead,
                        c_shift, c0 > 0, ends, panels[p, 3], end if whole else 0,
                    )  # fmt: skip
                if whole and s.in_turn:
                    # on average a pixel takes so many places: the next tile's follow
                    ahead = columns * out_sizes[5] * out_sizes[6]
                    store_in_turn(
                        c, sums, steps, at_c, c.size - lanes, valid, columns, out, out_sizes, k,
                        s.clear, ahead, pieces, p0, p1, lanes,
                    )  # fmt: skip
                elif whole and not direct:
                    if per_pixel:
                        add_bias(
                            c, at_c, valid, columns, bias, k, pieces, p0, p1, s.grid_h, s.grid_w,
                            lanes,
                        )  # fmt: skip
                        if relu:
                            rectify(c[at_c:], valid * columns)
                    store(c, at_c, valid, columns, out, out_sizes, k, pieces, p0, p1, lanes)
