"""The dense layer and its gradients: three products of matrices by one kernel.

    dense          Y[n, o]  = sum over i of X[n, i] W[o, i] + b[o]
    input grad     dX[n, i] = sum over o of dY[n, o] W[o, i]
    weight grad    dW[o, i] = sum over n of dY[n, o] X[n, i]

Each is C[m, n] = sum over k of A[m*a_m + k*a_k] B[k*b_k + n*b_n]: transposing is a matter of steps.
A block makes a tile of C from slices of A and B in shared memory, each thread EACH x EACH of it:

          B  k |....slice.....|      A and B are read from global memory once per tile, EACH + EACH
          -----+--------------       numbers from shared memory serve EACH * EACH multiply-adds
        A      |              |
        slice  |  tile of C   |      SIDE*EACH wide and high, SIDE*SIDE threads

Where tiles are fewer than a large GPU takes, as with small batches, k is divided into spans by the
sizes alone; each sums into a result of its own, and those are added up in their order.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import MOST_BLOCKS, element, launch_elements
from fastcnn.kernels.cuda.target import cuda, kernel, real

EACH = 4
# Threads along a tile's side; DEPTH rows of B in a slice. Two slices of 16 x 64 float64 are 16 KB.
SIDE, DEPTH = 16, 16
TILE = SIDE * EACH
_SIMULATED_SIDE = 2
# Blocks that a large GPU takes at once, two to a multiprocessor; k of a span at the least.
BLOCKS, SPAN = 264, 256


@kernel(
    "real* a, real* b, real* bias, real* c, int32 M, int32 N, int32 K, "
    "int64 a_m, int64 a_k, int64 b_k, int64 b_n, int32 bias_step, int32 span"
)
def _product(a, b, bias, c, M, N, K, a_m, a_k, b_k, b_n, bias_step, span):
    """bias_step: -1 for no bias, 0 for one number for all columns, 1 for one each."""
    slice_a = cuda.shared.array((DEPTH, TILE), real)
    slice_b = cuda.shared.array((DEPTH, TILE), real)
    sums, row = cuda.local.array((EACH, EACH), real), cuda.local.array(EACH, real)
    column = cuda.local.array(EACH, real)
    t = cuda.threadIdx.x
    across, down = t % SIDE, t // SIDE
    n0 = np.int32(cuda.blockIdx.x) * TILE
    m0 = np.int32(cuda.blockIdx.y) * TILE
    part = np.int64(cuda.blockIdx.z)
    first = np.int32(cuda.blockIdx.z) * span
    last = min(K, first + span)
    while m0 < M:
        for i in range(EACH):
            for j in range(EACH):
                sums[i, j] = real(0)
        for k0 in range(first, last, DEPTH):
            at = t
            while at < DEPTH * TILE:
                # neighbouring threads take neighbouring elements of whichever axis is contiguous
                k, m = (at % DEPTH, at // DEPTH) if a_k == 1 else (at // TILE, at % TILE)
                inside = m0 + m < M and k0 + k < last
                slice_a[k, m] = a[(m0 + m) * a_m + (k0 + k) * a_k] if inside else real(0)
                k, n = (at % DEPTH, at // DEPTH) if b_k == 1 else (at // TILE, at % TILE)
                inside = n0 + n < N and k0 + k < last
                slice_b[k, n] = b[(k0 + k) * b_k + (n0 + n) * b_n] if inside else real(0)
                at += SIDE * SIDE
            cuda.syncthreads()
            for k in range(DEPTH):
                for i in range(EACH):
                    row[i] = slice_a[k, down * EACH + i]
                    column[i] = slice_b[k, across * EACH + i]
                for i in range(EACH):
                    for j in range(EACH):
                        sums[i, j] += row[i] * column[j]
            cuda.syncthreads()
        for i in range(EACH):
            for j in range(EACH):
                m, n = m0 + down * EACH + i, n0 + across * EACH + j
                if m < M and n < N:
                    value = sums[i, j]
                    if bias_step >= 0:
                        value += bias[n * bias_step]
                    c[(part * M + m) * N + n] = value
        m0 += np.int32(cuda.gridDim.y) * TILE


@kernel("real* parts, real* bias, real* c, int32 spans, int32 N, int64 elements, int32 bias_step")
def _add_parts(parts, bias, c, spans, N, elements, bias_step):
    """c[i] = parts[0, i] + parts[1, i] + ... + bias, in this order."""
    i = element()
    if i < elements:
        total = parts[i]
        for part in range(1, spans):
            total += parts[part * elements + i]
        if bias_step >= 0:
            total += bias[i % N * bias_step]
        c[i] = total


def _divided(blocks: int, k: int) -> tuple[int, int]:
    """How many spans k is divided into, and how long they are."""
    wanted = max(1, min(BLOCKS // max(blocks, 1), k // SPAN))
    span = -(-k // wanted)
    return max(1, -(-k // max(span, 1))), span


def _multiply(
    a: DeviceArray,
    b: DeviceArray,
    bias: DeviceArray | None,
    c: DeviceArray,
    sizes: tuple[int, int, int],
    steps: tuple[int, int, int, int],
) -> None:
    m, n, k = sizes
    side = _SIMULATED_SIDE if target.simulated() else SIDE
    grid = -(-n // (side * EACH)), min(-(-m // (side * EACH)), MOST_BLOCKS)
    step = -1 if bias is None else 0 if bias.shared else 1
    spans, span = _divided(prod(grid), k)
    divided = spans > 1
    parts = a.empty((spans * c.size,), a.dtype) if divided else c
    program = _product.of(real=a.dtype.name, SIDE=side, TILE=side * EACH)
    program.launch(
        a.stream, (*grid, spans), side * side,
        a, b, bias, parts, *sizes, *steps, -1 if divided else step, span,
    )  # fmt: skip
    if divided:
        program = _add_parts.of(real=a.dtype.name)
        launch_elements(program, a.stream, c.size, parts, bias, c, spans, n, c.size, step)


def dense(
    geometry: DenseGeometry, x: DeviceArray, w: DeviceArray, b: DeviceArray | None, y: DeviceArray
) -> None:
    """y (N, O), written whole."""
    g = geometry
    _multiply(x, w, b, y, (g.N, g.O, g.I), (g.I, 1, 1, g.I))


def dense_input_grad(
    geometry: DenseGeometry, dy: DeviceArray, w: DeviceArray, dx: DeviceArray
) -> None:
    """dx (N, I), written whole."""
    g = geometry
    _multiply(dy, w, None, dx, (g.N, g.I, g.O), (g.O, 1, g.I, 1))


def dense_weight_grad(
    geometry: DenseGeometry, x: DeviceArray, dy: DeviceArray, dw: DeviceArray
) -> None:
    """dw (O, I), written whole."""
    g = geometry
    _multiply(dy, x, None, dw, (g.O, g.I, g.N), (1, g.O, g.I, 1))
