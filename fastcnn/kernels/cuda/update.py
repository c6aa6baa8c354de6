"""Optimizer steps, in place; each element by itself.

    sgd         w <- w - eta dw
    momentum    v <- mu v + dw      w <- w - eta v      (Nesterov: w <- w - eta (dw + mu v))
    adam        m <- beta_1 m + (1 - beta_1) dw         v <- beta_2 v + (1 - beta_2) dw^2
                w <- w - eta / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)

The numbers (rates) are an array on the device, so that a captured graph can be run again with
others; their order is that of kernels/cpu/update.py.
"""

from __future__ import annotations

from math import sqrt

from fastcnn.geometry import Extent
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import element, launch_elements
from fastcnn.kernels.cuda.target import kernel, real


@kernel("real* w, real* dw, real* rates, int64 n")
def _sgd(w, dw, rates, n):
    i = element()
    if i < n:
        w[i] -= rates[0] * dw[i]


@kernel("real* w, real* dw, real* v, real* rates, int64 n")
def _momentum(w, dw, v, rates, n):
    i = element()
    if i < n:
        eta, mu, slope = rates[0], rates[1], dw[i]
        velocity = mu * v[i] + slope
        v[i] = velocity
        w[i] -= eta * (slope + mu * velocity if rates[2] != real(0) else velocity)


@kernel("real* w, real* dw, real* m, real* v, real* rates, int64 n")
def _adam(w, dw, m, v, rates, n):
    i = element()
    if i < n:
        slope = dw[i]
        first = rates[1] * m[i] + rates[2] * slope
        second = rates[3] * v[i] + rates[4] * (slope * slope)
        m[i], v[i] = first, second
        w[i] -= rates[0] * first / (real(sqrt(second * rates[5])) + rates[6])


def sgd_step(geometry: Extent, w: DeviceArray, dw: DeviceArray, rates: DeviceArray) -> None:
    """w, updated in place."""
    launch_elements(_sgd.of(real=w.dtype.name), w.stream, w.size, w, dw, rates, w.size)


def momentum_step(
    geometry: Extent, w: DeviceArray, dw: DeviceArray, velocity: DeviceArray, rates: DeviceArray
) -> None:
    """w and velocity, updated in place."""
    program = _momentum.of(real=w.dtype.name)
    launch_elements(program, w.stream, w.size, w, dw, velocity, rates, w.size)


def adam_step(
    geometry: Extent,
    w: DeviceArray,
    dw: DeviceArray,
    m: DeviceArray,
    v: DeviceArray,
    rates: DeviceArray,
) -> None:
    """w, m and v, updated in place."""
    program = _adam.of(real=w.dtype.name)
    launch_elements(program, w.stream, w.size, w, dw, m, v, rates, w.size)
