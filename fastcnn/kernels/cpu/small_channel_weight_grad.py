"""The weight gradient of few channels: inner products over pixels.

    dw[k, t] = sum over pixels (n, p, q) of dy[k, pixel] * x[t at pixel]        t = (c, r, s)

Vectors run along the rows of dy; a tile holds vectors of partial sums for some filters and taps.
Few taps would not pay for putting pixels into tiles first: x is read from a padded copy of its rows
(small_channel_rows.py), of which a tap is one offset, dy from a copy as it is.

    task: some units of one group, each of several images or some rows of one
        the rows of x that the unit reads, padded
        for each panel of filters: its rows of dy, one behind the other
            for each panel of taps: C += sums over the unit's pixels; some of the next dy fetched

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
from fastcnn.kernels.cpu.pixel_sums import lay_rows, lay_rows_adding
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.small_channel import positions
from fastcnn.kernels.cpu.small_channel_products import PRODUCTS, products
from fastcnn.kernels.cpu.small_channel_rows import (
    Copy,
    Sweep,
    copied_vectors,
    copy_of,
    copy_rows,
    copy_size,
    forward,
)
from fastcnn.kernels.cpu.small_channel_sweep import (
    CYCLE,
    copying,
    forms_of,
    per_image,
)
from fastcnn.kernels.cpu.sums import add_spans, nothing, sums_for
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.vectors import prefetch_to_read
from fastcnn.memory import LINE_BYTES

# Vectors of a unit: those of 4 filters take 16 KB, which the panels of taps read again and again;
# adding up the lanes of a tile takes as long as 6 vectors. 24 and 128 were up to 15 % slower.
UNIT_VECTORS = 64
# Bytes of a unit's copied rows at the most.
UNIT_BYTES = 320 << 10
# Lines of a filter's dy that are fetched before a tile, at the least: of few, the loop around them
# took longer than waiting for them (LeNet's second layer 1.5 times as long).
FETCHED = 8
# Tasks that keep a few threads busy.
TASKS = 8

# Measured as in small_channel_sweep.py, over 540 layers: FLOP/s of whole tiles, elements of dy per
# second; seconds of a tile's sums over its lanes, and of the smallest call; of a unit, of a row of
# dy, of a row of x that is copied (longer where it is taken apart); elements of the tasks' parts of
# dw added up per second.
TILE_FLOPS = 180e9
READ = 12e9
SUMS = 20e-9
CALL = 3.4e-6
UNIT, DY_ROW = 0.2e-6, 1.5e-9
ROW, ROW_APART = 4.8e-9, 6.8e-9
PARTS = 2.2e9


@kernel
def _sums_chunk(
    task, x, dy, parts, dy_sums, columns, residues, copy, taps, planes, places, where, g
):
    """Some units of a group, to their part; the sums of dy too, where there is room for them."""
    N, groups, K, P, Q, stride, top = g[0], g[1], g[2], g[3], g[4], g[5], g[6]
    images, rows, blocks, units, span, overlap = g[7], g[8], g[9], g[10], g[11], g[12]
    lanes, filters, some_taps, tile_size, copied = g[13], g[14], g[15], g[16], g[17]
    joined, spans, T = g[18] > 0, g[19], where.shape[0]
    group, part = divmod(task, spans)
    xs = np.empty(images * copied, x.dtype)
    pitch, area = g[21], g[22]
    scratch = np.empty(min(K, filters) * pitch + lanes, x.dtype)
    ds = scratch[-(scratch.ctypes.data // scratch.itemsize) % lanes :]
    c = np.zeros(g[20], x.dtype)
    filter_panels, tap_panels = (K + filters - 1) // filters, (T + some_taps - 1) // some_taps
    first_total = (part * groups + group) * K
    if dy_sums.size > 0:
        dy_sums[first_total : first_total + K] = 0
    line = LINE_BYTES // x.itemsize
    piece = line * max(FETCHED, (rows * Q - 1) // (tap_panels * line) + 1)
    for unit in range(part * span, min(units, (part + 1) * span)):
        batch, block = divmod(unit, blocks)
        image, p0 = batch * images, block * rows
        some, n = min(images, N - image), min(rows, P - p0)
        for i in range(some):
            first, count = p0 * stride - top, (n - 1) * stride + overlap
            copy_rows(
                xs, i * copied, x, (image + i) * groups + group, first, count, columns, residues,
                copy,
            )  # fmt: skip
        runs, length = (some, n * Q) if joined else (some * n, Q)
        at_c = 0
        for k in range(filter_panels):
            # dy is copied as well: the tiles then read it neither beyond L1 nor across lines
            panel = min(filters, K - k * filters)
            for i in range(some):
                plane = ((image + i) * groups + group) * K + k * filters
                first = plane * P * Q + p0 * Q
                if dy_sums.size > 0:
                    lay_rows_adding(
                        panel, n * Q, dy, first, P * Q, ds, i * area, pitch, dy_sums,
                        first_total + k * filters,
                    )  # fmt: skip
                else:
                    lay_rows(panel, n * Q, dy, first, P * Q, ds, i * area, pitch)
            # while it is multiplied, the panel that comes next is fetched
            later, ahead = divmod(unit * filter_panels + k + 1, filter_panels)
            later, begin = divmod(later, blocks)
            following = (later * images * groups + group) * K + ahead * filters
            for t in range(tap_panels):
                for j in range(t * piece, min(rows * Q, (t + 1) * piece), line):
                    for i in range(some):
                        for m in range(panel):
                            plane = following + i * groups * K + m
                            prefetch_to_read(dy, plane * P * Q + begin * rows * Q + j, 1)
                products(
                    runs, length // lanes, length % lanes, xs, 0, taps, t * some_taps, ds, 0,
                    planes, k * filters, places, c, at_c,
                )  # fmt: skip
                at_c += tile_size
    out = parts[(part * groups + group) * K * T :]
    for k in range(K):
        p, m = divmod(k, filters)
        for t in range(T):
            q, j = divmod(t, some_taps)
            out[k * T + where[t]] = c[(p * tap_panels + q) * tile_size + m * some_taps + j]


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
    where: np.ndarray
    sizes: np.ndarray
    tasks: int
    spans: int
    scratch: int  # bytes that a task allocates


def _repeated(offsets: np.ndarray, multiple: int) -> np.ndarray:
    """Offsets of whole panels: the last one fills up what it lacks."""
    return np.pad(offsets, (0, -len(offsets) % multiple), mode="edge")


def _unit(sweep: Sweep, itemsize: int) -> tuple[bool, int, int]:
    """Form of the copy, rows and images of a unit."""
    lanes = known_unit().lanes(itemsize)
    found = []
    for joined in forms_of(sweep, lanes):
        rows = sweep.P * UNIT_VECTORS // max(UNIT_VECTORS, per_image(sweep, sweep.P, lanes, joined))
        rows = even(sweep.P, max(1, rows))
        while rows > 1 and copy_size(sweep, rows, lanes, joined) * itemsize > UNIT_BYTES:
            rows = even(sweep.P, rows - 1)
        images, vectors = 1, per_image(sweep, rows, lanes, joined)
        if rows == sweep.P:
            fitting = UNIT_BYTES // (copy_size(sweep, rows, lanes, joined) * itemsize)
            images = max(1, min(sweep.N, fitting, UNIT_VECTORS // vectors))
        seconds = _unit_seconds(sweep, rows, images, itemsize, joined) / (rows * images)
        found.append((seconds, joined, rows, images))
    return min(found)[1:]


def _unit_seconds(sweep: Sweep, rows: int, images: int, itemsize: int, joined: bool) -> float:
    """Seconds of a unit: whole tiles multiplied, their lanes added up, x copied."""
    lanes, (filters, some_taps) = known_unit().lanes(itemsize), PRODUCTS[known_unit().name]
    tiles = blocks_of(sweep.K, filters) * blocks_of(sweep.C * sweep.R * sweep.S, some_taps)
    vectors = images * per_image(sweep, rows, lanes, joined)
    seconds = 2 * tiles * filters * some_taps * vectors * lanes / TILE_FLOPS * itemsize / 4
    seconds += itemsize / 4 * images * rows * sweep.Q * sweep.K / READ
    copied = images * copied_vectors(sweep, rows, lanes, joined) * copying(sweep)
    return seconds + copied * CYCLE + tiles * SUMS


@lru_cache(maxsize=256)
def _sums(g: Conv2dGeometry, itemsize: int) -> _Sums:
    unit, sweep = known_unit(), forward(g)
    lanes, (filters, some_taps) = unit.lanes(itemsize), PRODUCTS[unit.name]
    joined, rows, images = _unit(sweep, itemsize)
    copy = copy_of(sweep, rows, itemsize, joined)
    blocks = blocks_of(g.P, rows)
    units = blocks_of(g.N, images) * blocks
    tasks = blocks_of(TASKS, g.groups) if g.flops >= WORTH_SHARING else 1
    span = blocks_of(units, tasks)
    spans = blocks_of(units, span)
    # dy's copy begins with a whole vector for each image; filters an odd number of them apart
    area = lanes * blocks_of(rows * g.Q, lanes)
    pitch = lanes * (images * area // lanes | 1)
    steps = np.arange(images)[:, np.newaxis, np.newaxis] * np.array((copy.size, area))
    row = np.arange(1 if joined else rows)[:, np.newaxis] * np.array((copy.pitch, g.Q))
    T, K = len(copy.taps), sweep.K
    where = (np.arange(sweep.C)[:, np.newaxis] * (g.R * g.S) + positions(g.R, g.S)).reshape(-1)
    tile_size = lanes * blocks_of(filters * some_taps, lanes)
    c_size = tile_size * blocks_of(K, filters) * blocks_of(T, some_taps)
    sizes = (
        *(g.N, g.groups, K, g.P, g.Q, g.stride[0], g.padding[0], images, rows, blocks, units),
        *(span, sweep.overlap, lanes, filters, some_taps, tile_size, copy.size, int(joined)),
        *(spans, c_size, pitch, area),
    )
    return _Sums(
        copy, _repeated(copy.taps, some_taps), _repeated(np.arange(K) % filters * pitch, filters),
        (row + steps).reshape(-1, 2), where[copy.order], np.array(sizes), g.groups * spans, spans,
        itemsize * (images * copy.size + c_size + min(K, filters) * pitch + lanes),
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
        x.reshape(-1), dy.reshape(-1), parts.reshape(-1), sums,
        s.copy.columns, s.copy.residues, s.copy.sizes, s.taps, s.planes, s.places, s.where, s.sizes,
    )  # fmt: skip
    if s.spans > 1:
        launch(_parts_chunk, 1, parts.nbytes, parts.reshape(-1), dw.reshape(-1))
    add_spans(s.spans, sums, db)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    return small_channel.refusal(operation, g, itemsize)


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, their lanes added up, x copied."""
    if not g.N:
        return CALL
    sweep = forward(g)
    joined, rows, images = _unit(sweep, itemsize)
    units = g.groups * g.N * g.P / (rows * images)
    seconds = units * _unit_seconds(sweep, rows, images, itemsize, joined)
    copied = sweep.C * ((rows - 1) * g.stride[0] + sweep.overlap)
    row = ROW if g.stride == (1, 1) else ROW_APART
    begun = UNIT + images * (copied * row + sweep.K * (1 if joined else rows) * DY_ROW)
    parts = (TASKS if g.flops >= WORTH_SHARING else 1) * g.K * sweep.C * g.R * g.S
    return CALL + seconds + units * begun + parts / PARTS


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: copied rows and sums.

    The tasks' parts of dw are shared by all threads and not counted.
    """
    return _sums(g, itemsize).scratch if g.N else 0
