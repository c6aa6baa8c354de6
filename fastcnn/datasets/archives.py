"""Images and labels from a NumPy archive, as ``numpy.savez`` and ``savez_compressed`` write it."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcnn.files.npz import opened, read_member

from .checks import brightness, float_type


def npz(
    path: str | os.PathLike[str],
    *,
    x: str = "x",
    y: str = "y",
    dtype: npt.DTypeLike = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """Read images (or features) and labels from an .npz file; objects and pickles are refused.

    Parameters
    ----------
    path : path
    x, y : str
        The names of the two arrays in the file.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, ...) as in the file
        Bytes become pixel / 255; floats are only converted to `dtype`.
    y : ndarray, (N, ...) as in the file
        Integers and booleans become int64, floats (targets of a regression) become `dtype`.

    Raises
    ------
    ValueError
        If the file is damaged, an array is missing or of another type, x or y are not finite, or
        they are not equally long; names file and array.
    OSError
        If the file cannot be opened.
    """
    float_dtype = float_type(dtype)
    with opened(Path(path)) as archive:
        images, labels = read_member(archive, x), read_member(archive, y)
        images, labels = _images(images, x, float_dtype), _labels(labels, y, float_dtype)
        if not images.ndim or not labels.ndim or len(images) != len(labels):
            raise ValueError(
                f"{x} and {y} must be equally long, found shapes {images.shape} and {labels.shape}"
            )
    return images, labels


def _images(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    if values.dtype == np.uint8:
        return brightness(values, dtype)
    if values.dtype.kind == "f":
        return _finite(values, name, dtype)
    raise ValueError(
        f"{name}: expected floats, or uint8 for pixels from 0 to 255, found {values.dtype}: "
        "save it with .astype(np.float32), scaled as you mean it"
    )


def _labels(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    if values.dtype.kind == "f":
        return _finite(values, name, dtype)
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: {values.max()} does not fit int64")
    return values.astype(np.int64)


def _finite(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow gives inf, which is refused below
        converted = values.astype(dtype, copy=False)
    if not np.isfinite(converted).all():
        raise ValueError(f"{name}: holds values that are not finite in {dtype}")
    return converted
