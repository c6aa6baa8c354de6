"""Dilated convolutions of stride 1, and their input gradients, by Winograd's algorithm on phases.

Neighbouring results of a dilated convolution share nothing; those that are a dilation apart are
neighbours in their phase (phases.py), where filters are as dense as any others. Phases are copied
into images of their own and back, which takes a third of the time on 32 channels.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import implicit_gemm, winograd
from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.phases import join, of_phases, split
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.memory import SCRATCH


def pack(operation: str, geometry: Conv2dGeometry, w: np.ndarray) -> np.ndarray:
    """w transformed for `operation`, as in `winograd.pack`."""
    return winograd.pack(operation, of_phases(geometry), w)


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: np.ndarray | None = None,
    relu: bool = False,
) -> str | None:
    """As `winograd.conv2d`."""
    if not y.size:
        return None
    g, near = geometry, of_phases(geometry)
    x_phases, y_phases = (SCRATCH.empty(s, x.dtype) for s in (near.input_shape, near.output_shape))
    split(g, x, x_phases, padded=True)
    later = b is not None and b.size > g.K  # a bias for each pixel, whose order is that of y
    bias, at_once = (None, False) if later else (b, relu)
    remark = winograd.conv2d(near, x_phases, w, bias, y_phases, packed, at_once)
    if remark is not None:  # zeros that fill phases up would spoil what is not finite
        implicit_gemm.conv2d(g, x, w, b, y, relu=relu)
        return remark
    join(g, y_phases, y, padded=False)
    if later:
        y += b
        if relu:
            rectify(y.reshape(-1), y.size)
    return None


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: np.ndarray | None = None,
) -> str | None:
    """As `winograd.conv2d_input_grad`."""
    if not dx.size:
        return None
    g, near = geometry, of_phases(geometry)
    dx_phases, dy_phases = (
        SCRATCH.empty(shape, dy.dtype) for shape in (near.input_shape, near.output_shape)
    )
    split(g, dy, dy_phases, padded=False)
    remark = winograd.conv2d_input_grad(near, dy_phases, w, dx_phases, packed)
    if remark is not None:
        implicit_gemm.conv2d_input_grad(g, dy, w, dx)
        return remark
    join(g, dx_phases, dx, padded=True)
    return None


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.stride != (1, 1) or g.dilation == (1, 1):
        return "it takes dilated filters at stride 1 alone"
    return winograd.refusal(operation, of_phases(g), itemsize)


# Elements of phases per second, each written or read once, on one core of a Zen 5 machine; seconds
# of a launch.
MOVED, LAUNCH = 4e9, 4e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: as of the phases' convolution, and phases made of the images."""
    near = of_phases(g)
    moved = near.N * (near.C * near.H * near.W + near.K * near.P * near.Q)
    seconds = winograd.cost(operation, near, itemsize)
    return seconds + 2 * LAUNCH + itemsize / 4 * moved / MOVED


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most. The phases of input and result come on top."""
    return winograd.workspace(operation, of_phases(g), itemsize)
