"""Activations, their gradients and copies: each element by itself.

    relu       y = 0 for x < 0, else x           dx = 0 for x < 0, at_zero dy for x = 0, else dy
    sigmoid    y = 1 / (1 + e^-x)                dx = dy y (1 - y)
    tanh       y = (e^x - e^-x) / (e^x + e^-x)   dx = dy (1 - y^2)

A thread takes EACH elements, a block's width apart, and loads them all before it stores the first:
with one element per thread, the loads under way would cover a third of the memory's latency.
"""

from __future__ import annotations

from math import exp
from math import tanh as tanh_of
from typing import Any

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import threads
from fastcnn.kernels.cuda.target import Kernel, cuda, helper, kernel, real

EACH = 4


@helper
def _copied(x):
    return x


@helper
def _rectified(x):
    return real(0) if x < real(0) else x


@helper
def logistic(x):
    """1 / (1 + e^-x) = e^x / (1 + e^x): whichever takes the exponential of a negative number."""
    e = real(exp(-abs(x)))
    return (real(1) if x >= real(0) else e) / (real(1) + e)


@helper
def _tanh(x):
    return real(tanh_of(x))


@helper
def _relu_slope(dy, x, at_zero):
    # a derivative of 0 gives 0 even where dy is infinite
    at_kink = real(0) if at_zero == real(0) else at_zero * dy
    above = at_kink if x == real(0) else dy
    return real(0) if x < real(0) else above


@helper
def _sigmoid_slope(dy, y, unused):
    return dy * (y * (real(1) - y))


@helper
def _tanh_slope(dy, y, unused):
    # 1 - y^2 without the cancellation near y = 1
    return dy * ((real(1) - y) * (real(1) + y))


# Settled with the program: one of the formulas above, or of those of losses.
formula: Any = _copied


@helper
def _own(e):
    """The number of this thread's element e."""
    width = np.int64(cuda.blockDim.x)
    return (np.int64(cuda.blockIdx.x) * EACH + e) * width + cuda.threadIdx.x


@kernel("real* x, real* y, int64 n")
def _from_one(x, y, n):
    own = cuda.local.array(EACH, real)
    for e in range(EACH):
        if _own(e) < n:
            own[e] = x[_own(e)]
    for e in range(EACH):
        if _own(e) < n:
            y[_own(e)] = formula(own[e])


@kernel("real* a, real* b, real* y, int64 n, real number")
def _from_two(a, b, y, n, number):
    first, second = cuda.local.array(EACH, real), cuda.local.array(EACH, real)
    for e in range(EACH):
        if _own(e) < n:
            first[e] = a[_own(e)]
            second[e] = b[_own(e)]
    for e in range(EACH):
        if _own(e) < n:
            y[_own(e)] = formula(first[e], second[e], number)


def _run(declared: Kernel, by: Any, *arrays: DeviceArray, numbers: tuple[float, ...] = ()) -> None:
    written, block = arrays[-1], threads()
    blocks = -(-written.size // (block * EACH))
    program = declared.of(real=written.dtype.name, formula=by)
    program.launch(arrays[0].stream, (blocks,), block, *arrays, written.size, *numbers)


def from_two(by: Any, a: DeviceArray, b: DeviceArray, y: DeviceArray, number: float = 0.0) -> None:
    """y = by(a, b, number), element by element, for arrays of one size and type."""
    _run(_from_two, by, a, b, y, numbers=(number,))


def copy(x: DeviceArray, y: DeviceArray) -> None:
    """y = x, of one size and type, whatever their shapes."""
    _run(_from_one, _copied, x, y)


def relu(geometry: Extent, x: DeviceArray, y: DeviceArray) -> None:
    """y, written whole, the shape of x."""
    _run(_from_one, _rectified, x, y)


def relu_grad(
    geometry: Extent, dy: DeviceArray, x: DeviceArray, dx: DeviceArray, at_zero: float
) -> None:
    """dx, written whole, the shape of x."""
    from_two(_relu_slope, dy, x, dx, at_zero)


def sigmoid(geometry: Extent, x: DeviceArray, y: DeviceArray) -> None:
    """y, written whole, the shape of x."""
    _run(_from_one, logistic, x, y)


def sigmoid_grad(geometry: Extent, dy: DeviceArray, y: DeviceArray, dx: DeviceArray) -> None:
    """dx, written whole, the shape of y."""
    from_two(_sigmoid_slope, dy, y, dx)


def tanh(geometry: Extent, x: DeviceArray, y: DeviceArray) -> None:
    """y, written whole, the shape of x."""
    _run(_from_one, _tanh, x, y)


def tanh_grad(geometry: Extent, dy: DeviceArray, y: DeviceArray, dx: DeviceArray) -> None:
    """dx, written whole, the shape of y."""
    from_two(_tanh_slope, dy, y, dx)
