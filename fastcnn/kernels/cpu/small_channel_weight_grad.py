"""The weight gradient of few channels: inner products over pixels, straight from dy.

    dw[k, t] = sum over pixels (n, p, q) of dy[k, pixel] * x[t at pixel]        t = (c, r, s)

Vectors run along the rows of dy; a tile holds vectors of partial sums for some filters and taps.
Few taps would not pay for putting pixels into tiles first (gemm_weight_grad.py): both factors are
read where they are, x from a padded copy of its rows (small_channel_rows.py).

    task: some units, each of several images or some rows of one
        the rows of x that the unit reads, padded
        for each panel of filters, for each panel of taps: C += sums over the unit's pixels

Units are divided among tasks by the geometry alone, the tasks' parts are added in order: bits do
not depend on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import small_channel
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.small_channel_rows import Copy, copy_of, copy_rows
from fastcnn.kernels.cpu.small_channel_tiles import PRODUCTS, products
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from fastcnn.kernels.cpu.units import known_unit

# Vectors of a unit: those of 4 filters take 16 KB, which the panels of taps read again and again;
# adding up the lanes of a tile takes as long as 6 vectors. 24 and 128 were up to 15 % slower.
UNIT_VECTORS = 64
# Bytes of a unit's copied rows at the most.
UNIT_BYTES = 128 << 10
# Tasks that keep a few threads busy.
TASKS = 8


@kernel
def _sums_chunk(task, x, dy, parts, phases, copy, taps, planes, places, g):
    """Some units, to their part."""
    N, K, P, Q, stride, top = g[0], g[1], g[2], g[3], g[4], g[5]
    images, rows, blocks, units, span, overlap = g[6], g[7], g[8], g[9], g[10], g[11]
    lanes, filters, columns, tile_size, row, T = g[12], g[13], g[14], g[15], g[16], g[17]
    xs = np.empty(g[18], x.dtype)
    c = np.zeros(g[19], x.dtype)
    filter_panels, tap_panels = (K + filters - 1) // filters, (T + columns - 1) // columns
    copied = ((rows - 1) * stride + overlap) * row
    for unit in range(task * span, min(units, (task + 1) * span)):
        group, block = divmod(unit, blocks)
        image, p0 = group * images, block * rows
        some, n = min(images, N - image), min(rows, P - p0)
        for i in range(some):
            first, count = p0 * stride - top, (n - 1) * stride + overlap
            copy_rows(xs, i * copied, x, image + i, first, count, phases, copy, True)
        at_c = 0
        for k in range(filter_panels):
            for t in range(tap_panels):
                products(
                    some * n, Q // lanes, Q % lanes, xs, 0, taps, t * columns, dy,
                    (image * K * P + p0) * Q, planes, k * filters, places, c, at_c,
                )  # fmt: skip
                at_c += tile_size
    out = parts[task * K * T :]
    for k in range(K):
        p, m = divmod(k, filters)
        for t in range(T):
            q, j = divmod(t, columns)
            out[k * T + t] = c[(p * tap_panels + q) * tile_size + m * columns + j]


@kernel
def _parts_chunk(task, parts, dw):
    """The sum of all parts, in their order."""
    for i in range(dw.size):
        dw[i] = parts[i]
    for o in range(dw.size, parts.size, dw.size):
        part = parts[o : o + dw.size]
        for i in range(dw.size):
            dw[i] += part[i]


@dataclass(frozen=True)
class _Sums:
    """Tables of a weight gradient; the arrays are what the kernel above takes by these names."""

    copy: Copy
    taps: np.ndarray
    planes: np.ndarray
    places: np.ndarray
    sizes: np.ndarray
    tasks: int
    scratch: int  # bytes that a task allocates


def _repeated(offsets: np.ndarray, multiple: int) -> np.ndarray:
    """Offsets of whole panels: the last one fills up what it lacks."""
    return np.pad(offsets, (0, -len(offsets) % multiple), mode="edge")


@lru_cache(maxsize=256)
def _sums(g: Conv2dGeometry, itemsize: int) -> _Sums:
    unit, (stride, _) = known_unit(), g.stride
    lanes, (filters, columns) = unit.lanes(itemsize), PRODUCTS[unit.name]
    copy = copy_of(g, itemsize)
    per_row = blocks_of(g.Q, lanes)
    most = UNIT_BYTES // (copy.row * itemsize) - copy.overlap
    rows = even(g.P, max(1, min(g.P, most // stride + 1, blocks_of(UNIT_VECTORS, per_row))))
    blocks, copied = blocks_of(g.P, rows), copy.rows(rows, stride) * copy.row
    images = 1
    if blocks == 1:
        fitting = min(UNIT_BYTES // (copied * itemsize), UNIT_VECTORS // (rows * per_row))
        images = max(1, min(g.N, fitting))
    units = blocks_of(g.N, images) * blocks
    span = blocks_of(units, TASKS if g.flops >= WORTH_SHARING else 1)
    i, p = np.arange(images)[:, np.newaxis], np.arange(rows)
    places = np.stack([i * copied + p * stride * copy.row, (i * g.K * g.P + p) * g.Q], axis=-1)
    T = len(copy.taps)
    tile_size = lanes * blocks_of(filters * columns, lanes)
    c_size = tile_size * blocks_of(g.K, filters) * blocks_of(T, columns)
    sizes = (
        *(g.N, g.K, g.P, g.Q, stride, g.padding[0], images, rows, blocks, units, span),
        *(copy.overlap, lanes, filters, columns, tile_size, copy.row, T),
        *(images * copied, c_size),
    )
    return _Sums(
        copy, _repeated(copy.taps, columns), _repeated(np.arange(g.K) * (g.P * g.Q), filters),
        places.reshape(-1, 2), np.array(sizes), blocks_of(units, span),
        itemsize * (images * copied + c_size),
    )  # fmt: skip


def conv2d_weight_grad(
    geometry: Conv2dGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> None:
    """dw, written whole, from x (N, C, H, W) and dy (N, K, P, Q)."""
    if not dy.size:
        dw.fill(0)
        return
    s = _sums(geometry, x.itemsize)
    parts = np.empty((s.tasks, dw.size), dw.dtype) if s.tasks > 1 else dw.reshape(1, -1)
    launch(
        _sums_chunk, s.tasks, geometry.flops,
        x.reshape(-1), dy.reshape(-1), parts.reshape(-1),
        s.copy.phases, s.copy.sizes, s.taps, s.planes, s.places, s.sizes,
    )  # fmt: skip
    if s.tasks > 1:
        launch(_parts_chunk, 1, parts.nbytes, parts.reshape(-1), dw.reshape(-1))


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    return small_channel.refusal(operation, g, itemsize)


# Measured as in small_channel.py: FLOP/s of whole tiles, seconds of a tile's sums over its lanes,
# and of the smallest call.
TILE_FLOPS = 170e9
SUMS = 20e-9
CALL = 4.2e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, their lanes added up, x copied."""
    lanes, (filters, columns) = known_unit().lanes(itemsize), PRODUCTS[known_unit().name]
    vectors = g.N * g.P * blocks_of(g.Q, lanes)
    tiles = blocks_of(g.K, filters) * blocks_of(g.C * g.R * g.S, columns)
    seconds = 2 * tiles * filters * columns * vectors * lanes / TILE_FLOPS
    units = blocks_of(vectors, UNIT_VECTORS)
    return CALL + itemsize / 4 * (seconds + small_channel.copying(g)) + units * tiles * SUMS


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: copied rows and sums.

    The tasks' parts of dw are shared by all threads and not counted.
    """
    return _sums(g, itemsize).scratch if g.N else 0
