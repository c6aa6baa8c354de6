"""Convolution of few channels: first layers, groups (small_channel_sweep.py)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.pixel_bias import afterwards, at_once
from fastcnn.kernels.cpu.small_channel_rows import Sweep, forward
from fastcnn.kernels.cpu.small_channel_sweep import (
    Tables,
    least_size,
    run,
    seconds,
    tabulate,
)
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import vector_unit

# Channels of a group that are few: with more, packed columns (implicit_gemm.py) cost less than they
# bring.
MOST_CHANNELS = 32
# Bytes that the copy of one output row's input may take at the most, where a row is very long.
MOST_BYTES = 512 << 10
# Weights of a group that every task may pack, or keep sums of, for itself.
MOST_WEIGHTS = 1 << 18


def positions(R: int, S: int) -> np.ndarray:
    """Where a kernel's plane has the taps (s, r)."""
    return (np.arange(S)[:, np.newaxis] + np.arange(R) * S).reshape(-1)


@lru_cache(maxsize=256)
def _tables(g: Conv2dGeometry, itemsize: int) -> Tables:
    plane, sweep = g.R * g.S, forward(g)
    places = (np.arange(sweep.C)[:, np.newaxis] * plane + positions(g.R, g.S)).reshape(-1)
    return tabulate(sweep, places, sweep.C * plane, itemsize)


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: None = None,
    relu: bool = False,
) -> None:
    """y = conv(x, w) + b, or relu(conv(x, w) + b), written whole; shapes as in
    `fastcnn.functional.conv2d`, batched.

    `packed` is there for the sake of a common signature: nothing is kept here.
    """
    if not y.size:
        return
    bias, lowest = at_once(geometry, b, y, relu)
    run(_tables(geometry, x.itemsize), x, w, bias, y, lowest)
    afterwards(geometry, b, y, relu)


def too_much(sweep: Sweep, itemsize: int) -> str | None:
    """Why a group is not small; None if it is."""
    if sweep.C > MOST_CHANNELS:
        each = "" if sweep.groups == 1 else " per group"
        return f"{sweep.C} channels{each} are not few: {MOST_CHANNELS} at the most"
    weights = sweep.K * sweep.C * sweep.R * sweep.S
    if weights > MOST_WEIGHTS:
        return f"{weights} weights are more than every task may pack for itself: {MOST_WEIGHTS}"
    needed = least_size(sweep, itemsize)
    if needed > MOST_BYTES:
        return f"the rows that one row of outputs reads take {needed} bytes: {MOST_BYTES} fit"
    return None


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    return NO_UNIT if vector_unit() is None else too_much(forward(g), itemsize)


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: see `small_channel_sweep.seconds`."""
    return seconds(forward(g), itemsize)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: the packed weights, the copied rows."""
    return _tables(g, itemsize).scratch if g.N else 0
