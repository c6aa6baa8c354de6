"""Where a register tile finds its pixels: in the image itself, or in planes laid out for it.

A tap of a convolution at stride 1 reads, for neighbouring pixels, neighbouring elements; another
tap reads the same a fixed distance further on. So a tile needs no copy for each tap: it needs one
place for each run of its pixels, and a table of the taps' distances. At other strides the same
holds for each residue of rows and columns by itself, and beyond the image's edges there must be
zeros; then a block's rows are laid out once, for all taps, as

    planes[channel][residue][row][column]

where column j of residue (a, b) is column j*sw + b of the source, counted from the leftmost column
that any tap reads for pixel 0, and rows likewise; the rows of several images follow each other.
"""

from __future__ import annotations

from fastcnn.kernels.cpu.jit import inner
from fastcnn.kernels.cpu.masked_moves import (
    rows_in_four,
    rows_in_three,
    rows_in_two,
    rows_whole,
    take_second,
    take_stepped,
)
from fastcnn.kernels.cpu.microkernel import IN_ORDER, RUN

# Where the tiles of a product find B: packed tap by tap (pixel_tiles.py), in the source itself, or
# in planes; or in blocks, all tiles of one beside each other (block_product.py).
PACKED, IN_PLACE, IN_PLANES, IN_BLOCKS = 0, 1, 2, 3
# Residues of columns that a row is taken apart into at once, or put together of; at larger strides
# elements are gathered and scattered, one by one.
MOST_RESIDUES = 4
# Vectors of a row of a plane that are few.
FEW_VECTORS = 4
# What `locate` finds of a tile: nothing; vectors of two pieces at the most; such as are picked.
NOWHERE, SPLIT, PICKED = 0, 1, 2


# A byte 1 in each of eight bytes, and the bytes 0, 1, 2 …
_ONES = 0x0101010101010101
_COUNTED = IN_ORDER[0]


@inner
def _number(runs, at, lane, length, number):
    """Let lanes `lane` … lane+length-1 of the vector at runs[at] have the numbers from `number` on:
    eight at a time, for lane by lane this took a tenth of what layers of short rows take."""
    for word in range(2):
        first, last = max(lane - 8 * word, 0), min(lane + length - 8 * word, 8)
        if first < last:
            numbers = _ONES * (number + first + 8 * word - lane) + _COUNTED
            below = (1 << 8 * last) - 1 if last < 8 else -1
            runs[at + 3 + word] |= (numbers << 8 * first) & below


@inner
def _pick(runs, at, place, lane, length, fresh, lanes, end):
    """Let lanes `lane` … lane+length-1 of the vector at runs[at] read from `place` on; whether they
    can: a vector is picked from two windows, the second of which begins where the first ends or
    later, and both end before place `end`. Without order among the lanes its split is 0."""
    if fresh:
        runs[at] = max(0, min(place, end - lanes))
        runs[at + 1], runs[at + 2], runs[at + 3], runs[at + 4] = runs[at], lanes, 0, 0
    number = place - runs[at]
    inside = max(0, min(length, lanes - number))
    if inside > 0:
        _number(runs, at, lane, inside, number)
        if number != lane:
            runs[at + 2] = 0
    if inside < length:
        place, lane = place + inside, lane + inside
        if runs[at + 1] == runs[at]:
            runs[at + 1] = max(runs[at] + 1, min(place, end - lanes))
        number = lanes + place - runs[at + 1]
        if number + length - inside > 2 * lanes:
            return False
        _number(runs, at, lane, length - inside, number)
        if number != lane:
            runs[at + 2] = 0
    return runs[at] + lanes <= end and runs[at + 1] + lanes <= end


@inner
def _split(runs, at, place, lane, fresh, lanes):
    """Let a vector's lanes from `lane` on read what follows the element before `place`, as the
    first or the second piece of the vector."""
    if fresh:
        runs[at], runs[at + 1], runs[at + 2] = place - lane, place - lane, lanes
        runs[at + 3], runs[at + 4] = IN_ORDER
    else:
        runs[at + 1], runs[at + 2] = place - lane, lane
        if lane < 8:
            runs[at + 3] += _ONES * lanes << 8 * lane
        runs[at + 4] += _ONES * lanes << 8 * max(0, lane - 8)


@inner
def locate(runs, found, pieces, starts, tiles, mode, pitch, image_step, span, lanes, end, picks):
    """Runs of each tile's vectors as the product reads them; found[tile] is of which kind they are.

    Vectors have two pieces at the most, or else, if the unit `picks`, two vectors of memory hold
    them together; and none is read beyond place `end`. Rows are `pitch` apart; images `image_step`
    in the source, and in planes `span` rows more than those of the pixels of the image before.
    pieces[p, 6] becomes the place of a piece's first pixel.
    """
    origin, image, bottom = 0, -1, 0
    for tile in range(tiles):
        found[tile] = NOWHERE
        if mode == PACKED:
            continue
        p0, p1 = starts[tile], starts[tile + 1]
        at, count, split = 0, 0, True
        for p in range(p0, p1):
            if pieces[p, 2] == 0:  # a vector without pixels reads what the one before it reads
                pieces[p, 6] = runs[at]
            elif mode == IN_PLACE:
                pieces[p, 6] = pieces[p, 3] * image_step + pieces[p, 4] * pitch + pieces[p, 5]
            else:
                if pieces[p, 3] != image:
                    origin += bottom + 1 + span if image >= 0 else 0
                    origin, image = origin - pieces[p, 4], pieces[p, 3]
                bottom = pieces[p, 4]
                pieces[p, 6] = (origin + bottom) * pitch + pieces[p, 5]
            fresh = p == p0 or pieces[p - 1, 0] != pieces[p, 0]
            if fresh:
                at, count = pieces[p, 0] * RUN, 0
            count += 1
            _split(runs, at, pieces[p, 6], pieces[p, 1], fresh, lanes)
            split &= count <= 2 and runs[at] >= 0 and runs[at + 1] + lanes <= end
        if split:
            found[tile] = SPLIT
        elif picks:
            found[tile] = PICKED
            for p in range(p0, p1):
                fresh = p == p0 or pieces[p - 1, 0] != pieces[p, 0]
                if not _pick(
                    runs, pieces[p, 0] * RUN, pieces[p, 6], pieces[p, 1], pieces[p, 2], fresh,
                    lanes, end,
                ):  # fmt: skip
                    found[tile] = NOWHERE
                    break


@inner
def _lay_rows(
    b, target, rows, i0, i1, channels, source, o, size, row_step, W, left, sw, of_row, plane, step,
    pitch, lanes,
):  # fmt: skip
    """Some rows of all channels and, `of_row`, all residues of columns: those above i0 and from i1
    on are zeros, row i0 begins with column `left` of the row at source[o]."""
    # what is read next: the vectors before, or of the next row
    ahead = row_step if rows == 1 else -sw * lanes
    for j in range((pitch - 1) // lanes * lanes, -1, -lanes):
        # A row's last vector writes over the beginning of the next row, which comes later.
        w = j * sw + left
        first, last = max(0, -w), max(0, min(sw * lanes, W - w))
        if not of_row:
            first, last = (first + sw - 1) // sw, (last + sw - 1) // sw
        for part in range(3):
            if part == 0:
                n, at, down, end = i0, target + j, 0, 0
            elif part == 1:
                n, at, down, end = i1 - i0, target + i0 * pitch + j, row_step, last
            else:
                n, at, down, end = rows - i1, target + i1 * pitch + j, 0, 0
            if n == 0:
                continue
            # zeros read nothing, but nothing far away either
            if of_row and sw == 1:
                rows_whole(
                    channels, size, n, down, source, o + w, 0, b, plane, at, step, pitch,
                    first, end,
                )  # fmt: skip
            elif of_row and sw == 2:
                rows_in_two(
                    channels, size, n, down, source, o + w, ahead, b, plane, at, step, pitch,
                    first, end,
                )  # fmt: skip
            elif of_row and sw == 3:
                rows_in_three(
                    channels, size, n, down, source, o + w, ahead, b, plane, at, step, pitch,
                    first, end,
                )  # fmt: skip
            elif of_row:
                rows_in_four(
                    channels, size, n, down, source, o + w, ahead, b, plane, at, step, pitch,
                    first, end,
                )  # fmt: skip
            elif sw == 2:
                for c in range(channels):
                    take_second(
                        n, source, o + w + c * size, down, sw, b, at + c * step, pitch, first, end,
                        True,
                    )  # fmt: skip
            else:
                for c in range(channels):
                    take_stepped(
                        n, source, o + w + c * size, down, sw, b, at + c * step, pitch, first, end,
                        True,
                    )  # fmt: skip


@inner
def lay(
    b, pieces, count, source, sizes, corners, row, col, c0, c1, step, plane, pitch, span, lanes
):
    """Lay out the rows that `count` pieces need, of channels c0 … c1-1 of the source.

    corners[n] is the residue (a, b) of plane n, (row, col) the least row and column that any tap
    reads for pixel (0, 0); planes are `plane` elements apart, channels `step`. sizes as in
    `pixel_tiles.fill`. Writes up to a vector beyond each row: `plane` has room for it.
    """
    C, H, W, sh, sw = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    channels, size, n = c1 - c0, H * W, 0
    while n < corners.shape[0]:
        # all residues of a row at once where there are: so many times fewer reads
        of_row = n + sw <= corners.shape[0] and corners[n, 0] == corners[n + sw - 1, 0]
        of_row &= sw <= MOST_RESIDUES
        target, p, left = n * plane, 0, col if of_row else col + corners[n, 1]
        while p < count:
            image, top, bottom = pieces[p, 3], pieces[p, 4], pieces[p, 4]
            while p < count and (pieces[p, 3] == image or pieces[p, 2] == 0):
                if pieces[p, 2] > 0:
                    bottom = pieces[p, 4]
                p += 1
            rows, h = bottom + span + 1 - top, top * sh + row + corners[n, 0]
            start = min(rows, max(0, (sh - 1 - h) // sh))
            stop = max(start, min(rows, (H - h + sh - 1) // sh))
            first_row = (image * C + c0) * size + h * W
            # Rows of few vectors one below the other, under the same masks; long ones one by one,
            # for their lines follow each other.
            some = rows if pitch <= FEW_VECTORS * lanes else 1
            for i in range(0, rows, some):
                i0, i1 = min(some, max(0, start - i)), min(some, max(0, stop - i))
                _lay_rows(
                    b, target + i * pitch, some, i0, i1, channels, source,
                    first_row + (i + i0) * sh * W, size, sh * W, W, left, sw, of_row,
                    plane, step, pitch, lanes,
                )  # fmt: skip
            target += rows * pitch
        n += sw if of_row else 1
