"""Optimizer steps: each changes its parameter (and its own memory) in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arguments import real, whole
from fastcnn.arrays import (
    Array,
    expect_apart,
    expect_shape,
    floats,
    may_overlap,
    moved,
    type_name,
    writable,
)
from fastcnn.geometry import Extent
from fastcnn.kernels.plans import plan


def _in_place(array: Any, name: str, like: Array | None = None) -> Array:
    """An array to be changed, in canonical form: the caller's own memory, or a copy of it."""
    working = floats(writable(array, name), name, (), like=like)
    if like is not None:
        expect_shape(working, name, like.shape, "the shape of w")
    return working


def _gradient(dw: Any, w: Array, *memory: Array) -> Array:
    dw = floats(dw, "dw", (), like=w)
    expect_shape(dw, "dw", w.shape, "the shape of w")
    # In memory that the step writes to, dw would change before it is read.
    if not any(may_overlap(dw, a) for a in (w, *memory)):
        return dw
    return dw.copy() if type(dw) is np.ndarray else dw.copied(dw.shape)


def _run(operation: str, w: Array, *arrays: Array, rates: tuple[float, ...]) -> None:
    """Run an update of w; its kernel takes the rates as an array of w's type, where w is."""
    numbers = moved(np.array(rates, w.dtype), w)
    g = Extent(w.shape)
    plan(operation, g, type_name(w), device=w.device).run(g, w, *arrays, numbers)


def _write_back(arrays: tuple[Array, ...], working: tuple[Array, ...]) -> Array:
    """Copy what was computed aside into the caller's arrays; returns the first of them."""
    for array, result in zip(arrays, working, strict=True):
        if type(result) is np.ndarray and result is not array:
            array[...] = result
    return arrays[0]


def sgd_step(w: Array, dw: Any, learning_rate: float) -> Array:
    """Plain gradient descent: w <- w - learning_rate dw (SEEDS.md S1, S3, S4).

    Parameters
    ----------
    w : ndarray of any shape and memory layout, float32 or float64
        Updated in place.
    dw : array_like, w's shape and type
    learning_rate : float

    Returns
    -------
    ndarray
        w itself.

    Raises
    ------
    TypeError
        w is no ndarray; types other than float32 and float64, or mixed types; a learning rate that
        is no number.
    ValueError
        Different shapes; a w that is read-only or has elements that share memory.

    After an error nothing has been changed.
    """
    own = _in_place(w, "w")
    dw = _gradient(dw, own)
    _run("sgd_step", own, dw, rates=(real(learning_rate, "learning_rate"),))
    return _write_back((w,), (own,))


def momentum_step(
    w: Array,
    dw: Any,
    velocity: Array,
    learning_rate: float,
    momentum: float = 0.9,
    nesterov: bool = False,
) -> Array:
    """Gradient descent along a running sum of gradients (SEEDS.md S1's step, with momentum).

    velocity <- momentum velocity + dw;  w <- w - learning_rate velocity, or, after Nesterov,
    w <- w - learning_rate (dw + momentum velocity).

    Parameters
    ----------
    w, velocity : ndarray of one shape and type, any memory layout, float32 or float64
        Updated in place; they must not overlap. The velocity starts as zeros.
    dw : array_like, w's shape and type
    learning_rate, momentum : float
    nesterov : bool

    Returns
    -------
    ndarray
        w itself.

    Raises
    ------
    TypeError, ValueError
        As `sgd_step`; a w and a velocity that share memory.
    """
    own = _in_place(w, "w")
    own_velocity = _in_place(velocity, "velocity", like=own)
    expect_apart(w=w, velocity=velocity)
    dw = _gradient(dw, own, own_velocity)
    eta, mu = real(learning_rate, "learning_rate"), real(momentum, "momentum")
    _run("momentum_step", own, dw, own_velocity, rates=(eta, mu, bool(nesterov)))
    return _write_back((w, velocity), (own, own_velocity))


def _decay(beta: Any, name: str) -> float:
    beta = real(beta, name)
    if not 0 <= beta < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, but got {beta}")
    return beta


def adam_rates(
    step: int, learning_rate: float, beta_1: float, beta_2: float, epsilon: float
) -> tuple[float, ...]:
    """The numbers of one step of Adam as its kernel takes them; errors as `adam_step`."""
    t = whole(step, "step")
    eta, eps = real(learning_rate, "learning_rate"), real(epsilon, "epsilon")
    beta_1, beta_2 = _decay(beta_1, "beta_1"), _decay(beta_2, "beta_2")
    correction_1, correction_2 = 1 - beta_1**t, 1 - beta_2**t
    return eta / correction_1, beta_1, 1 - beta_1, beta_2, 1 - beta_2, 1 / correction_2, eps


def adam_step(
    w: Array,
    dw: Any,
    m: Array,
    v: Array,
    step: int,
    learning_rate: float = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-7,
) -> Array:
    """One step of Adam (Kingma and Ba 2015, algorithm 1; SEEDS.md S1's step, with its rates).

    m <- beta_1 m + (1 - beta_1) dw,  v <- beta_2 v + (1 - beta_2) dw^2,
    w <- w - learning_rate (m / (1 - beta_1^step)) / (sqrt(v / (1 - beta_2^step)) + epsilon).

    Parameters
    ----------
    w, m, v : ndarray of one shape and type, any memory layout, float32 or float64
        Updated in place; they must not overlap. m and v start as zeros.
    dw : array_like, w's shape and type
    step : int
        The number of this step, counted from 1.
    learning_rate, beta_1, beta_2, epsilon : float
        beta_1 and beta_2 are at least 0 and below 1.

    Returns
    -------
    ndarray
        w itself.

    Raises
    ------
    TypeError, ValueError
        As `sgd_step`; arrays that share memory; a step that is no int or below 1; a beta out of
        its range.
    """
    own = _in_place(w, "w")
    own_m, own_v = _in_place(m, "m", like=own), _in_place(v, "v", like=own)
    expect_apart(w=w, m=m, v=v)
    dw = _gradient(dw, own, own_m, own_v)
    rates = adam_rates(step, learning_rate, beta_1, beta_2, epsilon)
    _run("adam_step", own, dw, own_m, own_v, rates=rates)
    return _write_back((w, m, v), (own, own_m, own_v))
