"""Weights in the order in which products read them: rows of A, one per filter or channel."""

from __future__ import annotations

from numba import int32, uint32

from fastcnn.kernels.cuda.target import cuda, kernel

THREADS = 256

# Placeholders. ROUND: to TF32, to nearest (ties away from zero), leaving infinities and NaN alone.
# BY_DEPTH: all rows of a place side by side, not all places of a row.
ROUND, BY_DEPTH = False, False


@kernel(
    "uint32* w, uint32* a, int32* order, int32 rows, int32 depth, int32 elements,"
    "int32 row_step, int32 group_step",
    threads=THREADS,
)
def pack(w, a, order, rows, depth, elements, row_step, group_step):
    """a[group, row, place] = w[group, row, order[place]], 0 where order is -1."""
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < elements:
        line = int32(i // rows) if BY_DEPTH else int32(i // depth)
        if BY_DEPTH:
            row = int32(i - line * rows)
            group = int32(line // depth)
            place = int32(line - group * depth)
        else:
            place = int32(i - line * depth)
            group = int32(line // rows)
            row = int32(line - group * rows)
        offset = order[place]
        word = uint32(0)
        if offset >= 0:
            word = w[int32(group * group_step + row * row_step + offset)]
        if ROUND and (word & uint32(0x7F800000)) != uint32(0x7F800000):
            word = uint32(uint32(word + uint32(0x1000)) & uint32(0xFFFFE000))
        a[i] = word


@kernel("float32* parts, float32* sums, int32 spans, int32 elements", threads=THREADS)
def add_spans(parts, sums, spans, elements):
    """sums[i] = parts[0, i] + parts[1, i] + ..., in this order."""
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < elements:
        total = parts[i]
        for span in range(1, spans):
            total += parts[int32(span * elements + i)]
        sums[i] = total
