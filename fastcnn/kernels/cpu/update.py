"""Optimizer steps, in place; each element by itself.

    sgd         w <- w - eta dw
    momentum    v <- mu v + dw      w <- w - eta v      (Nesterov: w <- w - eta (dw + mu v))
    adam        m <- beta_1 m + (1 - beta_1) dw         v <- beta_2 v + (1 - beta_2) dw^2
                w <- w - eta / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)

The numbers (rates) come in an array of the parameters' type, so that arithmetic in float32 stays in
float32, and so that a recorded launch, whose last argument it is, can be repeated with others.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import CHUNK, launch_elements
from fastcnn.kernels.cpu.jit import kernel


@kernel
def _sgd_chunk(task, w, dw, rates):
    """rates = (eta)."""
    w, dw = w[task * CHUNK : (task + 1) * CHUNK], dw[task * CHUNK : (task + 1) * CHUNK]
    eta = rates[0]
    for i in range(len(w)):
        w[i] -= eta * dw[i]


@kernel
def _momentum_chunk(task, w, dw, v, rates):
    """rates = (eta, mu, not 0 for Nesterov's rule)."""
    start, stop = task * CHUNK, (task + 1) * CHUNK
    w, dw, v = w[start:stop], dw[start:stop], v[start:stop]
    eta, mu, nesterov = rates[0], rates[1], rates[2] != 0
    for i in range(len(w)):
        v[i] = mu * v[i] + dw[i]
        w[i] -= eta * (dw[i] + mu * v[i] if nesterov else v[i])


@kernel
def _adam_chunk(task, w, dw, m, v, rates):
    """rates = (eta / (1 - beta_1^t), beta_1, 1 - beta_1, beta_2, 1 - beta_2, 1 / (1 - beta_2^t),
    epsilon), each rounded once.
    """
    start, stop = task * CHUNK, (task + 1) * CHUNK
    w, dw, m, v = w[start:stop], dw[start:stop], m[start:stop], v[start:stop]
    eta, beta_1, rest_1, beta_2, rest_2 = rates[0], rates[1], rates[2], rates[3], rates[4]
    correction, epsilon = rates[5], rates[6]
    for i in range(len(w)):
        m[i] = beta_1 * m[i] + rest_1 * dw[i]
        v[i] = beta_2 * v[i] + rest_2 * (dw[i] * dw[i])
        w[i] -= eta * m[i] / (np.sqrt(v[i] * correction) + epsilon)


def sgd_step(geometry: Extent, w: np.ndarray, dw: np.ndarray, rates: np.ndarray) -> None:
    """w, updated in place."""
    launch_elements(_sgd_chunk, 3 * w.itemsize, w, dw, rates)


def momentum_step(
    geometry: Extent, w: np.ndarray, dw: np.ndarray, velocity: np.ndarray, rates: np.ndarray
) -> None:
    """w and velocity, updated in place."""
    launch_elements(_momentum_chunk, 5 * w.itemsize, w, dw, velocity, rates)


def adam_step(
    geometry: Extent,
    w: np.ndarray,
    dw: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    rates: np.ndarray,
) -> None:
    """w, m and v, updated in place."""
    launch_elements(_adam_chunk, 7 * w.itemsize, w, dw, m, v, rates)
