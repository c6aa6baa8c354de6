"""The weight gradient of filters at stride 1 by Winograd's F(3 x 3, 4 x 4).

    dW[k, c] = A^T [sum over tiles t of (G dY[k, t] G^T) * (B^T X[c, t] B)] A

dY is cut into tiles of 4 x 4, each of which moves over 6 x 6 of X: 36 products in the place of 144.
Of each of the 36 points p a matrix product over tiles is left; A^T … A is done once, at the end.

    for each part of the channels and filters: up to 512 of each
        for each chunk of tiles (of all images, row by row)
            transforms    V[p][t, c] and Y[p][t, k], which stay in the last cache
            products      M[p][k, c] += sum over t of Y[p][t, k] V[p][t, c]
        fold              dW = A^T M A

A larger filter is cut into pieces of 3 x 3 (winograd_pieces.py), each of which sees X moved by
where it lies in the filter: a channel's pieces are channels of their own here, [piece][channel],
each piece filled up to whole vectors. What lies beyond the filter is left out in the end.

V and Y stand in panels as wide as a register tile and a block of filters are. The order of every
sum follows from the geometry alone: bits do not depend on threads.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import gemm_weight_grad
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import padded
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.threads import launch, zeros
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit
from fastcnn.kernels.cpu.vectors import copy_row
from fastcnn.kernels.cpu.winograd_channels import (
    GROWTH,
    fold,
    short_outer,
    spread_dy,
    spread_x,
    tall_outer,
)
from fastcnn.kernels.cpu.winograd_limits import products_stand
from fastcnn.kernels.cpu.winograd_pieces import pieces_of
from fastcnn.kernels.cpu.winograd_weight_tables import LINE, PART, POINTS, tabulate
from fastcnn.memory import SCRATCH

# Operations per channel and tile of a transform, and per sum of M that is folded.
TRANSFORM, FOLD = 400, 20
AGAIN = "inputs are not finite, or so large that sums might overflow: computed by implicit GEMM"


@kernel
def _copy_rows(strip, channel_step, source, o, plane, channels, n, lanes):
    """n elements from source[o] on of some channels' planes; the last ones as often as it takes."""
    for c in range(lanes):
        at, to = o + min(c, channels - 1) * plane, c * channel_step
        if n >= 16:
            copy_row(source, at, strip, to, n, 16)
        else:
            for i in range(n):
                strip[to + i] = source[at + i]


@kernel
def _transform_chunk(task, x, dy, v, y, peaks, part, first, rows, g):
    """`lanes` channels or filters over a span of the chunk's rows of tiles."""
    C, H, W, K, P, Q, top, left = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    tile_rows, tile_columns, lanes, columns, filters = g[8], g[9], g[10], g[11], g[12]
    span, tiles, v_step, y_step, strip_size = g[13], g[14], g[15], g[16], g[17]
    of_piece, across = g[22], g[23]
    c0, c1, k0, k1 = part[0], part[1], part[2], part[3]
    spans = (tiles // tile_columns + span - 1) // span  # also where a last chunk has fewer rows
    group, number = divmod(task, spans)
    x_groups = (c1 - c0 + lanes - 1) // lanes
    strip = np.empty(strip_size, x.dtype)
    step = strip_size // lanes
    of_x = group < x_groups
    at = group * lanes if of_x else (group - x_groups) * lanes
    piece, c = divmod(c0 + at, of_piece)
    down, right = divmod(piece, across)
    channels = min(lanes, C - c if of_x else k1 - k0 - at)
    for r in range(number * span, min(rows, (number + 1) * span)):
        n, i = divmod(first + r, tile_rows)
        # the rows that there are go to the strip
        if of_x:
            h = i * 4 - top + 3 * down
            h0 = min(H, max(0, h))
            s = ((n * C + c) * H + h0) * W
            some = (min(H, h + 6) - h0) * W
            _copy_rows(strip, step, x, s, H * W, channels, some, lanes)
            panel, lane = divmod(at, columns)
            o = (panel * tiles + r * tile_columns) * columns + lane
            spread_x(
                tile_columns, strip, -h0 * W, step, H, W, h, 3 * right - left, v, o, columns,
                v_step, peaks, task * lanes, x, s + some, H * W,
            )  # fmt: skip
        else:
            h = i * 4
            s = ((n * K + k0 + at) * P + h) * Q
            some = (min(P, h + 4) - h) * Q
            _copy_rows(strip, step, dy, s, P * Q, channels, some, lanes)
            panel, lane = divmod(at, filters)
            o = (panel * tiles + r * tile_columns) * filters + lane
            spread_dy(
                tile_columns, strip, -h * Q, step, P, Q, h, 0, y, o, filters, y_step, peaks,
                task * lanes, dy, s + some, P * Q,
            )  # fmt: skip


@kernel
def _multiply(v, y, m, in_v, in_y, in_m, depth, panels, heights, g, accumulate):
    """One point of one block of M."""
    columns, filters, tiles = g[11], g[12], g[14]
    tall, short = g[18], g[19]
    height = heights[0] * tall + heights[1] * short
    for panel in range(panels):
        b, c = in_v + panel * tiles * columns, in_m + panel * height * columns
        for i in range(heights[0]):
            row = i * tall
            tall_outer(
                depth, y, in_y + row, filters, v, b, columns, m, c + row * columns, accumulate
            )
        for i in range(heights[1]):
            row = heights[0] * tall + i * short
            short_outer(
                depth, y, in_y + row, filters, v, b, columns, m, c + row * columns, accumulate
            )


@kernel
def _fold(m, in_m, dw, height, k0, k1, c0, c1, g):
    """dW of filters k0 … k1-1 and channels c0 … c1-1 from a block of M."""
    C, lanes, columns, m_step = g[0], g[10], g[11], g[20]
    of_piece, across, R, S = g[22], g[23], g[24], g[25]
    some = np.empty(lanes * 9, m.dtype)
    for v in range(c0, c1, lanes):
        panel, lane = divmod(v - c0, columns)
        piece, c = divmod(v, of_piece)
        down, right = divmod(piece, across)
        count = min(lanes, C - c)
        rows, cols = min(3, R - 3 * down), min(3, S - 3 * right)
        in_place = count == lanes and R == 3 and S == 3
        for k in range(k0, k1):
            at = in_m + (panel * height + k - k0) * columns + lane
            o = ((k * C + c) * R + 3 * down) * S + 3 * right
            target, t = (dw, o) if in_place else (some, 0)
            fold(m, at, m_step, target, t)
            if not in_place:
                for channel in range(count):
                    for i in range(rows):
                        for j in range(cols):
                            dw[o + (channel * R + i) * S + j] = some[channel * 9 + 3 * i + j]


@kernel
def _block(number, part, g):
    """Which panels and filters a block of M has."""
    columns, filters, panels = g[11], g[12], g[21]
    c0, c1, k0, k1 = part[0], part[1], part[2], part[3]
    i, j = divmod(number, (k1 - k0 + filters - 1) // filters)
    first = i * panels
    c = c0 + first * columns
    k = k0 + j * filters
    return first, j, c, min(c1, c + panels * columns), k, min(k1, k + filters)


@kernel
def _product_chunk(
    task, v, y, m, dw, part, heights, blocks, depth, alone, accumulate, g
):  # fmt: skip
    """One point of one block; or, alone, all points of a block, whose M is not kept."""
    columns, filters, tiles, v_step, y_step = g[11], g[12], g[14], g[15], g[16]
    m_step = g[20]
    # point by point: V and Y of one stay in L2 while all blocks of M pass
    p0, number = (0, task) if alone else divmod(task, blocks)
    p1 = POINTS if alone else p0 + 1
    panel, i, c0, c1, k0, k1 = _block(number, part, g)
    scratch = np.empty(POINTS * m_step + LINE if alone else 0, v.dtype)
    # from the beginning of a cache line on
    to_line = -(scratch.ctypes.data // scratch.itemsize) % LINE
    target, o = (scratch, to_line) if alone else (m, number * POINTS * m_step)
    for p in range(p0, p1):
        in_v = p * v_step + panel * tiles * columns
        in_y = p * y_step + i * tiles * filters
        panels = (c1 - c0 + columns - 1) // columns
        _multiply(
            v, y, target, in_v, in_y, o + p * m_step, depth, panels, heights[i], g, accumulate
        )
    if alone:
        height = heights[i, 0] * g[18] + heights[i, 1] * g[19]
        _fold(target, o, dw, height, k0, k1, c0, c1, g)


@kernel
def _fold_chunk(task, m, dw, part, heights, g):
    """One block."""
    _, i, c0, c1, k0, k1 = _block(task, part, g)
    height = heights[i, 0] * g[18] + heights[i, 1] * g[19]
    _fold(m, task * POINTS * g[20], dw, height, k0, k1, c0, c1, g)


def _run(g: Conv2dGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray) -> bool:
    """Whether dw could be found: no input is too large, and no sum can have overflowed."""
    t = tabulate(g, x.itemsize)
    lanes, alone, spans = int(t.sizes[10]), not t.m_size, blocks_of(t.some_rows, t.span)
    # one piece: NumPy asks for huge pages from 4 MB on
    v, y, m = np.split(SCRATCH.empty((t.ends[1] + t.m_size,), x.dtype), t.ends)
    flat_x, flat_dy, flat_dw = x.reshape(-1), dy.reshape(-1), dw.reshape(-1)
    factor = GROWTH * t.rows * t.columns
    for part, heights, blocks in t.parts:
        channels, filters = int(part[1] - part[0]), int(part[3] - part[2])
        x_tasks, dy_tasks = (spans * blocks_of(n, lanes) for n in (channels, filters))
        peaks = zeros((x_tasks + dy_tasks) * lanes, x.dtype)
        for first in range(0, t.rows, t.some_rows):
            rows = min(t.some_rows, t.rows - first)
            tiles = rows * t.columns
            launch(
                _transform_chunk, x_tasks + dy_tasks, TRANSFORM * tiles * (channels + filters),
                flat_x, flat_dy, v, y, peaks, part, first, rows, t.sizes,
            )  # fmt: skip
            launch(
                _product_chunk, blocks if alone else blocks * POINTS,
                2 * POINTS * tiles * channels * filters,
                v, y, m, flat_dw, part, heights, blocks, tiles, alone, first > 0,
                t.sizes,
            )  # fmt: skip
        if not alone:
            launch(
                _fold_chunk, blocks, FOLD * channels * filters,
                m, flat_dw, part, heights, t.sizes,
            )  # fmt: skip
        if not products_stand(peaks, x_tasks * lanes, factor):
            return False
    return True


def conv2d_weight_grad(
    geometry: Conv2dGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> str | None:
    """dw, written whole, from x (N, C, H, W) and dy (N, K, P, Q).

    Returns a remark if the result had to be computed in another way.
    """
    if not x.size or not dy.size:
        dw.fill(0)
    elif not _run(geometry, x, dy, dw):
        gemm_weight_grad.conv2d_weight_grad(geometry, x, dy, dw)
        return AGAIN
    return None


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if min(g.R, g.S) < 3:
        return f"it takes 3 x 3 filters and larger ones, not {g.R} x {g.S}"
    if g.stride != (1, 1) or g.dilation != (1, 1) or g.groups != 1:
        return "it takes stride 1, dilation 1 and one group"
    return None


# Measured on one core of a Zen 5 machine, float32; see docs/performance.md. FLOP/s of the products;
# channels and filters of tiles transformed per second; sums of M folded per second, those of pieces
# too; bytes of M read or written per second; seconds of a launch, and of the smallest call.
PRODUCT_FLOPS = 240e9
TRANSFORMED = 107e6
FOLDED, FOLDED_IN_PIECES = 300e6, 120e6
M_BYTES = 30e9
LAUNCH = 1e-6
CALL = 4e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, transforms, M read and written, dW folded."""
    if not g.N * g.H * g.W:
        return CALL
    t, unit = tabulate(g, itemsize), known_unit()
    columns = unit.lanes(itemsize) * unit.vectors
    tiles, chunks = t.rows * t.columns, blocks_of(t.rows, t.some_rows) * len(t.parts)
    channels = unit.lanes(itemsize) * blocks_of(g.C, unit.lanes(itemsize)) * pieces_of(g.R, g.S)
    product = 2 * POINTS * tiles * padded(g.K) * columns * blocks_of(channels, columns)
    transformed = tiles * (channels + g.K * blocks_of(channels, PART))
    seconds = product / PRODUCT_FLOPS + transformed / TRANSFORMED
    seconds += channels * g.K / (FOLDED if (g.R, g.S) == (3, 3) else FOLDED_IN_PIECES)
    moved = 2 * chunks * t.m_size * itemsize / M_BYTES
    return CALL + 2 * chunks * LAUNCH + itemsize / 4 * seconds + moved


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: a block of M, rows of planes.

    V, Y and M are shared by all threads and not counted: up to 70 MB in float32.
    """
    if not g.N * g.H * g.W:
        return 0
    return tabulate(g, itemsize).scratch
