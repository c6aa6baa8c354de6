"""Calls of Winograd's algorithms, and what becomes of those that meet numbers they cannot take."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import implicit_gemm
from fastcnn.kernels.cpu.winograd_blocks import pack, run
from fastcnn.kernels.cpu.winograd_sizes import Winograd

AGAIN = "inputs or results are not finite, or too large: computed again by implicit GEMM"
# Of an operation, a geometry and an itemsize.
Tables = Callable[[str, Conv2dGeometry, int], Winograd]


def transformed(tables: Winograd, w: np.ndarray) -> np.ndarray:
    """U of all of w."""
    u = np.empty(tables.parts * tables.u_part, w.dtype)
    pack(tables, w, u, 0, tables.parts)
    return u


def forward(
    tables: Tables,
    g: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: np.ndarray | None,
    relu: bool,
) -> str | None:
    """As `winograd.conv2d`, by these tables."""
    if not y.size:
        return None
    bias = np.empty(0, x.dtype) if b is None else b.reshape(-1)
    if run(tables("conv2d", g, x.itemsize), x, w, packed, bias, relu, y):
        return None
    implicit_gemm.conv2d(g, x, w, b, y, relu=relu)
    return AGAIN


def input_grad(
    tables: Tables,
    g: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: np.ndarray | None,
) -> str | None:
    """As `winograd.conv2d_input_grad`, by these tables."""
    if not dx.size:
        return None
    bias = np.empty(0, dy.dtype)
    if run(tables("conv2d_input_grad", g, dy.itemsize), dy, w, packed, bias, False, dx):
        return None
    implicit_gemm.conv2d_input_grad(g, dy, w, dx)
    return AGAIN
