"""Convolution as a product on tensor cores: weights times pixels (implicit GEMM).

    C[m, n] = sum_k A[m, k] B[k, n]

    forward          m filter, n output pixel, k tap (channel, kernel row, kernel column)
    input gradient   m channel, n input pixel of one residue of the stride, k tap (filter, row, col)

A is the weights, put in order beforehand (packing.py); B is never stored: element (k, n) is read
from the source where pixel n's table row and tap k's add up to, and is 0 outside the image.

               columns: pixels                            depth ->
              n0 ........ n0+127                A stage: rows of 16 words, swizzled
             +----+----+----+----+                  copied 16 bytes at a time
    rows     | w0 | w2 | w4 | w6 |  64 rows      B stage: 16 depths of 128 columns
    m0       +----+----+----+----+                  gathered 4 bytes at a time, a thread
    ..+127   | w1 | w3 | w5 | w7 |                  always at its own pixel: it looks up
             +----+----+----+----+                  the pixel once, and a tap per copy
               32 columns per warp

Copies run two stages ahead (cp.async); of the three stages one is multiplied, two are on their way:

    wait for stage i | barrier | start copies of i + 2 | multiply i | wait for i + 1 | ...
"""

from __future__ import annotations

from numba import float32, int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, tile_place
from fastcnn.kernels.cuda.finishing import BIAS, BIAS_PER_PIXEL, QUADS, rectified
from fastcnn.kernels.cuda.ptx import (
    commit_copies,
    copy_quad,
    copy_word,
    load_matrices,
    load_quad,
    load_row,
    store_quad,
    wait_all_but_1,
)
from fastcnn.kernels.cuda.target import cuda, helper
from fastcnn.kernels.cuda.tensor_products import add_products, keep_pair
from fastcnn.kernels.cuda.tiles import (
    DEPTH,
    FAR,
    FLAT,
    SMALL,
    STAGES,
    WIDE,
    column_word,
    row_word,
    within,
)
from fastcnn.kernels.cuda.warp_tiles import (
    ACROSS,
    COLUMNS,
    DOWN,
    ROW_TILE,
    ROWS,
    SHARED,
    THREADS,
    matrices_of_a,
    next_stage,
    no_sums,
    warp_place,
)

PARAMETERS = """
    float32* a, float32* x, float32* b, float32* y, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 depth, int32 columns, int32 plane,
    int32 height, int32 width, int32 source_image, int32 source_group,
    int32 out_image, int32 out_channel, int32 mode
"""


@helper
def source_pixel(pixels, n, columns, plane, source_image, source):
    """Column n's place in the source, where its group begins; its row there and its column.

    Behind the last column, nothing that a tap adds to the row lies within the source.
    """
    top, left = int32(FAR), int32(0)
    if n < columns:
        image = int32(n // plane)
        pixel = load_row(pixels, 4 * (n - image * plane))
        source = int32(source + image * source_image + pixel[0])
        top, left = pixel[1], pixel[2]
    return source, top, left


@helper
def store(
    v, y, b, pixels, image, at, channel, n, columns, plane, out_image, out_channel, mode
):  # fmt: skip
    """Four neighbouring columns of a row to the result, n the first of them."""
    to = int32(image * out_image + channel * out_channel)
    if mode & QUADS:
        store_quad(
            y, int32(to + at), rectified(v[0], mode), rectified(v[1], mode),
            rectified(v[2], mode), rectified(v[3], mode),
        )  # fmt: skip
    else:
        for j in range(4):
            if n + j < columns:
                u = v[j]
                if mode & BIAS_PER_PIXEL:
                    u = float32(u + b[int32(channel * plane + at)])
                y[int32(to + load_row(pixels, 4 * at)[3])] = rectified(u, mode)
            at = int32(at + 1)
            if at == plane:
                at, to = int32(0), int32(to + out_image)


@helper
def store_tile(
    sums, y, b, pixels, group, rows, first_row, first_column, columns, plane, out_image,
    out_channel, mode,
):  # fmt: skip
    """A warp's tile to the result, from the lane's first row and column of it."""
    if mode & BIAS:
        for i in range(DOWN):
            for h in range(2):
                row = int32(first_row + 16 * i + 8 * h)
                if row < rows:
                    bias = b[int32(group * rows + row)]
                    for j in range(ACROSS):
                        for c in range(2):
                            sums[i, j, 2 * h + c] += bias
    for pair in range(ACROSS // 2):
        n = int32(first_column + 16 * pair)
        image = int32(n // plane)
        at = int32(n - image * plane)
        for i in range(DOWN):
            for h in range(2):
                row = int32(first_row + 16 * i + 8 * h)
                # Columns 4 t and 4 t + 2 of one piece, 4 t + 1 and 4 t + 3 of the next.
                j, c = 2 * pair, 2 * h
                v = (sums[i, j, c], sums[i, j + 1, c], sums[i, j, c + 1], sums[i, j + 1, c + 1])
                if row < rows and n < columns:
                    channel = int32(group * rows + row)
                    store(
                        v, y, b, pixels, image, at, channel, n, columns, plane, out_image,
                        out_channel, mode,
                    )  # fmt: skip


def _columns(
    a, x, b, y, taps, pixels, rows, row_tiles, depth, columns, plane, height, width,
    source_image, source_group, out_image, out_channel, mode,
):  # fmt: skip
    shared = cuda.shared.array(SHARED, uint32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(31))
    g, t = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
    warp_row, warp_column = warp_place(uint32(thread >> uint32(5)))
    group = int32(cuda.blockIdx.z)
    first_row, first_column = tile_place(row_tiles)

    # What this thread copies: rows `copied_row` and every THREADS / 4 further, one chunk of each;
    # its own pixel at every second depth. Half a warp has even depths, half odd ones of the same
    # 16 pixels: 32 words side by side in shared memory, two times 64 bytes in the source.
    copied_row, part = uint32(thread >> uint32(2)), uint32(thread & uint32(3))
    to_row = row_word(copied_row, part)
    of_row = int32((group * rows + first_row + copied_row) * depth + 4 * part)
    mine = uint32((thread & uint32(15)) + ((thread >> uint32(5)) << uint32(4)))
    odd = uint32((thread >> uint32(4)) & uint32(1))
    source, top, left = source_pixel(
        pixels, int32(first_column + mine), columns, plane, source_image,
        int32(group * source_group),
    )  # fmt: skip

    # What this lane reads to multiply: its row of each of ldmatrix's matrices, at depths 0 and 8,
    # its two columns of 16.
    of_a = matrices_of_a(lane, warp_row)
    of_b = uint32(ROW_TILE + column_word(uint32(2 * t), uint32(warp_column + 2 * g)))

    sums = no_sums()
    big_b = cuda.local.array((ACROSS, 2), uint32)
    small_b = cuda.local.array((ACROSS, 2), uint32)

    stages = depth // DEPTH
    filled, used = uint32(0), uint32(0)
    for step in range(stages + STAGES - 1):
        if step >= STAGES - 1:
            wait_all_but_1()
            cuda.syncthreads()
        if step < stages:
            for i in range(ROWS * 4 // THREADS):
                there = first_row + copied_row + i * (THREADS // 4) < rows
                element = int32(of_row + i * (THREADS // 4) * depth + step * DEPTH)
                word = uint32(filled + to_row + i * (THREADS // 4) * DEPTH)
                copy_quad(shared, word, a, element, there)
            for i in range(DEPTH // 2):
                tap = load_row(taps, 4 * (step * DEPTH + 2 * i + odd))
                there = within(int32(top + tap[1]), height) & within(int32(left + tap[2]), width)
                word = uint32(filled + ROW_TILE + column_word(uint32(2 * i + odd), mine))
                copy_word(shared, word, x, int32(source + tap[0]), there)
            filled = next_stage(filled)
        commit_copies()
        if step >= STAGES - 1:
            for half in range(2):
                for pair in range(ACROSS // 2):
                    at = 8 * half * COLUMNS + 32 * pair
                    words = load_quad(shared, uint32(used + of_b + at))
                    keep_pair(big_b, small_b, pair, words)
                for i in range(DOWN):
                    words = load_matrices(shared, uint32(used + of_a[half] + 16 * DEPTH * i))
                    add_products(sums, i, words, big_b, small_b)
            used = next_stage(used)

    store_tile(
        sums, y, b, pixels, group, rows, uint32(first_row + warp_row + g),
        int32(first_column + warp_column + 4 * t), columns, plane, out_image, out_channel, mode,
    )  # fmt: skip


PRODUCTS = by_tile(_columns, PARAMETERS, (WIDE, FLAT, SMALL))
