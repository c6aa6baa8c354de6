"""The weight gradient as a product in plain multiply-adds: dY times pixels of X.

The product, its tables and its spans are those of tensor_dots.py, on the register tiles of
ffma_products.py. Eight lanes fetch eight neighbouring pixels of a row of either side and put them
on eight lines of shared memory, four banks apart.
"""

from __future__ import annotations

from numba import float32, int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, span_place, span_sums, tile_place
from fastcnn.kernels.cuda.ffma_products import (
    ACROSS,
    ALIGNMENT,
    COLUMN_GAP,
    COPIES_A,
    COPIES_B,
    LINE_A,
    LINE_B,
    LOW,
    MINE_ACROSS,
    MINE_DOWN,
    ROW_GAP,
    SHARED_A,
    SHARED_B,
    STEP,
    THREADS,
    TINY,
    add_stage,
)
from fastcnn.kernels.cuda.target import cuda
from fastcnn.kernels.cuda.tiles import within

PARAMETERS = """
    float32* dy, float32* x, float32* sums_out, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 columns, int32 plane, int32 depth,
    int32 spans, int32 span, int32 height, int32 width,
    int32 dy_image, int32 x_image, int32 x_group
"""


def _dots(
    dy, x, sums_out, taps, pixels, rows, row_tiles, columns, plane, depth, spans, span,
    height, width, dy_image, x_image, x_group,
):  # fmt: skip
    tile_a = cuda.shared.array(SHARED_A, float32, alignment=ALIGNMENT)
    tile_b = cuda.shared.array(SHARED_B, float32, alignment=ALIGNMENT)
    thread = uint32(cuda.threadIdx.x)
    down, across = uint32(thread // ACROSS), uint32(thread % ACROSS)
    group, part = span_place(spans)
    first_row, first_column = tile_place(row_tiles)

    # A thread fetches one pixel of each stage, of every so many rows of either side.
    mine, line = uint32(thread % uint32(STEP)), uint32(thread // uint32(STEP))
    first = int32(part * span)
    last = int32(min(depth, first + span))
    k = int32(first + mine)
    image = int32(k // plane)
    at = int32(k - image * plane)
    from_row = int32((group * rows + first_row + line) * plane)
    row_gap = int32(THREADS // STEP * plane)
    stages = (last - first + STEP - 1) // STEP

    sums = cuda.local.array((MINE_DOWN, MINE_ACROSS), float32)
    of_a = cuda.local.array(MINE_DOWN, float32)
    of_b = cuda.local.array(MINE_ACROSS, float32)
    next_a = cuda.local.array(COPIES_A, float32)
    next_b = cuda.local.array(COPIES_B, float32)
    for i in range(MINE_DOWN):
        for j in range(MINE_ACROSS):
            sums[i, j] = float32(0)

    filled, used = uint32(0), uint32(0)  # 0 or STEP: the stage, in lines
    for step in range(stages + 1):
        if step < stages:
            inside = k < last
            entry = int32(4 * at)
            element = int32(image * dy_image + from_row + at)
            for i in range(COPIES_A):
                there = first_row + line + i * (THREADS // STEP) < rows
                next_a[i] = dy[element] if inside and there else float32(0)
                element = int32(element + row_gap)
            source = int32(image * x_image + group * x_group + pixels[entry])
            top, left = int32(pixels[entry + 1]), int32(pixels[entry + 2])
            for i in range(COPIES_B):
                tap = int32(4 * (first_column + line + i * (THREADS // STEP)))
                there = within(int32(top + taps[tap + 1]), height)
                there &= within(int32(left + taps[tap + 2]), width)
                next_b[i] = x[int32(source + taps[tap])] if inside and there else float32(0)
            k = int32(k + STEP)
            at = int32(at + STEP)
            while at >= plane:
                at, image = int32(at - plane), int32(image + 1)
        if step > 0:
            add_stage(
                sums, of_a, of_b, tile_a, tile_b,
                uint32(used * LINE_A + 4 * down), uint32(used * LINE_B + 4 * across),
            )  # fmt: skip
            used = uint32(STEP - used)
        if step < stages:
            for i in range(COPIES_A):
                r = uint32(line + i * (THREADS // STEP))
                tile_a[uint32((filled + mine) * LINE_A + r)] = next_a[i]
            for i in range(COPIES_B):
                r = uint32(line + i * (THREADS // STEP))
                tile_b[uint32((filled + mine) * LINE_B + r)] = next_b[i]
            filled = uint32(STEP - filled)
        cuda.syncthreads()

    to = span_sums(group, part, spans, rows, columns)
    for i in range(MINE_DOWN):
        m = int32(first_row + 4 * down + (i // 4) * ROW_GAP + i % 4)
        if m < rows:
            for j in range(MINE_ACROSS):
                n = int32(first_column + 4 * across + (j // 4) * COLUMN_GAP + j % 4)
                if n < columns:
                    sums_out[int32(to + m * columns + n)] = sums[i, j]


# A large tile would need more than 128 registers.
PRODUCTS = by_tile(_dots, PARAMETERS, (LOW, TINY))
