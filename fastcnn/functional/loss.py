"""Losses and their gradients: allocation and dispatch of them (checks: loss_arguments.py).

p are probabilities or outputs, z logits, y targets. Every loss takes `reduction`: "mean", "sum" or
"none". The gradient is that of the reduced loss; for "none", of each loss with respect to its own
element or image, which is that of the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np

from fastcnn.arrays import Array, empty, given_back, type_name
from fastcnn.functional.loss_arguments import (
    Read,
    bad_label,
    check_reduction,
    read_classes,
    read_elements,
    read_images,
)
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import Extent
from fastcnn.kernels.plans import plan


def _loss(
    operation: str,
    p: Any,
    y: Any,
    reduction: str,
    read: Callable[[Any, Any, str], Read],
    name: str = "p",
) -> Any:
    """The losses of outputs and targets, which `read` checks, or their sum or mean."""
    given = y
    results = repeated(operation, (reduction,), p, y)
    if results is not None:
        losses, total = results
    else:
        p, y, shape, count = read(p, y, name)
        check_reduction(reduction)
        if type(p) is not np.ndarray:
            return _loss_on_device(operation, p, y, reduction, shape, count)
        losses = np.empty(shape if reduction == "none" else 0, p.dtype)
        if reduction == "mean" and count == 0:
            return p.dtype.type(nan)
        chosen = plan(operation, Extent(p.shape), type_name(p))
        divisor = count if reduction == "mean" else 1
        total = perform(chosen, (reduction,), (p, y), (losses,), count=divisor)
    if total != total and read is read_classes:
        error = bad_label(given, y, p.shape[1])
        if error is not None:
            raise error
    if reduction == "none":
        return losses
    if abs(total) < _LARGEST:
        return p.dtype.type(total)
    with np.errstate(over="ignore"):  # beyond float32's range is inf, as in any float32 sum
        return p.dtype.type(total)


# Where float32 begins to round to inf, or before: errstate takes longer than all the rest.
_LARGEST = 3e38


def _loss_on_device(operation: str, p: Any, y: Any, reduction: str, shape: Any, count: int) -> Any:
    """As `_loss`: the losses, or an array without dimensions, which need not be waited for."""
    losses = p.empty(shape if reduction == "none" else (), p.dtype)
    divisor = {"none": 0, "sum": 1, "mean": count or nan}[reduction]
    g = Extent(p.shape)
    plan(operation, g, type_name(p), device=p.device).run(g, p, y, losses, divisor)
    return given_back(losses)


def _gradient(
    operation: str,
    p: Any,
    y: Any,
    reduction: str,
    read: Callable[[Any, Any, str], Read],
    name: str = "p",
) -> Array:
    """The gradient of the reduced losses of outputs and targets, which `read` checks."""
    given = y
    results = repeated(operation, (reduction,), p, y)
    if results is not None:
        dp, strays = results[0], results[1] if len(results) > 1 else None
    else:
        p, y, _, count = read(p, y, name)
        check_reduction(reduction)
        dp = empty(p.shape, p.dtype, p)
        chosen = plan(operation, Extent(p.shape), type_name(p), device=p.device)
        divisor = count if reduction == "mean" else 1
        strays = perform(chosen, (reduction,), (p, y), (dp,), count=divisor)
    if strays:
        error = bad_label(given, y, p.shape[1])
        assert error is not None
        raise error
    return given_back(dp)


def binary_cross_entropy(p: Any, y: Any, reduction: str = "mean") -> Any:
    """Binary cross-entropy of probabilities: L = -y log p - (1 - y) log(1 - p) (SEEDS.md S1, S2).

    The logarithms are clamped at -100, so a certain mistake costs 100, as in PyTorch.

    Parameters
    ----------
    p : array_like of any shape, float32 or float64, in 0..1
    y : array_like, p's shape and type, in 0..1
    reduction : {"mean", "sum", "none"}
        The mean is over all elements.

    Returns
    -------
    NumPy scalar, or ndarray of p's shape for "none"; p's type

    Raises
    ------
    TypeError
        Types other than float32 and float64, mixed types, or things that are no arrays.
    ValueError
        Different shapes (says how to reshape), or an unknown reduction.
    """
    return _loss("binary_cross_entropy", p, y, reduction, read_elements)


def binary_cross_entropy_grad(p: Any, y: Any, reduction: str = "mean") -> Array:
    """Gradient of `binary_cross_entropy`: dp = (p - y) / (p (1 - p)), over m for the mean.

    SEEDS.md S1: dA2. The divisor is at least 1e-12, so the result is finite at p = 0 and p = 1.

    Parameters and errors are those of `binary_cross_entropy`.

    Returns
    -------
    ndarray, p's shape and type
    """
    return _gradient("binary_cross_entropy_grad", p, y, reduction, read_elements)


def binary_cross_entropy_with_logits(z: Any, y: Any, reduction: str = "mean") -> Any:
    """Binary cross-entropy of sigmoid(z): L = max(z, 0) - z y + log(1 + e^-|z|) (SEEDS.md S1).

    Exact however saturated, and not clamped: z = 1e4 with y = 0 costs 1e4.

    Parameters
    ----------
    z : array_like of any shape, float32 or float64
    y : array_like, z's shape and type, in 0..1
    reduction : {"mean", "sum", "none"}
        The mean is over all elements.

    Returns
    -------
    NumPy scalar, or ndarray of z's shape for "none"; z's type

    Raises
    ------
    TypeError, ValueError
        As `binary_cross_entropy`.
    """
    return _loss("binary_cross_entropy_with_logits", z, y, reduction, read_elements, "z")


def binary_cross_entropy_with_logits_grad(z: Any, y: Any, reduction: str = "mean") -> Array:
    """Gradient of `binary_cross_entropy_with_logits`: dz = sigmoid(z) - y, over m for the mean.

    SEEDS.md S1: dZ2 = (A2 - y) / m.

    Parameters and errors are those of `binary_cross_entropy_with_logits`.

    Returns
    -------
    ndarray, z's shape and type
    """
    return _gradient("binary_cross_entropy_with_logits_grad", z, y, reduction, read_elements, "z")


def categorical_cross_entropy(p: Any, y: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of class probabilities: L = -sum over classes of y log p (SEEDS.md S2).

    The logarithm is clamped at -100.

    Parameters
    ----------
    p : array_like, (N, classes), float32 or float64, in 0..1
    y : array_like, (N, classes) of p's type, or (N,) of any integer type
        Probabilities, or labels in 0..classes-1.
    reduction : {"mean", "sum", "none"}
        The mean is over the images.

    Returns
    -------
    NumPy scalar, or ndarray (N,) for "none"; p's type

    Raises
    ------
    TypeError
        Types other than those named, or things that are no arrays.
    ValueError
        Shapes that do not fit, a label that is no class (names it), or an unknown reduction.
    """
    return _loss("categorical_cross_entropy", p, y, reduction, read_classes)


def categorical_cross_entropy_grad(p: Any, y: Any, reduction: str = "mean") -> Array:
    """Gradient of `categorical_cross_entropy`: dp = -y / p, over N for the mean (SEEDS.md S2).

    The divisor is at least 1e-12, so the result is finite at p = 0.

    Parameters and errors are those of `categorical_cross_entropy`.

    Returns
    -------
    ndarray, p's shape and type
    """
    return _gradient("categorical_cross_entropy_grad", p, y, reduction, read_classes)


def categorical_cross_entropy_with_logits(z: Any, y: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of softmax(z): L = -sum over classes of y (z - log sum e^z) (SEEDS.md S2).

    Exact however saturated, and not clamped.

    Parameters
    ----------
    z : array_like, (N, classes), float32 or float64
    y : array_like, (N, classes) of z's type, or (N,) of any integer type
        Probabilities, or labels in 0..classes-1.
    reduction : {"mean", "sum", "none"}
        The mean is over the images.

    Returns
    -------
    NumPy scalar, or ndarray (N,) for "none"; z's type

    Raises
    ------
    TypeError, ValueError
        As `categorical_cross_entropy`.
    """
    return _loss("categorical_cross_entropy_with_logits", z, y, reduction, read_classes, "z")


def categorical_cross_entropy_with_logits_grad(z: Any, y: Any, reduction: str = "mean") -> Array:
    """Gradient of `categorical_cross_entropy_with_logits`: dz = softmax(z) - y (SEEDS.md S2).

    Over N for the mean. Holds for targets that add up to 1, as probabilities do.

    Parameters and errors are those of `categorical_cross_entropy_with_logits`.

    Returns
    -------
    ndarray, z's shape and type
    """
    return _gradient(
        "categorical_cross_entropy_with_logits_grad", z, y, reduction, read_classes, "z"
    )


def half_squared_error(p: Any, y: Any, reduction: str = "mean") -> Any:
    """Half the squared error: E = (y - p)^2 / 2, summed over outputs (SEEDS.md S3).

    Parameters
    ----------
    p : array_like, (N, ...), float32 or float64
        (N,) are N images of one output.
    y : array_like, p's shape and type
    reduction : {"mean", "sum", "none"}
        The mean is over the images: the sum over N.

    Returns
    -------
    NumPy scalar, or ndarray of p's shape for "none"; p's type

    Raises
    ------
    TypeError, ValueError
        As `binary_cross_entropy`; ValueError too if there is no batch axis.
    """
    return _loss("half_squared_error", p, y, reduction, read_images)


def half_squared_error_grad(p: Any, y: Any, reduction: str = "mean") -> Array:
    """Gradient of `half_squared_error`: dp = p - y, over N for the mean (SEEDS.md S3).

    Parameters and errors are those of `half_squared_error`.

    Returns
    -------
    ndarray, p's shape and type
    """
    return _gradient("half_squared_error_grad", p, y, reduction, read_images)
