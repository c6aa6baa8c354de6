"""What every data set shares: the result's type, brightness from 0 to 1, a hint about extras."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt


def float_type(dtype: npt.DTypeLike) -> np.dtype:
    """Return `dtype` as a NumPy type if it is float32 or float64, else raise ValueError."""
    try:
        # NumPy reads None as float64, which here could only be a mistake.
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in (np.float32, np.float64):
        raise ValueError(f"dtype must be 'float32' or 'float64', got {dtype!r}")
    return found.newbyteorder("=")


def brightness(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Map bytes 0..255 to floats 0..1, in C order: brightness = pixel / 255."""
    return np.divide(pixels, 255, dtype=dtype, order="C")


@contextmanager
def needs(package: str, purpose: str) -> Iterator[None]:
    """Turn the ImportError of an optional package into one that says how to install it."""
    try:
        yield
    except ImportError as err:
        raise ImportError(
            f"{package} is needed for {purpose}: pip install 'fastcnn[demo]' ({err})"
        ) from err
