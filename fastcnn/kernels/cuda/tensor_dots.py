"""The weight gradient as a product on tensor cores: dY times pixels of X, summed over all pixels.

    C[m, n] = sum_k A[m, k] B[n, k]        m filter, n tap (channel, kernel row, kernel column),
                                           k output pixel of all images

Element (m, k) of A is dY's, element (n, k) of B is X's where tap n's table row and pixel k's add
up to. Neighbours along k are neighbours in memory on both sides, so both tiles lie in rows:

               columns: taps                     stage: ROWS rows of dY, COLUMNS rows of X,
              n0 ........ n0+127                        16 pixels each, copied 4 bytes at a time,
             +----+----+----+----+                      16 lanes to a row; a thread always has the
    filters  | w0 | w2 | w4 | w6 |                      same place in the rows: it goes on to the
    m0       +----+----+----+----+                      next pixel once for all rows
    ..+127   | w1 | w3 | w5 | w7 |
             +----+----+----+----+

Filters and taps make few tiles, pixels are many: they are divided into spans, each of which sums
into a result of its own, and `add_spans` adds those up in their order. What is summed when hangs on
the geometry alone, so results are the same bits every time.
"""

from __future__ import annotations

from numba import int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, span_place, span_sums, tile_place
from fastcnn.kernels.cuda.ptx import (
    commit_copies,
    copy_word,
    load_matrices,
    load_row,
    wait_all_but_1,
)
from fastcnn.kernels.cuda.target import cuda
from fastcnn.kernels.cuda.tensor_products import add_products, keep_pair
from fastcnn.kernels.cuda.tiles import DEPTH, FLAT, SMALL, STAGES, row_word, within
from fastcnn.kernels.cuda.warp_tiles import (
    ACROSS,
    COLUMNS,
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
    float32* dy, float32* x, float32* sums_out, int32* taps, int32* pixels,
    int32 rows, int32 row_tiles, int32 columns, int32 plane, int32 depth,
    int32 spans, int32 span, int32 height, int32 width,
    int32 dy_image, int32 x_image, int32 x_group
"""


def _dots(
    dy, x, sums_out, taps, pixels, rows, row_tiles, columns, plane, depth, spans, span,
    height, width, dy_image, x_image, x_group,
):  # fmt: skip
    shared = cuda.shared.array(SHARED, uint32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(31))
    g, t = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
    warp_row, warp_column = warp_place(uint32(thread >> uint32(5)))
    group, part = span_place(spans)
    first_row, first_column = tile_place(row_tiles)

    # What this thread copies: its pixel of each stage, of rows `copied` and every THREADS / 16
    # further.
    copied, mine = uint32(thread >> uint32(4)), uint32(thread & uint32(15))
    to_row = uint32(row_word(copied, uint32(mine >> uint32(2))) + (mine & uint32(3)))
    first = int32(part * span)
    last = int32(min(depth, first + span))
    k = int32(first + mine)
    image = int32(k // plane)
    at = int32(k - image * plane)
    from_row = int32((group * rows + first_row + copied) * plane)
    row_gap = int32(THREADS // 16 * plane)
    stages = (last - first + DEPTH - 1) // DEPTH

    # What this lane reads to multiply.
    of_a, of_b = matrices_of_a(lane, warp_row), matrices_of_b(lane, warp_column)

    sums = no_sums()
    big_b = cuda.local.array((ACROSS, 2), uint32)
    small_b = cuda.local.array((ACROSS, 2), uint32)

    filled, used = uint32(0), uint32(0)
    for step in range(stages + STAGES - 1):
        if step >= STAGES - 1:
            wait_all_but_1()
            cuda.syncthreads()
        if step < stages:
            inside = k < last
            pixel = load_row(pixels, 4 * at)
            element = int32(image * dy_image + from_row + at)
            for i in range(ROWS * 16 // THREADS):
                there = inside & (first_row + copied + i * (THREADS // 16) < rows)
                word = uint32(filled + to_row + i * (THREADS // 16) * DEPTH)
                copy_word(shared, word, dy, element, there)
                element = int32(element + row_gap)
            source = int32(image * x_image + group * x_group + pixel[0])
            for i in range(COLUMNS * 16 // THREADS):
                tap = load_row(taps, 4 * (first_column + copied + i * (THREADS // 16)))
                there = within(int32(pixel[1] + tap[1]), height)
                there &= within(int32(pixel[2] + tap[2]), width)
                word = uint32(filled + ROW_TILE + to_row + i * (THREADS // 16) * DEPTH)
                copy_word(shared, word, x, int32(source + tap[0]), inside & there)
            k = int32(k + DEPTH)
            at = int32(at + DEPTH)
            while at >= plane:
                at, image = int32(at - plane), int32(image + 1)
            filled = next_stage(filled)
        commit_copies()
        if step >= STAGES - 1:
            for half in range(2):
                for pair in range(ACROSS // 2):
                    words = load_matrices(shared, uint32(used + of_b[half] + 16 * DEPTH * pair))
                    keep_pair(big_b, small_b, pair, words)
                for i in range(DOWN):
                    words = load_matrices(shared, uint32(used + of_a[half] + 16 * DEPTH * i))
                    add_products(sums, i, words, big_b, small_b)
            used = next_stage(used)

    to = span_sums(group, part, spans, rows, columns)
    for i in range(DOWN):
        for h in range(2):
            m = int32(first_row + warp_row + 16 * i + 8 * h + g)
            if m < rows:
                for j in range(ACROSS):
                    for c in range(2):
                        n = int32(first_column + warp_column + 8 * j + 2 * t + c)
                        if n < columns:
                            sums_out[int32(to + m * columns + n)] = sums[i, j, 2 * h + c]


# Wide tiles would need more than the 128 registers that two blocks per multiprocessor leave.
PRODUCTS = by_tile(_dots, PARAMETERS, (FLAT, SMALL))
