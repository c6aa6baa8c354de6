"""Activations and their gradients: every check, allocation and dispatch of them."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fastcnn.arguments import axis_of, real
from fastcnn.arrays import Array, empty, expect_shape, floats, given_back, type_name
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import Extent
from fastcnn.kernels.plans import plan


def _options(given: dict[str, Any], dimensions: int) -> dict[str, Any]:
    """What an implementation takes besides arrays, as the caller gave it, checked."""
    read: dict[str, Callable[[Any], Any]] = {
        "axis": lambda axis: axis_of(axis, dimensions),
        "at_zero": lambda number: real(number, "at_zero"),
    }
    return {name: read[name](value) for name, value in given.items()}


def _forward(operation: str, x: Any, **given: Any) -> Array:
    """Run an operation that takes x and returns an array of its shape."""
    parameters = tuple(given.values())
    results = repeated(operation, parameters, x)
    if results is not None:
        return results[0]
    x = floats(x, "x", ())
    options = _options(given, x.ndim)
    y = empty(x.shape, x.dtype, x)
    chosen = plan(operation, Extent(x.shape), type_name(x), device=x.device)
    perform(chosen, parameters, (x,), (y,), **options)
    return given_back(y)


def _backward(operation: str, dy: Any, kept: Any, name: str, **given: Any) -> Array:
    """Run an operation that takes dy and what the forward pass kept, and returns dx."""
    parameters = tuple(given.values())
    results = repeated(operation, parameters, dy, kept)
    if results is not None:
        return results[0]
    dy = floats(dy, "dy", ())
    kept = floats(kept, name, (), like=dy)
    options = _options(given, kept.ndim)
    expect_shape(dy, "dy", kept.shape, f"the shape of {name}")
    dx = empty(kept.shape, kept.dtype, dy)
    chosen = plan(operation, Extent(kept.shape), type_name(kept), device=dy.device)
    perform(chosen, parameters, (dy, kept), (dx,), **options)
    return given_back(dx)


def relu(x: Any) -> Array:
    """Rectify: 0 for x < 0, x for x >= 0; NaN stays NaN (SEEDS.md S1, S2).

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    ndarray, x's shape and type

    Raises
    ------
    TypeError
        Types other than float32 and float64, or things that are no arrays.
    """
    return _forward("relu", x)


def relu_grad(dy: Any, x: Any, at_zero: float = 1.0) -> Array:
    """Gradient of `relu` from its input: f' = 0 for x < 0, 1 for x >= 0 (SEEDS.md S2).

    Parameters
    ----------
    dy, x : array_like of one shape and type, float32 or float64
        With at_zero=0, x may also be the output of `relu`.
    at_zero : float
        The derivative at x = 0: 1 in the lecture, 0 in other frameworks. At x = NaN it is 1.

    Returns
    -------
    ndarray, dy's shape and type
        A derivative of 0 gives 0 even where dy is infinite or NaN.

    Raises
    ------
    TypeError
        Types other than float32 and float64, mixed types, or an at_zero that is no number.
    ValueError
        Different shapes.
    """
    return _backward("relu_grad", dy, x, "x", at_zero=at_zero)


def sigmoid(x: Any) -> Array:
    """Squash to 0..1: 1 / (1 + e^-x) (SEEDS.md S1, S3), without overflow for any x.

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    ndarray, x's shape and type

    Raises
    ------
    TypeError
        As `relu`.
    """
    return _forward("sigmoid", x)


def sigmoid_grad(dy: Any, y: Any) -> Array:
    """Gradient of `sigmoid` from its output: dx = dy y (1 - y) (SEEDS.md S1, S3).

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64

    Returns
    -------
    ndarray, dy's shape and type

    Raises
    ------
    TypeError, ValueError
        As `relu_grad`.
    """
    return _backward("sigmoid_grad", dy, y, "y")


def tanh(x: Any) -> Array:
    """Hyperbolic tangent (SEEDS.md S2).

    Parameters
    ----------
    x : array_like of any shape, float32 or float64

    Returns
    -------
    ndarray, x's shape and type

    Raises
    ------
    TypeError
        As `relu`.
    """
    return _forward("tanh", x)


def tanh_grad(dy: Any, y: Any) -> Array:
    """Gradient of `tanh` from its output: dx = dy (1 - y^2) (SEEDS.md S2).

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64

    Returns
    -------
    ndarray, dy's shape and type

    Raises
    ------
    TypeError, ValueError
        As `relu_grad`.
    """
    return _backward("tanh_grad", dy, y, "y")


def softmax(x: Any, axis: int = -1) -> Array:
    """Turn scores into probabilities: y_i = e^(x_i) / sum_j e^(x_j) along one axis (SEEDS.md S2).

    Parameters
    ----------
    x : array_like of one dimension or more, float32 or float64
    axis : int
        The axis along which the results add up to 1; negative ones count from the end.

    Returns
    -------
    ndarray, x's shape and type

    Raises
    ------
    TypeError
        As `relu`, or an axis that is no int.
    numpy.exceptions.AxisError
        No such axis (a ValueError).
    """
    return _forward("softmax", x, axis=axis)


def softmax_grad(dy: Any, y: Any, axis: int = -1) -> Array:
    """Gradient of `softmax` from its output: dy times the whole Jacobian (SEEDS.md S2).

    ds_i/dz_i = s_i (1 - s_i) and ds_i/dz_j = -s_i s_j, so dx_i = y_i (dy_i - sum_j dy_j y_j).

    Parameters
    ----------
    dy, y : array_like of one shape and type, float32 or float64
    axis : int
        The axis of the forward pass.

    Returns
    -------
    ndarray, dy's shape and type

    Raises
    ------
    TypeError, ValueError
        As `relu_grad` and `softmax`.
    """
    return _backward("softmax_grad", dy, y, "y", axis=axis)


def flatten(x: Any) -> Array:
    """Make every image one row: (N, ...) to (N, features), row-major (SEEDS.md S1).

    Parameters
    ----------
    x : array_like, (N, ...), float32 or float64

    Returns
    -------
    ndarray, (N, product of the other sizes), x's type
        A copy, as `numpy.ndarray.flatten` makes one.

    Raises
    ------
    TypeError
        As `relu`.
    ValueError
        x has no batch axis.
    """
    x = floats(x, "x", ())
    if x.ndim == 0:
        raise ValueError("x must have a batch axis, (N, ...), but got a single number")
    shape = len(x), prod(x.shape[1:])
    return x.reshape(shape).copy() if type(x) is np.ndarray else given_back(x.copied(shape))
