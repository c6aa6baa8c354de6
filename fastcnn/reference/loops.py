"""The lectures' loops: convolution, its gradients and pooling, one multiplication at a time.

Written to be read, and to check the vectorised functions of the same names by. N images, C
channels, K filters, windows of R x S, output P x Q. Throughout, window (p, q) has its cell (r, s)
on the input's pixel (i, j):

    i = p stride - top + r dilation        j = q stride - left + s dilation

`rows.cells(p)` and `cols.cells(q)` give the pairs (r, i) and (s, j) that lie on the image; all
others lie on padding, where the input is 0 (or, for pooling, is not looked at).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ._axes import Ints, Padding, as_batch, check_bias, conv_axes, pool_axes, shape_of
from ._numerics import Array, expect_shape, load, quiet, store


def conv2d(
    x: npt.ArrayLike,
    w: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Array:
    """Convolution, forward, in loops; arguments and errors as `fastcnn.reference.conv2d`.

    SEEDS.md S2: Y_i = sum_j X_j * K_ij + B_i.
    """
    dtype, (x_, w_, b_) = load(x=x, w=w, b=b)
    rows, cols, groups = conv_axes(x_.shape, w_.shape, stride, padding, dilation, groups)
    filters, channels = w_.shape[:2]
    images = as_batch(x_)
    y = np.zeros((len(images), filters, rows.out, cols.out), x_.dtype)
    check_bias(b_, w_, rows, cols)

    with quiet():
        for n in range(len(images)):
            for k in range(filters):
                group = k // (filters // groups)
                for p in range(rows.out):
                    for q in range(cols.out):
                        total = 0.0
                        for c in range(channels):
                            channel = group * channels + c
                            for r, i in rows.cells(p):
                                for s, j in cols.cells(q):
                                    total += images[n, channel, i, j] * w_[k, c, r, s]
                        if b_ is not None:
                            total += b_[k] if b_.ndim == 1 else b_[k, p, q]
                        y[n, k, p, q] = total
    return store(y.reshape(*x_.shape[:-3], *y.shape[1:]), dtype)


def conv2d_input_grad(
    dy: npt.ArrayLike,
    w: npt.ArrayLike,
    input_shape: Sequence[int],
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Array:
    """Input gradient in loops; arguments and errors as `fastcnn.reference.conv2d_input_grad`.

    SEEDS.md S2: dX_j = sum_i conv(pad(dY_i), rot180(K_ij)), seen from the other side: every output
    sends its gradient back along each product that made it.
    """
    dtype, (dy_, w_) = load(dy=dy, w=w)
    shape = shape_of(input_shape, "input_shape")
    rows, cols, groups = conv_axes(shape, w_.shape, stride, padding, dilation, groups)
    filters, channels = w_.shape[:2]
    out_shape = (*shape[:-3], filters, rows.out, cols.out)
    expect_shape(dy_, "dy", out_shape, f"for an input of shape {shape}")
    dx = np.zeros(shape if len(shape) == 4 else (1, *shape), dy_.dtype)
    gradients = dy_.reshape(len(dx), *out_shape[-3:])

    with quiet():
        for n in range(len(dx)):
            for k in range(filters):
                group = k // (filters // groups)
                for p in range(rows.out):
                    for q in range(cols.out):
                        for c in range(channels):
                            channel = group * channels + c
                            for r, i in rows.cells(p):
                                for s, j in cols.cells(q):
                                    dx[n, channel, i, j] += gradients[n, k, p, q] * w_[k, c, r, s]
    return store(dx.reshape(shape), dtype)


def conv2d_weight_grad(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    weight_shape: Sequence[int],
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Array:
    """Weight gradient in loops; arguments and errors as `fastcnn.reference.conv2d_weight_grad`.

    SEEDS.md S2: dK_ij = conv(X_j, dY_i), summed over the images.
    """
    dtype, (x_, dy_) = load(x=x, dy=dy)
    shape = shape_of(weight_shape, "weight_shape")
    rows, cols, groups = conv_axes(x_.shape, shape, stride, padding, dilation, groups)
    filters, channels = shape[:2]
    out_shape = (*x_.shape[:-3], filters, rows.out, cols.out)
    expect_shape(dy_, "dy", out_shape, f"for an input of shape {x_.shape}")
    images = as_batch(x_)
    gradients = dy_.reshape(len(images), *out_shape[-3:])
    dw = np.zeros(shape, x_.dtype)

    with quiet():
        for n in range(len(images)):
            for k in range(filters):
                group = k // (filters // groups)
                for c in range(channels):
                    channel = group * channels + c
                    for p in range(rows.out):
                        for q in range(cols.out):
                            for r, i in rows.cells(p):
                                for s, j in cols.cells(q):
                                    dw[k, c, r, s] += (
                                        images[n, channel, i, j] * gradients[n, k, p, q]
                                    )
    return store(dw, dtype)


def max_pool2d(
    x: npt.ArrayLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_mask: bool = False,
) -> Array | tuple[Array, Array]:
    """Max pooling in loops; arguments and errors as `fastcnn.reference.max_pool2d`.

    SEEDS.md S2: the maximum in the window.
    """
    dtype, (x_,) = load(x=x)
    rows, cols = pool_axes(x_.shape, kernel_size, stride, padding, dilation, ceil_mode)
    images = as_batch(x_)
    y = np.empty((*images.shape[:2], rows.out, cols.out), x_.dtype)
    mask = np.empty(y.shape, np.uint8 if rows.kernel * cols.kernel <= 256 else np.int32)

    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            for p in range(rows.out):
                for q in range(cols.out):
                    best, chosen = -math.inf, -1
                    for r, i in rows.cells(p):
                        for s, j in cols.cells(q):
                            value = images[n, c, i, j]
                            if chosen < 0 or value > best or math.isnan(value):
                                best, chosen = value, r * cols.kernel + s
                    y[n, c, p, q], mask[n, c, p, q] = best, chosen
    shape = (*x_.shape[:-2], rows.out, cols.out)
    result = store(y.reshape(shape), dtype)
    return (result, mask.reshape(shape)) if return_mask else result


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
    """Pooling gradient in loops; arguments and errors as `fastcnn.reference.max_pool2d_grad`.

    SEEDS.md S2: only the elements that forward selected get a gradient; where windows overlap, the
    gradients of all that chose an element add up.
    """
    dtype, (dy_,) = load(dy=dy)
    shape = shape_of(input_shape, "input_shape")
    rows, cols = pool_axes(shape, kernel_size, stride, padding, dilation, ceil_mode)
    cells = np.asarray(mask)
    out_shape = (*shape[:-2], rows.out, cols.out)
    expect_shape(dy_, "dy", out_shape, f"for an input of shape {shape}")
    expect_shape(cells, "mask", out_shape, f"for an input of shape {shape}")
    dx = np.zeros(shape if len(shape) == 4 else (1, *shape), dy_.dtype)
    gradients, cells = (a.reshape(*dx.shape[:2], *out_shape[-2:]) for a in (dy_, cells))

    for n in range(dx.shape[0]):
        for c in range(dx.shape[1]):
            for p in range(rows.out):
                for q in range(cols.out):
                    r, s = divmod(int(cells[n, c, p, q]), cols.kernel)
                    pixel_of_row, pixel_of_col = dict(rows.cells(p)), dict(cols.cells(q))
                    if r not in pixel_of_row or s not in pixel_of_col:
                        raise ValueError(
                            f"mask value {cells[n, c, p, q]} points outside its "
                            f"{rows.kernel}x{cols.kernel} window or the input"
                        )
                    dx[n, c, pixel_of_row[r], pixel_of_col[s]] += gradients[n, c, p, q]
    return store(dx.reshape(shape), dtype)
