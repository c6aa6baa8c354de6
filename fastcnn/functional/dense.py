"""The dense (fully connected) layer and its gradients: every check, allocation and dispatch.

W has one row per output. One image may come as a row by itself, without a batch axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arrays import Array, empty, expect_shape, floats, given_back, type_name
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import DenseGeometry, Extent
from fastcnn.kernels.plans import plan


def _rows(value: Any, name: str, like: Array | None = None) -> Array:
    """An array of features with or without a batch axis."""
    array = floats(value, name, (), like=like)
    if array.ndim not in (1, 2):
        raise ValueError(
            f"{name} must be (N, features) or (features,), but got shape {array.shape}; "
            "use flatten first"
        )
    return array


def _expect_features(array: Array, name: str, features: int, w: Array) -> None:
    if array.shape[-1] != features:
        raise ValueError(
            f"{name} must have {features} features for w (out, in) of shape {w.shape}, "
            f"but got shape {array.shape}"
        )


def dense(x: Any, w: Any, b: Any = None) -> Array:
    """Weighted sums of all features: y = x W^T + b (SEEDS.md S1: Z2 = W2 F + b2).

    Parameters
    ----------
    x : array_like, (N, I) or (I,), float32 or float64
        A batch of images, one per row, or one image.
    w : array_like, (O, I), same type
    b : array_like, (O,), same type, optional

    Returns
    -------
    ndarray, (N, O), or (O,) for one image

    Raises
    ------
    TypeError
        Types other than float32 and float64, mixed types, or things that are no arrays.
    ValueError
        Shapes that do not fit, named in the message.
    """
    results = repeated("dense", (), x, w, b)
    if results is not None:
        return results[0]
    x = _rows(x, "x")
    w = floats(w, "w", (2,), like=x)
    outputs, features = w.shape
    _expect_features(x, "x", features, w)
    shared = False
    if b is not None:
        # One number broadcast to all outputs, as a shared bias is, need not be copied out.
        shared = type(b) is np.ndarray and b.strides == (0,) and b.shape == (outputs,)
        b = floats(b[:1] if shared else b, "b", (), like=x)
        if not shared:
            expect_shape(b, "b", (outputs,), "one bias per output of w")
    y = empty((*x.shape[:-1], outputs), x.dtype, x)
    g = DenseGeometry(len(x) if x.ndim == 2 else 1, features, outputs)
    chosen = plan("dense", g, type_name(x), device=x.device)
    if shared:  # not b as it was given: nothing to repeat by
        chosen.run(g, x, w, b, y)
    else:
        perform(chosen, (), (x, w, b), (y,))
    return given_back(y)


def dense_input_grad(dy: Any, w: Any) -> Array:
    """Gradient with respect to the input: dx = dy W (SEEDS.md S1: dF = W2^T dZ2).

    Parameters
    ----------
    dy : array_like, (N, O) or (O,), float32 or float64
    w : array_like, (O, I), same type

    Returns
    -------
    ndarray, (N, I), or (I,) for one image

    Raises
    ------
    TypeError, ValueError
        As `dense`.
    """
    results = repeated("dense_input_grad", (), dy, w)
    if results is not None:
        return results[0]
    dy = _rows(dy, "dy")
    w = floats(w, "w", (2,), like=dy)
    outputs, features = w.shape
    _expect_features(dy, "dy", outputs, w)
    dx = empty((*dy.shape[:-1], features), dy.dtype, dy)
    g = DenseGeometry(len(dy) if dy.ndim == 2 else 1, features, outputs)
    perform(plan("dense_input_grad", g, type_name(dy), device=dy.device), (), (dy, w), (dx,))
    return given_back(dx)


def dense_weight_grad(x: Any, dy: Any) -> Array:
    """Gradient with respect to the weights: dw = dy^T x (SEEDS.md S1: dW2 = dZ2 F^T).

    Parameters
    ----------
    x : array_like, (N, I) or (I,), float32 or float64
    dy : array_like, (N, O) or (O,), same type

    Returns
    -------
    ndarray, (O, I)
        Summed over the images, in an order that does not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        As `dense`; ValueError too if x and dy are not of equally many images.
    """
    results = repeated("dense_weight_grad", (), x, dy)
    if results is not None:
        return results[0]
    x = _rows(x, "x")
    dy = _rows(dy, "dy", like=x)
    if x.shape[:-1] != dy.shape[:-1]:
        raise ValueError(
            f"x and dy must have equally many images, but got shapes {x.shape} and {dy.shape}"
        )
    dw = empty((dy.shape[-1], x.shape[-1]), x.dtype, x)
    g = DenseGeometry(len(x) if x.ndim == 2 else 1, x.shape[-1], dy.shape[-1])
    perform(plan("dense_weight_grad", g, type_name(x), device=x.device), (), (x, dy), (dw,))
    return given_back(dw)


def dense_bias_grad(dy: Any) -> Array:
    """Gradient with respect to the bias: db = sum of dy over the images (SEEDS.md S1).

    Parameters
    ----------
    dy : array_like, (N, O) or (O,), float32 or float64

    Returns
    -------
    ndarray, (O,)
        Added up in float64.

    Raises
    ------
    TypeError
        Types other than float32 and float64, or things that are no arrays.
    ValueError
        Neither one dimension nor two.
    """
    results = repeated("dense_bias_grad", (), dy)
    if results is not None:
        return results[0]
    dy = _rows(dy, "dy")
    dy = dy if dy.ndim == 2 else dy.reshape(1, dy.size)
    db = empty(dy.shape[1:], dy.dtype, dy)
    g = Extent(dy.shape)
    perform(plan("dense_bias_grad", g, type_name(dy), device=dy.device), (), (dy,), (db,))
    return given_back(db)
