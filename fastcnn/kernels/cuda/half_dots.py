"""The weight gradient as a product of halves on tensor cores: dY times pixels of X.

    C[m, n] = sum_k A[k, m] B[k, n]        m filter, n tap and channel, k output pixel of all images

The product and its spans are those of tensor_dots.py, of chunks of eight (half_products.py): chunks
of filters of dY, and chunks of channels of X, each at one tap. A stage is 32 pixels; chunks of one
pixel after the other lie in rows, and ldmatrix transposes them on the way to the registers:

               columns: taps                   row of a pixel, of A as of B:
              n0 ........ n0+127
             +----+----+----+----+                 | chunk 0 | chunk 1 | ... | chunk 15 |
    filters  | w0 | w2 | w4 | w6 |
    m0       +----+----+----+----+             chunk c of pixel k lies at place c ^ k % 8, so that
    ..+127   | w1 | w3 | w5 | w7 |             the eight pixels that are read together take all
             +----+----+----+----+             banks. A warp copies one chunk of all 32 pixels:
                                               neighbours in memory.
"""

from __future__ import annotations

from numba import int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, span_place, span_sums, tile_place
from fastcnn.kernels.cuda.half_products import (
    add_halves,
    copy_chunk,
    end_copies,
    keep_pair,
    wait_for_copies,
)
from fastcnn.kernels.cuda.ptx import load_row, load_transposed
from fastcnn.kernels.cuda.target import cuda, helper
from fastcnn.kernels.cuda.tiles import FLAT, SMALL, STAGES, WIDE, within
from fastcnn.kernels.cuda.warp_tiles import (
    ACROSS,
    COLUMNS,
    DOWN,
    ROW_TILE,
    ROWS,
    SHARED,
    THREADS,
    next_stage,
    no_sums,
    warp_place,
)

# Pixels of a stage.
PIXELS = 32

PARAMETERS = """
    uint32* dy, uint32* x, float32* sums_out, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 columns, int32 plane, int32 depth,
    int32 spans, int32 span, int32 height, int32 width,
    int32 dy_image, int32 x_image, int32 x_group, int32 positions
"""


@helper
def chunk_word(k, chunk, across):
    """Word of a chunk of pixel k, in a tile of so many numbers across."""
    return uint32(k * (across >> uint32(1)) + ((chunk ^ (k & uint32(7))) << uint32(2)))


def _dots(
    dy, x, sums_out, taps, pixels, rows, row_tiles, columns, plane, depth, spans, span,
    height, width, dy_image, x_image, x_group, positions,
):  # fmt: skip
    shared = cuda.shared.array(SHARED, uint32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(31))
    g, t = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
    warp = uint32(thread >> uint32(5))
    warp_row, warp_column = warp_place(warp)
    group, part = span_place(spans)
    first_row, first_column = tile_place(row_tiles)
    first_chunk = int32(first_column // 8)

    # What this thread copies: its pixel of each stage, of every WARPS-th chunk of either side.
    first = int32(part * span)
    last = int32(min(depth, first + span))
    k = int32(first + lane)
    image = int32(k // plane)
    at = int32(k - image * plane)
    chunks = int32((rows + 7) // 8)
    copied = int32(first_row // 8 + warp)
    from_chunk = int32((group * chunks + copied) * plane)
    mine = int32(4 * (first_chunk + warp))
    stages = (last - first + PIXELS - 1) // PIXELS

    # What this lane reads to multiply: its pixel of each of ldmatrix's matrices. For A they are
    # pixels 0..7 at one chunk and at the next, then 8..15; for B both pixels' of one chunk, then
    # the next one's.
    pixel_a = uint32((lane & uint32(7)) + ((lane >> uint32(4)) << uint32(3)))
    chunk_a = uint32((warp_row >> uint32(3)) + ((lane >> uint32(3)) & uint32(1)))
    pixel_b = uint32(lane & uint32(15))
    chunk_b = uint32((warp_column >> uint32(3)) + (lane >> uint32(4)))

    sums = no_sums()
    fragments = cuda.local.array((ACROSS, 2), uint32)

    filled, used = uint32(0), uint32(0)
    for step in range(stages + STAGES - 1):
        if step >= STAGES - 1:
            wait_for_copies()
            cuda.syncthreads()
        if step < stages:
            inside = k < last
            pixel = load_row(pixels, 4 * at)
            element = int32(image * dy_image + from_chunk + at)
            for i in range(ROWS * 4 // THREADS):
                there = inside & (copied + i * (THREADS // 32) < chunks)
                word = uint32(filled + chunk_word(lane, uint32(warp + i * (THREADS // 32)), ROWS))
                copy_chunk(shared, word, dy, int32(4 * element), there)
                element = int32(element + (THREADS // 32) * plane)
            source = int32(image * x_image + group * x_group + pixel[0])
            for i in range(2):
                tap = load_row(taps, int32(mine + 4 * i * (THREADS // 32)))
                there = within(int32(pixel[1] + tap[1]), height)
                there &= within(int32(pixel[2] + tap[2]), width)
                word = chunk_word(lane, uint32(warp + i * (THREADS // 32)), COLUMNS)
                word = uint32(filled + ROW_TILE + word)
                copy_chunk(shared, word, x, int32(4 * (source + tap[0])), inside & there)
            k = int32(k + PIXELS)
            at = int32(at + PIXELS)
            while at >= plane:
                at, image = int32(at - plane), int32(image + 1)
            filled = next_stage(filled)
        end_copies()
        if step >= STAGES - 1:
            for half in range(2):
                for pair in range(ACROSS // 2):
                    of_b = chunk_word(
                        uint32(16 * half + pixel_b), uint32(chunk_b + 2 * pair), COLUMNS
                    )
                    words = load_transposed(shared, uint32(used + ROW_TILE + of_b))
                    keep_pair(fragments, pair, words)
                for i in range(DOWN):
                    of_a = chunk_word(uint32(16 * half + pixel_a), uint32(chunk_a + 2 * i), ROWS)
                    words = load_transposed(shared, uint32(used + of_a))
                    add_halves(sums, i, words, fragments)
            used = next_stage(used)

    # A column's place among a filter's weights: its tap's, and `positions` further per channel.
    to = span_sums(group, part, spans, rows, columns)
    for j in range(ACROSS):
        chunk = int32(first_chunk + (warp_column >> uint32(3)) + j)
        start = load_row(taps, 4 * chunk)[3]
        for c in range(2):
            place = int32(start + (2 * t + c) * positions)
            if place < columns:
                for i in range(DOWN):
                    for h in range(2):
                        m = int32(first_row + warp_row + 16 * i + 8 * h + g)
                        if m < rows:
                            sums_out[int32(to + m * columns + place)] = sums[i, j, 2 * h + c]


PRODUCTS = by_tile(_dots, PARAMETERS, (WIDE, FLAT, SMALL))
