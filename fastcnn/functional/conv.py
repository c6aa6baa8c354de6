"""2-D convolution and its input gradient: every check, copy, allocation and dispatch of them.

`conv` is the cross-correlation of the lectures and of every framework. Arrays are NCHW, weights
KCRS; SEEDS.md S2 names the four equations.
"""

from __future__ import annotations

from typing import Any

from fastcnn.arguments import shape_of
from fastcnn.arrays import (
    Array,
    Output,
    expect_shape,
    floats,
    images,
    type_name,
)
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import Conv2dGeometry, conv2d_geometry
from fastcnn.kernels.packed import PackedWeight
from fastcnn.kernels.plans import plan


def batched_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a batch of one, for one image."""
    return shape if len(shape) == 4 else (1, *shape)


def _unbatch(result: Array, batched: bool) -> Array:
    return result if batched else result[0]


def _weights(w: Any, like: Array) -> tuple[PackedWeight | None, Array]:
    """w as it was packed, if it was, and as an array."""
    if type(w) is PackedWeight:
        return w, floats(w.array, "w", (4,), like=like)
    return None, floats(w, "w", (4,), like=like)


def _check_bias(b: Any, x: Array, g: Conv2dGeometry) -> Array | None:
    if b is None:
        return None
    b = floats(b, "b", (), like=x)
    if b.shape not in ((g.K,), (g.K, g.P, g.Q)):
        raise ValueError(
            f"Given weight of size {list(g.weight_shape)}, expected bias to be 1-dimensional with "
            f"{g.K} elements, but got bias of size {list(b.shape)} instead; one bias per output "
            f"pixel has size {[g.K, g.P, g.Q]}"
        )
    return b


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Convolve images with filters: Y_k = sum_c conv(X_c, W_kc) + b_k (SEEDS.md S2).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
        A batch of images, or one.
    w : array_like or PackedWeight, (K, C/groups, R, S), same type
        Filters. A bare array is put into the kernels' order at every call, a `PackedWeight` once.
    b : array_like, (K,) or (K, P, Q), same type, optional
        One bias per filter, or one per filter and output pixel.
    stride, dilation : int or (int, int)
        Vertical and horizontal.
    padding : int, pair, four ints or str
        Zeros around x: one number, (vertical, horizontal), (top, bottom, left, right), "valid",
        "same" (PyTorch's rule, stride 1 only), "same_upper" or "same_lower" (TensorFlow's, Keras's
        and ONNX's rule at any stride).
    groups : int
        Splits channels and filters into groups that do not see each other.
    algorithm : str
        "auto", or an implementation's name.
    out : ndarray, optional
        Where to write the result; it may overlap an input.

    Returns
    -------
    ndarray, (N, K, P, Q), or (K, P, Q) for one image
        P = floor((H + top + bottom - dilation*(R-1) - 1)/stride) + 1, Q likewise; `out` if given.

    Raises
    ------
    TypeError
        Types other than float32 and float64, mixed types, or things that are no arrays.
    ValueError
        Shapes or numbers that do not fit, named in the message.
    """
    parameters = (stride, padding, dilation, groups), algorithm, False
    if out is None:
        results = repeated("conv2d", parameters, x, w, b)
        if results is not None:
            return results[0]
    return _forward(x, w, b, out, *parameters)


def conv2d_with_relu(
    x: Any,
    w: Any,
    b: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """relu(conv2d(x, w, b)), bit for bit, in one pass over the output; arguments as `conv2d`."""
    parameters = (stride, padding, dilation, groups), algorithm, True
    if out is None:
        results = repeated("conv2d", parameters, x, w, b)
        if results is not None:
            return results[0]
    return _forward(x, w, b, out, *parameters)


def _forward(
    x: Any, w: Any, b: Any, out: Array | None, window: tuple[Any, ...], algorithm: str, relu: bool
) -> Array:
    """A convolution that has no recipe."""
    x = images(x, "conv2d")
    packed, w = _weights(w, x)
    batched = x.ndim == 4
    g = conv2d_geometry(batched_shape(x.shape), w.shape, *window)
    b = _check_bias(b, x, g)
    chosen = plan("conv2d", g, type_name(x), algorithm, x.device)
    target = Output(g.output_shape if batched else g.output_shape[1:], x.dtype, out, (x, w, b))
    options: dict[str, Any] = {"relu": True} if relu else {}
    if packed is not None and chosen.pack is not None:
        chosen.run(g, x, w, b, target.array, packed=packed.order_of(chosen), **options)
    else:
        perform(chosen, (window, algorithm, relu), (x, w, b), (target.array,), **options)
    return target.result()


def conv2d_input_grad(
    dy: Any,
    w: Any,
    input_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient with respect to the input: dX_c = sum_k conv(pad(dY_k), rot180(W_kc)) (SEEDS.md S2).

    The "full" convolution with the rotated kernel, exact at every stride, dilation and group.

    Parameters
    ----------
    dy : array_like, (N, K, P, Q) or (K, P, Q), float32 or float64
        Gradient with respect to the output.
    w : array_like or PackedWeight, (K, C/groups, R, S), same type
    input_shape : tuple of int
        Shape of the forward pass's x; has as many dimensions as dy.
    stride, padding, dilation, groups, algorithm, out
        As in `conv2d`.

    Returns
    -------
    ndarray, input_shape
        Zero where no window reached.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; also if dy's shape is not the forward output's.
    """
    parameters = input_shape, stride, padding, dilation, groups, algorithm
    if out is None:
        results = repeated("conv2d_input_grad", parameters, dy, w)
        if results is not None:
            return results[0]
    dy = floats(dy, "dy", (4, 3))
    packed, w = _weights(w, dy)
    shape = shape_of(input_shape, "input_shape", (dy.ndim,))
    batched = dy.ndim == 4
    g = conv2d_geometry(batched_shape(shape), w.shape, stride, padding, dilation, groups)
    expect_dy(dy, g, batched)
    chosen = plan("conv2d_input_grad", g, type_name(dy), algorithm, dy.device)
    target = Output(shape, dy.dtype, out, (dy, w))
    if packed is None or chosen.pack is None:
        perform(chosen, parameters, (dy, w), (target.array,))
    else:
        chosen.run(g, dy, w, target.array, packed=packed.order_of(chosen))
    return target.result()


def expect_dy(dy: Array, g: Conv2dGeometry, batched: bool) -> None:
    """Raise ValueError unless dy has the shape of the convolution's output."""
    expected = g.output_shape if batched else g.output_shape[1:]
    expect_shape(dy, "dy", expected, "the output's shape of this convolution")
