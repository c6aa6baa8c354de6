"""The input gradient of few channels: a product to tap rows, then whole shifted rows added up.

    T[t, p, q]  = sum over k of w[k, t] * dy[k, p, q]                    t = (c, r, s)
    dx[c, h, w] = sum over the taps and outputs (p, q) that meet in (h, w) of T[t, p, q]

With one to three channels a product with a row per channel would use a part of a register tile, or
wait for its loads; taps are 9 to 363. The rows of T never stand in memory whole:

    task: some images, or some rows of one
        for a few rows p of dy
            the tiles of T for these p, straight from dy         a ring of rows, L1 or L2
            the rows of dx that no later p contributes to: add up their rows of T

Along a row of dx, pixels w = a, a + stride, … meet the same taps, neighbours in T for neighbours in
dx: so a row is added up for each a < stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import take_every
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.small_channel import MOST_WEIGHTS
from fastcnn.kernels.cpu.small_channel_panels import (
    pack_panels,
    panels_of,
    tile_product,
    vectors_of,
    widths,
)
from fastcnn.kernels.cpu.small_channel_rows import vector_starts
from fastcnn.kernels.cpu.small_channel_tiles import add_rows, covered
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

# Channels that are few: with more, a product with a row for each has no need of taps in rows.
MOST_CHANNELS = 8

# Bytes of the ring of rows of T, more than which channels are taken one by one: half of a 1 MB L2.
RING_BYTES = 512 << 10
# Bytes that the ring of one channel may take, where kernels or images are very large.
MOST_RING_BYTES = 2 << 20
# Vectors of dy's rows taken together: a multiple of what the tiles take at a time.
FEW_VECTORS = 12
# Rows of dx that a task has at the least, for it computes T for the rows of its neighbours that
# reach into it, too; tasks that keep a few threads busy, and the most there are.
LEAST_ROWS = 32
FEW_TASKS, TASKS = 8, 16


@kernel
def _add_taps(dx, o, h, channels, t, offsets, places, starts, first, g, line):
    """Row h of some channels of dx, at dx[o:], from the ring of T, which began with row `first`."""
    H, W, P, R, S, sh, sw, dh, top = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7], g[8]
    ring, pitch, lanes = g[9], g[10], g[11]
    slots = ring * pitch
    newest = (h + top) // sh
    for a in range(min(sw, W)):
        n, count = (W - a + sw - 1) // sw, 0
        for r in range(R):
            back = r * dh - (h + top - newest * sh)  # of the source's rows, from the newest
            if sh > 1:
                back, rest = divmod(back, sh)
                if rest > 0:
                    continue
            if back >= 0 and back <= newest and newest - back < P:
                row = r * S * slots + (newest - back - first) % ring * pitch
                for i in range(starts[a], starts[a + 1]):
                    offsets[count] = row + places[i, 0] * slots + places[i, 1]
                    count += 1
        for c in range(channels):
            there = o + c * H * W
            if count == 0:
                for i in range(n):
                    dx[there + a + i * sw] = dx.dtype.type(0)
            elif sw == 1:
                add_rows(count, t, c * R * S * slots, offsets, n, dx, there, min(n, lanes))
            else:
                add_rows(count, t, c * R * S * slots, offsets, n, line, 0, min(n, lanes))
                for i in range(n):
                    dx[there + a + i * sw] = line[i]


@kernel
def _add_segment(
    image, h0, h1, c0, a, t, dy, dx, lowest, planes, vectors, bases, tiles, widths, places, starts,
    copied, line, offsets, g, s,
):  # fmt: skip
    """Rows h0 … h1-1 of some channels of one image's dx."""
    C, H, K, P, Q, R, some_rows, per_row = s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]
    channels, count, margin = s[8], s[9], s[10]
    W, sh, dh, top, ring, pitch, lanes = g[1], g[5], g[7], g[8], g[9], g[10], g[11]
    narrow, slots = lanes > Q, ring * pitch
    # the rows of dy that reach these rows of dx
    p0 = max(0, (h0 + top - (R - 1) * dh + sh - 1) // sh)
    p1 = max(p0, min(P, (h1 - 1 + top) // sh + 1))
    done = h0
    for p in range(p0, max(p1, p0 + 1), some_rows):
        n = min(some_rows, p1 - p)
        slot = (p - p0) % ring * pitch + margin
        if narrow and n > 0:  # a vector would reach beyond dy's end
            for k in range(K):
                o = ((image * K + k) * P + p) * Q
                take_every(n, dy, o, Q, 1, copied, k * some_rows * lanes, lanes, 0, Q, True)
        for i in range(tiles.shape[0] if n > 0 else 0):
            number, row, valid, at_a = tiles[i, 0], tiles[i, 1], tiles[i, 2], tiles[i, 4]
            width, y0 = widths[number], slot + row * slots
            last = max(0, n * per_row - width)
            for v in range(0, n * per_row, width):
                v0 = bases[n] + min(v, last)
                if narrow:
                    tile_product(
                        number, K, a, at_a, copied, 0, planes, vectors, v0, t, y0, slots, valid,
                        count, lowest, False, 0,
                    )  # fmt: skip
                else:
                    # the next rows of dy, which the first tile meets first
                    x0, ahead = (image * K * P + p) * Q, some_rows * Q if i == 0 else 0
                    tile_product(
                        number, K, a, at_a, dy, x0, planes, vectors, v0, t, y0, slots, valid, count,
                        lowest, False, ahead,
                    )  # fmt: skip
        end = h1
        if p + n < p1:
            end = min(h1, (p + n) * sh - top)
        for h in range(done, end):
            o = ((image * C + c0) * H + h) * W
            _add_taps(dx, o, h, channels, t, offsets, places, starts, p0, g, line)
        done = max(done, end)


@kernel
def _taps_chunk(
    task, dy, w, filters, bias, dx, lowest, planes, vectors, bases, tiles, widths, places, starts,
    g, s,
):  # fmt: skip
    """Some segments of rows of dx, all channels."""
    C, H, plane, channels = s[0], s[1], g[3] * g[4], s[8]
    segments, rows, units, span = s[11], s[12], s[13], s[14]
    a = np.empty(s[15], dy.dtype)
    t = np.zeros(s[16], dy.dtype)  # zeros left and right of the rows
    copied = np.empty(s[17], dy.dtype)
    line = np.empty(g[1] + g[11], dy.dtype)
    offsets = np.empty(plane, np.int64)
    for c0 in range(0, C, channels):
        pack_panels(a, w, c0 * plane, 1, filters, bias, 0, tiles)
        for unit in range(task * span, min(units, (task + 1) * span)):
            image, segment = divmod(unit, segments)
            h0, h1 = segment * rows, min(H, (segment + 1) * rows)
            _add_segment(
                image, h0, h1, c0, a, t, dy, dx, lowest, planes, vectors, bases, tiles, widths,
                places, starts, copied, line, offsets, g, s,
            )  # fmt: skip


@dataclass(frozen=True)
class _Taps:
    """Tables of an input gradient; the arrays are what the kernel above takes by these names."""

    filters: np.ndarray
    planes: np.ndarray
    vectors: np.ndarray
    bases: np.ndarray
    tiles: np.ndarray
    widths: np.ndarray
    places: np.ndarray  # (s, where its row of T begins) for each a of this file's text
    starts: np.ndarray
    row_sizes: np.ndarray
    sizes: np.ndarray
    tasks: int
    scratch: int  # bytes that a task allocates


def _places(g: Conv2dGeometry, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """For each a, the taps s that meet its pixels and the column of T that meets the first."""
    (_, sw), (_, dw), left = g.stride, g.dilation, g.padding[2]
    places, starts = [], [0]
    for a in range(min(sw, g.W)):
        for s in range(g.S):
            column, rest = divmod(a + left - s * dw, sw)
            if not rest:
                places.append((s, margin + column))
        starts.append(len(places))
    return np.array(places or [(0, 0)]), np.array(starts)


def _ring(g: Conv2dGeometry, itemsize: int) -> tuple[int, int, int, int]:
    """Rows of dy taken together, rows of the ring, elements of a row, zeros before its first."""
    lanes = known_unit().lanes(itemsize)
    (sh, sw), (dh, dw), left = g.stride, g.dilation, g.padding[2]
    some_rows = min(g.P, blocks_of(FEW_VECTORS, blocks_of(g.Q, lanes)))
    reach = blocks_of((g.R - 1) * dh, sh)
    ring = some_rows * min(blocks_of(g.P, some_rows), 1 + blocks_of(reach, some_rows))
    margin = max(0, (g.S - 1) * dw - left)
    margin = blocks_of(margin, sw)
    pitch = margin + max(g.Q, (max(g.W, lanes * sw) + left) // sw + lanes)
    return some_rows, ring, pitch, margin


@lru_cache(maxsize=256)
def _taps(g: Conv2dGeometry, itemsize: int) -> _Taps:
    lanes, (sh, sw), dh = known_unit().lanes(itemsize), g.stride, g.dilation[0]
    some_rows, ring, pitch, margin = _ring(g, itemsize)
    plane = g.R * g.S
    some_channels = g.C if g.C * plane * ring * pitch * itemsize <= RING_BYTES else 1
    tiles, packed = panels_of(some_channels * plane, g.K)
    narrow = lanes > g.Q
    starts = vector_starts(g.Q, lanes)
    row = np.arange(some_rows)[:, np.newaxis]
    pairs = np.stack([row * (lanes if narrow else g.Q) + starts, row * pitch + starts], axis=-1)
    vectors, bases = vectors_of(pairs.reshape(-1, 2), len(starts))
    planes = np.arange(g.K) * (some_rows * lanes if narrow else g.P * g.Q)
    places, place_starts = _places(g, margin)
    segments = max(1, min(blocks_of(FEW_TASKS, g.N), g.H // LEAST_ROWS))
    rows = even(g.H, blocks_of(g.H, segments))
    segments = blocks_of(g.H, rows)
    ring_size = some_channels * plane * ring * pitch
    row_sizes = (g.H, g.W, g.P, g.R, g.S, sh, sw, dh, g.padding[0], ring, pitch, lanes)
    copied = g.K * some_rows * lanes if narrow else 0
    units = g.N * segments
    span = blocks_of(units, TASKS if g.flops >= WORTH_SHARING else 1)
    sizes = (
        *(g.C, g.H, g.K, g.P, g.Q, g.R, some_rows, len(starts), some_channels, min(g.Q, lanes)),
        *(margin, segments, rows, units, span, packed, ring_size, copied),
    )
    scratch = itemsize * (packed + ring_size + copied + g.W + lanes) + 8 * plane
    return _Taps(
        np.arange(g.K) * (g.C * plane), planes, vectors, bases, tiles, widths(), places,
        place_starts, np.array(row_sizes), np.array(sizes), blocks_of(units, span), scratch,
    )  # fmt: skip


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: None = None,
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w; `packed` as in `small_channel.conv2d`."""
    if not dx.size:
        return
    t = _taps(geometry, dy.itemsize)
    launch(
        _taps_chunk, t.tasks, geometry.flops,
        dy.reshape(-1), w.reshape(-1), t.filters, np.empty(0, dy.dtype), dx.reshape(-1),
        dy.dtype.type(-np.inf), t.planes, t.vectors, t.bases, t.tiles, t.widths, t.places,
        t.starts, t.row_sizes, t.sizes,
    )  # fmt: skip


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
    _, ring, pitch, _ = _ring(g, itemsize)
    needed = g.R * g.S * ring * pitch * itemsize
    if needed > MOST_RING_BYTES:
        return f"the ring of tap rows of one channel takes {needed} bytes: {MOST_RING_BYTES} fit"
    return None


# Measured as in small_channel.py: FLOP/s of whole tiles, elements of T added up per second,
# seconds of a row of dx and of the smallest call.
TILE_FLOPS = 190e9
ADDED = 12e9
ROW = 12e-9
CALL = 3.1e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles of T multiplied, their rows added up, rows begun."""
    lanes, (sh, sw) = known_unit().lanes(itemsize), g.stride
    taps = g.C * g.R * g.S
    pixels = g.N * g.P * blocks_of(g.Q, lanes) * lanes
    width = blocks_of(g.W, lanes * sw) * lanes * sw
    added = g.N * g.H * width * taps / (sh * sw)
    begun = g.N * g.H * (min(g.W, sw) * (1 + g.C) + g.R * g.S / (4 * sh))
    seconds = 2 * covered(taps, g.K) * g.K * pixels / TILE_FLOPS + added / ADDED
    return CALL + itemsize / 4 * seconds + begun * ROW


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: packed weights, the ring of rows."""
    return _taps(g, itemsize).scratch if g.N * g.C * g.H * g.W else 0
