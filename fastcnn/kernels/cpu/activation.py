"""Activations and their gradients, in strict arithmetic: NaN and infinities stay what they are.

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
from fastcnn.kernels.cpu.threads import launch


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
        e = np.exp(-abs(x[i]))
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
        y[i] = np.tanh(x[i])


@exact
def _tanh_grad_chunk(task, dy, y, dx):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    dy, y, dx = dy[start:stop], y[start:stop], dx[start:stop]
    one = y.dtype.type(1)
    for i in range(len(y)):
        # 1 - y^2 without the cancellation near y = 1
        dx[i] = dy[i] * ((one - y[i]) * (one + y[i]))


@exact
def _softmax_chunk(task, x, y, rows, length, step, share):
    """`share` rows of `length` elements each, which lie `step` apart in memory.

    Along the last axis step is 1; along another, `step` rows lie interleaved.
    """
    for row in range(task * share, min((task + 1) * share, rows)):
        start = row // step * step * length + row % step
        x_row, y_row = x[start:], y[start:]
        # e^(x_i - max x) has the same ratios, and none of it overflows
        largest = x_row[0]
        for i in range(length):
            largest = x_row[i * step] if x_row[i * step] > largest else largest
        # in float32, a row of 5000 would sum with an error of 1e-5: all its terms have one sign
        total = np.float64(0)
        for i in range(length):
            e = np.exp(x_row[i * step] - largest)
            y_row[i * step] = e
            total += e
        divisor = x.dtype.type(total)
        for i in range(length):
            y_row[i * step] /= divisor


@exact
def _softmax_grad_chunk(task, dy, y, dx, rows, length, step, share):
    for row in range(task * share, min((task + 1) * share, rows)):
        start = row // step * step * length + row % step
        dy_row, y_row, dx_row = dy[start:], y[start:], dx[start:]
        total = np.float64(0)
        for i in range(length):
            total += dy_row[i * step] * y_row[i * step]
        projection = y.dtype.type(total)
        for i in range(length):
            dx_row[i * step] = y_row[i * step] * (dy_row[i * step] - projection)


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


def _launch_rows(chunk: Any, work: int, axis: int, *arrays: np.ndarray) -> None:
    """Launch a softmax kernel over the rows of `arrays` along `axis`."""
    shape, size = arrays[0].shape, arrays[0].size
    length, step = shape[axis], prod(shape[axis + 1 :])
    rows, share = size // max(1, length), rows_per_chunk(length)
    flat = [a.reshape(-1) for a in arrays]
    launch(chunk, -(-rows // share), work * size, *flat, rows, length, step, share)


def softmax(geometry: Extent, x: np.ndarray, y: np.ndarray, axis: int) -> None:
    """y, written whole, the shape of x; `axis` counts from the front."""
    _launch_rows(_softmax_chunk, TRANSCENDENTAL, axis, x, y)


def softmax_grad(
    geometry: Extent, dy: np.ndarray, y: np.ndarray, dx: np.ndarray, axis: int
) -> None:
    """dx, written whole, the shape of y; `axis` counts from the front."""
    _launch_rows(_softmax_grad_chunk, 3 * y.itemsize, axis, dy, y, dx)
