"""Convolution as a product of halves on tensor cores: weights times pixels (implicit GEMM).

The product, its tables and its tiles are those of tensor_columns.py, of chunks of eight channels
(half_products.py) in place of channels: both sides are copied 16 bytes at a time, and both lie in
rows of 16 words, which are 32 of depth, four chunks of taps.

               columns: pixels                 stage: ROWS rows of A, COLUMNS rows of B,
              n0 ........ n0+127                      4 chunks each, swizzled (tiles.py)
             +----+----+----+----+
    rows     | w0 | w2 | w4 | w6 |             Pixel p of sixteen lies in row 8 (p % 2) + p // 2:
    m0       +----+----+----+----+             what a lane has of a row of the result then is four
    ..+127   | w1 | w3 | w5 | w7 |             neighbouring pixels. A thread always copies its own
             +----+----+----+----+             pixel, of every second chunk.
"""

from __future__ import annotations

from numba import int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, tile_place
from fastcnn.kernels.cuda.half_products import (
    add_halves,
    copy_chunk,
    end_copies,
    keep_pair,
    wait_for_copies,
)
from fastcnn.kernels.cuda.ptx import load_matrices, load_row
from fastcnn.kernels.cuda.target import cuda
from fastcnn.kernels.cuda.tensor_columns import source_pixel, store_tile
from fastcnn.kernels.cuda.tiles import DEPTH, FLAT, SMALL, STAGES, WIDE, row_word, within
from fastcnn.kernels.cuda.warp_tiles import (
    ACROSS,
    DOWN,
    ROW_TILE,
    ROWS,
    SHARED,
    THREADS,
    matrices_of_a,
    matrices_of_b,
    next_stage,
    no_sums,
    warp_place,
)

PARAMETERS = """
    uint32* a, uint32* x, float32* b, float32* y, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 depth, int32 columns, int32 plane,
    int32 height, int32 width, int32 source_image, int32 source_group,
    int32 out_image, int32 out_channel, int32 mode
"""


def _columns(
    a, x, b, y, taps, pixels, rows, row_tiles, depth, columns, plane, height, width,
    source_image, source_group, out_image, out_channel, mode,
):  # fmt: skip
    shared = cuda.shared.array(SHARED, uint32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(31))
    g, t = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
    warp = uint32(thread >> uint32(5))
    warp_row, warp_column = warp_place(warp)
    group = int32(cuda.blockIdx.z)
    first_row, first_column = tile_place(row_tiles)

    # What this thread copies: one chunk of row `copied_row` and of every THREADS / 4 further; two
    # chunks of its pixel, which it looks up once.
    copied_row, part = uint32(thread >> uint32(2)), uint32(thread & uint32(3))
    to_row = row_word(copied_row, part)
    of_row = int32(4 * ((group * rows + first_row + copied_row) * depth + part))
    place = uint32((warp << uint32(4)) + (lane & uint32(15)))
    odd = uint32(lane >> uint32(4))
    mine = uint32((warp << uint32(4)) + 2 * (lane & uint32(7)) + ((lane >> uint32(3)) & uint32(1)))
    source, top, left = source_pixel(
        pixels, int32(first_column + mine), columns, plane, source_image,
        int32(group * source_group),
    )  # fmt: skip

    # What this lane reads to multiply.
    of_a, of_b = matrices_of_a(lane, warp_row), matrices_of_b(lane, warp_column)

    sums = no_sums()
    fragments = cuda.local.array((ACROSS, 2), uint32)

    stages = depth // 4
    filled, used = uint32(0), uint32(0)
    for step in range(stages + STAGES - 1):
        if step >= STAGES - 1:
            wait_for_copies()
            cuda.syncthreads()
        if step < stages:
            for i in range(ROWS * 4 // THREADS):
                there = first_row + copied_row + i * (THREADS // 4) < rows
                element = int32(of_row + 4 * (i * (THREADS // 4) * depth + step * 4))
                word = uint32(filled + to_row + i * (THREADS // 4) * DEPTH)
                copy_chunk(shared, word, a, element, there)
            for i in range(2):
                tap = load_row(taps, 4 * (step * 4 + 2 * i + odd))
                there = within(int32(top + tap[1]), height) & within(int32(left + tap[2]), width)
                word = uint32(filled + ROW_TILE + row_word(place, uint32(2 * i + odd)))
                copy_chunk(shared, word, x, int32(4 * (source + tap[0])), there)
            filled = next_stage(filled)
        end_copies()
        if step >= STAGES - 1:
            for half in range(2):
                for pair in range(ACROSS // 2):
                    words = load_matrices(shared, uint32(used + of_b[half] + 16 * DEPTH * pair))
                    keep_pair(fragments, pair, words)
                for i in range(DOWN):
                    words = load_matrices(shared, uint32(used + of_a[half] + 16 * DEPTH * i))
                    add_halves(sums, i, words, fragments)
            used = next_stage(used)

    store_tile(
        sums, y, b, pixels, group, rows, uint32(first_row + warp_row + g),
        int32(first_column + warp_column + 4 * t), columns, plane, out_image, out_channel, mode,
    )  # fmt: skip


PRODUCTS = by_tile(_columns, PARAMETERS, (WIDE, FLAT, SMALL))
