"""Convolution and its gradients: im2col and matrix products.

`conv` of the lectures is the valid cross-correlation; K filters, C channels, G groups. With padded
input X and the positions of `_axes.py`,

    Y[n,k,p,q] = b[k] + sum over c, r, s of X[n, c, p stride + r dilation, q stride + s dilation]
                                            w[k,c,r,s]

where filter k sees only the C/G channels of its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from ._axes import (
    Axis,
    Ints,
    Padding,
    as_batch,
    check_bias,
    conv_axes,
    pad_or_crop,
    shape_of,
)
from ._numerics import Array, expect_shape, load, quiet, store

# im2col copies every input element R S times. Working through the batch in pieces of this many
# bytes bounds that copy (a 64-channel 112x112 layer takes 29 MB per float32 image at 3x3), and
# small images still share one pass.
COLUMN_BYTES = 1 << 25


def _output_shape(
    input_shape: Sequence[int], filters: int, rows: Axis, cols: Axis
) -> tuple[int, ...]:
    return (*input_shape[:-3], filters, rows.out, cols.out)


def _pieces(images: int, column_bytes_per_image: int) -> Iterator[slice]:
    step = max(1, COLUMN_BYTES // column_bytes_per_image)
    return (slice(n, n + step) for n in range(0, images, step))


def _windows(
    x: Array, window: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Array:
    """A view of every window of x (N, C, H, W): (N, C, positions down, across, *window)."""
    reach = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    every = sliding_window_view(x, reach, axis=(2, 3))
    return every[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _correlate(
    x: Array, w: Array, stride: tuple[int, int], dilation: tuple[int, int], groups: int
) -> Array:
    """The lectures' conv: valid cross-correlation of x (N, C, H, W) with w (K, C/G, R, S)."""
    filters, channels, *window = w.shape
    windows = _windows(x, (window[0], window[1]), stride, dilation)
    images, _, p, q, r, s = windows.shape
    terms = channels * r * s
    # Y = W columns: per group (K/G, C/G R S) @ (C/G R S, P Q), which comes out in NCHW order.
    matrix = w.reshape(groups, filters // groups, terms)
    y = np.empty((images, groups, filters // groups, p * q), x.dtype)
    for piece in _pieces(images, groups * terms * p * q * x.itemsize):
        part = windows[piece].transpose(0, 1, 4, 5, 2, 3)
        columns = part.reshape(len(part), groups, terms, p * q)
        with quiet():
            np.matmul(matrix, columns, out=y[piece])
    return y.reshape(images, filters, p, q)


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
    """Convolution, forward.

    SEEDS.md S2: Y_i = sum_j X_j * K_ij + B_i (and S0, S3: Z1 = conv(X, W1) + b1).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    w : array_like, (K, C/groups, R, S), the type of x
    b : array_like, (K,) or (K, P, Q), optional
        One bias per filter, or one per output pixel.
    stride, dilation : int or (vertical, horizontal)
    padding : int, (vertical, horizontal), (top, bottom, left, right), "valid", "same" (torch's
        rule, stride 1 only), "same_upper" or "same_lower" (TensorFlow's and ONNX's, any stride)
    groups : int
        Filter k sees the k // (K/groups)-th part of the channels.

    Returns
    -------
    numpy.ndarray, (N, K, P, Q) or (K, P, Q), the type of x

    Raises
    ------
    TypeError
        For types other than float32 and float64, or mixed ones.
    ValueError
        For shapes that do not fit each other, or a kernel larger than the padded input.
    """
    dtype, (x_, w_, b_) = load(x=x, w=w, b=b)
    rows, cols, groups = conv_axes(x_.shape, w_.shape, stride, padding, dilation, groups)
    check_bias(b_, w_, rows, cols)
    batch = as_batch(x_)
    padded = pad_or_crop(batch, (rows.before, rows.after), (cols.before, cols.after))
    # Y = conv(pad X, K) + B
    y = _correlate(padded, w_, (rows.stride, cols.stride), (rows.dilation, cols.dilation), groups)
    if b_ is not None:
        with quiet():
            y += b_[:, None, None] if b_.ndim == 1 else b_
    return store(y.reshape(_output_shape(x_.shape, len(w_), rows, cols)), dtype)


def _insert_zeros(dy: Array, stride: tuple[int, int]) -> Array:
    """Put stride - 1 zeros between the elements of dy, so that they lie `stride` apart again."""
    if stride == (1, 1):
        return dy
    *outer, p, q = dy.shape
    spread = np.zeros((*outer, (p - 1) * stride[0] + 1, (q - 1) * stride[1] + 1), dy.dtype)
    spread[..., :: stride[0], :: stride[1]] = dy
    return spread


def _rotate(w: Array, groups: int) -> Array:
    """rot180 of every kernel, and filters and channels swapped: (C, K/G, R, S)."""
    k, c, r, s = w.shape
    swapped = w[:, :, ::-1, ::-1].reshape(groups, k // groups, c, r, s).swapaxes(1, 2)
    return swapped.reshape(groups * c, k // groups, r, s)


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
    """Gradient of a convolution with respect to its input: the full convolution.

    SEEDS.md S2: dX_j = sum_i conv(pad(dY_i), rot180(K_ij)) (S4: dP1 = conv(pad dY2, rot180 K2)).
    With a stride, zeros between dY's elements put these where their windows began; forward padding
    shortens the full padding, and crops where it exceeds it. Input that no window reached gets 0.

    Parameters
    ----------
    dy : array_like, (N, K, P, Q) or (K, P, Q), float32 or float64
    w : array_like, (K, C/groups, R, S), the type of dy
    input_shape : sequence of int, (N, C, H, W) or (C, H, W)
    stride, padding, dilation, groups
        Those of the forward convolution.

    Returns
    -------
    numpy.ndarray of shape `input_shape`, the type of dy

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError too if dy does not have the shape of the forward's output.
    """
    dtype, (dy_, w_) = load(dy=dy, w=w)
    shape = shape_of(input_shape, "input_shape")
    rows, cols, groups = conv_axes(shape, w_.shape, stride, padding, dilation, groups)
    expected = _output_shape(shape, len(w_), rows, cols)
    expect_shape(dy_, "dy", expected, f"for an input of shape {shape}")
    batch = as_batch(dy_)
    spread = _insert_zeros(batch, (rows.stride, cols.stride))

    def full_padding(axis: Axis, spread_length: int) -> tuple[int, int]:
        # full padding of dY, less the forward padding; then as far as the input goes
        before = axis.reach - 1 - axis.before
        return before, axis.length + axis.reach - 1 - before - spread_length

    padded = pad_or_crop(
        spread, full_padding(rows, spread.shape[2]), full_padding(cols, spread.shape[3])
    )
    # dX = conv(pad dY, rot180 K)
    dx = _correlate(padded, _rotate(w_, groups), (1, 1), (rows.dilation, cols.dilation), groups)
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
    """Gradient of a convolution with respect to its kernels, summed over the images.

    SEEDS.md S2: dK_ij = conv(X_j, dY_i) (S1: dW1 = conv(X, dZ1); S3: df = conv(X, dZ1)). dY slides
    over the padded input as a kernel would, X coming first, the larger operand; the forward's
    stride spreads dY's elements (as a dilation) and its dilation is the step of the slide.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    dy : array_like, (N, K, P, Q) or (K, P, Q), the type of x
    weight_shape : sequence of int, (K, C/groups, R, S)
    stride, padding, dilation, groups
        Those of the forward convolution.

    Returns
    -------
    numpy.ndarray of shape `weight_shape`, the type of x

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; ValueError too if dy does not have the shape of the forward's output.
    """
    dtype, (x_, dy_) = load(x=x, dy=dy)
    shape = shape_of(weight_shape, "weight_shape")
    rows, cols, groups = conv_axes(x_.shape, shape, stride, padding, dilation, groups)
    filters, channels, r, s = shape
    expected = _output_shape(x_.shape, filters, rows, cols)
    expect_shape(dy_, "dy", expected, f"for an input of shape {x_.shape}")
    batch = as_batch(x_)
    padded = pad_or_crop(batch, (rows.before, rows.after), (cols.before, cols.after))
    window, images = (rows.out, cols.out), len(padded)
    # dK = conv(pad X, dY), stride and dilation swapped; rows and columns that the forward's
    # windows left over make the slide longer than the kernel: crop to (R, S).
    slide = _windows(padded, window, (rows.dilation, cols.dilation), (rows.stride, cols.stride))[
        :, :, :r, :s
    ]
    terms, pixels = channels * r * s, rows.out * cols.out
    gradients = dy_.reshape(images, groups, filters // groups, pixels)
    dw = np.zeros((groups, filters // groups, terms), padded.dtype)
    for piece in _pieces(images, groups * terms * pixels * padded.itemsize):
        # per group: dK (K/G, C/G R S) += dY (K/G, N P Q) @ columns (C/G R S, N P Q)^T
        columns = slide[piece].transpose(1, 2, 3, 0, 4, 5).reshape(groups, terms, -1)
        errors = gradients[piece].transpose(1, 2, 0, 3).reshape(groups, filters // groups, -1)
        with quiet():
            dw += errors @ columns.swapaxes(1, 2)
    return store(dw.reshape(shape), dtype)


def conv2d_bias_grad(dy: npt.ArrayLike, per_pixel: bool = False) -> Array:
    """Gradient of a convolution with respect to its bias.

    SEEDS.md S2: dB_i = sum(dY_i), over images and pixels; with one bias per output pixel, over the
    images alone.

    Parameters
    ----------
    dy : array_like, (N, K, P, Q) or (K, P, Q), float32 or float64
    per_pixel : bool
        True for a bias of shape (K, P, Q).

    Returns
    -------
    numpy.ndarray, (K,) or (K, P, Q), the type of dy

    Raises
    ------
    TypeError
        If dy is neither float32 nor float64.
    ValueError
        If dy is not 3-D or 4-D.
    """
    dtype, (dy_,) = load(dy=dy)
    if dy_.ndim not in (3, 4):
        raise ValueError(f"dy must be 4-D or 3-D, but got {dy_.ndim}-D of shape {dy_.shape}")
    batch = as_batch(dy_)
    with quiet():
        return store(batch.sum(axis=0) if per_pixel else batch.sum(axis=(0, 2, 3)), dtype)


def conv2d_parameter_grads(
    x: npt.ArrayLike,
    dy: npt.ArrayLike,
    weight_shape: Sequence[int],
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> tuple[Array, Array]:
    """Both gradients that a convolution's parameters have: `conv2d_weight_grad`'s and db.

    Parameters
    ----------
    x, dy, weight_shape, stride, padding, dilation, groups
        As `conv2d_weight_grad`.

    Returns
    -------
    dw : numpy.ndarray of shape `weight_shape`, the type of x
    db : numpy.ndarray, (K,), the type of x
        One bias per filter.

    Raises
    ------
    TypeError, ValueError
        As `conv2d_weight_grad`.
    """
    window = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d_weight_grad(x, dy, weight_shape, **window), conv2d_bias_grad(dy)  # type: ignore
