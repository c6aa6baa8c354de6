"""The input gradient of groups with few filters, at stride 1: a convolution of dY.

    dx[c, i, j] = sum over k, r, s of w[k, c, R-1-r, S-1-s] * dy[k, i + dh*r - a, j + dw*s - b]

with a = dh*(R-1) - top, and b likewise: where there is more padding than that, dY is cropped. It is
done as a forward pass is (small_channel_sweep.py), filters in the place of channels.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.small_channel import positions, too_much
from fastcnn.kernels.cpu.small_channel_rows import full
from fastcnn.kernels.cpu.small_channel_sweep import Tables, run, seconds, tabulate
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import vector_unit


@lru_cache(maxsize=256)
def _tables(g: Conv2dGeometry, itemsize: int) -> Tables:
    plane, sweep = g.R * g.S, full(g)
    turned = positions(g.R, g.S)[::-1]
    places = (np.arange(sweep.C)[:, np.newaxis] * (sweep.K * plane) + turned).reshape(-1)
    return tabulate(sweep, places, plane, itemsize)


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: None = None,
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w; `packed` as in `small_channel.conv2d`."""
    if dx.size:
        none, lowest = np.empty(0, dy.dtype), dy.dtype.type(-np.inf)
        run(_tables(geometry, dy.itemsize), dy, w, none, dx, lowest)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.stride != (1, 1):
        return f"stride {g.stride} leaves gaps in the gradient: it serves stride 1 alone"
    return too_much(full(g), itemsize)


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: see `small_channel_sweep.seconds`."""
    return seconds(full(g), itemsize)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: the packed weights, the copied rows."""
    return _tables(g, itemsize).scratch if g.N * g.C * g.H * g.W else 0
