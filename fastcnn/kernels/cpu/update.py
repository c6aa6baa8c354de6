"""Optimizer steps, in place; each element by itself.

    sgd         w <- w - eta dw
    momentum    v <- mu v + dw      w <- w - eta v      (Nesterov: w <- w - eta (dw + mu v))
    adam        m <- beta_1 m + (1 - beta_1) dw         v <- beta_2 v + (1 - beta_2) dw^2
                w <- w - eta / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)

Numbers come in the arrays' type: a Python float would turn the arithmetic of float32 into float64.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import CHUNK, launch_elements
from fastcnn.kernels.cpu.jit import kernel


@kernel
def _sgd_chunk(task, w, dw, eta):
    w, dw = w[task * CHUNK : (task + 1) * CHUNK], dw[task * CHUNK : (task + 1) * CHUNK]
    for i in range(len(w)):
        w[i] -= eta * dw[i]


@kernel
def _momentum_chunk(task, w, dw, v, eta, mu, nesterov):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    w, dw, v = w[start:stop], dw[start:stop], v[start:stop]
    for i in range(len(w)):
        v[i] = mu * v[i] + dw[i]
        w[i] -= eta * (dw[i] + mu * v[i] if nesterov else v[i])


@kernel
def _adam_chunk(task, w, dw, m, v, eta, beta_1, rest_1, beta_2, rest_2, correction, epsilon):
    """`rest_…` is 1 - beta_…, rounded once; eta and `correction` contain the steps' corrections."""
    start, stop = task * CHUNK, (task + 1) * CHUNK
    w, dw, m, v = w[start:stop], dw[start:stop], m[start:stop], v[start:stop]
    for i in range(len(w)):
        m[i] = beta_1 * m[i] + rest_1 * dw[i]
        v[i] = beta_2 * v[i] + rest_2 * (dw[i] * dw[i])
        w[i] -= eta * m[i] / (np.sqrt(v[i] * correction) + epsilon)


def sgd_step(geometry: Extent, w: np.ndarray, dw: np.ndarray, learning_rate: float) -> None:
    """w, updated in place."""
    launch_elements(_sgd_chunk, 3 * w.itemsize, w, dw, w.dtype.type(learning_rate))


def momentum_step(
    geometry: Extent,
    w: np.ndarray,
    dw: np.ndarray,
    velocity: np.ndarray,
    learning_rate: float,
    momentum: float,
    nesterov: bool,
) -> None:
    """w and velocity, updated in place."""
    eta, mu = w.dtype.type(learning_rate), w.dtype.type(momentum)
    launch_elements(_momentum_chunk, 5 * w.itemsize, w, dw, velocity, eta, mu, nesterov)


def adam_step(
    geometry: Extent,
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    step: int,
    learning_rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
) -> None:
    """w, m and v, updated in place."""
    numbers = (
        learning_rate / (1 - beta_1**step),
        beta_1,
        1 - beta_1,
        beta_2,
        1 - beta_2,
        1 / (1 - beta_2**step),
        epsilon,
    )
    launch_elements(_adam_chunk, 7 * w.itemsize, w, dw, m, v, *map(w.dtype.type, numbers))
