"""Convolution as a product in plain multiply-adds: weights times pixels (implicit GEMM).

The product is that of tensor_columns.py, on the register tiles of ffma_products.py. A is stored
depth by depth, so that a line of its tile is a line of shared memory. Without inline assembly: it
runs on every GPU, and in the simulator. Sums are taken tap by tap, in the order of the weights,
each multiply-add rounded once.
"""

from __future__ import annotations

from numba import float32, int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, tile_place
from fastcnn.kernels.cuda.ffma_products import (
    ACROSS,
    ALIGNMENT,
    COLUMN_GAP,
    COLUMNS,
    COPIES_A,
    COPIES_B,
    LARGE,
    LINE_A,
    LINE_B,
    LOW,
    MINE_ACROSS,
    MINE_DOWN,
    ROW_GAP,
    ROWS,
    SHARED_A,
    SHARED_B,
    STEP,
    THREADS,
    TINY,
    add_stage,
)
from fastcnn.kernels.cuda.finishing import finished
from fastcnn.kernels.cuda.target import cuda
from fastcnn.kernels.cuda.tiles import FAR, within

PARAMETERS = """
    float32* a, float32* x, float32* b, float32* y, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 depth, int32 columns, int32 plane,
    int32 height, int32 width, int32 source_image, int32 source_group,
    int32 out_image, int32 out_channel, int32 mode
"""


def _columns(
    a, x, b, y, taps, pixels, rows, row_tiles, depth, columns, plane, height, width,
    source_image, source_group, out_image, out_channel, mode,
):  # fmt: skip
    tile_a = cuda.shared.array(SHARED_A, float32, alignment=ALIGNMENT)
    tile_b = cuda.shared.array(SHARED_B, float32, alignment=ALIGNMENT)
    thread = uint32(cuda.threadIdx.x)
    down, across = uint32(thread // ACROSS), uint32(thread % ACROSS)
    group = int32(cuda.blockIdx.z)
    first_row, first_column = tile_place(row_tiles)

    # A thread fetches one row of A and one pixel of B, at every so many depths.
    row, k_of_a = uint32(thread % ROWS), uint32(thread // ROWS)
    mine, k_of_b = uint32(thread % COLUMNS), uint32(thread // COLUMNS)
    in_rows = first_row + row < rows
    from_row = int32(group * depth * rows + first_row + row)
    n = int32(first_column + mine)
    source, top, left = int32(0), int32(FAR), int32(0)
    if n < columns:
        image = int32(n // plane)
        entry = int32(4 * (n - image * plane))
        source = int32(group * source_group + image * source_image + pixels[entry])
        top, left = int32(pixels[entry + 1]), int32(pixels[entry + 2])

    sums = cuda.local.array((MINE_DOWN, MINE_ACROSS), float32)
    of_a = cuda.local.array(MINE_DOWN, float32)
    of_b = cuda.local.array(MINE_ACROSS, float32)
    next_a = cuda.local.array(COPIES_A, float32)
    next_b = cuda.local.array(COPIES_B, float32)
    for i in range(MINE_DOWN):
        for j in range(MINE_ACROSS):
            sums[i, j] = float32(0)

    stages = depth // STEP
    filled, used = uint32(0), uint32(0)  # 0 or STEP: the stage, in lines
    for step in range(stages + 1):
        if step < stages:
            for i in range(COPIES_A):
                k = int32(step * STEP + k_of_a + i * (THREADS // ROWS))
                next_a[i] = a[int32(from_row + k * rows)] if in_rows else float32(0)
            for i in range(COPIES_B):
                entry = int32(4 * (step * STEP + k_of_b + i * (THREADS // COLUMNS)))
                there = within(int32(top + taps[entry + 1]), height)
                there &= within(int32(left + taps[entry + 2]), width)
                next_b[i] = x[int32(source + taps[entry])] if there else float32(0)
        if step > 0:
            add_stage(
                sums, of_a, of_b, tile_a, tile_b,
                uint32(used * LINE_A + 4 * down), uint32(used * LINE_B + 4 * across),
            )  # fmt: skip
            used = uint32(STEP - used)
        if step < stages:
            for i in range(COPIES_A):
                line = uint32(filled + k_of_a + i * (THREADS // ROWS))
                tile_a[uint32(line * LINE_A + row)] = next_a[i]
            for i in range(COPIES_B):
                line = uint32(filled + k_of_b + i * (THREADS // COLUMNS))
                tile_b[uint32(line * LINE_B + mine)] = next_b[i]
            filled = uint32(STEP - filled)
        cuda.syncthreads()

    for j in range(MINE_ACROSS):
        n = int32(first_column + 4 * across + (j // 4) * COLUMN_GAP + j % 4)
        if n < columns:
            image = int32(n // plane)
            at = int32(n - image * plane)
            to = int32(image * out_image + pixels[int32(4 * at + 3)])
            for i in range(MINE_DOWN):
                m = int32(first_row + 4 * down + (i // 4) * ROW_GAP + i % 4)
                if m < rows:
                    channel = int32(group * rows + m)
                    y[int32(to + channel * out_channel)] = finished(
                        sums[i, j], b, channel, int32(channel * plane + at), mode
                    )


PRODUCTS = by_tile(_columns, PARAMETERS, (LARGE, LOW, TINY))
