"""Winograd's algorithm over blocks of tiles.

    weights    U[i, j] = G g G^T of every filter and channel
    for each span of blocks of tiles (of all images, numbered row by row)
        input      V[i, j] = B^T d B of every channel and tile of the span
        product    for some filters and one block: M[i, j] = U[i, j] V[i, j] for all (i, j),
                   which stays in L2; then Y = A^T M A, to the result

Every element is computed by one task, in one order: bits do not depend on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of, even, panels_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_product import (
    short_narrow,
    short_wide,
    tall_narrow,
    tall_wide,
    weights_4,
)
from fastcnn.kernels.cpu.winograd_tiles import TAPS, Fields, input_4, output_4

# Bytes of a block of tiles in one row of M: 64 tiles in float32, of which M takes 740 KB for 64
# filters.
BLOCK = 256
# Filters of a task.
ROWS = 64
# Channels that are added up in registers: a panel of 14 takes 14 KB, its tile of V 32 KB.
DEPTH = 256
# Channels of a task of the input transform.
CHANNELS = 32
# Bytes of V, which all threads share: a quarter of the 32 MB L3.
SPAN = 8 << 20


@kernel
def _bits(first, last):
    return ((1 << last) - 1) & ~((1 << first) - 1) if last > first else 0


@kernel
def _tabulate(table, size, m, lanes, first_tile, tiles, image):
    """Entries for a block's tiles, in the order of winograd_tiles.Fields; returns their number."""
    channels, H, W, filters, P, Q, top, left, rows, columns = (
        image[0], image[1], image[2], image[3], image[4], image[5], image[6], image[7], image[8],
        image[9],
    )  # fmt: skip
    n, per = m + 2, lanes // m
    found, done = 0, 0
    while done < tiles:
        entry = table[found * size : (found + 1) * size]
        valid, dense, full = 0, 1, True
        for strip in range(m):
            number, rest = divmod(first_tile + done, rows * columns)
            row, column = divmod(rest, columns)
            count = min(per, columns - column, tiles - done)
            entry[strip] = done
            if count > 0 and not full:
                dense = 0
            full = count == per
            h, w = row * m - top, column * m - left
            entry[m + 1 + strip] = (number * channels * H + h) * W + w
            pixel = row * m * Q + column * m
            entry[2 * m + 1 + strip] = number * filters * P * Q + pixel
            entry[3 * m + 1 + strip] = pixel
            valid |= _bits(strip * per, strip * per + count)
            for i in range(n):
                for right in range(2):
                    first = max(0, -w - right * m)
                    last = min(count * m, W - w - right * m)
                    inside = 0 <= h + i < H
                    at = 4 * m + 2 + (i * m + strip) * 2 + right
                    entry[at] = _bits(first, last) if inside else 0
            for i in range(m):
                last = min(count * m, Q - column * m) if row * m + i < P else 0
                entry[4 * m + 2 + 2 * n * m + i * m + strip] = _bits(0, last)
            done += count
        entry[m], entry[4 * m + 1] = dense, valid
        found += 1
    return found


@kernel
def _weights_chunk(task, w, u, panels, g):
    """One panel of one group."""
    channels, lanes, u_step, u_group = g[0], g[1], g[2], g[3]
    row_step, channel_step, group_step, tap_step, first_tap = g[4], g[5], g[6], g[7], g[8]
    group, p = divmod(task, panels.shape[0])
    row, valid, height, padded = panels[p, 0], panels[p, 1], panels[p, 2], panels[p, 3]
    for c in range(channels):
        o = group * u_group + padded * channels + c * height
        at = group * group_step + row * row_step + c * channel_step + first_tap
        for m in range(0, height, lanes):
            weights_4(
                w, at + m * row_step, tap_step, row_step, u, o + m, u_step,
                min(lanes, max(0, valid - m)), min(lanes, height - m),
            )  # fmt: skip


@kernel
def _input_chunk(task, first_block, x, v, image, g):
    """Some channels of one block."""
    channels, m, lanes, size, tiles, block = g[0], g[1], g[2], g[3], g[4], g[5]
    some, v_row, v_step, v_block = g[6], g[7], g[8], g[9]
    plane, W = image[1] * image[2], image[2]
    parts = (channels + some - 1) // some
    number, part = divmod(task, parts)
    start = (first_block + number) * block
    table = np.empty(block * size, np.int64)
    groups = _tabulate(table, size, m, lanes, start, min(block, tiles - start), image)
    for c in range(part * some, min(channels, (part + 1) * some)):
        for group in range(groups):
            o = number * v_block + c * v_row
            input_4(x, c * plane, W, table, group * size, v, o, v_step)


@kernel
def _multiply(height, tall, wide, depth, u, a0, v, b0, step, c, c0, accumulate):
    if height == tall:
        if wide:
            tall_wide(depth, u, a0, v, b0, step, c, c0, step, accumulate)
        else:
            tall_narrow(depth, u, a0, v, b0, step, c, c0, step, accumulate)
    elif wide:
        short_wide(depth, u, a0, v, b0, step, c, c0, step, accumulate)
    else:
        short_narrow(depth, u, a0, v, b0, step, c, c0, step, accumulate)


@kernel
def _product_chunk(task, first_block, u, v, panels, bias, y, numbers, bad, image, g, h):
    """Some panels of one group and one block; bad[task] = 1 if a result is not finite.

    numbers are 0 and the least number that a result may be.
    """
    m, lanes, size, tiles, block = g[1], g[2], g[3], g[4], g[5]
    v_row, v_step, v_block = g[7], g[8], g[9]
    channels, u_step, u_group, rows, groups = h[0], h[1], h[2], h[3], h[4]
    some_panels, depth, wide, tall, c_step = h[5], h[6], h[7], h[8], h[9]
    parts = (panels.shape[0] + some_panels - 1) // some_panels
    number, rest = divmod(task, groups * parts)
    group, part = divmod(rest, parts)
    first, last = part * some_panels, min(panels.shape[0], (part + 1) * some_panels)
    start = (first_block + number) * block
    count = min(block, tiles - start)
    c = np.empty(h[10], u.dtype)
    points = (m + 2) * (m + 2)
    for point in range(points):
        for c0 in range(0, channels, depth):
            some = min(depth, channels - c0)
            in_v = number * v_block + point * v_step + (group * channels + c0) * v_row
            j = 0
            while j < count:
                whole = count - j > lanes
                for p in range(first, last):
                    height, row = panels[p, 2], panels[p, 3]
                    in_u = group * u_group + point * u_step + row * channels + c0 * height
                    in_c = point * c_step + (row - panels[first, 3]) * v_row + j
                    _multiply(
                        height, tall, whole, some, u, in_u, v, in_v + j, v_row, c, in_c, c0 > 0
                    )
                j += wide if whole else lanes
    table = np.empty(block * size, np.int64)
    entries = _tabulate(table, size, m, lanes, start, count, image)
    sums = np.zeros(lanes, u.dtype)
    plane = image[4] * image[5]
    per_pixel = bias.size > image[3]
    for p in range(first, last):
        for row in range(panels[p, 1]):
            k = group * rows + panels[p, 0] + row
            in_c = (panels[p, 3] - panels[first, 3] + row) * v_row
            b = numbers[0]
            if bias.size > 0 and not per_pixel:
                b += bias[k]
            for entry in range(entries):
                output_4(
                    c, in_c, c_step, table, entry * size, y, k * plane, image[5], bias, k * plane,
                    per_pixel, b, numbers[1], sums,
                )  # fmt: skip
    failed = False
    for i in range(lanes):
        failed |= not np.isfinite(sums[i])
    bad[task] = failed


@dataclass(frozen=True)
class Winograd:
    """Tables of one layer in one direction; the arrays are what the kernels above take."""

    panels: np.ndarray
    image: np.ndarray  # channels, H, W, filters, P, Q, top, left, rows and columns of tiles
    weights: np.ndarray
    input: np.ndarray
    product: np.ndarray
    groups: int
    blocks: int
    span: int  # blocks that share V
    input_parts: int
    product_parts: int
    u_size: int
    v_size: int
    scratch: int  # bytes of a task
    flops: int


def tabulate(
    m: int,
    source: tuple[int, int, int, int],
    result: tuple[int, ...],
    before: tuple[int, int],
    groups: int,
    steps: tuple[int, int, int, int, int],
    itemsize: int,
) -> Winograd:
    """Tables of a layer: source (N, C, H, W), result (K, P, Q), padding (top, left), and in w the
    steps of a row, a channel, a group and a tap, and where the first tap is.
    """
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    n = m + TAPS - 1
    (N, C, H, W), (K, P, Q) = source, result
    tile_rows, tile_columns = blocks_of(P, m), blocks_of(Q, m)
    tiles = N * tile_rows * tile_columns
    block = min(BLOCK // itemsize, lanes * blocks_of(tiles, lanes))
    blocks = blocks_of(tiles, block)
    channels, rows = C // groups, K // groups
    panels = panels_of(rows, unit)
    padded = int(panels[:, 2].sum())
    # Rows of V and M, with room for the garbage of a last vector. The steps of a point are odd
    # numbers of cache lines, or points of a tile would share cache sets.
    v_row = block + lanes
    v_step = C * v_row + lanes
    v_block = n * n * v_step
    u_step = padded * channels + lanes
    u_group = n * n * u_step
    some_panels = even(len(panels), blocks_of(padded, ROWS))
    c_rows = int(panels[:some_panels, 2].sum())
    c_step = c_rows * v_row + lanes
    c_size = n * n * c_step
    size = Fields(m).size
    span = max(1, min(blocks, SPAN // (v_block * itemsize)))
    span = even(blocks, span)
    some = min(C, CHANNELS)
    depth = even(channels, DEPTH)
    return Winograd(
        panels=panels,
        image=np.array((C, H, W, K, P, Q, *before, tile_rows, tile_columns)),
        weights=np.array((channels, lanes, u_step, u_group, *steps)),
        input=np.array((C, m, lanes, size, tiles, block, some, v_row, v_step, v_block)),
        product=np.array(
            (channels, u_step, u_group, rows, groups, some_panels, depth, lanes * unit.vectors,
             unit.rows, c_step, c_size)
        ),
        groups=groups,
        blocks=blocks,
        span=span,
        input_parts=blocks_of(C, some),
        product_parts=groups * blocks_of(len(panels), some_panels),
        u_size=groups * u_group,
        v_size=span * v_block,
        scratch=c_size * itemsize + block * size * 8,
        flops=2 * n * n * tiles * K * channels,
    )  # fmt: skip


def lines(size: int, dtype: np.dtype) -> np.ndarray:
    """An array that begins with a cache line, for vectors that do not straddle two."""
    line = 64 // dtype.itemsize
    whole = np.empty(size + line, dtype)
    return whole[-(whole.ctypes.data // dtype.itemsize) % line :][:size]


def pack(p: Winograd, w: np.ndarray) -> np.ndarray:
    """U of the weights, in the order in which the product reads it."""
    u = lines(p.u_size, w.dtype)
    launch(
        _weights_chunk, p.groups * len(p.panels), u.nbytes,
        w.reshape(-1), u, p.panels, p.weights,
    )  # fmt: skip
    return u


def run(
    p: Winograd, x: np.ndarray, u: np.ndarray, bias: np.ndarray, relu: bool, y: np.ndarray
) -> bool:
    """Write the result; False if some of it is not finite, and must be computed directly."""
    v = lines(p.v_size, x.dtype)
    # In an array that NumPy fills and every result hangs on: so no tape of launches (replay.py) is
    # kept, which could not repeat the decision below.
    numbers = np.array([0, 0 if relu else -np.inf], x.dtype)
    bad = np.zeros(p.span * p.product_parts, np.int64)
    for first in range(0, p.blocks, p.span):
        blocks = min(p.span, p.blocks - first)
        launch(
            _input_chunk, blocks * p.input_parts, p.flops, first, x.reshape(-1), v, p.image, p.input
        )  # fmt: skip
        launch(
            _product_chunk, blocks * p.product_parts, p.flops, first, u, v, p.panels, bias,
            y.reshape(-1), numbers, bad, p.image, p.input, p.product,
        )  # fmt: skip
        if bad.any():
            return False
    return True
