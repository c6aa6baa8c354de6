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

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import take_every, take_second, take_stepped

# Where the tiles of a product find B: packed tap by tap (pixel_tiles.py), in the source itself, or
# in planes.
PACKED, IN_PLACE, IN_PLANES = 0, 1, 2


@kernel
def locate(runs, found, pieces, starts, tiles, mode, pitch, image_step, span, lanes, end):
    """Runs of each tile's vectors as the product reads them; found[tile] is whether there are any.

    There are none for a tile of which a vector holds more than two pieces, or would be read beyond
    place `end`. Rows are `pitch` apart; images `image_step` in the source, and in planes `span`
    rows more than those of the pixels of the image before.
    """
    origin, image, bottom = 0, -1, 0
    for tile in range(tiles):
        found[tile] = mode != PACKED
        if mode == PACKED:
            continue
        at, count = 0, 0
        for p in range(starts[tile], starts[tile + 1]):
            lane, i, vector = pieces[p, 1], pieces[p, 4], pieces[p, 0]
            if pieces[p, 2] == 0:  # a vector without pixels reads what the one before it reads
                base = runs[at]
            elif mode == IN_PLACE:
                base = pieces[p, 3] * image_step + i * pitch + pieces[p, 5]
            else:
                if pieces[p, 3] != image:
                    origin += bottom + 1 + span if image >= 0 else 0
                    origin, image = origin - i, pieces[p, 3]
                bottom = i
                base = (origin + i) * pitch + pieces[p, 5]
            if p == starts[tile] or pieces[p - 1, 0] != vector:
                at, count, base = vector * 3, 1, base - lane
                runs[at], runs[at + 1], runs[at + 2] = base, base, lanes
            else:
                count += 1
                runs[at + 1], runs[at + 2] = base - lane, lane
            if count > 2 or runs[at] < 0 or runs[at + 1] + lanes > end:
                found[tile] = False


@kernel
def lay(
    b, pieces, count, source, sizes, corners, row, col, c0, c1, step, plane, pitch, span, lanes
):
    """Lay out the rows that `count` pieces need, of channels c0 … c1-1 of the source.

    corners[n] is the residue (a, b) of plane n, (row, col) the least row and column that any tap
    reads for pixel (0, 0); planes are `plane` elements apart, channels `step`. sizes as in
    `pixel_tiles.fill`. Writes up to a vector beyond each row: `plane` has room for it.
    """
    C, H, W, sh, sw = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    channels = c1 - c0
    for n in range(corners.shape[0]):
        target, p = n * plane, 0
        while p < count:
            image, top, bottom = pieces[p, 3], pieces[p, 4], pieces[p, 4]
            while p < count and (pieces[p, 3] == image or pieces[p, 2] == 0):
                if pieces[p, 2] > 0:
                    bottom = pieces[p, 4]
                p += 1
            for i in range(top, bottom + span + 1):
                h = i * sh + row + corners[n, 0]
                o = ((image * C + c0) * H + h) * W
                for j in range(0, pitch, lanes):
                    w = j * sw + col + corners[n, 1]
                    first = min(lanes, max(0, (sw - 1 - w) // sw))
                    last = max(first, min(lanes, (W - w + sw - 1) // sw))
                    if h < 0 or h >= H:
                        first, last = 0, 0
                    at = target + j
                    if sw == 1:
                        take_every(
                            channels, source, o + w, H * W, sw, b, at, step, first, last, True
                        )
                    elif sw == 2:
                        take_second(
                            channels, source, o + w, H * W, sw, b, at, step, first, last, True
                        )
                    else:
                        take_stepped(
                            channels, source, o + w, H * W, sw, b, at, step, first, last, True
                        )
                target += pitch
