"""Handwritten digits: the 1,797 8x8 images that come with scikit-learn."""

import operator

import numpy as np
import numpy.typing as npt

from .checks import float_type, needs

# scikit-learn counts the dark pixels of each 4x4 block of a 32x32 scan: 0..16.
DARKEST = 16


def digits(
    pair: tuple[int, int] | None = None, *, size: int = 8, dtype: npt.DTypeLike = "float32"
) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's handwritten digits.

    Parameters
    ----------
    pair : (int, int), optional
        Keep two digits only: the first gets label 0, the second label 1. Default: all ten.
    size : 8 or 6
        8 gives the images as they are, 6 their centre: rows and columns 1..6.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, 1, size, size)
        Ink from 0 to 1 in steps of 1/16; N is 1797 without `pair`.
    y : ndarray of int64, (N,)
        The digit, or its place in `pair`.

    Raises
    ------
    ValueError
        For another size or dtype, and for a pair that is not two different digits.
    TypeError
        If `pair` does not hold integers.
    ImportError
        If scikit-learn is missing.
    """
    float_dtype = float_type(dtype)
    if size not in (6, 8):
        raise ValueError(f"size must be 8 (the whole image) or 6 (its centre), got {size!r}")
    try:
        chosen = None if pair is None else tuple(operator.index(digit) for digit in pair)
    except TypeError:
        raise TypeError(f"pair must hold two integers, such as (4, 9), got {pair!r}") from None
    if chosen is not None and (len(set(chosen)) != 2 or len(chosen) != 2):
        raise ValueError(f"pair must be two different digits, got {pair!r}")
    if chosen is not None and not all(0 <= digit <= 9 for digit in chosen):
        raise ValueError(f"pair must hold digits from 0 to 9, got {pair!r}")
    with needs("scikit-learn", "the digits"):
        from sklearn.datasets import load_digits
    bunch = load_digits()
    images, y = bunch.images, bunch.target.astype(np.int64)
    if chosen is not None:
        kept = np.isin(y, chosen)
        images, y = images[kept], (y[kept] == chosen[1]).astype(np.int64)
    edge = (images.shape[-1] - size) // 2
    centre = images[:, None, edge : edge + size, edge : edge + size]
    return np.divide(centre, DARKEST).astype(float_dtype), y
