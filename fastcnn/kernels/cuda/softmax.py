"""Softmax along one axis, and its gradient: one block per row, its threads a stride apart.

    y_i = e^(x_i - max x) / sum_j e^(x_j - max x)        dx_i = y_i (dy_i - sum_j dy_j y_j)

Rows along an inner axis have their elements `step` apart: element i of row r lies at
r // step * step * length + r % step + i * step. Sums are in float64 and fold in a fixed order.
"""

from __future__ import annotations

from math import exp, prod

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import add_up, threads
from fastcnn.kernels.cuda.target import Kernel, cuda, helper, kernel, real

# A row of classes is short: one warp does it, and many rows share a multiprocessor.
THREADS = 32


@helper
def highest(x, start, step, length, shared, t):
    """The largest of a row; its first element wherever that is NaN. All threads take part."""
    largest = x[start]
    i = t
    while i < length:
        v = x[start + i * step]
        largest = v if v > largest else largest
        i += THREADS
    shared[t] = largest
    cuda.syncthreads()
    largest = shared[0]
    for other in range(1, THREADS):
        largest = shared[other] if shared[other] > largest else largest
    cuda.syncthreads()
    return largest


@helper
def row_start(row, step, length):
    return row // step * step * length + row % step


@kernel("real* x, real* y, int64 length, int64 step")
def _softmax(x, y, length, step):
    partial, maxima = cuda.shared.array(THREADS, np.float64), cuda.shared.array(THREADS, real)
    t = cuda.threadIdx.x
    start = row_start(np.int64(cuda.blockIdx.x), step, length)
    largest = highest(x, start, step, length, maxima, t)
    total = np.float64(0)
    i = np.int64(t)
    while i < length:
        e = real(exp(x[start + i * step] - largest))
        y[start + i * step] = e
        total += e
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    divisor = real(partial[0])
    i = np.int64(t)
    while i < length:
        y[start + i * step] /= divisor
        i += THREADS


@kernel("real* dy, real* y, real* dx, int64 length, int64 step")
def _softmax_grad(dy, y, dx, length, step):
    partial = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    start = row_start(np.int64(cuda.blockIdx.x), step, length)
    total = np.float64(0)
    i = np.int64(t)
    while i < length:
        total += np.float64(dy[start + i * step]) * y[start + i * step]
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    projection = real(partial[0])
    i = np.int64(t)
    while i < length:
        at = start + i * step
        dx[at] = y[at] * (dy[at] - projection)
        i += THREADS


def _run(declared: Kernel, axis: int, *arrays: DeviceArray) -> None:
    first, block = arrays[0], threads(THREADS)
    length, step = first.shape[axis], prod(first.shape[axis + 1 :])
    rows = first.size // max(1, length)
    program = declared.of(real=first.dtype.name, THREADS=block)
    program.launch(first.stream, (rows,), block, *arrays, length, step)


def softmax(geometry: Extent, x: DeviceArray, y: DeviceArray, axis: int) -> None:
    """y, written whole, the shape of x; `axis` counts from the front."""
    _run(_softmax, axis, x, y)


def softmax_grad(
    geometry: Extent, dy: DeviceArray, y: DeviceArray, dx: DeviceArray, axis: int
) -> None:
    """dx, written whole, the shape of y; `axis` counts from the front."""
    _run(_softmax_grad, axis, dy, y, dx)
