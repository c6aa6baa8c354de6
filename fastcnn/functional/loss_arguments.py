"""What losses take: outputs and targets of one type and shapes that fit, labels, a reduction."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from fastcnn.arrays import Array, canonical, either, floats


def check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{reduction!r} is not a valid value for reduction: must be 'mean', 'sum' or 'none'"
        )


def _reshape_advice(shape: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if prod(shape) != prod(wanted):
        return ""
    advice = f": use y.reshape({', '.join(map(str, wanted))})"
    return f"{advice} or y[:, None]" if wanted == (*shape, 1) and len(shape) == 1 else advice


def _pair(p: Any, y: Any, name: str) -> tuple[Array, Array]:
    """Outputs and targets of one type and shape; nothing broadcasts."""
    p = floats(p, name, ())
    y = floats(y, "y", (), like=p)
    if p.shape != y.shape:
        raise ValueError(
            f"{name} and y must have the same shape, but got {p.shape} against {y.shape}"
            + _reshape_advice(y.shape, p.shape)
        )
    return p, y


# Outputs and targets, the shape of their losses, and what the mean is over.
Read = tuple[Array, Array, tuple[int, ...], int]


def read_elements(p: Any, y: Any, name: str) -> Read:
    """Outputs and targets of one type and shape."""
    p, y = _pair(p, y, name)
    return p, y, p.shape, p.size


def read_images(p: Any, y: Any, name: str) -> Read:
    """Outputs and targets as `read_elements`, with a batch axis in front."""
    p, y = _pair(p, y, name)
    if p.ndim == 0:
        raise ValueError(f"{name} must have a batch axis, (N, ...), but got a single number")
    return p, y, p.shape, len(p)


def read_classes(p: Any, y: Any, name: str) -> Read:
    """Scores (N, classes) and targets of the same shape, or labels as kernels take them."""
    p = floats(p, name, (2,))
    images, classes = p.shape
    if classes == 0:
        raise ValueError(f"{name} must have one class or more, but got shape {p.shape}")
    labels = either(y, "y", p)
    if labels.dtype.kind not in "iu":
        return (*_pair(p, y, name), (images,), images)
    if labels.shape != (images,):
        raise ValueError(
            f"integer labels y must have shape {(images,)} for {name} of shape {p.shape}, but got "
            f"{labels.shape}; one-hot targets must be {p.dtype} like {name}"
        )
    if type(labels) is not np.ndarray:
        return p, labels.one_hot(classes, p.dtype), (images,), images
    return p, canonical(labels.astype(np.int64, copy=False)), (images,), images


def bad_label(given: Any, read: Any, classes: int) -> ValueError | None:
    """The error for labels of which one is no class; as they were given, if that is an array."""
    labels = given if type(given) is np.ndarray else read
    if labels.dtype.kind not in "iu":
        return None
    bad = (labels < 0) | (labels >= classes)
    if not bad.any():
        return None
    return ValueError(
        f"labels must be in 0..{classes - 1}, but got {labels[bad][0]} (y[{bad.argmax()}])"
    )
