"""Convolution of few channels (first layers): all taps of an output in registers.

    y[k, p, q] = max(lowest, b[k] + sum over taps t = (c, r, s) of w[k, t] * x[t at (p, q)])

Such a layer reads little and writes much: 9 to 363 taps, 32 outputs and more for each of them. So
nothing is packed but w, and nothing stands between the registers and y:

    task: some blocks of rows of y, each of one image
        the rows of x that the block reads, padded       stay in L1 (small_channel_rows.py)
        for each panel of filters
            for each tile of pixels: all taps, then bias and ReLU, then y       no C in between
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.small_channel_rows import Copy, copy_of, copy_rows, vector_starts
from fastcnn.kernels.cpu.small_channel_tiles import (
    TILES,
    cover,
    covered,
    middle_tile,
    narrow_tile,
    wide_tile,
)
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

# Channels that are few: with more, packed columns (implicit_gemm.py) cost less than they bring.
MOST_CHANNELS = 8
# Bytes of the copied rows of a block: half of a 48 KB L1, beside a panel of weights.
BLOCK_BYTES = 24 << 10
# Bytes that the copy of one output row's input may take at the most, where a row is very long.
MOST_BYTES = 512 << 10
# Weights that every task may pack, or keep sums of, for itself.
MOST_WEIGHTS = 1 << 18
# Tasks at the most; each packs w for itself, which takes 1 % of ResNet's first layer.
TASKS = 16


@kernel
def pack_panels(a, w, tiles, bias, depth, row_step, depth_step):
    """Panels as the tiles take them: their rows' bias, then [depth][row]; rows beyond are zeros.

    tiles[i] = (number, first row, rows, height, place in a).
    """
    zero = w.dtype.type(0)
    for i in range(tiles.shape[0]):
        first, valid, height, o = tiles[i, 1], tiles[i, 2], tiles[i, 3], tiles[i, 4]
        for m in range(height):
            inside = m < valid
            a[o + m] = bias[first + m] if inside and bias.size > 0 else zero
            column, start = a[o + height + m :], (first + m) * row_step
            for k in range(depth):
                column[k * height] = w[start + k * depth_step] if inside else zero


@kernel
def tile_product(
    number, depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest
):
    """One of the three tiles, by its number."""
    if number == 0:
        wide_tile(depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest)
    elif number == 1:
        middle_tile(depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest)
    else:
        narrow_tile(depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest)


@kernel
def _rows_chunk(
    task, x, w, bias, y, lowest, phases, copy, taps, vectors, bases, tiles, widths, g
):  # fmt: skip
    """Some blocks of rows of y."""
    K, P, Q, stride, top = g[0], g[1], g[2], g[3], g[4]
    rows, blocks, units, span, per_row, count, overlap = g[5], g[6], g[7], g[8], g[9], g[10], g[11]
    depth, plane = taps.shape[0], P * Q
    a = np.empty(g[12], x.dtype)
    xs = np.empty(g[13], x.dtype)
    pack_panels(a, w, tiles, bias, depth, depth, 1)
    for unit in range(task * span, min(units, (task + 1) * span)):
        image, block = divmod(unit, blocks)
        p0 = block * rows
        n = min(rows, P - p0)
        copy_rows(
            xs, 0, x, image, p0 * stride - top, (n - 1) * stride + overlap, phases, copy, True
        )
        for i in range(tiles.shape[0]):
            number, k, valid, at_a = tiles[i, 0], tiles[i, 1], tiles[i, 2], tiles[i, 4]
            width, y0 = widths[number], (image * K + k) * plane + p0 * Q
            last = max(0, n * per_row - width)
            for v in range(0, n * per_row, width):
                tile_product(
                    number, depth, a, at_a, xs, 0, taps, vectors, bases[n] + min(v, last), y, y0,
                    plane, valid, count, lowest,
                )  # fmt: skip


@kernel
def _bias_chunk(task, y, bias, relu):
    """One bias per pixel, which is rare: added to an image of y afterwards."""
    image = y[task * bias.size : (task + 1) * bias.size]
    for i in range(image.size):
        image[i] += bias[i]
    if relu:
        rectify(image, image.size)


def panels_of(rows: int, depth: int) -> tuple[np.ndarray, int]:
    """The tiles that `pack_panels` takes for some rows, and the elements of all panels."""
    table, first, place = [], 0, 0
    for number in cover(rows):
        height = TILES[known_unit().name][number][0]
        table.append((number, first, min(height, rows - first), height, place))
        first, place = first + height, place + height * (depth + 1)
    return np.array(table), place


def widths() -> np.ndarray:
    """Vectors of each tile."""
    return np.array([vectors for _, vectors in TILES[known_unit().name]])


def vectors_of(
    rows: int, starts: np.ndarray, row_step: int, out_step: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where the vectors of up to `rows` rows are read and belong, and the first of those for each
    number of rows. They are as many as a tile has at the least: the last may come again."""
    i = np.arange(rows)[:, np.newaxis]
    pairs = np.stack([i * row_step + starts, i * out_step + starts], axis=-1).reshape(-1, 2)
    # the table of all rows, which serves fewer, too, as far as they fill a tile, and the others
    per_row, most = len(starts), int(widths().max())
    bases, tables = np.zeros(rows + 1, np.int64), [pairs]
    for n in range(1, min(rows, (most - 1) // per_row) + 1):
        bases[n] = sum([len(table) for table in tables])
        tables += [pairs[: n * per_row], np.repeat(pairs[n * per_row - 1 :][:1], most, axis=0)]
    return np.concatenate(tables), bases


@dataclass(frozen=True)
class _Rows:
    """Tables of a forward pass; the arrays are what the kernel above takes by these names."""

    copy: Copy
    vectors: np.ndarray
    bases: np.ndarray
    tiles: np.ndarray
    widths: np.ndarray
    sizes: np.ndarray
    tasks: int
    scratch: int  # bytes that a task allocates


@lru_cache(maxsize=256)
def _rows(g: Conv2dGeometry, itemsize: int) -> _Rows:
    lanes, (stride, _) = known_unit().lanes(itemsize), g.stride
    copy = copy_of(g, itemsize)
    most = BLOCK_BYTES // (copy.row * itemsize) - copy.overlap
    rows = even(g.P, max(1, min(g.P, most // stride + 1)))
    blocks = blocks_of(g.P, rows)
    units = g.N * blocks
    span = blocks_of(units, TASKS if g.flops >= WORTH_SHARING else 1)
    starts = vector_starts(g.Q, lanes)
    vectors, bases = vectors_of(rows, starts, stride * copy.row, g.Q)
    tiles, packed = panels_of(g.K, len(copy.taps))
    copied = copy.rows(rows, stride) * copy.row
    sizes = (
        *(g.K, g.P, g.Q, stride, g.padding[0], rows, blocks, units, span, len(starts)),
        *(min(g.Q, lanes), copy.overlap, packed, copied),
    )
    return _Rows(
        copy, vectors, bases, tiles, widths(), np.array(sizes), blocks_of(units, span),
        itemsize * (packed + copied),
    )  # fmt: skip


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
    t = _rows(geometry, x.itemsize)
    later = b if b is not None and b.size != geometry.K else None
    bias = np.empty(0, x.dtype) if b is None or later is not None else b.reshape(-1)
    lowest = y.dtype.type(0 if relu and later is None else -np.inf)
    launch(
        _rows_chunk, t.tasks, geometry.flops,
        x.reshape(-1), w.reshape(-1), bias, y.reshape(-1), lowest,
        t.copy.phases, t.copy.sizes, t.copy.taps, t.vectors, t.bases, t.tiles, t.widths, t.sizes,
    )  # fmt: skip
    if later is not None:
        launch(_bias_chunk, geometry.N, 2 * y.nbytes, y.reshape(-1), later.reshape(-1), relu)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.groups > 1:
        return "it serves one group of channels alone"
    if g.C > MOST_CHANNELS:
        return f"{g.C} channels are not few: {MOST_CHANNELS} at the most"
    weights = g.K * g.C * g.R * g.S
    if weights > MOST_WEIGHTS:
        return f"{weights} weights are more than every task may pack for itself: {MOST_WEIGHTS}"
    lanes, sw = known_unit().lanes(itemsize), g.stride[1]
    columns = max(g.Q, lanes) + (g.S - 1) * g.dilation[1] // sw + lanes
    needed = itemsize * g.C * g.window[0] * min(sw, g.S) * columns
    if needed > MOST_BYTES:
        return f"the rows that one row of outputs reads take {needed} bytes: {MOST_BYTES} fit"
    return None


# Measured on one core of a Zen 5 machine, float32: FLOP/s of whole tiles, elements of y and of the
# copy of x per second (of stride 1 and 2; gathered at others), seconds of the smallest call.
TILE_FLOPS = 205e9
STORED = 15e9
COPIED, GATHERED = 4e9, 0.4e9
CALL = 5.2e-6


def copying(g: Conv2dGeometry) -> float:
    """Seconds on one core for the copy of x in float32."""
    copied = g.N * g.C * g.P * g.stride[0] * g.Q * min(g.S, g.stride[1])
    return copied / (COPIED if g.stride[1] <= 2 else GATHERED)


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, y stored, x copied."""
    lanes = known_unit().lanes(itemsize)
    pixels = g.N * g.P * blocks_of(g.Q, lanes) * lanes
    seconds = 2 * covered(g.K) * g.C * g.R * g.S * pixels / TILE_FLOPS
    return CALL + itemsize / 4 * (seconds + g.K * pixels / STORED + copying(g))


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: the packed weights, the copied rows."""
    return _rows(g, itemsize).scratch if g.N else 0
