"""Optimizer steps: each changes its parameter (and its own memory) in place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._axes import integers
from ._numerics import Array, expect_shape, load, number, quiet, store


def _check_in_place(**arrays: Array) -> None:
    names = iter(arrays)
    first = next(names)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise TypeError(
                f"expected {name} to be a numpy.ndarray, which is updated in place, "
                f"but got {type(array).__name__}"
            )
        if not array.flags.writeable:
            raise ValueError(f"{name} is read-only, but is updated in place: pass {name}.copy()")
        expect_shape(array, name, arrays[first].shape, f"like {first}")


def sgd_step(w: Array, dw: npt.ArrayLike, learning_rate: float) -> Array:
    """Plain gradient descent.

    SEEDS.md S1: theta <- theta - eta dtheta (S3: w <- w - alpha dw; S4: K <- K - alpha dK).

    Parameters
    ----------
    w : numpy.ndarray of any shape, float32 or float64
        Updated in place.
    dw : array_like, the shape and type of w
    learning_rate : float

    Returns
    -------
    numpy.ndarray
        w itself.

    Raises
    ------
    TypeError
        If w is no array, or the types are not one of float32 and float64.
    ValueError
        If the shapes differ or w is read-only.
    """
    _check_in_place(w=w)
    dtype, (w_, dw_) = load(w=w, dw=dw)
    expect_shape(dw_, "dw", w.shape, "like w")
    eta = number(learning_rate, "learning_rate")
    with quiet():
        w[...] = store(w_ - eta * dw_, dtype)
    return w


def momentum_step(
    w: Array,
    dw: npt.ArrayLike,
    velocity: Array,
    learning_rate: float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Array:
    """Gradient descent with momentum.

    SEEDS.md S1's step theta <- theta - eta dtheta, along a running sum of gradients:
    v <- momentum v + dw; w <- w - eta v, or, after Nesterov, w <- w - eta (dw + momentum v).

    Parameters
    ----------
    w, velocity : numpy.ndarray of one shape, float32 or float64
        Updated in place; velocity starts as zeros.
    dw : array_like, the shape and type of w
    learning_rate, momentum : float
    nesterov : bool

    Returns
    -------
    numpy.ndarray
        w itself.

    Raises
    ------
    TypeError, ValueError
        As `sgd_step`.
    """
    _check_in_place(w=w, velocity=velocity)
    dtype, (w_, dw_, v) = load(w=w, dw=dw, velocity=velocity)
    expect_shape(dw_, "dw", w.shape, "like w")
    eta, mu = number(learning_rate, "learning_rate"), number(momentum, "momentum")
    with quiet():
        v = mu * v + dw_
        direction = dw_ + mu * v if nesterov else v
        velocity[...] = store(v, dtype)
        w[...] = store(w_ - eta * direction, dtype)
    return w


def _decay(beta: float, name: str) -> float:
    beta = number(beta, name)
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, but got {beta}")
    return beta


def adam_step(
    w: Array,
    dw: npt.ArrayLike,
    m: Array,
    v: Array,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> Array:
    """One step of Adam (Kingma and Ba 2015, algorithm 1).

    SEEDS.md S1's step theta <- theta - eta dtheta, along bias-corrected running means:
    m <- beta_1 m + (1 - beta_1) dw,  v <- beta_2 v + (1 - beta_2) dw^2,
    w <- w - eta (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon).

    Parameters
    ----------
    w, m, v : numpy.ndarray of one shape, float32 or float64
        Updated in place; m and v start as zeros.
    dw : array_like, the shape and type of w
    step : int
        t, the number of this step, counted from 1.
    learning_rate, beta_1, beta_2, epsilon : float

    Returns
    -------
    numpy.ndarray
        w itself.

    Raises
    ------
    TypeError
        As `sgd_step`.
    ValueError
        As `sgd_step`, if step is below 1, or a beta not at least 0 and below 1.
    """
    _check_in_place(w=w, m=m, v=v)
    (step,) = integers(step, "step", (1,), least=1)
    dtype, (w_, dw_, m_, v_) = load(w=w, dw=dw, m=m, v=v)
    expect_shape(dw_, "dw", w.shape, "like w")
    eta, eps = number(learning_rate, "learning_rate"), number(epsilon, "epsilon")
    beta_1, beta_2 = _decay(beta_1, "beta_1"), _decay(beta_2, "beta_2")
    with quiet():
        m_ = beta_1 * m_ + (1 - beta_1) * dw_
        v_ = beta_2 * v_ + (1 - beta_2) * dw_ * dw_
        m_hat = m_ / (1 - beta_1**step)
        v_hat = v_ / (1 - beta_2**step)
        m[...] = store(m_, dtype)
        v[...] = store(v_, dtype)
        w[...] = store(w_ - eta * m_hat / (np.sqrt(v_hat) + eps), dtype)
    return w
