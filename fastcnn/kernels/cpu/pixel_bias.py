"""A bias per pixel, which is rare: added to the result afterwards, and relu only then."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import launch


@kernel
def _bias_chunk(task, y, bias, relu):
    """One image of y."""
    image = y[task * bias.size : (task + 1) * bias.size]
    for i in range(image.size):
        image[i] += bias[i]
    if relu:
        rectify(image, image.size)


def at_once(
    g: Conv2dGeometry, b: np.ndarray | None, y: np.ndarray, relu: bool
) -> tuple[np.ndarray, Any]:
    """What a kernel can do by itself: a bias per filter, or none; below what it cuts off."""
    later = _per_pixel(g, b)
    bias = np.empty(0, y.dtype) if b is None or later else b.reshape(-1)
    return bias, y.dtype.type(0 if relu and not later else -np.inf)


def afterwards(g: Conv2dGeometry, b: np.ndarray | None, y: np.ndarray, relu: bool) -> None:
    """What is left to do."""
    if b is not None and _per_pixel(g, b):
        launch(_bias_chunk, g.N, 2 * y.nbytes, y.reshape(-1), b.reshape(-1), relu)


def _per_pixel(g: Conv2dGeometry, b: np.ndarray | None) -> bool:
    return b is not None and b.size != g.K
