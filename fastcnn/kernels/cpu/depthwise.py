"""Depthwise convolution and its gradients: every filter sees one channel (groups = C).

    forward       Y_k = corr(X_c, W_k) + b_k             k = c*M … c*M + M-1, M filters per channel
    input grad    dX_c = sum over those k of corr(dY_k, rotated W_k), one stencil per residue modulo
                  the stride
    weight grad   dW_k = corr(X_c, dY_k), summed over the images

Nine multiply-adds for every element read and written: such layers are bound by memory, so planes
are read where they lie (plane_product.py, plane_dots.py), and a task does some planes one after
the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.plane_dots import plane_dots
from fastcnn.kernels.cpu.plane_product import plane_product
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.stencil import axes_of, length_of
from fastcnn.kernels.cpu.sums import add_spans, nothing, sum_rows, sums_for
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

# Cells of a kernel at the most: its code is unrolled over them (7x7: 3 s of compiling).
MOST_CELLS = 49
# Rows of a band at the most. Planes of 7, 14, 28, 56 and 112 rows are whole bands of 7.
MOST_ROWS = 7
# Bytes that a task moves, at the least; a task of one 7x7 plane would be gone before it is shared.
TASK_BYTES = 65536
# Tasks that keep a few threads evenly busy.
FEW_TASKS = 8


@lru_cache(maxsize=64)
def _product_chunk(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, band: int, narrow: int, lanes: int
) -> Any:
    """Compile the forward pass for a kernel, its strides and dilations."""
    forward = False
    no_residues = 0

    @kernel
    def depthwise_planes(task, x, w, bias, y, floor, g):
        H, W, top, left, P, Q = g[0], g[1], g[2], g[3], g[4], g[5]
        planes, some, parts, filters, multiple = g[7], g[8], g[9], g[10], g[11]
        block, part = divmod(task, parts)
        first, end = part * P // parts, (part + 1) * P // parts
        zeros, trash = np.zeros(W, x.dtype), np.empty(1, x.dtype)
        per_pixel = bias.size > filters
        lowest = x.dtype.type(-np.inf) if per_pixel else floor
        begin = block * some
        k = begin % filters  # counted on: a division takes as long as a row
        for plane in range(begin, min(planes, begin + some)):
            source = plane if multiple == 1 else plane // multiple
            b = bias[k] if bias.size > 0 and not per_pixel else x.dtype.type(0)
            plane_product(
                x, source * H * W, w, k * R * S, zeros, y, plane * P * Q, trash, b,
                lowest, first, end, H, W, top, left, P, Q,
                R, S, sh, sw, dh, dw, forward, no_residues, band, narrow, lanes,
            )  # fmt: skip
            if per_pixel:
                there, here = bias[k * P * Q :], y[plane * P * Q :]
                for j in range(first * Q, end * Q):
                    z = here[j] + there[j]
                    here[j] = floor if z < floor else z
            k = k + 1 if k + 1 < filters else 0

    return depthwise_planes


@lru_cache(maxsize=64)
def _input_grad_chunk(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, residues: int, band: int, narrow: int,
    lanes: int,
) -> Any:  # fmt: skip
    """Compile the input gradient for a kernel, its strides, dilations and residues of padding."""
    transposed = True

    @kernel
    def depthwise_planes_grad(task, dy, w, dx, g):
        P, Q, top, left, H, W, grid = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
        planes, some, parts, channels, multiple = g[7], g[8], g[9], g[10], g[11]
        block, part = divmod(task, parts)
        first, end = part * grid // parts, (part + 1) * grid // parts
        zeros, trash = np.zeros(Q, dy.dtype), np.empty(W, dy.dtype)
        another = np.empty(H * W if multiple > 1 else 0, dy.dtype)
        zero, lowest = dy.dtype.type(0), dy.dtype.type(-np.inf)
        for plane in range(block * some, min(planes, (block + 1) * some)):
            k = plane % channels * multiple
            plane_product(
                dy, plane * multiple * P * Q, w, k * R * S, zeros, dx, plane * H * W, trash, zero,
                lowest, first, end, P, Q, top, left, H, W,
                R, S, sh, sw, dh, dw, transposed, residues, band, narrow, lanes,
            )  # fmt: skip
            for m in range(1, multiple):
                plane_product(
                    dy, (plane * multiple + m) * P * Q, w, (k + m) * R * S, zeros, another, 0,
                    trash, zero, lowest, first, end, P, Q, top, left, H, W,
                    R, S, sh, sw, dh, dw, transposed, residues, band, narrow, lanes,
                )  # fmt: skip
                here = dx[plane * H * W :]
                for j in range(first * sh * W, min(H, end * sh) * W):
                    here[j] += another[j]

    return depthwise_planes_grad


@lru_cache(maxsize=64)
def _weight_grad_chunk(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, some_rows: int, band: int, narrow: int,
    lanes: int, with_bias: bool,
) -> Any:  # fmt: skip
    """Compile the weight gradient for a kernel, its strides and dilations.

    `some_rows` rows of the kernel have their sums in registers at a time.
    """
    with_sum = int(with_bias)

    @kernel
    def depthwise_sums(task, x, dy, parts, dy_sums, g):
        H, W, top, left, P, Q = g[0], g[1], g[2], g[3], g[4], g[5]
        images, filters, multiple, some, spans = g[6], g[7], g[8], g[9], g[10]
        block, span = divmod(task, spans)
        n0, n1 = span * images // spans, (span + 1) * images // spans
        zeros = np.zeros(W, x.dtype)
        sums = np.empty(some_rows * S + lanes, x.dtype)
        channels = filters // multiple
        for k in range(block * some, min(filters, (block + 1) * some)):
            x0, dy0 = (n0 * channels + k // multiple) * H * W, (n0 * filters + k) * P * Q
            out = parts[(span * filters + k) * R * S :]
            for group in range(0, R, some_rows):
                r = min(group, R - some_rows)
                plane_dots(
                    x, x0, channels * H * W, dy, dy0, filters * P * Q, zeros, sums, dy_sums,
                    span * filters + k, n1 - n0, 0, P, H, W, top + r * dh, left, Q,
                    some_rows, S, sh, sw, dh, dw, band, narrow, with_sum, lanes,
                )  # fmt: skip
                for t in range(some_rows * S):
                    out[r * S + t] = sums[t]

    return depthwise_sums


def _band(rows: int, step: int, halo: int, most: int) -> int:
    """Rows of a band, of those that `rows` allows, that read the fewest source rows in all."""
    return min(
        range(1, min(rows, most) + 1), key=lambda b: (blocks_of(rows, b) * (b * step + halo), -b)
    )


@dataclass(frozen=True)
class _Work:
    """A chunk, the numbers that it takes by the name g, and how many tasks there are."""

    chunk: Any
    sizes: np.ndarray
    tasks: int
    spans: int = 1


@lru_cache(maxsize=256)
def _planes(g: Conv2dGeometry, itemsize: int, transposed: bool) -> _Work:
    """Work of the forward pass, or of the input gradient."""
    (sh, sw), (dh, dw), (above, _, before, _) = g.stride, g.dilation, g.padding
    unit = known_unit()
    lanes, multiple = unit.lanes(itemsize), g.K // g.C
    residues = above % sh * sw + before % sw if transposed else 0
    rows, columns = axes_of(g.R, g.S, sh, sw, dh, dw, transposed, residues)
    if transposed:
        source, out, planes, cycle = (g.P, g.Q), (g.H, g.W), g.N * g.C, g.C
        top, left = above // sh + rows.shift, before // sw + columns.shift
    else:
        source, out, planes, cycle = (g.H, g.W), (g.P, g.Q), g.N * g.K, g.K
        top, left = -above, -before
    # Weights that find no room in registers are read from memory with each multiply-add.
    room = unit.registers - 2 - g.R * g.S
    room = room if room >= 4 else unit.registers - 4
    most = max(1, min(MOST_ROWS, room // (rows.phases * columns.phases)))
    grid = blocks_of(out[0], rows.phases), blocks_of(out[1], columns.phases)
    band = _band(grid[0], rows.step, rows.offsets[-1] + 1 - rows.step, most)
    narrow, lanes = length_of(grid[1], max(columns.step, columns.phases), lanes)
    moved = itemsize * (source[0] * source[1] + out[0] * out[1])
    some = min(planes, max(1, TASK_BYTES // moved))
    blocks = blocks_of(planes, some)
    parts = max(1, min(grid[0] // band, blocks_of(FEW_TASKS, blocks)))
    sizes = (*source, top, left, *out, grid[0], planes, some, parts, cycle, multiple)
    kernel_sizes = (g.R, g.S, sh, sw, dh, dw)
    if transposed:
        chunk = _input_grad_chunk(*kernel_sizes, residues, band, narrow, lanes)
    else:
        chunk = _product_chunk(*kernel_sizes, band, narrow, lanes)
    return _Work(chunk, np.array(sizes), blocks * parts)


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
            x.reshape(-1), w.reshape(-1), bias, y.reshape(-1), floor, work.sizes,
        )  # fmt: skip


def conv2d_input_grad(
    geometry: Conv2dGeometry, dy: np.ndarray, w: np.ndarray, dx: np.ndarray
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w."""
    if dx.size:
        work = _planes(geometry, dy.itemsize, True)
        launch(
            work.chunk, work.tasks, geometry.bytes(dy.itemsize),
            dy.reshape(-1), w.reshape(-1), dx.reshape(-1), work.sizes,
        )  # fmt: skip


@lru_cache(maxsize=256)
def _dots(g: Conv2dGeometry, itemsize: int, with_bias: bool = False) -> _Work:
    (sh, sw), (dh, dw), (above, _, before, _) = g.stride, g.dilation, g.padding
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    narrow, lanes = length_of(g.Q, sw, lanes)
    # Sums, rows of dY and two vectors of X are in registers together.
    some_rows = max(1, min(g.R, (unit.registers - 6) // g.S))
    most = max(1, min(MOST_ROWS, unit.registers - 2 - some_rows * g.S))
    halo = dh * (some_rows - 1) + 1 - sh
    # Rows that whole bands leave over are bands of one.
    band = min(
        range(1, min(g.P, most) + 1),
        key=lambda b: (g.P // b * (b * sh + halo) + g.P % b * (sh + halo), -b),
    )
    moved = g.N * itemsize * (g.H * g.W + g.P * g.Q)
    some = max(1, min(TASK_BYTES // max(1, moved), g.K // FEW_TASKS))
    blocks = blocks_of(g.K, some)
    spans = max(1, min(g.N, blocks_of(FEW_TASKS, blocks)))
    sizes = (g.H, g.W, -above, -before, g.P, g.Q, g.N, g.K, g.K // g.C, some, spans)
    chunk = _weight_grad_chunk(g.R, g.S, sh, sw, dh, dw, some_rows, band, narrow, lanes, with_bias)
    return _Work(chunk, np.array(sizes), blocks * spans, spans)


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
        x.reshape(-1), dy.reshape(-1), parts.reshape(-1), sums, work.sizes,
    )  # fmt: skip
    if work.spans > 1:
        sum_rows(work.spans, dw.size, parts, dw)
    add_spans(work.spans, sums, db)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.groups != g.C:
        return f"not depthwise: {g.C} channels in {g.groups} groups"
    if max(g.stride) > 2:
        return f"stride {max(g.stride)} is above 2"
    if g.R * g.S > MOST_CELLS:
        return f"the kernel has {g.R * g.S} cells: {MOST_CELLS} at the most"
    return None


# Measured on one core of a Zen 5 machine, float32, over MobileNet's layers and 320 of one channel,
# of which nine of ten take 0.8 to 1.3 times as long: seconds of the smallest call, of a row of
# results; bytes, vectors times cells of the kernel (of input gradients, and where columns are taken
# apart), and elements of planes added to the first filter's, per second.
CALL = 3.2e-6
ROW = 1e-9
MOVED = 45e9
VECTORS, GRADIENTS, APART = 5.0e9, 3.5e9, 2.4e9
ADDED = 2.1e9


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: bytes moved, vectors multiplied (lanes beyond a row among them)."""
    vectors = g.N * g.K * g.P * blocks_of(g.Q, known_unit().lanes(itemsize)) * g.R * g.S
    seconds = CALL + g.bytes(itemsize) / MOVED + g.N * g.K * g.P * ROW
    if operation == "conv2d_input_grad":
        added = g.N * (g.K - g.C) * g.H * g.W * itemsize / 4
        return seconds + vectors / GRADIENTS + added / ADDED
    return seconds + vectors / (VECTORS if g.stride[1] == 1 else APART)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: rows of zeros and sums, a plane to be added."""
    lanes = known_unit().lanes(itemsize)
    if operation == "conv2d":
        return itemsize * (g.W + 1)
    if operation == "conv2d_input_grad":
        return itemsize * (g.Q + g.W + (g.H * g.W if g.K > g.C else 0))
    return itemsize * (g.W + g.R * g.S + lanes)
