"""Activations and their gradients: NaN and infinities stay what they are.

    relu       y = 0 for x < 0, else x           dx = 0 for x < 0, at_zero dy for x = 0, else dy
    sigmoid    y = 1 / (1 + e^-x)                dx = dy y (1 - y)
    tanh       y = (e^x - e^-x) / (e^x + e^-x)   dx = dy (1 - y^2)
    softmax    y_i = e^(x_i) / sum_j e^(x_j)     dx_i = y_i (dy_i - sum_j dy_j y_j)

Literals take the arrays' type: a plain 1.0 would turn the arithmetic of float32 into float64.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import CHUNK, TRANSCENDENTAL, launch_elements, rows_per_chunk
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.row_vectors import LANES, exponentials, highest, multiply
from fastcnn.kernels.cpu.rows import add_products, add_up
from fastcnn.kernels.cpu.rows import highest as highest_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.transcendental import exp_below_zero
from fastcnn.kernels.cpu.transcendental import tanh as tanh_of


@exact
def _relu_chunk(task, x, y):
    x, y = x[task * CHUNK : (task + 1) * CHUNK], y[task * CHUNK : (task + 1) * CHUNK]
    zero = x.dtype.type(0)
    for i in range(len(x)):
        y[i] = zero if x[i] < zero else x[i]


@exact
def _relu_grad_chunk(task, dy, x, dx, at_zero):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    dy, x, dx = dy[start:stop], x[start:stop], dx[start:stop]
    zero = x.dtype.type(0)
    for i in range(len(x)):
        # a derivative of 0 gives 0 even where dy is infinite
        at_kink = zero if at_zero == zero else at_zero * dy[i]
        above = at_kink if x[i] == zero else dy[i]
        dx[i] = zero if x[i] < zero else above


@exact
def _sigmoid_chunk(task, x, y):
    x, y = x[task * CHUNK : (task + 1) * CHUNK], y[task * CHUNK : (task + 1) * CHUNK]
    zero, one = x.dtype.type(0), x.dtype.type(1)
    for i in range(len(x)):
        # 1 / (1 + e^-x) = e^x / (1 + e^x): whichever takes the exponential of a negative number
        e = exp_below_zero(-abs(x[i]))
        y[i] = (one if x[i] >= zero else e) / (one + e)


@exact
def _sigmoid_grad_chunk(task, dy, y, dx):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    dy, y, dx = dy[start:stop], y[start:stop], dx[start:stop]
    one = y.dtype.type(1)
    for i in range(len(y)):
        dx[i] = dy[i] * (y[i] * (one - y[i]))


@exact
def _tanh_chunk(task, x, y):
    x, y = x[task * CHUNK : (task + 1) * CHUNK], y[task * CHUNK : (task + 1) * CHUNK]
    for i in range(len(x)):
        y[i] = tanh_of(x[i])


@exact
def _tanh_grad_chunk(task, dy, y, dx):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    dy, y, dx = dy[start:stop], y[start:stop], dx[start:stop]
    one = y.dtype.type(1)
    for i in range(len(y)):
        # 1 - y^2 without the cancellation near y = 1
        dx[i] = dy[i] * ((one - y[i]) * (one + y[i]))


@exact
def _softmax_rows(task, x, y, rows, length, share):
    """`share` rows of `length` elements each, one after the other in memory."""
    first, last = task * share, min((task + 1) * share, rows)
    x, y = x[first * length : last * length], y[first * length : last * length]
    # e^(x_i - max x) has the same ratios, and none of it overflows. Sums in float64: in float32, a
    # row of 5000 would sum with an error of 1e-5, for all its terms have one sign.
    if length >= LANES:
        one = x.dtype.type(1)
        for start in range(0, len(x), length):
            total = exponentials(x, start, length, highest(x, start, length), y)
            # a division per element would take a fifth of the time
            multiply(y, start, length, one / x.dtype.type(total))
        return
    for start in range(0, len(x), length):
        x_row, y_row = x[start : start + length], y[start : start + length]
        largest = highest_of(x_row)
        for i in range(length):
            y_row[i] = x_row[i] - largest
    # of all rows at once: short rows alone would fill no vectors
    for i in range(len(y)):
        y[i] = exp_below_zero(y[i])
    for start in range(0, len(x), length):
        y_row = y[start : start + length]
        divisor = x.dtype.type(add_up(y_row))
        for i in range(length):
            y_row[i] /= divisor


@exact
def _softmax_columns(task, x, y, rows, length, share, step):
    """As `_softmax_rows`, for rows whose elements lie `step` apart: `step` rows lie interleaved."""
    largest, divisor = np.empty(share, x.dtype), np.empty(share, x.dtype)
    totals = np.empty(share, np.float64)
    row, last = task * share, min((task + 1) * share, rows)
    while row < last:
        # rows that lie side by side
        start, count = row // step * step * length + row % step, min(step - row % step, last - row)
        row += count
        largest[:count], totals[:count] = x[start : start + count], 0
        for at in range(start + step, start + length * step, step):
            x_at = x[at : at + count]
            for j in range(count):
                largest[j] = x_at[j] if x_at[j] > largest[j] else largest[j]
        for at in range(start, start + length * step, step):
            x_at, y_at = x[at : at + count], y[at : at + count]
            for j in range(count):
                e = exp_below_zero(x_at[j] - largest[j])
                y_at[j] = e
                totals[j] += e
        for j in range(count):
            divisor[j] = totals[j]
        for at in range(start, start + length * step, step):
            y_at = y[at : at + count]
            for j in range(count):
                y_at[j] /= divisor[j]


@exact
def _softmax_grad_rows(task, dy, y, dx, rows, length, share):
    for row in range(task * share, min((task + 1) * share, rows)):
        start, stop = row * length, (row + 1) * length
        dy_row, y_row, dx_row = dy[start:stop], y[start:stop], dx[start:stop]
        projection = y.dtype.type(add_products(dy_row, y_row))
        for i in range(length):
            dx_row[i] = y_row[i] * (dy_row[i] - projection)


@exact
def _softmax_grad_columns(task, dy, y, dx, rows, length, share, step):
    projection, totals = np.empty(share, y.dtype), np.empty(share, np.float64)
    row, last = task * share, min((task + 1) * share, rows)
    while row < last:
        start, count = row // step * step * length + row % step, min(step - row % step, last - row)
        row += count
        totals[:count] = 0
        for at in range(start, start + length * step, step):
            dy_at, y_at = dy[at : at + count], y[at : at + count]
            for j in range(count):
                totals[j] += dy_at[j] * y_at[j]
        for j in range(count):
            projection[j] = totals[j]
        for at in range(start, start + length * step, step):
            dy_at, y_at, dx_at = dy[at : at + count], y[at : at + count], dx[at : at + count]
            for j in range(count):
                dx_at[j] = y_at[j] * (dy_at[j] - projection[j])


def relu(geometry: Extent, x: np.ndarray, y: np.ndarray) -> None:
    """y, written whole, the shape of x."""
    launch_elements(_relu_chunk, 2 * x.itemsize, x, y)


def relu_grad(
    geometry: Extent, dy: np.ndarray, x: np.ndarray, dx: np.ndarray, at_zero: float
) -> None:
    """dx, written whole, the shape of x."""
    launch_elements(_relu_grad_chunk, 3 * x.itemsize, dy, x, dx, x.dtype.type(at_zero))


def sigmoid(geometry: Extent, x: np.ndarray, y: np.ndarray) -> None:
    """y, written whole, the shape of x."""
    launch_elements(_sigmoid_chunk, TRANSCENDENTAL, x, y)


def sigmoid_grad(geometry: Extent, dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    """dx, written whole, the shape of y."""
    launch_elements(_sigmoid_grad_chunk, 3 * y.itemsize, dy, y, dx)


def tanh(geometry: Extent, x: np.ndarray, y: np.ndarray) -> None:
    """y, written whole, the shape of x."""
    launch_elements(_tanh_chunk, TRANSCENDENTAL, x, y)


def tanh_grad(geometry: Extent, dy: np.ndarray, y: np.ndarray, dx: np.ndarray) -> None:
    """dx, written whole, the shape of y."""
    launch_elements(_tanh_grad_chunk, 3 * y.itemsize, dy, y, dx)


# Columns that a chunk of softmax does at the least, however long they are: eight cache lines of
# each of their rows.
_FEWEST_COLUMNS = 128


def _launch_softmax(chunks: tuple[Any, Any], work: int, axis: int, *arrays: np.ndarray) -> None:
    """Launch a softmax kernel, of rows or of columns, over `arrays` along `axis`."""
    shape, size = arrays[0].shape, arrays[0].size
    length, step = shape[axis], prod(shape[axis + 1 :])
    rows, share = size // max(1, length), rows_per_chunk(length)
    flat = [a.reshape(-1) for a in arrays]
    if step == 1:
        launch(chunks[0], -(-rows // share), work * size, *flat, rows, length, share)
    else:
        share = max(share, _FEWEST_COLUMNS)
        launch(chunks[1], -(-rows // share), work * size, *flat, rows, length, share, step)


def softmax(geometry: Extent, x: np.ndarray, y: np.ndarray, axis: int) -> None:
    """y, written whole, the shape of x; `axis` counts from the front."""
    _launch_softmax((_softmax_rows, _softmax_columns), TRANSCENDENTAL, axis, x, y)


def softmax_grad(
    geometry: Extent, dy: np.ndarray, y: np.ndarray, dx: np.ndarray, axis: int
) -> None:
    """dx, written whole, the shape of y; `axis` counts from the front."""
    chunks = _softmax_grad_rows, _softmax_grad_columns
    _launch_softmax(chunks, 3 * y.itemsize, axis, dy, y, dx)
