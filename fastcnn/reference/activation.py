"""Activations and their gradients; all are safe for |x| up to 1e4 and far beyond."""

from __future__ import annotations

from operator import index

import numpy as np
import numpy.typing as npt
from numpy.lib.array_utils import normalize_axis_index

from ._numerics import Array, expect_shape, float_type, load, number, quiet, store


def relu(x: npt.ArrayLike) -> Array:
    """Rectifier: 0 for x < 0, x for x >= 0; NaN stays NaN.

    SEEDS.md S2: f = 0 for x<0, x for x>=0 (S1: A1 = relu(Z1)).

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    numpy.ndarray, the shape and type of x

    Raises
    ------
    TypeError
        If x is neither float32 nor float64.
    """
    dtype, (x_,) = load(x=x)
    return store(np.where(x_ < 0, 0, x_), dtype)


def relu_grad(dy: npt.ArrayLike, x: npt.ArrayLike, at_zero: float = 1.0) -> Array:
    """Gradient of `relu` from its input x (or, if `at_zero` is 0, from its output as well).

    SEEDS.md S2: f' = 0 for x<0, 1 for x>=0 (S1: dZ1 = dA1 * relu'(Z1)).

    Parameters
    ----------
    dy, x : array_like of one shape and type, float32 or float64
    at_zero : float
        The derivative at x = 0: 1 in the lecture, 0 in other frameworks. At x = NaN it is 1.

    Returns
    -------
    numpy.ndarray, the shape and type of dy

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ.
    """
    dtype, (dy_, x_) = load(dy=dy, x=x)
    expect_shape(dy_, "dy", x_.shape, "like x")
    # dx = f'(x) dy, by selection: a derivative of 0 gives 0 even where dy is inf
    at_zero = number(at_zero, "at_zero")
    with quiet():
        at_kink = at_zero * dy_ if at_zero != 0 else np.zeros_like(dy_)
    return store(np.where(x_ < 0, 0, np.where(x_ == 0, at_kink, dy_)), dtype)


def stable_sigmoid(z: Array) -> Array:
    """The logistic function in the type of z, with no exponential of a positive number."""
    # 1 / (1 + e^-z) = e^z / (1 + e^z): the first for z >= 0, the second for z < 0
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def sigmoid(x: npt.ArrayLike) -> Array:
    """Logistic function 1 / (1 + e^-x).

    SEEDS.md S1: A2 = sigmoid(Z2) (S3: H1 = sigmoid(Z1)).

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    numpy.ndarray, the shape and type of x, in 0..1

    Raises
    ------
    TypeError
        If x is neither float32 nor float64.
    """
    dtype, (x_,) = load(x=x)
    return store(stable_sigmoid(x_), dtype)


def sigmoid_grad(dy: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `sigmoid` from its output y.

    SEEDS.md S1: dA2/dZ2 = A2 (1 - A2) (S3: dH1/dZ1 = H1 (1 - H1)).

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64

    Returns
    -------
    numpy.ndarray, the shape and type of dy

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ.
    """
    dtype, (dy_, y_) = load(dy=dy, y=y)
    expect_shape(dy_, "dy", y_.shape, "like y")
    with quiet():
        return store(dy_ * (y_ * (1 - y_)), dtype)


def tanh(x: npt.ArrayLike) -> Array:
    """Hyperbolic tangent.

    SEEDS.md S2: tanh.

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    numpy.ndarray, the shape and type of x, in -1..1

    Raises
    ------
    TypeError
        If x is neither float32 nor float64.
    """
    dtype, (x_,) = load(x=x)
    return store(np.tanh(x_), dtype)


def tanh_grad(dy: npt.ArrayLike, y: npt.ArrayLike) -> Array:
    """Gradient of `tanh` from its output y.

    SEEDS.md S2: f' = 1 - tanh^2.

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64

    Returns
    -------
    numpy.ndarray, the shape and type of dy

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ.
    """
    dtype, (dy_, y_) = load(dy=dy, y=y)
    expect_shape(dy_, "dy", y_.shape, "like y")
    # 1 - y^2 as (1 - y)(1 + y), which does not cancel where y is near 1 or -1
    with quiet():
        return store(dy_ * ((1 - y_) * (1 + y_)), dtype)


def shifted_exponentials(z: Array, axis: int) -> tuple[Array, Array, Array]:
    """z - max z, its exponential, and the sum of that along `axis` (all keep their axes)."""
    # e^{z_i} / sum e^{z_j} does not change when the largest z is taken off every z; then nothing
    # overflows and the sum is at least 1.
    with quiet():
        shifted = z - z.max(axis=axis, keepdims=True, initial=-np.inf)
        e = np.exp(shifted)
    return shifted, e, e.sum(axis=axis, keepdims=True)


def _one_axis(axis: int, array: Array) -> int:
    try:
        return normalize_axis_index(index(axis), array.ndim)
    except TypeError:
        raise TypeError(f"axis must be an int, but got {axis!r}") from None


def softmax(x: npt.ArrayLike, axis: int = -1) -> Array:
    """Softmax along one axis.

    SEEDS.md S2: s_i = e^{z_i} / sum_j e^{z_j}.

    Parameters
    ----------
    x : array_like of one dimension or more, float32 or float64
    axis : int
        The axis along which the results sum to 1.

    Returns
    -------
    numpy.ndarray, the shape and type of x, in 0..1

    Raises
    ------
    TypeError
        If x is neither float32 nor float64, or axis is no int.
    numpy.exceptions.AxisError
        If x has no such axis (a ValueError).
    """
    dtype, (x_,) = load(x=x)
    _, e, total = shifted_exponentials(x_, _one_axis(axis, x_))
    return store(e / total, dtype)


def softmax_grad(dy: npt.ArrayLike, y: npt.ArrayLike, axis: int = -1) -> Array:
    """Gradient of `softmax` from its output y: dy times the whole Jacobian.

    SEEDS.md S2: ds_i/dz_i = s_i (1 - s_i), ds_i/dz_j = -s_i s_j, so that
    dz_i = s_i (ds_i - sum_j s_j ds_j).

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64
    axis : int
        The axis of the forward.

    Returns
    -------
    numpy.ndarray, the shape and type of dy

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ, or there is no such axis.
    """
    dtype, (dy_, y_) = load(dy=dy, y=y)
    expect_shape(dy_, "dy", y_.shape, "like y")
    axis = _one_axis(axis, y_)
    with quiet():
        # dz_i = s_i (ds_i - sum_j s_j ds_j)
        return store(y_ * (dy_ - (y_ * dy_).sum(axis=axis, keepdims=True)), dtype)


def flatten(x: npt.ArrayLike) -> Array:
    """Every image as one row: (N, ...) to (N, -1).

    SEEDS.md S1: F = flatten(P1); its gradient is a reshape, dP1 = reshape(dF).

    Parameters
    ----------
    x : array_like, (N, ...), float32 or float64

    Returns
    -------
    numpy.ndarray, (N, product of the other sizes), the type of x
        A view of x where that is possible, as `numpy.reshape` gives it.

    Raises
    ------
    TypeError
        If x is neither float32 nor float64.
    ValueError
        If x has no batch axis.
    """
    array = np.asarray(x)
    dtype = float_type(array, "x")
    if array.ndim == 0:
        raise ValueError("expected x to have a batch axis, (N, ...), but got a 0-D array")
    features = int(np.prod(array.shape[1:]))
    return array.astype(dtype, copy=False).reshape(len(array), features)
