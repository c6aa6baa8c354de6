"""The dense (fully connected) layer and its gradients: W has one row per output."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._numerics import Array, expect_shape, load, quiet, store


def _check_rows(array: Array, name: str, features: int | None = None) -> None:
    if array.ndim not in (1, 2):
        raise ValueError(
            f"expected {name} to be (N, features) or (features,), but got shape {array.shape}: "
            f"flatten it first"
        )
    if features is not None and array.shape[-1] != features:
        raise ValueError(
            f"expected {name} to have {features} features, but got {array.shape[-1]} "
            f"(shape {array.shape})"
        )


def _check_matrix(w: Array) -> None:
    if w.ndim != 2:
        raise ValueError(f"expected w to be (out, in), but got shape {w.shape}")


def dense(x: npt.ArrayLike, w: npt.ArrayLike, b: npt.ArrayLike | None = None) -> Array:
    """Dense layer, forward.

    SEEDS.md S1: Z2 = W2 F + b2 (S4: o = W flatten(P2) + b), one image per row of x.

    Parameters
    ----------
    x : array_like, (N, I) or (I,), float32 or float64
    w : array_like, (O, I), the type of x
    b : array_like, (O,), optional

    Returns
    -------
    numpy.ndarray, (N, O) or (O,), the type of x

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        For shapes that do not fit each other.
    """
    dtype, (x_, w_, b_) = load(x=x, w=w, b=b)
    _check_matrix(w_)
    _check_rows(x_, "x", w_.shape[1])
    if b_ is not None:
        expect_shape(b_, "b", w_.shape[:1], f"for w of shape {w_.shape}")
    with quiet():
        # y = x W^T + b
        y = x_ @ w_.T
        return store(y if b_ is None else y + b_, dtype)


def dense_input_grad(dy: npt.ArrayLike, w: npt.ArrayLike) -> Array:
    """Gradient of `dense` with respect to its input.

    SEEDS.md S1: dF = W2^T dZ2, one image per row.

    Parameters
    ----------
    dy : array_like, (N, O) or (O,), float32 or float64
    w : array_like, (O, I), the type of dy

    Returns
    -------
    numpy.ndarray, (N, I) or (I,), the type of dy

    Raises
    ------
    TypeError, ValueError
        As `dense`.
    """
    dtype, (dy_, w_) = load(dy=dy, w=w)
    _check_matrix(w_)
    _check_rows(dy_, "dy", w_.shape[0])
    with quiet():
        # dx = dy W
        return store(dy_ @ w_, dtype)


def dense_weight_grad(x: npt.ArrayLike, dy: npt.ArrayLike) -> Array:
    """Gradient of `dense` with respect to its weights, summed over the images.

    SEEDS.md S1: dW2 = dZ2 F^T.

    Parameters
    ----------
    x : array_like, (N, I) or (I,), float32 or float64
    dy : array_like, (N, O) or (O,), the type of x

    Returns
    -------
    numpy.ndarray, (O, I), the type of x

    Raises
    ------
    TypeError, ValueError
        As `dense`; ValueError too if x and dy are not of equally many images.
    """
    dtype, (x_, dy_) = load(x=x, dy=dy)
    _check_rows(x_, "x")
    _check_rows(dy_, "dy")
    if x_.shape[:-1] != dy_.shape[:-1]:
        raise ValueError(
            f"expected x and dy of equally many images, but got shapes {x_.shape} and {dy_.shape}"
        )
    with quiet():
        # dW = dy^T x
        return store(np.atleast_2d(dy_).T @ np.atleast_2d(x_), dtype)


def dense_bias_grad(dy: npt.ArrayLike) -> Array:
    """Gradient of `dense` with respect to its bias.

    SEEDS.md S1: db2 = sum over images of dZ2.

    Parameters
    ----------
    dy : array_like, (N, O) or (O,), float32 or float64

    Returns
    -------
    numpy.ndarray, (O,), the type of dy

    Raises
    ------
    TypeError
        If dy is neither float32 nor float64.
    ValueError
        If dy is neither 1-D nor 2-D.
    """
    dtype, (dy_,) = load(dy=dy)
    _check_rows(dy_, "dy")
    with quiet():
        return store(np.atleast_2d(dy_).sum(axis=0), dtype)
