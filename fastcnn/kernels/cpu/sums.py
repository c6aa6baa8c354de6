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
from fastcnn.kernels.cpu.plane_sums import plane_sum
from fastcnn.kernels.cpu.threads import launch

# Columns that one chunk adds up row by row: 4 KB of float64 sums stay in L1.
_COLUMNS = 512
# Elements of a task at the least, and tasks that keep a few threads evenly busy.
TASK_ELEMENTS = 16384
FEW_TASKS = 8


@kernel
def _planes_chunk(task, dy, db, n, filters, pixels, some):
    """db[k] for `some` filters k: all elements of the filter's planes."""
    for k in range(task * some, min(filters, (task + 1) * some)):
        db[k] = plane_sum(dy, k * pixels, filters * pixels, n, pixels)


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


# What a kernel that can add up dy is given where nobody asks for that.
NO_SUMS = np.empty(0)


def nothing(dw: np.ndarray, db: np.ndarray | None) -> None:
    """The gradients of no image's parameters."""
    for gradient in (dw,) if db is None else (dw, db):
        gradient.fill(0)


def sums_for(db: np.ndarray | None, spans: int) -> np.ndarray:
    """Room for what each span of a weight gradient's work adds up of dy; none if db is None."""
    return NO_SUMS if db is None else np.empty(spans * db.size)


def add_spans(spans: int, sums: np.ndarray, db: np.ndarray | None) -> None:
    """db, if there is one, from the sums of the spans."""
    if db is not None:
        sum_rows(spans, db.size, sums, db)


def conv2d_bias_grad(geometry: Extent, dy: np.ndarray, db: np.ndarray) -> None:
    """db (K,) or (K, P, Q), written whole, from dy (N, K, P, Q)."""
    n, k, p, q = geometry.shape
    if db.ndim == 1 and p * q != 1:  # planes of one element are rows
        # Neighbours in memory, so that one task fetches what it reads next; few of them, so that
        # threads are evenly busy.
        some = max(1, min(k // FEW_TASKS, TASK_ELEMENTS // max(1, n * p * q)))
        launch(_planes_chunk, -(-k // some), dy.size, dy.reshape(-1), db, n, k, p * q, some)
    else:
        sum_rows(n, k * p * q, dy, db)


def dense_bias_grad(geometry: Extent, dy: np.ndarray, db: np.ndarray) -> None:
    """db (O,), written whole, from dy (N, O)."""
    n, o = geometry.shape
    sum_rows(n, o, dy, db)


def workspace(operation: str, geometry: Extent, itemsize: int) -> int:
    """Bytes of float64 sums that one thread allocates at the most."""
    return 8 * min(_COLUMNS, prod(geometry.shape[1:]))
