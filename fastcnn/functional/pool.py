"""2-D max pooling with its mask, the gradient from the mask, and the mask's other forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arguments import shape_of
from fastcnn.arrays import (
    Array,
    Output,
    empty,
    expect_shape,
    floats,
    given_back,
    images,
    integers,
    type_name,
)
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import Pool2dGeometry, pool2d_geometry
from fastcnn.kernels.plans import plan

_OUTPUT = "the output's shape of this pooling"


def _geometry(shape: tuple[int, ...], *window: Any) -> Pool2dGeometry:
    return pool2d_geometry(shape if len(shape) == 4 else (1, *shape), *window)


def forward(
    operation: str, x: Any, window: tuple[Any, ...], algorithm: str, out: Array | None
) -> tuple[Array, ...]:
    """Run max_pool2d or relu_max_pool2d; y, mask and of the latter passes."""
    parameters = window, algorithm
    if out is None:
        results = repeated(operation, parameters, x)
        if results is not None:
            return tuple(results)
    x = images(x, operation)
    g = _geometry(x.shape, *window)
    shape = g.output_shape[4 - x.ndim :]
    chosen = plan(operation, g, type_name(x), algorithm, x.device)
    target = Output(shape, x.dtype, out, (x,))
    kept = [empty(shape, g.mask_dtype, x)]
    if operation == "relu_max_pool2d":
        kept.append(empty(shape, np.uint8, x))
    perform(chosen, parameters, (x,), (target.array, *kept))
    return (target.result(), *map(given_back, kept))


def max_pool2d(
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
    """Take the maximum of every window of every channel (SEEDS.md S0, S2, S4).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    kernel_size : int or (int, int)
        Window height R and width S.
    stride : int or (int, int), optional
        The window's own size by default.
    padding : int, pair, four ints or str
        As in `conv2d`, but padding never wins. Anything below the effective window.
    dilation : int or (int, int)
        Distance between the cells of a window.
    ceil_mode : bool
        Let the last window hang over the end (PyTorch's rule: unless it starts there).
    return_mask : bool
        Also return where each maximum was.
    algorithm, out
        As in `conv2d`; `out` takes y.

    Returns
    -------
    y : ndarray, (N, C, P, Q) or (C, P, Q)
        The first maximum in row-major order wins; NaN wins over everything, the last NaN if there
        are several.
    mask : ndarray, y's shape, uint8, or int32 for windows of more than 256 cells
        Only with return_mask: the position r*S + s in the window.

    Raises
    ------
    TypeError, ValueError
        Wrong types, shapes or numbers; a window that would lie wholly in padding.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    results = forward("max_pool2d", x, window, algorithm, out)
    return results if return_mask else results[0]


def _mask_and_geometry(
    mask: Any, input_shape: Any, *window: Any, like: Array | None = None
) -> tuple[Array, tuple[int, ...], Pool2dGeometry]:
    mask = integers(mask, "mask", ("uint8", "int32"), like)
    shape = shape_of(input_shape, "input_shape", (4, 3))
    g = _geometry(shape, *window)
    expect_shape(mask, "mask", g.output_shape[4 - len(shape) :], _OUTPUT)
    if type_name(mask) != g.mask_dtype:
        raise TypeError(
            f"mask must be {g.mask_dtype} for a window of {g.R} x {g.S}, but got {mask.dtype}"
        )
    return mask, shape, g


def _bad_mask(count: int, g: Pool2dGeometry) -> ValueError:
    return ValueError(
        f"mask has {count} entries that name no cell of the input: each must be r*{g.S} + s of a "
        f"cell inside it, 0 to {g.R * g.S - 1}, as max_pool2d(..., return_mask=True) returns them "
        "for the same geometry"
    )


def backward(
    operation: str,
    dy: Any,
    mask: Any,
    kept: dict[str, Any],
    input_shape: Any,
    window: tuple[Any, ...],
    algorithm: str,
    out: Array | None,
) -> Array:
    """Run max_pool2d_grad, or relu_max_pool2d_grad with passes in `kept`; dx."""
    parameters = input_shape, window, algorithm
    if out is None:
        results = repeated(operation, parameters, dy, mask, *kept.values())
        if results is not None:
            dx, bad = results
            if bad:
                raise _bad_mask(int(bad), _geometry(dx.shape, *window))
            return dx
    dy = floats(dy, "dy", (4, 3))
    mask, shape, g = _mask_and_geometry(mask, input_shape, *window, like=dy)
    expect_shape(dy, "dy", mask.shape, _OUTPUT)
    more = [integers(values, name, ("uint8",), dy) for name, values in kept.items()]
    for name, values in zip(kept, more, strict=True):
        expect_shape(values, name, mask.shape, _OUTPUT)
    chosen = plan(operation, g, type_name(dy), algorithm, dy.device)
    target = Output(shape, dy.dtype, out, (dy, mask, *more))
    bad = perform(chosen, parameters, (dy, mask, *more), (target.array,))
    if bad:
        raise _bad_mask(bad, g)
    return target.result()


def max_pool2d_grad(
    dy: Any,
    mask: Any,
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
    """Gradient of max pooling: dY where the forward maximum was, zero elsewhere (SEEDS.md S2).

    Uses nothing but dy, the mask and the geometry. Where windows overlap, the gradients of all
    windows that chose a cell add up (SEEDS.md S4).

    Parameters
    ----------
    dy : array_like, (N, C, P, Q) or (C, P, Q), float32 or float64
    mask : array_like, dy's shape, uint8 or int32
        From `max_pool2d(..., return_mask=True)` with the same geometry.
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
        As `max_pool2d`; shapes that are not the forward output's; mask entries that name no cell.
        `out`, if given, is then left as it was or partly written. On a GPU such entries give
        nothing and no error, which the caller would have to wait for.
    """
    window = kernel_size, stride, padding, dilation, ceil_mode
    return backward("max_pool2d_grad", dy, mask, {}, input_shape, window, algorithm, out)


def _rows_and_columns(mask: Array, g: Pool2dGeometry) -> tuple[Array, Array]:
    """Row h and column w of the input that each mask entry names, int64, checked."""
    r, s = np.divmod(mask.astype(np.int64), g.S)
    h = np.arange(g.P)[:, np.newaxis] * g.stride[0] - g.padding[0] + r * g.dilation[0]
    w = np.arange(g.Q) * g.stride[1] - g.padding[2] + s * g.dilation[1]
    bad = (r < 0) | (r >= g.R) | (h < 0) | (h >= g.H) | (w < 0) | (w >= g.W)
    if bad.any():
        raise _bad_mask(int(bad.sum()), g)
    return h, w


def _of_mask_on_device(
    operation: str, g: Pool2dGeometry, mask: Any, shape: tuple[int, ...], dtype: Any
) -> Any:
    made = empty(shape, dtype, mask)
    plan(operation, g, type_name(mask), device=mask.device).run(g, mask, made)
    return given_back(made)


def mask_to_indices(
    mask: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """The mask as PyTorch's indices: h*W + w of each maximum within its channel's plane.

    Parameters
    ----------
    mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool2d_grad`.

    Returns
    -------
    ndarray, mask's shape, int64

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_grad`.
    """
    mask, _, g = _mask_and_geometry(
        mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    if type(mask) is not np.ndarray:
        return _of_mask_on_device("mask_to_indices", g, mask, mask.shape, np.int64)
    h, w = _rows_and_columns(mask, g)
    return h * g.W + w


def mask_to_input(
    mask: Any,
    input_shape: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Array:
    """The mask as the lecture draws it: 1 where an element was some window's maximum, else 0.

    Parameters
    ----------
    mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode
        As in `max_pool2d_grad`.

    Returns
    -------
    ndarray, input_shape, uint8

    Raises
    ------
    TypeError, ValueError
        As `max_pool2d_grad`.
    """
    mask, shape, g = _mask_and_geometry(
        mask, input_shape, kernel_size, stride, padding, dilation, ceil_mode
    )
    if type(mask) is not np.ndarray:
        return _of_mask_on_device("mask_to_input", g, mask, shape, np.uint8)
    h, w = _rows_and_columns(mask, g)
    drawn = np.zeros((g.N * g.C, g.H * g.W), np.uint8)
    places = (h * g.W + w).reshape(g.N * g.C, g.P * g.Q)
    np.put_along_axis(drawn, places, 1, axis=1)
    return drawn.reshape(shape)
