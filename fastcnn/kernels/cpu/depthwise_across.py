"""Depthwise convolution of small planes and its gradients: as many planes at a time as lanes.

    forward       Y_k = corr(X_k, W_k) + b_k             one filter to a channel
    input grad    dX_k = corr(dY_k, rotated W_k), one stencil per residue modulo the stride
    weight grad   dW_k = corr(X_k, dY_k), summed over the images

Planes of 7x7 and 14x14 are too narrow for vectors along rows (depthwise.py): what is done for every
row takes longer than the multiplications. Here neighbouring planes, which follow each other in
memory, are turned into vectors across planes, padding and all, in scratch memory that stays in L1
(planes_across.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.depthwise_across_chunks import product_chunk, weight_grad_chunk
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.stencil import Axis, axes_of
from fastcnn.kernels.cpu.sums import add_spans, nothing, sum_rows, sums_for
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit
from fastcnn.memory import LINE_BYTES

# Cells of a kernel at the most: its code is unrolled over them.
MOST_CELLS = 25
# Columns of the grid, or of dY, that are done together at the most.
MOST_ACROSS = 8
# Bytes of a vector of planes at the most, the padded source and the output: half of an L1 of 48 KB,
# in whose other half are the planes themselves. 14x14 at stride 1, 29 KB, took 1.6 times as long as
# row by row.
MOST_BYTES = 24576
# Tasks, about: some for each of several threads, not so many that their scratch memory counts.
TASKS = 16
# Elements that are added up in one lane of a weight gradient at the most: the error of a sum in
# order grows with them.
MOST_TERMS = 16384


@dataclass(frozen=True)
class _Work:
    """A chunk, its tables (where pixels go, where they come back from, where taps go, the numbers
    named g), how many tasks there are, and what one of them allocates.
    """

    chunk: Any
    into: np.ndarray
    back: np.ndarray
    taps: np.ndarray
    sizes: np.ndarray
    tasks: int
    scratch: int
    spans: int = 1


def _places(shape: tuple[int, int], top: int, left: int, rows: int, columns: int,
            pitch: int, lanes: int) -> np.ndarray:  # fmt: skip
    """Where pixels of a plane lie among rows x columns that begin at its pixel (top, left).

    Elements of scratch, row by row; pixels beyond lie in the place behind the last row.
    """
    i, j = np.arange(shape[0])[:, np.newaxis] - top, np.arange(shape[1]) - left
    inside = (i >= 0) & (i < rows) & (j >= 0) & (j < columns)
    places = np.where(inside, i * pitch + j * lanes, rows * pitch).reshape(-1)
    return np.append(places, np.full(-places.size % lanes, rows * pitch))


def _padded(grid: tuple[int, int], rows: Axis, columns: Axis) -> tuple[int, int]:
    """Rows and columns of a source, padding and all, that a grid reads."""
    axes = zip(grid, (rows, columns), strict=True)
    return tuple((n - 1) * axis.step + axis.offsets[-1] + 1 for n, axis in axes)  # type: ignore


def _shares(g: Conv2dGeometry, lanes: int) -> tuple[int, int, int]:
    """How many filters a task does, how many tasks that makes, and spans of images of each."""
    gangs = g.K // lanes
    some = max(1, gangs // TASKS)
    blocks = blocks_of(gangs, some)
    return some * lanes, blocks, max(1, min(g.N, blocks_of(TASKS, blocks)))


@lru_cache(maxsize=256)
def _planes(g: Conv2dGeometry, itemsize: int, transposed: bool) -> _Work:
    """Work of the forward pass, or of the input gradient."""
    (sh, sw), (dh, dw), (above, _, before, _) = g.stride, g.dilation, g.padding
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    residues = above % sh * sw + before % sw if transposed else 0
    rows, columns = axes_of(g.R, g.S, sh, sw, dh, dw, transposed, residues)
    if transposed:
        source, out = (g.P, g.Q), (g.H, g.W)
        top, left = above // sh + rows.shift, before // sw + columns.shift
    else:
        source, out, top, left = (g.H, g.W), (g.P, g.Q), -above, -before
    grid = blocks_of(out[0], rows.phases), blocks_of(out[1], columns.phases)
    tall, wide = _padded(grid, rows, columns)
    pitch, out_pitch = wide * lanes, grid[1] * columns.phases * lanes
    # Weights that find no room in registers are read with each multiply-add.
    room = unit.registers - 3 - g.R * g.S
    room = room if room >= 4 else unit.registers - 4
    most = max(1, min(MOST_ACROSS, room // (rows.phases * columns.phases)))
    across = blocks_of(grid[1], blocks_of(grid[1], most))
    some, blocks, spans = _shares(g, lanes)
    xs, ys = tall * pitch + lanes, grid[0] * rows.phases * out_pitch + lanes
    taps = _places((g.R, g.S), 0, 0, g.R, g.S, g.S * lanes, lanes)
    scratch = xs + ys + (g.R * g.S + 1) * lanes + LINE_BYTES // itemsize
    sizes = (g.N, g.K, some, source[0] * source[1], out[0] * out[1], *grid, pitch, out_pitch,
             spans, xs, ys, scratch)  # fmt: skip
    kernel_sizes = (g.R, g.S, sh, sw, dh, dw)
    return _Work(
        product_chunk(*kernel_sizes, transposed, residues, across, lanes),
        _places(source, top, left, tall, wide, pitch, lanes),
        _places(out, 0, 0, grid[0] * rows.phases, out[1], out_pitch, lanes), taps,
        np.array(sizes), blocks * spans, scratch * itemsize,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _dots(g: Conv2dGeometry, itemsize: int, with_bias: bool = False) -> _Work:
    (sh, sw), (dh, dw), (above, _, before, _) = g.stride, g.dilation, g.padding
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    rows, columns = axes_of(g.R, g.S, sh, sw, dh, dw, transposed=False, residues=0)
    tall, wide = _padded((g.P, g.Q), rows, columns)
    pitch = wide * lanes
    across = max(n for n in range(1, MOST_ACROSS + 1) if g.Q % n == 0)
    some, blocks, spans = _shares(g, lanes)
    spans = min(g.N, max(spans, blocks_of(g.N * g.P * g.Q, MOST_TERMS)))
    xs, dys = tall * pitch + lanes, g.P * g.Q * lanes + lanes
    scratch = xs + dys + (g.R * g.S + 1) * lanes + LINE_BYTES // itemsize
    sizes = (g.N, g.K, some, g.H * g.W, g.P, g.Q, pitch, spans, xs, dys, scratch)
    return _Work(
        weight_grad_chunk(g.R, g.S, sh, sw, dh, dw, across, lanes, with_bias),
        _places((g.H, g.W), -above, -before, tall, wide, pitch, lanes),
        _places((g.P, g.Q), 0, 0, g.P, g.Q, g.Q * lanes, lanes),
        _places((g.R, g.S), 0, 0, g.R, g.S, g.S * lanes, lanes),
        np.array(sizes), blocks * spans, scratch * itemsize, spans,
    )  # fmt: skip


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    relu: bool = False,
) -> None:
    """y = conv(x, w) + b, or the larger of that and 0, written whole."""
    if y.size:
        work = _planes(geometry, x.itemsize, False)
        bias = np.empty(0, x.dtype) if b is None else b.reshape(-1)
        floor = x.dtype.type(0 if relu else -np.inf)
        launch(
            work.chunk, work.tasks, geometry.bytes(x.itemsize),
            x.reshape(-1), w.reshape(-1), bias, y.reshape(-1), floor, work.into, work.back,
            work.taps, work.sizes,
        )  # fmt: skip


def conv2d_input_grad(
    geometry: Conv2dGeometry, dy: np.ndarray, w: np.ndarray, dx: np.ndarray
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w."""
    if dx.size:
        work = _planes(geometry, dy.itemsize, True)
        none, floor = np.empty(0, dy.dtype), dy.dtype.type(-np.inf)
        launch(
            work.chunk, work.tasks, geometry.bytes(dy.itemsize),
            dy.reshape(-1), w.reshape(-1), none, dx.reshape(-1), floor, work.into, work.back,
            work.taps, work.sizes,
        )  # fmt: skip


def conv2d_weight_grad(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    dy: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray | None = None,
) -> None:
    """dw and db, written whole; images are summed in an order that the geometry alone decides."""
    if not geometry.N:
        nothing(dw, db)
        return
    work = _dots(geometry, x.itemsize, db is not None)
    parts = dw if work.spans == 1 else np.empty((work.spans, *dw.shape), dw.dtype)
    sums = sums_for(db, work.spans)
    launch(
        work.chunk, work.tasks, geometry.bytes(x.itemsize),
        x.reshape(-1), dy.reshape(-1), parts.reshape(-1), sums, work.into, work.back, work.taps,
        work.sizes,
    )  # fmt: skip
    if work.spans > 1:
        sum_rows(work.spans, dw.size, parts, dw)
    add_spans(work.spans, sums, db)


def _work(operation: str, g: Conv2dGeometry, itemsize: int) -> _Work:
    if operation == "conv2d_weight_grad":
        return _dots(g, itemsize)
    return _planes(g, itemsize, operation == "conv2d_input_grad")


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.groups != g.C or g.K != g.C:
        return f"not one filter to a channel: {g.C} channels, {g.K} filters, {g.groups} groups"
    lanes = known_unit().lanes(itemsize)
    if g.K % lanes:
        return f"{g.K} channels are not vectors of {lanes}"
    if min(g.H * g.W, g.P * g.Q, g.R * g.S) < 4:
        return "planes and kernels of less than 4 elements are too small to be turned over"
    if max(g.stride) > 2:
        return f"stride {max(g.stride)} is above 2"
    if g.R * g.S > MOST_CELLS:
        return f"the kernel has {g.R * g.S} cells: {MOST_CELLS} at the most"
    bytes_ = _scratch(g, itemsize)
    if bytes_ > MOST_BYTES:
        return f"a lane for each plane takes {bytes_} bytes: {MOST_BYTES} at the most"
    return None


def _scratch(g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes of the padded source and the output of a vector of planes."""
    tall, wide = g.window
    padded = ((g.P - 1) * g.stride[0] + tall) * ((g.Q - 1) * g.stride[1] + wide)
    return itemsize * known_unit().lanes(itemsize) * (max(padded, g.H * g.W) + g.P * g.Q)


# Measured on one core of a Zen 5 machine, float32: seconds of the smallest call; pixels of a vector
# of planes turned over, and read or written, per second; vectors multiplied per second. Planes of
# 7x7 and 14x14 take 0.9 to 1.2 times what they say.
CALL = 3e-6
TURNED = 0.66e9
VECTORS = 7.2e9


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: planes turned over, and the vectors multiplied between."""
    gangs = g.N * g.K // known_unit().lanes(itemsize)
    pixels, vectors = g.H * g.W + g.P * g.Q, g.P * g.Q * g.R * g.S
    return CALL + gangs * (pixels / TURNED + vectors / VECTORS)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most."""
    return _work(operation, g, itemsize).scratch
