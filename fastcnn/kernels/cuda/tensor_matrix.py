"""A product of two matrices on tensor cores, in TF32 or 3xTF32, for dense layers.

    C[m, n] = sum_k A[m, k] B[k, n]

Each side lies in memory along k (rows of A, columns of B) or across it (the other way round), and
in shared memory as it comes, 16 depths a stage:

    along     row m: 16 words of depth, swizzled as tiles.py has it; ldmatrix
    across    depth k: a line of all m, m at place m ^ 8 (k % 4), so that the lanes (g, t) of a
              warp, which read m = g at k = t, one word each, meet all 32 banks

Where results are few and sums long, depth is divided into spans by the geometry alone; each sums
into a result of its own, and `add_parts` adds those up in their order.
"""

from __future__ import annotations

from typing import Any

from numba import float32, int32, uint32

from fastcnn.kernels.cuda.blocks import by_tile, tile_place
from fastcnn.kernels.cuda.ptx import (
    commit_copies,
    copy_quad,
    copy_word,
    load_matrices,
    wait_all_but_1,
)
from fastcnn.kernels.cuda.target import cuda, helper, kernel
from fastcnn.kernels.cuda.tensor_products import add_products, keep, keep_pair
from fastcnn.kernels.cuda.tiles import DEPTH, FLAT, STAGES, Tile, row_word
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

# For batches of up to 32.
THIN = Tile(32, 128, 32, 32)
THREADS_ADDING = 256

# Placeholders: how the sides lie; whether both can be copied 16 bytes at a time.
A_ALONG: Any = True
B_ALONG: Any = True
QUADS: Any = True

PARAMETERS = """
    float32* a, float32* b, float32* bias, float32* c, int32 rows, int32 columns, int32 depth,
    int32 row_tiles, int32 span, int32 bias_step
"""


@helper
def across_word(k, m, size):
    """Word of place m at depth k, in a tile of so many places that lies across."""
    return uint32(k * size + (m ^ ((k & uint32(3)) << uint32(3))))


@helper
def copy_side(shared, to, source, along, size, first, places, k0, last, depth, thread):
    """A stage of one side: `size` places from `first` on, 16 depths from k0 on."""
    for i in range(size * 4 // THREADS):
        chunk = uint32(thread + i * THREADS)
        if along:
            place, k = uint32(chunk >> uint32(2)), uint32(4 * (chunk & uint32(3)))
            word = uint32(to + row_word(place, uint32(chunk & uint32(3))))
            element = int32((first + place) * depth + (k0 + k))
        else:
            place, k = uint32(4 * (chunk % (size // 4))), uint32(chunk // (size // 4))
            word = uint32(to + across_word(k, place, size))
            element = int32((k0 + k) * places + (first + place))
        if QUADS:
            there = (first + place < places) & (k0 + k < last)
            copy_quad(shared, word, source, element, there)
        else:
            for e in range(4):
                if along:
                    there = (first + place < places) & (k0 + k + e < last)
                else:
                    there = (first + place + e < places) & (k0 + k < last)
                copy_word(shared, uint32(word + e), source, int32(element + e), there)


def _matrix(a, b, bias, c, rows, columns, depth, row_tiles, span, bias_step):
    """bias_step: -1 for no bias, 0 for one number for all columns, 1 for one each."""
    shared = cuda.shared.array(SHARED, uint32, alignment=16)
    thread = uint32(cuda.threadIdx.x)
    lane = uint32(thread & uint32(31))
    g, t = uint32(lane >> uint32(2)), uint32(lane & uint32(3))
    warp_row, warp_column = warp_place(uint32(thread >> uint32(5)))
    first_row, first_column = tile_place(row_tiles)
    part = int32(cuda.blockIdx.z)
    first = int32(part * span)
    last = int32(min(depth, first + span))
    stages = (last - first + DEPTH - 1) // DEPTH

    # What this lane reads to multiply, of sides that lie along.
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
            k0 = int32(first + step * DEPTH)
            copy_side(shared, filled, a, A_ALONG, ROWS, first_row, rows, k0, last, depth, thread)
            copy_side(
                shared, uint32(filled + ROW_TILE), b, B_ALONG, COLUMNS, first_column, columns,
                k0, last, depth, thread,
            )  # fmt: skip
            filled = next_stage(filled)
        commit_copies()
        if step >= STAGES - 1:
            for half in range(2):
                if B_ALONG:
                    for pair in range(ACROSS // 2):
                        at = uint32(used + of_b[half] + 16 * DEPTH * pair)
                        keep_pair(big_b, small_b, pair, load_matrices(shared, at))
                else:
                    for j in range(ACROSS):
                        for h in range(2):
                            k = uint32(8 * half + 4 * h + t)
                            at = across_word(k, uint32(warp_column + 8 * j + g), COLUMNS)
                            word = shared[uint32(used + ROW_TILE + at)]
                            keep(big_b, small_b, j, h, uint32(word))
                for i in range(DOWN):
                    if A_ALONG:
                        words = load_matrices(shared, uint32(used + of_a[half] + 16 * DEPTH * i))
                    else:
                        k, row = uint32(8 * half + t), uint32(warp_row + 16 * i + g)
                        near = uint32(used + across_word(k, row, ROWS))
                        below = uint32(used + across_word(k, uint32(row + 8), ROWS))
                        # Four depths on the swizzle is the same.
                        words = (
                            uint32(shared[near]), uint32(shared[below]),
                            uint32(shared[uint32(near + 4 * ROWS)]),
                            uint32(shared[uint32(below + 4 * ROWS)]),
                        )  # fmt: skip
                    add_products(sums, i, words, big_b, small_b)
            used = next_stage(used)

    to = int32(part * rows * columns)
    for j in range(ACROSS):
        for e in range(2):
            n = int32(first_column + warp_column + 8 * j + 2 * t + e)
            if n < columns:
                more = bias[int32(n * bias_step)] if bias_step >= 0 else float32(0)
                for i in range(DOWN):
                    for h in range(2):
                        m = int32(first_row + warp_row + 16 * i + 8 * h + g)
                        if m < rows:
                            total = float32(sums[i, j, 2 * h + e] + more)
                            c[int32(to + m * columns + n)] = total


PRODUCTS = by_tile(_matrix, PARAMETERS, (FLAT, THIN))


@kernel(
    "float32* parts, float32* bias, float32* c, int32 spans, int32 columns, int32 elements,"
    "int32 bias_step",
    threads=THREADS_ADDING,
)
def add_parts(parts, bias, c, spans, columns, elements, bias_step):
    """c[i] = parts[0, i] + parts[1, i] + ... + bias, in this order."""
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < elements:
        total = parts[i]
        for span in range(1, spans):
            total += parts[int32(span * elements + i)]
        if bias_step >= 0:
            total += bias[int32((i % columns) * bias_step)]
        c[i] = total
