"""Pixels of a grid in register tiles: where each tap of a convolution finds them, where they go.

Pixels are numbered over a whole batch, image by image, row by row, and stand in tiles of `columns`
pixels, a few vectors each. A vector's pixels are cut into pieces that each lie in one row of one
image. What a tap multiplies for the pixels of a piece is then a run of the source under a mask that
leaves out the padding; the run begins a plane further on for each channel, under the same mask.
"""

from __future__ import annotations

from fastcnn.kernels.cpu.jit import inner
from fastcnn.kernels.cpu.masked_moves import (
    put,
    put_four,
    put_three,
    put_two,
    take_every,
    take_second,
    take_stepped,
)


@inner
def cut(pieces, starts, first_pixel, n, lead, grid_h, grid_w, columns, lanes):
    """Cut the n pixels from `first_pixel` on into pieces, and return the number of their tiles.

    The first tile begins with `lead` lanes without pixels, fewer than a vector has.

    pieces[p] begins with (vector, counted from the first tile's first; lane; length; image; i; j),
    those of tile t from starts[t] to starts[t + 1] - 1. A vector of the last tile that no pixel is
    left for has one piece of length 0.
    """
    found, done = 0, 0
    tiles = (lead + n + columns - 1) // columns
    for vector in range(tiles * columns // lanes):
        if vector * lanes % columns == 0:
            starts[vector * lanes // columns] = found
        end, lane = min(n, (vector + 1) * lanes - lead), lead if vector == 0 else 0
        fresh = True
        while fresh or done < end:
            fresh = False
            image, rest = divmod(first_pixel + done, grid_h * grid_w)
            i, j = divmod(rest, grid_w)
            length = max(0, min(grid_w - j, end - done))
            pieces[found, 0], pieces[found, 1], pieces[found, 2] = vector, lane, length
            pieces[found, 3], pieces[found, 4], pieces[found, 5] = image, i, j
            found += 1
            done += length
            lane += max(1, length)
    starts[tiles] = found
    return tiles


def most_pieces(pixels: int, lanes: int) -> int:
    """Rows that `cut` may need: a piece per pixel, and an empty one per vector."""
    return pixels + pixels // lanes


@inner
def fill(b, rows, pieces, count, source, sizes, taps, t0, t1, c0, c1, columns, lanes):
    """b[tile][tap][column] = what positions t0 … t1-1 of channels c0 … c1-1 multiply for `count`
    pieces; taps in the order [position][channel], tiles `rows` taps apart.

    sizes = (channels, H, W, vertical stride, horizontal stride) of the source; taps[t] begins with
    a row and a column offset: pixel (i, j) reads the source at (i*sh + row, j*sw + column), or a
    zero beyond it.
    """
    C, H, W, sh, sw = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    channels = c1 - c0
    for p in range(count):
        vector, lane, length = pieces[p, 0], pieces[p, 1], pieces[p, 2]
        fresh = p == 0 or pieces[p - 1, 0] != vector
        tile, start = divmod(vector * lanes, columns)
        target = tile * rows * columns + start
        plane = (pieces[p, 3] * C + c0) * H
        for t in range(t0, t1):
            h = pieces[p, 4] * sh + taps[t, 0]
            w = pieces[p, 5] * sw + taps[t, 1]
            # first and last pixel of the piece whose source column lies inside
            first = min(length, max(0, (sw - 1 - w) // sw))
            last = max(first, min(length, (W - w + sw - 1) // sw))
            if h < 0 or h >= H:
                last = first
            if fresh or last > first:
                o, step = (plane + h) * W + w - lane * sw, H * W
                first, last = lane + first, lane + last
                if sw == 1:
                    take_every(
                        channels, source, o, step, sw, b, target, columns, first, last, fresh
                    )
                elif sw == 2:
                    take_second(
                        channels, source, o, step, sw, b, target, columns, first, last, fresh
                    )
                else:
                    take_stepped(
                        channels, source, o, step, sw, b, target, columns, first, last, fresh
                    )
            target += channels * columns


@inner
def add_bias(tile, o, rows, columns, bias, k, pieces, p0, p1, grid_h, grid_w, lanes):
    """Add the bias (K, grid_h, grid_w) of filters k … k+rows-1 to a tile."""
    for m in range(rows):
        for p in range(p0, p1):
            place = pieces[p, 0] * lanes % columns + pieces[p, 1]
            row = tile[o + m * columns + place :]
            there = bias[((k + m) * grid_h + pieces[p, 4]) * grid_w + pieces[p, 5] :]
            for j in range(pieces[p, 2]):
                row[j] += there[j]


@inner
def store(tile, o, rows, columns, out, sizes, channel, pieces, p0, p1, lanes):
    """Put the rows of a tile to channels `channel` … of the output, pieces p0 … p1-1.

    sizes = (channels, OH, OW, first row, first column, row step, column step): pixel (i, j) goes to
    (first row + i * row step, first column + j * column step).
    """
    C, OH, OW, oh, ow, sh, sw = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
    )  # fmt: skip
    for p in range(p0, p1):
        start, lane, length = pieces[p, 0] * lanes % columns, pieces[p, 1], pieces[p, 2]
        row = (pieces[p, 3] * C + channel) * OH + oh + pieces[p, 4] * sh
        to = row * OW + ow + (pieces[p, 5] - lane) * sw
        put(rows, tile, o + start, columns, out, to, OH * OW, sw, lane, lane + length)


@inner
def _put_in_turn(rows, tile, starts, out, to, plane, n, first, last, ahead):
    """One of the moves by its number of vectors."""
    if n == 2:
        put_two(rows, tile, starts, 0, out, to, plane, first, last, ahead)
    elif n == 3:
        put_three(rows, tile, starts, 0, out, to, plane, first, last, ahead)
    else:
        put_four(rows, tile, starts, 0, out, to, plane, first, last, ahead)


@inner
def store_in_turn(
    tile, sums, starts, o, zeros, rows, columns, out, sizes, channel, clear, ahead, pieces, p0, p1,
    lanes,
):  # fmt: skip
    """As `store`, to all columns of the output in turn: column r of each n, n columns apart, from
    the tile at `sums[r] + o`, or zeros, of which a vector is at `zeros`, where sums[r] is below 0.
    Where the output's rows have fewer columns, they are left out. The `clear` rows below become
    zeros. `starts` has room for 2n numbers.

    The lines `ahead` elements further on are fetched into the cache.
    """
    C, OH, OW, oh, sh, n = sizes[0], sizes[1], sizes[2], sizes[3], sizes[5], sizes[6]
    for p in range(p0, p1):
        start, lane, length = pieces[p, 0] * lanes % columns, pieces[p, 1], pieces[p, 2]
        h, w = oh + pieces[p, 4] * sh, n * (pieces[p, 5] - lane)
        to = ((pieces[p, 3] * C + channel) * OH + h) * OW + w
        for r in range(n):
            there = sums[r] >= 0
            starts[2 * r] = sums[r] + o + start if there else zeros
            starts[2 * r + 1] = columns if there else 0
        first, last = n * lane, min(n * (lane + length), OW - w)
        _put_in_turn(rows, tile, starts, out, to, OH * OW, n, first, last, ahead)
        for r in range(n if clear > 0 else 0):
            starts[2 * r], starts[2 * r + 1] = zeros, 0
        for _ in range(min(clear, OH - 1 - h)):
            to += OW
            _put_in_turn(rows, tile, starts, out, to, OH * OW, n, first, last, ahead)
