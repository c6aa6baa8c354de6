"""Convolution with a stride by Fourier transforms of its phases.

With strides sh, sw the pixels (sh*i + a, sw*j + b) of a channel, for each a < sh and b < sw, are an
image by themselves, a *phase*, as are the taps (sh*r + a, sw*s + b) of a filter:

    Y[k] = sum over c, a, b of conv(phase a, b of X[c], phase a, b of W[k, c])       stride 1

so that channels become sh*sw times as many, and filters as many times smaller: AlexNet's 3 channels
and 11 x 11 taps at stride 4 are 48 channels and 3 x 3 taps. Phases are copied, with their padding;
the rest is fourier.py's.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import implicit_gemm
from fastcnn.kernels.cpu.fourier import (
    AGAIN,
    MOST_TAPS,
    seconds,
    steps,
    too_much,
    windows,
)
from fastcnn.kernels.cpu.fourier_blocks import Fourier, Side, plan, run
from fastcnn.kernels.cpu.fourier_transforms import SIZE
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.small_channel_rows import copy_rows
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit
from fastcnn.memory import SCRATCH


@kernel
def _phases_chunk(task, x, phases, columns, residues, sizes, top, count):
    """The phases of one channel of one image."""
    each = columns.size * residues.size * sizes[7]
    copy_rows(phases, task * each, x, task, -top, count, columns, residues, sizes)


class _Phases:
    """Sizes of the phases of a geometry's images and filters."""

    def __init__(self, g: Conv2dGeometry, itemsize: int) -> None:
        (sh, sw), lanes = g.stride, known_unit().lanes(itemsize)
        self.R, self.S = blocks_of(g.R, sh), blocks_of(g.S, sw)
        self.C = g.C * sh * sw
        self.H, self.W = g.P + self.R - 1, g.Q + self.S - 1
        # rows behind the last are written over, a vector at the most
        self.rows = self.H + blocks_of(lanes, self.W)
        self.plane = self.rows * self.W
        self.columns, self.residues = np.arange(sw), np.arange(sh)
        left = g.padding[2]
        self.sizes = np.array([1, g.H, g.W, sh, sw, left, self.W, self.plane, lanes])
        self.elements = g.N * self.C * self.plane

    def of_images(self, g: Conv2dGeometry, x: np.ndarray) -> np.ndarray:
        phases = SCRATCH.empty((self.elements,), x.dtype)
        launch(
            _phases_chunk, g.N * g.C, 4 * self.elements,
            x.reshape(-1), phases, self.columns, self.residues, self.sizes, g.padding[0],
            self.H * g.stride[0],
        )  # fmt: skip
        return phases

    def of_filters(self, g: Conv2dGeometry, w: np.ndarray) -> np.ndarray:
        """(K, C, sw, sh, R, S) of filters filled up to whole phases."""
        sh, sw = g.stride
        filled = np.zeros((g.K, g.C, self.R * sh, self.S * sw), w.dtype)
        filled[:, :, : g.R, : g.S] = w
        parted = filled.reshape(g.K, g.C, self.R, sh, self.S, sw)
        return np.ascontiguousarray(parted.transpose(0, 1, 5, 3, 2, 4))


@lru_cache(maxsize=256)
def _tables(g: Conv2dGeometry, itemsize: int) -> tuple[_Phases, Fourier]:
    f = _Phases(g, itemsize)
    plane = f.R * f.S
    starts = steps(g.P, f.R), steps(g.Q, f.S)
    read = windows((g.N, f.C, f.rows, f.W), starts, (SIZE, SIZE), (f.H, f.W))
    written = windows(g.output_shape, starts, (SIZE + 1 - f.R, SIZE + 1 - f.S))
    filters = np.array([[0, 0, f.R, 0, f.S]])
    return f, plan(
        Side(g.K, np.array([f.C * plane, plane, 0, 0, f.S]), filters),
        Side(len(read), np.array([0, f.plane, 1, 0, f.W]), read),
        Side(len(read), np.array([g.P * g.Q, 0, 0, 1, g.Q]), written),
        f.C, True, itemsize,
    )  # fmt: skip


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: None = None,
    relu: bool = False,
) -> str | None:
    """y = conv(x, w) + b, or relu(conv(x, w) + b), written whole; all as in `fourier.conv2d`."""
    g = geometry
    if not y.size:
        return None
    if not x.size or not w.size or (b is not None and b.size != g.K):  # a bias per pixel is rare
        implicit_gemm.conv2d(g, x, w, b, y, relu=relu)
        return None
    phases, tables = _tables(g, x.itemsize)
    bias = np.empty(0, x.dtype) if b is None else b.reshape(-1)
    lowest = y.dtype.type(0 if relu else -np.inf)
    if run(tables, phases.of_filters(g, w), phases.of_images(g, x), bias, lowest, y):
        return None
    implicit_gemm.conv2d(g, x, w, b, y, relu=relu)
    return AGAIN


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.dilation != (1, 1) or g.groups != 1:
        return "it takes dilation 1 and one group"
    (sh, sw) = g.stride
    if max(sh, sw) == 1 or sh > g.R or sw > g.S:
        return "it takes strides above 1, and filters that leave out no pixel"
    if max(blocks_of(g.R, sh), blocks_of(g.S, sw)) > MOST_TAPS:
        return f"phases of {g.R} x {g.S} filters leave too little of a square"
    return too_much(workspace(operation, g, itemsize))


# Elements of phases, and of filters, put in order per second; bytes of results, but for what L2
# holds, that are stored per second: fitted to the first layers of AlexNet and ResNet, DeepBench's
# speech layer (13.9, 10.4 and 22.3 ms) and 37 small layers.
# Seconds of the smallest call, whose filters NumPy lays out.
COPIED = 1.7e9
STORED, IN_L2 = 5e9, 1 << 20
CALL = 50e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: phases copied, spectra multiplied, squares transformed."""
    if not g.N * g.C * g.H * g.W * g.K * g.P * g.Q:
        return CALL
    phases, tables = _tables(g, itemsize)
    filters = g.K * phases.C * phases.R * phases.S
    copied = (phases.elements + filters) / COPIED * itemsize / 4
    stored = max(0, itemsize * prod(g.output_shape) - IN_L2) / STORED
    return CALL + copied + seconds(tables, itemsize) + stored


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: panels of a block, and its sums.

    The phases and the spectra of the far side are shared by all threads and not counted.
    """
    if not g.N * g.C * g.H * g.W * g.K * g.P * g.Q:
        return 0
    return _tables(g, itemsize)[1].scratch(itemsize)
