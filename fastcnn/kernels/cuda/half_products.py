"""Halves: rounding to bf16 or f16, their products, and arrays of chunks of eight channels.

A chunk is 16 bytes: eight channels of one pixel, rounded, 0 where a group has fewer. Chunks lie as
pixels of an array (N, groups, chunks of a group, H, W), so that tables of places count chunks where
those of float32 count channels, cp.async copies 16 bytes at a time, and neighbouring pixels are
neighbours in memory.

    bf16   8 exponent bits as float32 has, 7 of mantissa: 2^-8 relative error
    f16    5 and 10: 2^-11 relative error; infinite from 65520 on, fewer bits below 6e-5
"""

from __future__ import annotations

from typing import Any

from numba import float32, int32, uint32

from fastcnn.kernels.cuda.ptx import (
    bf16_pair,
    commit_copies,
    copy_quad,
    f16_pair,
    load_row,
    multiply_bf16,
    multiply_f16,
    multiply_f16_by_8,
    store_words,
    wait_all_but_1,
)
from fastcnn.kernels.cuda.target import cuda, helper, kernel
from fastcnn.kernels.cuda.warp_tiles import ACROSS

THREADS = 256
# Channels of a chunk, and words.
CHUNK, WORDS = 8, 4

# Placeholders: bf16 or f16; whether it is for sm_75, whose tensor cores take 8 of depth at a time,
# and which has no cp.async.
BFLOAT = True
TURING: Any = False


@helper
def rounded_pair(low, high):
    """Two numbers as halves, side by side in a word."""
    return bf16_pair(low, high) if BFLOAT else f16_pair(low, high)


@helper
def copy_chunk(shared, word, pointer, element, there):
    """16 bytes of global to shared memory, zeros if not `there`: at once, or by cp.async."""
    if TURING:
        words = (int32(0), int32(0), int32(0), int32(0))
        if there:
            words = load_row(pointer, element)
        for i in range(4):
            shared[uint32(word + i)] = uint32(words[i])
    else:
        copy_quad(shared, word, pointer, element, there)


@helper
def end_copies():
    """What this thread has copied since the last call is a group."""
    if not TURING:
        commit_copies()


@helper
def wait_for_copies():
    """Until all groups of this thread but the latest have arrived."""
    if not TURING:
        wait_all_but_1()


@helper
def keep_pair(of_b, pair, words):
    """Both words of two neighbouring pieces of B, as one load gives them."""
    for j in range(2):
        for h in range(2):
            of_b[2 * pair + j, h] = words[2 * j + h]


@helper
def add_halves(sums, i, a, of_b):
    """A's piece i times all of B's, depth 16, added to row i of sums."""
    for j in range(ACROSS):
        d = (sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3])
        if BFLOAT:
            d = multiply_bf16(d, a, (of_b[j, 0], of_b[j, 1]))
        elif TURING:
            d = multiply_f16_by_8(d, (a[0], a[1]), (of_b[j, 0],))
            d = multiply_f16_by_8(d, (a[2], a[3]), (of_b[j, 1],))
        else:
            d = multiply_f16(d, a, (of_b[j, 0], of_b[j, 1]))
        for c in range(4):
            sums[i, j, c] = d[c]


@kernel(
    "float32* x, uint32* cells, int32 channels, int32 chunks, int32 plane, int32 elements",
    threads=THREADS,
    unroll=True,
)
def pack_images(x, cells, channels, chunks, plane, elements):
    """cells[n, chunk, at] = x[n, 8 chunk .. 8 chunk + 7, at], n the images' groups."""
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < elements:
        line = int32(i // plane)
        n = int32(line // chunks)
        first = int32(8 * (line - n * chunks))
        element = int32((n * channels + first) * plane + (i - line * plane))
        numbers = cuda.local.array(8, float32)
        for e in range(8):
            numbers[e] = x[element] if first + e < channels else float32(0)
            element = int32(element + plane)
        store_words(
            cells, 4 * i, rounded_pair(numbers[0], numbers[1]),
            rounded_pair(numbers[2], numbers[3]), rounded_pair(numbers[4], numbers[5]),
            rounded_pair(numbers[6], numbers[7]),
        )  # fmt: skip


@kernel(
    "float32* w, uint32* a, int32* order, int32 rows, int32 words, int32 elements,"
    "int32 row_step, int32 group_step",
    threads=THREADS,
)
def pack_weights(w, a, order, rows, words, elements, row_step, group_step):
    """a[group, row, place] = w[group, row, order[place]], 0 where order is -1; two to a word."""
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < elements:
        line = int32(i // words)
        group = int32(line // rows)
        start = int32(group * group_step + (line - group * rows) * row_step)
        place = int32(2 * (i - line * words))
        low, high = order[place], order[int32(place + 1)]
        a[i] = rounded_pair(
            w[int32(start + low)] if low >= 0 else float32(0),
            w[int32(start + high)] if high >= 0 else float32(0),
        )
