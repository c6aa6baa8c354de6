"""ReLU and max pooling together, and the gradient of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._axes import Ints, Padding
from ._numerics import Array, expect_shape, load, store
from .activation import relu
from .pool import flat, mask_to_indices, max_pool2d, max_pool2d_grad


def relu_max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_mask: bool = False,
) -> Any:
    """ReLU, then max pooling.

    SEEDS.md S1: A1 = relu(Z1), P1 = maxpool(A1).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool2d`.
    return_mask : bool
        Return (y, mask, passes).

    Returns
    -------
    y : numpy.ndarray, (N, C, P, Q) or (C, P, Q), the type of x
    mask : numpy.ndarray, the shape of y
        That of `max_pool2d`, of relu(x).
    passes : numpy.ndarray, the shape of y, uint8
        0 where the x of the chosen cell is negative, else 1: relu' there.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    y, mask = max_pool2d(relu(x), *window, return_mask=True)
    if not return_mask:
        return y
    _, (x_,) = load(x=x)
    indices = mask_to_indices(mask, x_.shape, *window)
    chosen = x_.reshape(-1)[flat(indices, x_.shape)].reshape(y.shape)
    return y, mask, (~(chosen < 0)).astype(np.uint8)


def relu_max_pool2d_grad(
    dy: npt.ArrayLike,
    mask: npt.ArrayLike,
    passes: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of `relu_max_pool2d`, from what it returned.

    SEEDS.md S1: dA1 = dP1 placed where the forward maximum was, dZ1 = dA1 * relu'(Z1). All windows
    that chose a cell have the same relu' of it, so that it may be multiplied before they add up.

    Parameters
    ----------
    dy : array_like, (N, C, P, Q) or (C, P, Q), float32 or float64
    mask, passes : array_like of integers, the shape of dy
        From `relu_max_pool2d`; whatever is not 0 passes.
    input_shape : sequence of int, (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the forward pooling.

    Returns
    -------
    numpy.ndarray of shape `input_shape`, the type of dy

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_grad`; passes that are no integers, or of another shape.
    """
    dtype, (dy_,) = load(dy=dy)
    alive = np.asarray(passes)
    if alive.dtype.kind not in "iu":
        raise TypeError(f"expected passes to hold integers, got {alive.dtype}")
    expect_shape(alive, "passes", dy_.shape, "like dy")
    # by selection: a derivative of 0 gives 0 even where dy is inf
    dz = store(np.where(alive != 0, dy_, 0), dtype)
    window = kernel_size, stride, padding, dilation, ceil_mode
    return max_pool2d_grad(dz, mask, input_shape, *window)
