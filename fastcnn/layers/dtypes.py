"""The two types that layers compute in, and the error that says how to get there."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def float_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """`dtype` as a native NumPy type; TypeError unless it is float32 or float64."""
    try:
        # NumPy reads None as float64, which here could only be a mistake.
        found = None if dtype is None else np.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found not in (np.float32, np.float64):
        raise TypeError(f"dtype must be 'float32' or 'float64', but got {dtype!r}")
    return found.newbyteorder("=")


def expect_dtype(array: Any, name: str, dtype: np.dtype[Any], owner: str) -> Any:
    """`array` (nested lists as an array); TypeError with the fix unless it is of type `dtype`."""
    # The usual case first: names of types cost more than a small layer's arithmetic.
    if type(array) is np.ndarray and array.dtype == dtype:
        return array
    fix = f"{name}.astype('{dtype}')"
    if not hasattr(array, "dtype"):
        array, fix = np.asarray(array), f"np.asarray({name}, '{dtype}')"
    given = array.dtype
    if isinstance(given, np.dtype):
        given = given.newbyteorder("=")
    if str(given).removeprefix("torch.") != dtype.name:
        other = f", or make it with dtype='{given}'" if given in ("float32", "float64") else ""
        raise TypeError(f"{owner} computes in {dtype}, but {name} is {given}: pass {fix}{other}")
    return array
