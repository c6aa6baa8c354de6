"""The weight gradient as inner products over pixels, on register tiles.

    dW[k, t] = sum over pixels (n, p, q) of dY[k, pixel] * X[t, pixel]        t = (c, r, s)

X[t, pixel] is the source element that tap t multiplies for a pixel, as in the forward pass, and
both factors lie along pixels in memory: so vectors run along pixels, nothing is transposed, and a
register tile holds vectors of partial sums for a few filters and a few taps. What a tile loads is
more than where channels are lanes (gemm_weight_grad.py), and X is copied for each tap; but where
there are few channels, no lanes are left without one.

    task: some filters, some taps, some of the pixels
        for each block of pixels
            dY's pixels into tiles [tile][filter][pixel]
            for each chunk of taps: some channels, some positions of the kernel
                X's pixels into tiles [tile][tap][pixel]          both stay in L2
                for each panel of filters, for each panel of taps
                    C[filters, taps] += sums over the block's pixels, lanes added up

Pixels are divided among tasks only where filters and taps give too few; the parts are then added in
order. How they are divided depends on the geometry alone, and so do the bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.gemm_weight_grad import refusal as refusal
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.pixel_dots import dots
from fastcnn.kernels.cpu.pixel_tiles import cut, fill, most_pieces
from fastcnn.kernels.cpu.plane_sums import plane_sum
from fastcnn.kernels.cpu.product_tables import blocks_of, chunk_of, even
from fastcnn.kernels.cpu.sums import add_spans, nothing, sum_rows, sums_for
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.units import known_unit

# Bytes of a block of pixels for one filter or tap: a panel of 6 filters takes 12 KB of L1, and the
# 4 taps of the next 8 KB. 4 KB spilled from L1: 140 against 232 GFLOP/s.
BLOCK_BYTES = 2048
# Filters and taps whose pixels are in tiles together: 192 of each take 768 KB of L2. With 96 of
# each dY and X were read twice as often, at two thirds of the speed.
FILTERS = 192
TAPS = 192
# Taps of a task, a few times TAPS: dY is read once for all of them.
TASK_TAPS = 768
# Tasks that keep a few threads evenly busy.
FEW_TASKS = 8


@kernel
def _sums_chunk(task, x, dy, taps, no_tap, parts, dy_sums, x_sizes, dy_sizes, g):
    """Some filters and some taps of one group over a span of pixels, to their part; the sums of
    dy's rows, where there is room for them, by the first that read them."""
    filters, channels, pixels, grid_h, grid_w = g[0], g[1], g[2], g[3], g[4]
    task_filters, task_channels, task_positions = g[5], g[6], g[7]
    some_channels, some_positions, block, span, spans = g[8], g[9], g[10], g[11], g[12]
    lanes, columns, tile_rows, tile_columns, tile_size = g[13], g[14], g[15], g[16], g[17]
    a_rows, b_rows, positions = g[18], g[19], taps.shape[0]
    rest, part = divmod(task, spans)
    rest, position_block = divmod(rest, (positions + task_positions - 1) // task_positions)
    rest, channel_block = divmod(rest, (channels + task_channels - 1) // task_channels)
    group, filter_block = divmod(rest, (filters + task_filters - 1) // task_filters)
    k0, c0, t0 = (
        filter_block * task_filters, channel_block * task_channels, position_block * task_positions,
    )  # fmt: skip
    k1, c1 = min(filters, k0 + task_filters), min(channels, c0 + task_channels)
    t1 = min(positions, t0 + task_positions)
    panels = (k1 - k0 + tile_rows - 1) // tile_rows
    # zeros: the last panels read rows that no filter and no tap fills
    a = np.zeros(block * a_rows, x.dtype)
    b = np.zeros(block * b_rows, x.dtype)
    c = np.zeros(g[20], x.dtype)
    pieces = np.empty((g[21], 6), np.int64)
    starts = np.empty(block // columns + 1, np.int64)
    totals = dy_sums[part * (dy_sums.shape[0] // spans) + group * filters + k0 :]
    adds = dy_sums.size > 0 and c0 == 0 and t0 == 0
    if adds:
        totals[: k1 - k0] = 0
    for j0 in range(part * span, min(pixels, (part + 1) * span), block):
        tiles = cut(pieces, starts, j0, min(block, pixels - j0), 0, grid_h, grid_w, columns, lanes)
        count, first = starts[tiles], group * filters
        fill(
            a, a_rows, pieces, count, dy, dy_sizes, no_tap, 0, 1, first + k0, first + k1, columns,
            lanes,
        )  # fmt: skip
        if adds:
            step = a_rows * columns
            for k in range(k1 - k0):
                totals[k] += plane_sum(a, k * columns, step, tiles, columns)
        at_c, first = 0, group * channels
        for n0 in range(c0, c1, some_channels):
            n1 = min(c1, n0 + some_channels)
            for u0 in range(t0, t1, some_positions):
                u1 = min(t1, u0 + some_positions)
                fill(
                    b, b_rows, pieces, count, x, x_sizes, taps, u0, u1, first + n0, first + n1,
                    columns, lanes,
                )  # fmt: skip
                tap_panels = ((n1 - n0) * (u1 - u0) + tile_columns - 1) // tile_columns
                for p in range(panels):
                    for q in range(tap_panels):
                        dots(
                            tiles, a, p * tile_rows * columns, a_rows * columns,
                            b, q * tile_columns * columns, b_rows * columns, c, at_c,
                        )  # fmt: skip
                        at_c += tile_size
    out = parts[part * (parts.shape[0] // spans) :]
    at_c = 0
    for n0 in range(c0, c1, some_channels):
        n1 = min(c1, n0 + some_channels)
        for u0 in range(t0, t1, some_positions):
            u1 = min(t1, u0 + some_positions)
            tap_panels = ((n1 - n0) * (u1 - u0) + tile_columns - 1) // tile_columns
            for k in range(k0, k1):
                p, m = divmod(k - k0, tile_rows)
                sums = c[at_c + p * tap_panels * tile_size + m * tile_columns :]
                o = ((group * filters + k) * channels + n0) * positions
                tile, j = 0, 0  # taps are in the order [position][channel]
                for u in range(u0, u1):
                    for n in range(n1 - n0):
                        out[o + n * positions + u] = sums[tile + j]
                        j += 1
                        if j == tile_columns:
                            tile, j = tile + tile_size, 0
            at_c += panels * tap_panels * tile_size


@dataclass(frozen=True)
class _Sums:
    """Tables of a weight gradient; the arrays are what the kernel above takes by these names."""

    taps: np.ndarray
    x_sizes: np.ndarray
    dy_sizes: np.ndarray
    sizes: np.ndarray
    tasks: int
    spans: int
    scratch: int  # bytes that a task allocates


_NO_TAP = np.zeros((1, 2), np.int64)


def _spread(rows: int, panel: int, row_bytes: int) -> int:
    """At least so many rows, such that a panel's rows of all tiles fall on different cache sets.

    A way of an L1 holds 4 KB: with a multiple of that from tile to tile, all tiles' rows would
    share a few sets.
    """
    way = 4096 // row_bytes
    return rows + (panel - rows) % way


@lru_cache(maxsize=256)
def _sums(g: Conv2dGeometry, itemsize: int) -> _Sums:
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    columns = lanes * unit.vectors
    tile_rows, tile_columns = unit.dots
    (dh, dw), (top, _, left, _) = g.dilation, g.padding
    r, s = np.meshgrid(np.arange(g.R) * dh - top, np.arange(g.S) * dw - left, indexing="ij")
    taps = np.stack([r.ravel(), s.ravel()], axis=1)
    x_sizes, grid = (g.C, g.H, g.W, *g.stride), (g.P, g.Q)
    if len(taps) == 1 and g.stride == (1, 1) and not any(g.padding):
        x_sizes, grid = (g.C, 1, g.H * g.W, 1, 1), (1, g.P * g.Q)  # rows join: fewer pieces
    filters, channels = g.K // g.groups, g.C // g.groups
    task_filters = even(filters, FILTERS)
    some_channels, some_positions = chunk_of(channels, len(taps), TAPS)
    task_positions = some_positions * max(
        1, min(blocks_of(len(taps), some_positions), TASK_TAPS // some_positions)
    )
    task_channels = some_channels * min(
        blocks_of(channels, some_channels), max(1, TASK_TAPS // (some_channels * task_positions))
    )
    tasks = (
        g.groups * blocks_of(filters, task_filters)
        * blocks_of(channels, task_channels) * blocks_of(len(taps), task_positions)
    )  # fmt: skip
    pixels = g.N * g.P * g.Q
    block = min(BLOCK_BYTES // itemsize, columns * blocks_of(pixels, columns))
    blocks = blocks_of(pixels, block)
    span = block * blocks_of(blocks, blocks_of(FEW_TASKS, tasks))
    spans = blocks_of(pixels, span)
    panels = blocks_of(task_filters, tile_rows)
    tap_panels = blocks_of(some_channels * some_positions, tile_columns)
    chunks = blocks_of(task_channels, some_channels) * blocks_of(task_positions, some_positions)
    row_bytes = columns * itemsize
    a_rows = _spread(panels * tile_rows, tile_rows, row_bytes)
    b_rows = _spread(tap_panels * tile_columns, tile_columns, row_bytes)
    tile_size = lanes * blocks_of(tile_rows * tile_columns, lanes)
    c_size, pieces = chunks * panels * tap_panels * tile_size, most_pieces(block, lanes)
    sizes = (
        *(filters, channels, pixels, *grid, task_filters, task_channels, task_positions),
        *(some_channels, some_positions, block, span, spans),
        *(lanes, columns, tile_rows, tile_columns, tile_size, a_rows, b_rows, c_size, pieces),
    )
    scratch = itemsize * (block * (a_rows + b_rows) + c_size)
    return _Sums(
        taps, np.array(x_sizes), np.array((g.K, *grid, 1, 1)), np.array(sizes), tasks * spans,
        spans, scratch + pieces * 48,
    )  # fmt: skip


def conv2d_weight_grad(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    dy: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray | None = None,
) -> None:
    """dw and db, written whole, from x (N, C, H, W) and dy (N, K, P, Q)."""
    if not dy.size:
        nothing(dw, db)
        return
    s = _sums(geometry, x.itemsize)
    parts = np.empty((s.spans, dw.size), dw.dtype) if s.spans > 1 else dw.reshape(1, -1)
    sums = sums_for(db, s.spans)
    launch(
        _sums_chunk, s.tasks, geometry.flops,
        x.reshape(-1), dy.reshape(-1), s.taps, _NO_TAP, parts.reshape(-1), sums,
        s.x_sizes, s.dy_sizes, s.sizes,
    )  # fmt: skip
    if s.spans > 1:
        sum_rows(s.spans, dw.size, parts, dw)
    add_spans(s.spans, sums, db)


# Measured as in implicit_gemm.py, on a Zen 5 core in float32: FLOP/s of whole tiles; elements of
# the tiles' pixels (of strides above 2 they are gathered) and of dW per second; seconds of the
# smallest call. All but three small layers take half to twice what they say together.
TILE_FLOPS = 185e9
TAKEN, GATHERED = 3.3e9, 1.1e9
STORED = 0.7e9
CALL = 4.5e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, pixels taken, sums stored."""
    filters, taps = g.K // g.groups, g.C // g.groups * g.R * g.S
    tile_rows, _ = known_unit().dots
    whole = tile_rows * blocks_of(filters, tile_rows)
    taken = taps * blocks_of(filters, FILTERS) + filters * blocks_of(taps, TASK_TAPS)
    pixels = g.groups * g.N * g.P * g.Q
    rate = TAKEN if g.stride[1] <= 2 else GATHERED
    seconds = pixels * (2 * whole * taps / TILE_FLOPS + taken / rate)
    return CALL + itemsize / 4 * (seconds + g.groups * filters * taps / STORED)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: tiles of dY and X, sums, a table of pieces.

    Parts of dW, where pixels are divided among tasks, are shared by all threads and not counted.
    """
    return _sums(g, itemsize).scratch if g.N else 0
