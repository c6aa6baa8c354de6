"""Long sums, in float64 and in a fixed order: the gradients of biases.

conv2d_bias_grad   db[k] = sum over n, p, q of dY[n, k, p, q]        (one bias per filter)
                   db[k, p, q] = sum over n of dY[n, k, p, q]        (one per output pixel)
dense_bias_grad    db[o] = sum over n of dY[n, o]
"""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import launch

# Columns that one chunk adds up row by row: 4 KB of float64 sums stay in L1.
_COLUMNS = 512


@kernel
def _planes_chunk(k, dy, db, n, filters, pixels):
    """db[k]: all elements of filter k's planes."""
    total = np.float64(0)  # a plain 0.0 gives way to float32 where Numba is turned off
    for image in range(n):
        plane = dy[(image * filters + k) * pixels :]
        for i in range(pixels):
            total += plane[i]
    db[k] = total


@kernel
def _rows_chunk(block, dy, db, n, width):
    """db[j] for a block of columns j of an (n, width) array, row after row."""
    j0 = block * _COLUMNS
    count = min(_COLUMNS, width - j0)
    totals = np.zeros(count, np.float64)
    for i in range(n):
        row = dy[i * width + j0 :]
        for j in range(count):
            totals[j] += row[j]
    for j in range(count):
        db[j0 + j] = totals[j]


def sum_rows(n: int, width: int, dy: np.ndarray, db: np.ndarray) -> None:
    """db (width elements) = the sum of dy's n rows."""
    launch(_rows_chunk, -(-width // _COLUMNS), dy.size, dy.reshape(-1), db.reshape(-1), n, width)


def conv2d_bias_grad(geometry: Extent, dy: np.ndarray, db: np.ndarray) -> None:
    """db (K,) or (K, P, Q), written whole, from dy (N, K, P, Q)."""
    n, k, p, q = geometry.shape
    if db.ndim == 1:
        launch(_planes_chunk, k, dy.size, dy.reshape(-1), db, n, k, p * q)
    else:
        sum_rows(n, k * p * q, dy, db)


def dense_bias_grad(geometry: Extent, dy: np.ndarray, db: np.ndarray) -> None:
    """db (O,), written whole, from dy (N, O)."""
    n, o = geometry.shape
    sum_rows(n, o, dy, db)


def workspace(operation: str, geometry: Extent, itemsize: int) -> int:
    """Bytes of float64 sums that one thread allocates at the most."""
    return 8 * min(_COLUMNS, prod(geometry.shape[1:]))
