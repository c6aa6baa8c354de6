"""Losses and their gradients. p are probabilities (or outputs), z logits, y targets.

Every loss takes `reduction`: "mean", "sum" or "none". The gradient is that of the reduced loss; for
"none", of each loss with respect to its own element, which is that of the sum.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._numerics import Array, DType, load, quiet, store
from .activation import shifted_exponentials, stable_sigmoid

# torch's clamp: a certain mistake (p = 0 where y = 1) costs 100, not infinity.
LOWEST_LOG = -100.0
# torch's guard of the same division in the gradient.
SMALLEST_DIVISOR = 1e-12


def _load_pair(**operands: npt.ArrayLike) -> tuple[DType, Array, Array]:
    """Two operands of one type and shape; nothing broadcasts."""
    dtype, (first, second) = load(**operands)
    if first.shape != second.shape:
        name, target = operands
        raise ValueError(
            f"expected {name} and {target} of one shape, but got {first.shape} against "
            f"{second.shape}" + _reshape_advice(target, second.shape, first.shape)
        )
    return dtype, first, second


def _reshape_advice(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if np.prod(shape) != np.prod(wanted):
        return ""
    column = f" or {name}[:, None]" if wanted == (*shape, 1) and len(shape) == 1 else ""
    return f": use {name}.reshape({', '.join(map(str, wanted))}){column}"


def _scale(reduction: str, count: int) -> int:
    """What the summed loss, and its gradient, are divided by."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{reduction!r} is not a valid value for reduction: expected 'mean', 'sum' or 'none'"
        )
    return count if reduction == "mean" else 1


def _reduce(losses: Array, reduction: str, count: int, dtype: DType) -> Any:
    scale = _scale(reduction, count)
    if reduction == "none":
        return store(losses, dtype)
    # The mean of no loss at all is 0/0, as everywhere.
    with np.errstate(invalid="ignore", over="ignore"):
        return dtype.type(losses.sum(dtype=np.float64) / scale)


def _clamped_log(p: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.maximum(np.log(p), LOWEST_LOG)


def binary_cross_entropy(p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean") -> Any:
    """Binary cross-entropy of probabilities; the mean is over all elements.

    SEEDS.md S1: L = (1/m) sum [ -y log(A2) - (1-y) log(1-A2) ] (S2: the log loss H). The logarithm
    is clamped at -100.

    Parameters
    ----------
    p : array_like of any shape, float32 or float64, in 0..1
    y : array_like, the shape and type of p, in 0..1
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    numpy scalar, or numpy.ndarray of the shape of p for "none", the type of p

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ, with advice, or for an unknown reduction.
    """
    dtype, p_, y_ = _load_pair(p=p, y=y)
    with quiet():
        # L = -y log p - (1 - y) log(1 - p)
        losses = -(y_ * _clamped_log(p_) + (1 - y_) * _clamped_log(1 - p_))
    return _reduce(losses, reduction, p_.size, dtype)


def binary_cross_entropy_grad(p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean") -> Array:
    """Gradient of `binary_cross_entropy` with respect to p; finite at p = 0 and p = 1.

    SEEDS.md S1: dA2 = (1/m) (A2 - y) / (A2 (1 - A2)) (S2: dH/dp, which is the same). The divisor is
    at least 1e-12.

    Parameters and errors are those of `binary_cross_entropy`.

    Returns
    -------
    numpy.ndarray, the shape and type of p
    """
    dtype, p_, y_ = _load_pair(p=p, y=y)
    scale = _scale(reduction, p_.size)
    with quiet():
        # dp = (p - y) / (p (1 - p)) / m
        return store((p_ - y_) / np.maximum(p_ * (1 - p_), SMALLEST_DIVISOR) / scale, dtype)


def binary_cross_entropy_with_logits(
    z: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean"
) -> Any:
    """Binary cross-entropy of sigmoid(z), from the logits z; exact however saturated.

    SEEDS.md S1: L with A2 = sigmoid(Z2), rearranged so that nothing overflows. Not clamped: z = 1e4
    with y = 0 costs 1e4.

    Parameters
    ----------
    z : array_like of any shape, float32 or float64
    y : array_like, the shape and type of z, in 0..1
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    numpy scalar, or numpy.ndarray of the shape of z for "none", the type of z

    Raises
    ------
    TypeError, ValueError
        As `binary_cross_entropy`.
    """
    dtype, z_, y_ = _load_pair(z=z, y=y)
    with quiet():
        # L = max(z, 0) - z y + log(1 + e^-|z|)
        losses = np.maximum(z_, 0) - z_ * y_ + np.log1p(np.exp(-np.abs(z_)))
    return _reduce(losses, reduction, z_.size, dtype)


def binary_cross_entropy_with_logits_grad(
    z: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean"
) -> Array:
    """Gradient of `binary_cross_entropy_with_logits` with respect to z.

    SEEDS.md S1: dZ2 = (A2 - y) / m.

    Parameters and errors are those of `binary_cross_entropy_with_logits`.

    Returns
    -------
    numpy.ndarray, the shape and type of z
    """
    dtype, z_, y_ = _load_pair(z=z, y=y)
    scale = _scale(reduction, z_.size)
    # dz = (sigmoid(z) - y) / m
    return store((stable_sigmoid(z_) - y_) / scale, dtype)


def _load_classes(y: npt.ArrayLike, **scores: npt.ArrayLike) -> tuple[DType, Array, Array]:
    """Scores (N, classes) and their targets, integer labels as rows of 0 and one 1."""
    (name,) = scores
    dtype, (scores_,) = load(**scores)
    if scores_.ndim != 2 or scores_.shape[1] == 0:
        raise ValueError(f"expected {name} to be (N, classes), but got shape {scores_.shape}")
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu":
        return _load_pair(**scores, y=y)
    images, classes = scores_.shape
    if labels.shape != (images,):
        raise ValueError(
            f"expected integer labels y of shape {(images,)} for {name} of shape {scores_.shape}, "
            f"but got {labels.shape}: one-hot targets are of the type of {name}, {dtype}"
        )
    bad = (labels < 0) | (labels >= classes)
    if bad.any():
        raise ValueError(
            f"expected labels in 0..{classes - 1}, but got {labels[bad][0]} "
            f"(y[{int(bad.argmax())}])"
        )
    return dtype, scores_, np.eye(classes, dtype=scores_.dtype)[labels]


def _weighted(y: Array, logs: Array) -> Array:
    """-sum y log p over the classes, where 0 log 0 is 0."""
    with quiet():
        return -np.where(y == 0, 0, y * logs).sum(axis=1)


def categorical_cross_entropy(p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean") -> Any:
    """Cross-entropy of class probabilities; the mean is over the images.

    SEEDS.md S2: the log loss, for more than two classes: H = -(1/N) sum over images and classes of
    y log p. The logarithm is clamped at -100.

    Parameters
    ----------
    p : array_like, (N, classes), float32 or float64, in 0..1
    y : array_like, (N, classes) of the type of p, or integer labels (N,) in 0..classes-1
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    numpy scalar, or numpy.ndarray of shape (N,) for "none", the type of p

    Raises
    ------
    TypeError
        For types other than those named.
    ValueError
        If the shapes do not fit, for a label that is no class, or for an unknown reduction.
    """
    dtype, p_, y_ = _load_classes(y, p=p)
    return _reduce(_weighted(y_, _clamped_log(p_)), reduction, len(p_), dtype)


def categorical_cross_entropy_grad(
    p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean"
) -> Array:
    """Gradient of `categorical_cross_entropy` with respect to p; finite at p = 0.

    SEEDS.md S2: dH/dp = -(1/N) y / p, the divisor being at least 1e-12.

    Parameters and errors are those of `categorical_cross_entropy`.

    Returns
    -------
    numpy.ndarray, the shape and type of p
    """
    dtype, p_, y_ = _load_classes(y, p=p)
    with quiet():
        # dp = -y / p / N
        return store(-y_ / np.maximum(p_, SMALLEST_DIVISOR) / _scale(reduction, len(p_)), dtype)


def categorical_cross_entropy_with_logits(
    z: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean"
) -> Any:
    """Cross-entropy of softmax(z), from the logits z; exact however saturated.

    SEEDS.md S2: the log loss of s = softmax(z): log s_i = z_i - log sum_j e^{z_j}. Not clamped.

    Parameters
    ----------
    z : array_like, (N, classes), float32 or float64
    y : array_like, (N, classes) of the type of z, or integer labels (N,) in 0..classes-1
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    numpy scalar, or numpy.ndarray of shape (N,) for "none", the type of z

    Raises
    ------
    TypeError, ValueError
        As `categorical_cross_entropy`.
    """
    dtype, z_, y_ = _load_classes(y, z=z)
    shifted, _, total = shifted_exponentials(z_, axis=1)
    return _reduce(_weighted(y_, shifted - np.log(total)), reduction, len(z_), dtype)


def categorical_cross_entropy_with_logits_grad(
    z: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean"
) -> Array:
    """Gradient of `categorical_cross_entropy_with_logits` with respect to z.

    SEEDS.md S2: the softmax's Jacobian times the log loss's gradient, (s - y) / N, for targets that
    sum to 1 (S1's dZ2 = (A2 - y) / m for two classes).

    Parameters and errors are those of `categorical_cross_entropy_with_logits`.

    Returns
    -------
    numpy.ndarray, the shape and type of z
    """
    dtype, z_, y_ = _load_classes(y, z=z)
    _, e, total = shifted_exponentials(z_, axis=1)
    # dz = (softmax(z) - y) / N
    return store((e / total - y_) / _scale(reduction, len(z_)), dtype)


def half_squared_error(p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean") -> Any:
    """Half the squared error, summed over outputs; the mean is over the images.

    SEEDS.md S3: E = (y - O)^2 / 2.

    Parameters
    ----------
    p : array_like, (N, ...), float32 or float64
        (N,) are N images of one output.
    y : array_like, the shape and type of p
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    numpy scalar, or numpy.ndarray of the shape of p for "none", the type of p

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        If the shapes differ, with advice, if there is no batch axis, or the reduction is unknown.
    """
    dtype, p_, y_ = _load_images(p, y)
    with quiet():
        # E = (y - p)^2 / 2
        return _reduce((y_ - p_) ** 2 / 2, reduction, len(p_), dtype)


def half_squared_error_grad(p: npt.ArrayLike, y: npt.ArrayLike, reduction: str = "mean") -> Array:
    """Gradient of `half_squared_error` with respect to p.

    SEEDS.md S3: dO = O - y (over the number of images for the mean).

    Parameters and errors are those of `half_squared_error`.

    Returns
    -------
    numpy.ndarray, the shape and type of p
    """
    dtype, p_, y_ = _load_images(p, y)
    with quiet():
        # dp = (p - y) / N
        return store((p_ - y_) / _scale(reduction, len(p_)), dtype)


def _load_images(p: npt.ArrayLike, y: npt.ArrayLike) -> tuple[DType, Array, Array]:
    dtype, p_, y_ = _load_pair(p=p, y=y)
    if p_.ndim == 0:
        raise ValueError("expected p to have a batch axis, (N, ...), but got a single number")
    return dtype, p_, y_
