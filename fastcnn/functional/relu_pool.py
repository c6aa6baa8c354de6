"""ReLU and 2-D max pooling in one pass, and the gradient of both."""

from __future__ import annotations

from typing import Any

from fastcnn.arrays import Array
from fastcnn.functional.pool import backward, forward


def relu_max_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_mask: bool = False,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Any:
    """`max_pool2d(relu(x), ...)` in one pass, to the bit (SEEDS.md S1: P1 = maxpool(relu(Z1))).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size, stride, padding, dilation, ceil_mode, algorithm, out
        As in `max_pool2d`.
    return_mask : bool
        Also return what `relu_max_pool2d_grad` needs.

    Returns
    -------
    y : ndarray, (N, C, P, Q) or (C, P, Q)
    mask : ndarray, y's shape
        Only with return_mask: as `max_pool2d` has it of relu(x). A window without positive numbers
        is all zeros there, so that its first cell wins.
    passes : ndarray, y's shape, uint8
        Only with return_mask: 0 where the x of the chosen cell is negative, so that relu lets no
        gradient pass, else 1.

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d`.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    results = forward("relu_max_pool2d", x, window, algorithm, out)
    return results if return_mask else results[0]


def relu_max_pool2d_grad(
    dy: Any,
    mask: Any,
    passes: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    *,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient of `relu_max_pool2d`: `relu_grad(max_pool2d_grad(...), x)` without x, to the bit.

    Parameters
    ----------
    dy : array_like, (N, C, P, Q) or (C, P, Q), float32 or float64
    mask : array_like, dy's shape, uint8 or int32
    passes : array_like, dy's shape, uint8
        Both from `relu_max_pool2d(..., return_mask=True)` with the same geometry; whatever is not 0
        passes.
    input_shape : tuple of int
        Shape of the forward pass's x.
    kernel_size, stride, padding, dilation, ceil_mode, algorithm, out
        As in `max_pool2d`; `out` takes dx.

    Returns
    -------
    ndarray, input_shape

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_grad`.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    kept = {"passes": passes}
    return backward("relu_max_pool2d_grad", dy, mask, kept, input_shape, window, algorithm, out)
