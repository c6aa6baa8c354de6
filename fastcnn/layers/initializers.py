"""Initial values of parameters: Glorot and He, uniform and normal; zeros and ones.

Everything is drawn in float64 and rounded once by the layer, so that the same seed gives the same
numbers, up to rounding, in float32 and float64 and on every backend.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from fastcnn.arguments import one_of

Array = np.ndarray
Shape = tuple[int, ...]
Initializer = str | Callable[[Shape, np.random.Generator], Any]


def fans(weight_shape: Shape) -> tuple[int, int]:
    """Numbers of inputs and outputs that one element of (K, C, R, S) or (O, I) weights joins.

    fan_in = C R S, fan_out = K R S, as Keras counts them (with groups too).
    """
    outputs, inputs, *window = weight_shape
    return inputs * prod(window), outputs * prod(window)


# Variance of the draw, as a function of fan_in and fan_out:
# Glorot and Bengio (2010), eq. 16: 2 / (fan_in + fan_out); He et al. (2015), eq. 10: 2 / fan_in.
_VARIANCES: dict[str, Callable[[int, int], float]] = {
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
}
_CONSTANTS = {"zeros": np.zeros, "ones": np.ones}
NAMES = (
    *_CONSTANTS,
    *(f"{family}_{kind}" for family in _VARIANCES for kind in ("uniform", "normal")),
)


def check_initializer(initializer: Initializer, argument: str) -> Initializer:
    """Return `initializer` if it is a known name or a function; else ValueError or TypeError."""
    if callable(initializer):
        return initializer
    if not isinstance(initializer, str):
        raise TypeError(
            f"{argument} must be a name or a function of (shape, rng), but got {initializer!r}"
        )
    return one_of(initializer, argument, NAMES)


def draw(
    initializer: Initializer, shape: Shape, weight_shape: Shape, rng: np.random.Generator
) -> Array:
    """Initial values of one parameter.

    Parameters
    ----------
    initializer : str or callable
        A name from `NAMES`, or a function of (shape, rng) that returns an array of this shape.
    shape : tuple of int
        Of the parameter.
    weight_shape : tuple of int
        Of the weights of its layer, (K, C/groups, R, S) or (O, I), for fan_in and fan_out.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape
        "normal" draws are not truncated (Keras cuts its at two standard deviations).

    Raises
    ------
    ValueError
        If a function returns another shape.
    """
    if callable(initializer):
        values = np.array(initializer(shape, rng), np.float64)
        if values.shape != shape:
            raise ValueError(f"an initializer returned shape {values.shape} instead of {shape}")
        return values
    if initializer in _CONSTANTS:
        return _CONSTANTS[initializer](shape)
    family, kind = initializer.split("_")
    variance = _VARIANCES[family](*fans(weight_shape))
    if kind == "normal":
        return rng.normal(0, sqrt(variance), shape)
    # A uniform draw from -limit..limit has the variance limit^2 / 3.
    limit = sqrt(3 * variance)
    return rng.uniform(-limit, limit, shape)
