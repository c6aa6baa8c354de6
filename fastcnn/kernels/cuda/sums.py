"""Long sums, in float64 and in a fixed order: the gradients of biases.

conv2d_bias_grad   db[k] = sum over n, p, q of dY[n, k, p, q]        one block per filter
                   db[k, p, q] = sum over n of dY[n, k, p, q]        one thread per pixel
dense_bias_grad    db[o] = sum over n of dY[n, o]                    one thread per output
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import add_up, element, launch_elements, threads
from fastcnn.kernels.cuda.target import cuda, kernel

THREADS = 256


@kernel("real* dy, real* db, int32 N, int32 K, int64 pixels")
def _planes(dy, db, N, K, pixels):
    partial = cuda.shared.array(THREADS, np.float64)
    t, k = cuda.threadIdx.x, cuda.blockIdx.x
    total = np.float64(0)
    for n in range(N):
        plane = (np.int64(n) * K + k) * pixels
        i = np.int64(t)
        while i < pixels:
            total += dy[plane + i]
            i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    if t == 0:
        db[k] = partial[0]


@kernel("real* dy, real* db, int64 N, int64 width")
def _rows(dy, db, N, width):
    j = element()
    if j < width:
        total = np.float64(0)
        for n in range(N):
            total += dy[n * width + j]
        db[j] = total


def sum_rows(dy: DeviceArray, db: DeviceArray) -> None:
    """db = the sum of dy over its first axis."""
    rows, width = dy.shape[0], prod(dy.shape[1:])
    launch_elements(_rows.of(real=dy.dtype.name), dy.stream, width, dy, db, rows, width)


def conv2d_bias_grad(geometry: Extent, dy: DeviceArray, db: DeviceArray) -> None:
    """db (K,) or (K, P, Q), written whole, from dy (N, K, P, Q)."""
    n, k, p, q = geometry.shape
    if db.ndim > 1:
        sum_rows(dy, db)
        return
    block = threads(THREADS)
    program = _planes.of(real=dy.dtype.name, THREADS=block)
    program.launch(dy.stream, (k,), block, dy, db, n, k, p * q)


def dense_bias_grad(geometry: Extent, dy: DeviceArray, db: DeviceArray) -> None:
    """db (O,), written whole, from dy (N, O)."""
    sum_rows(dy, db)
