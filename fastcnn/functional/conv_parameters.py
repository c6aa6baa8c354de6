"""Gradients of a convolution's filters and biases: checks, copies, allocations and dispatch.

Arrays and equations are those of conv.py.
"""

from __future__ import annotations

from typing import Any

from fastcnn.arguments import shape_of
from fastcnn.arrays import Array, Output, empty, floats, given_back, images, type_name
from fastcnn.functional.conv import batched_shape, expect_dy
from fastcnn.functional.repeated import perform, repeated
from fastcnn.geometry import Extent, conv2d_geometry
from fastcnn.kernels.plans import Plan, plan


def conv2d_weight_grad(
    x: Any,
    dy: Any,
    weight_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
    out: Array | None = None,
) -> Array:
    """Gradient with respect to the filters: dW_kc = conv(X_c, dY_k) over all images (SEEDS.md S2).

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    dy : array_like, (N, K, P, Q) or (K, P, Q), same type
    weight_shape : tuple of int
        (K, C/groups, R, S).
    stride, padding, dilation, groups, algorithm, out
        As in `conv2d`.

    Returns
    -------
    ndarray, weight_shape
        Summed over the batch, in an order that does not depend on the number of threads.

    Raises
    ------
    TypeError, ValueError
        As `conv2d`; also if dy's shape is not the forward output's.
    """
    parameters = weight_shape, stride, padding, dilation, groups, algorithm
    if out is None:
        results = repeated("conv2d_weight_grad", parameters, x, dy)
        if results is not None:
            return results[0]
    x, dy, chosen = _weight_grad(x, dy, *parameters)
    g: Any = chosen.problem.geometry
    target = Output(g.weight_shape, x.dtype, out, (x, dy))
    perform(chosen, parameters, (x, dy), (target.array,))
    return target.result()


def conv2d_parameter_grads(
    x: Any,
    dy: Any,
    weight_shape: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    algorithm: str = "auto",
) -> tuple[Array, Array]:
    """Gradients with respect to the filters and to their biases, from one pass over dy.

    dw has the bits of `conv2d_weight_grad`. db is `conv2d_bias_grad(dy)` but for its rounding:
    where the kernel that serves dw also adds up dy, sums of at most sixteen numbers are in dy's
    type, and all else is added up in float64, in an order that the geometry alone decides. NaN and
    infinities go where the two functions put them; finite numbers within a factor of sixteen of the
    type's largest may become infinite in such a sum.

    Parameters
    ----------
    x : array_like, (N, C, H, W) or (C, H, W), float32 or float64
    dy : array_like, (N, K, P, Q) or (K, P, Q), same type
    weight_shape : tuple of int
        (K, C/groups, R, S).
    stride, padding, dilation, groups, algorithm
        As in `conv2d`; `algorithm` is one of `conv2d_weight_grad`'s.

    Returns
    -------
    dw : ndarray, weight_shape
    db : ndarray, (K,)

    Raises
    ------
    TypeError, ValueError
        As `conv2d_weight_grad`.
    """
    parameters = weight_shape, stride, padding, dilation, groups, algorithm
    both = (*parameters, "and bias")  # its own recipes, of the same plan
    results = repeated("conv2d_weight_grad", both, x, dy)
    if results is not None:
        return results[0], results[1]
    x, dy, chosen = _weight_grad(x, dy, *parameters)
    g: Any = chosen.problem.geometry
    dw, db = (empty(shape, x.dtype, x) for shape in (g.weight_shape, (g.K,)))
    perform(chosen, both, (x, dy), (dw, db))
    return given_back(dw), given_back(db)


def _weight_grad(
    x: Any, dy: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int,
    algorithm: str,
) -> tuple[Array, Array, Plan]:  # fmt: skip
    """A weight gradient's arrays in canonical form, and its plan."""
    x = images(x, "conv2d")
    dy = floats(dy, "dy", (x.ndim,), like=x)
    shape = shape_of(weight_shape, "weight_shape", (4,))
    g = conv2d_geometry(batched_shape(x.shape), shape, stride, padding, dilation, groups)
    expect_dy(dy, g, x.ndim == 4)
    return x, dy, plan("conv2d_weight_grad", g, type_name(x), algorithm, x.device)


def conv2d_bias_grad(dy: Any, per_pixel: bool = False) -> Array:
    """Gradient with respect to the bias: db_k = sum(dY_k) (SEEDS.md S2), added up in float64.

    Parameters
    ----------
    dy : array_like, (N, K, P, Q) or (K, P, Q), float32 or float64
    per_pixel : bool
        For a bias of shape (K, P, Q): sum over images only.

    Returns
    -------
    ndarray, (K,), or (K, P, Q) if per_pixel

    Raises
    ------
    TypeError, ValueError
        Wrong type or number of dimensions.
    """
    results = repeated("conv2d_bias_grad", (per_pixel,), dy)
    if results is not None:
        return results[0]
    dy = floats(dy, "dy", (4, 3))
    if dy.ndim == 3:
        dy = dy.reshape(1, *dy.shape)
    db = empty(dy.shape[1:] if per_pixel else dy.shape[1:2], dy.dtype, dy)
    chosen = plan("conv2d_bias_grad", Extent(dy.shape), type_name(dy), device=dy.device)
    perform(chosen, (per_pixel,), (dy,), (db,))
    return given_back(db)
