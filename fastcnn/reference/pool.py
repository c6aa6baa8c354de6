"""Max pooling, its gradient, and the views of its mask.

The mask holds, for every window, the position of its maximum within the window: r S + s for row r
and column s of an R x S window. Forward and backward need nothing else from each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import numpy as np
import numpy.typing as npt

from ._axes import Axis, Ints, Padding, as_batch, pad_or_crop, pool_axes, shape_of
from ._numerics import Array, expect_shape, load, quiet, size, store


@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = ...,
    padding: Padding = ...,
    dilation: Ints = ...,
    ceil_mode: bool = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = ...,
    padding: Padding = ...,
    dilation: Ints = ...,
    ceil_mode: bool = ...,
    *,
    return_mask: Literal[True],
) -> tuple[Array, Array]: ...
@overload
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = ...,
    padding: Padding = ...,
    dilation: Ints = ...,
    ceil_mode: bool = ...,
    return_mask: bool = ...,
) -> Array | tuple[Array, Array]: ...
def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_mask: bool = False,
) -> Array | tuple[Array, Array]:
    """Max pooling, forward.

    SEEDS.md S2: the maximum in the window (S1: P1 = maxpool(A1); S4: P1, M1 = maxpool(Y1)).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size : int or (vertical, horizontal)
    stride : int or (vertical, horizontal), optional
        `kernel_size` if not given.
    padding : as for `conv2d`
        Padding never wins, even over -inf. Less than the dilated window on every side.
    dilation : int or (vertical, horizontal)
    ceil_mode : bool
        Keep a last window that reaches beyond the padded input, if it begins before its end.
    return_mask : bool
        Return (y, mask).

    Returns
    -------
    y : numpy.ndarray, (N, C, P, Q) or (C, P, Q), the type of x
    mask : numpy.ndarray, the shape of y, uint8 (int32 for windows of more than 256 cells)
        Position of the maximum in its window, r S + s. The first of equal maxima wins; NaN wins
        over every number, and the last of several, which is torch's rule.

    Raises
    ------
    TypeError
        If x is neither float32 nor float64.
    ValueError
        For a geometry without output, with too much padding, or with a window wholly in padding.
    """
    dtype, (x_,) = load(x=x)
    rows, cols = pool_axes(x_.shape, kernel_size, stride, padding, dilation, ceil_mode)
    batch = as_batch(x_)

    def span(axis: Axis) -> tuple[int, int]:
        # as far as the last window reaches, which in ceil mode is beyond the padding
        return axis.before, (axis.out - 1) * axis.stride + axis.reach - axis.before - axis.length

    padded = pad_or_crop(batch, span(rows), span(cols), value=-np.inf)
    shape = (*x_.shape[:-2], rows.out, cols.out)
    best = np.full((*batch.shape[:2], rows.out, cols.out), -np.inf, padded.dtype)
    # Where nothing beats -inf, the first cell that is not padding stays chosen.
    first = rows.inside().argmax(axis=1)[:, None] * cols.kernel + cols.inside().argmax(axis=1)
    mask = np.empty(best.shape, np.uint8 if rows.kernel * cols.kernel <= 256 else np.int32)
    mask[...] = first
    for r, s in np.ndindex(rows.kernel, cols.kernel):
        top, left = r * rows.dilation, s * cols.dilation
        value = padded[:, :, top :: rows.stride, left :: cols.stride][:, :, : rows.out, : cols.out]
        # value > max or isnan(value): the first maximum wins, NaN stays and the last NaN counts
        wins = (value > best) | np.isnan(value)
        np.copyto(best, value, where=wins)
        mask[wins] = r * cols.kernel + s
    y = store(best.reshape(shape), dtype)
    return (y, mask.reshape(shape)) if return_mask else y


def mask_to_indices(
    mask: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Array:
    """The mask as torch's indices: position h W + w of every maximum within its input plane.

    SEEDS.md S4: the M of P1, M1 = maxpool(Y1), in torch's form.

    Parameters
    ----------
    mask : array_like of integers, (N, C, P, Q) or (C, P, Q)
        From `max_pool2d`.
    input_shape : sequence of int, (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the forward pooling.

    Returns
    -------
    numpy.ndarray, the shape of mask, int64

    Raises
    ------
    TypeError
        If mask does not hold integers.
    ValueError
        If mask does not have the output's shape, or points outside the window or the input.
    """
    shape = shape_of(input_shape, "input_shape")
    rows, cols = pool_axes(shape, kernel_size, stride, padding, dilation, ceil_mode)
    cells = np.asarray(mask)
    if cells.dtype.kind not in "iu":
        raise TypeError(f"expected mask to hold integers, as max_pool2d gives, got {cells.dtype}")
    expected = (*shape[:-2], rows.out, cols.out)
    expect_shape(cells, "mask", expected, f"for an input of shape {shape}")
    # cell = r S + s of window (p, q) lies at h = p stride - top + r dilation, w likewise
    r, s = np.divmod(cells.astype(np.int64), cols.kernel)
    h = np.arange(rows.out)[:, None] * rows.stride - rows.before + r * rows.dilation
    w = np.arange(cols.out) * cols.stride - cols.before + s * cols.dilation
    stray = (r < 0) | (r >= rows.kernel)
    stray |= (h < 0) | (h >= rows.length) | (w < 0) | (w >= cols.length)
    if stray.any():
        raise ValueError(
            f"mask value {cells[stray][0]} points outside its {rows.kernel}x{cols.kernel} window "
            f"or the input of size {size(shape)}: was the mask made with another geometry?"
        )
    return h * cols.length + w


def mask_to_input(
    mask: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Array:
    """The mask as the lecture draws it: 1 on every input element that a window chose, else 0.

    SEEDS.md S2: "the lecture draws the mask in the shape of the input".

    Parameters and errors are those of `mask_to_indices`.

    Returns
    -------
    numpy.ndarray of shape `input_shape`, uint8
        0 or 1, however many overlapping windows chose the element.
    """
    indices = mask_to_indices(mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = shape_of(input_shape, "input_shape")
    chosen = np.zeros(shape, np.uint8)
    chosen.reshape(-1)[flat(indices, shape)] = 1
    return chosen


def max_pool2d_grad(
    dy: npt.ArrayLike,
    mask: npt.ArrayLike,
    input_shape: Sequence[int],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> Array:
    """Gradient of max pooling, from dy, the mask and the geometry alone.

    SEEDS.md S2: only the elements that forward selected get a gradient (S1: dA1 = dP1 placed where
    the forward maximum was, 0 elsewhere; S4: dY2 = unpool(dP2, M2)). Overlapping windows that chose
    one element add their gradients.

    Parameters
    ----------
    dy : array_like, (N, C, P, Q) or (C, P, Q), float32 or float64
    mask : array_like of integers, the shape of dy
        From `max_pool2d`.
    input_shape : sequence of int, (N, C, H, W) or (C, H, W)
    kernel_size, stride, padding, dilation, ceil_mode
        Those of the forward pooling.

    Returns
    -------
    numpy.ndarray of shape `input_shape`, the type of dy

    Raises
    ------
    TypeError
        If dy is neither float32 nor float64, or mask does not hold integers.
    ValueError
        If dy or mask does not have the output's shape, or mask points outside window or input.
    """
    dtype, (dy_,) = load(dy=dy)
    indices = mask_to_indices(mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    shape = shape_of(input_shape, "input_shape")
    expect_shape(dy_, "dy", indices.shape, "like mask")
    # dX[argmax of window] += dY[window]
    dx = np.zeros(shape, dy_.dtype)
    with quiet():
        np.add.at(dx.reshape(-1), flat(indices, shape), dy_.ravel())
    return store(dx, dtype)


def flat(indices: Array, shape: tuple[int, ...]) -> Array:
    """Indices within a plane as indices into the whole flattened input."""
    planes = np.arange(int(np.prod(shape[:-2]))).reshape(*shape[:-2], 1, 1)
    return (planes * (shape[-2] * shape[-1]) + indices).ravel()
