"""How gemm_weight_grad.py cuts its work, in the tables that its kernel reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.pixel_sums import line, most_pixels
from fastcnn.kernels.cpu.product_tables import blocks_of, even, panels_of
from fastcnn.kernels.cpu.units import known_unit

# Filters of a task at the most: X is turned anew for each block of them, and a 1x1 kernel does
# least with it. Half as many: 256x28x28 k3 s2 10.1 ms, not 9.7; 256->512 k1 s2 11.5, not 10.6.
# Bytes of C, which stay in L2 with the task's A and X.
ROWS, ROWS_OF_ONE = 256, 512
C_BYTES = 320 * 1024
# Tasks that keep a few threads evenly busy; half as many do where parts would have fewer pixels
# than so many, for a part is stored, read and added up: 832->256x7x7 k1 with parts of 196 pixels
# took 2.0 ms on one thread, 1.8 without, on two 1.07 and 0.92 (1.55 and 1.1 where cores share no
# cache).
FEW_TASKS = 8
PART_PIXELS = 1024

# What the kernel knows of a product: whole numbers by these names.
FIELDS = (
    # sizes: rows and channels of a group, channels of the two sources, taps, the pixels' grid
    "rows", "channels", "near_channels", "far_channels", "positions", "images", "grid_h", "grid_w",
    # the turned source, and where its planes begin
    "H", "W", "sh", "sw", "row", "col", "corners", "pitch", "extra_rows", "extra_cols", "plane",
    # how it is cut: pixels of a block, blocks of a task; panels, vectors of channels, taps
    "segment", "segments", "some_rows", "blocks", "span", "spans",
    "some_panels", "vectors_of_channels", "some_channels", "some_positions",
    "lanes", "vectors", "tall", "line", "flipped",
    # elements of scratch memory
    "a", "b", "c",
)  # fmt: skip
_TABLE = np.dtype([(name, np.int64) for name in FIELDS])


@dataclass(frozen=True)
class Tables:
    """Tables of a weight gradient; the arrays are what the kernel takes by these names."""

    taps: np.ndarray  # (positions, 2): offset in the planes; row offset in the source
    corners: np.ndarray
    panels: np.ndarray
    table: np.ndarray
    tasks: int
    spans: int
    flipped: bool
    scratch: int  # bytes that a task allocates


def _joined(g: Conv2dGeometry) -> bool:
    """Whether pixels are what they read, so that an image's rows are one."""
    return g.R * g.S == 1 and g.stride == (1, 1) and not any(g.padding)


@lru_cache(maxsize=256)
def tabulate(g: Conv2dGeometry, itemsize: int) -> Tables:
    """Cut blocks of pixels that stay in L1 and L2, and tasks enough for a few threads."""
    unit = known_unit()
    lanes, pixels = unit.lanes(itemsize), most_pixels(itemsize)
    (dh, dw), (top, _, left, _), (sh, sw) = g.dilation, g.padding, g.stride
    r, s = np.meshgrid(np.arange(g.R) * dh - top, np.arange(g.S) * dw - left, indexing="ij")
    rows, cols = r.ravel(), s.ravel()
    H, W, grid_h, grid_w = g.H, g.W, g.P, g.Q
    if _joined(g):
        H, W, grid_h, grid_w = 1, g.H * g.W, 1, g.P * g.Q
    near, far = g.K // g.groups, g.C // g.groups
    flipped = _joined(g) and near < far
    if flipped:
        near, far = far, near
    row, col = int(rows.min()), int(cols.min())
    (row_shift, a), (col_shift, b) = np.divmod(rows - row, sh), np.divmod(cols - col, sw)
    corners, plane_of = np.unique(np.stack([a, b], axis=1), axis=0, return_inverse=True)
    extra_rows, extra_cols = int(row_shift.max()), int(col_shift.max())
    segment = even(grid_w, pixels)
    some_rows = even(g.N * grid_h, max(1, pixels // segment))
    several = min(g.N, 1 + blocks_of(some_rows - 1, grid_h))
    pitch = segment + extra_cols
    plane = (some_rows + several * extra_rows) * pitch * lanes
    offsets = plane_of.reshape(-1) * plane + (row_shift * pitch + col_shift) * lanes

    positions, vectors_of_channels = len(rows), blocks_of(far, lanes)
    panels = panels_of(near, unit)
    heights = panels[:, 2]
    most_rows = ROWS if positions > 1 else ROWS_OF_ONE
    some_panels = even(len(panels), max(1, most_rows // unit.rows))
    of_rows = int(heights[:some_panels].sum())
    most = max(unit.vectors, C_BYTES // (of_rows * unit.bytes))
    some_positions = even(positions, most)
    some_channels = even(vectors_of_channels, max(1, most // some_positions))
    others = g.groups * blocks_of(len(panels), some_panels) * blocks_of(positions, some_positions)
    of_channels = blocks_of(vectors_of_channels, some_channels)
    if others % 2 and of_channels % 2 and others * of_channels > 1:  # 9 tasks are 5 on one of two
        some_channels = even(vectors_of_channels, blocks_of(vectors_of_channels, of_channels + 1))
    tasks = others * blocks_of(vectors_of_channels, some_channels)
    segments = blocks_of(grid_w, segment)
    blocks = segments * blocks_of(g.N * grid_h, some_rows)
    span = blocks_of(blocks, blocks_of(FEW_TASKS, tasks))
    if span * segment * some_rows < PART_PIXELS:
        span = blocks_of(blocks, blocks_of(FEW_TASKS // 2, tasks))
    spans = blocks_of(blocks, span)
    whole = unit.vectors * blocks_of(some_channels * some_positions, unit.vectors)
    numbers = {
        "rows": near, "channels": far, "near_channels": g.groups * near,
        "far_channels": g.groups * far, "positions": positions, "images": g.N,
        "grid_h": grid_h, "grid_w": grid_w, "H": H, "W": W, "sh": sh, "sw": sw,
        "row": row, "col": col, "corners": len(corners), "pitch": pitch,
        "extra_rows": extra_rows, "extra_cols": extra_cols, "plane": plane,
        "segment": segment, "segments": segments, "some_rows": some_rows, "blocks": blocks,
        "span": span, "spans": spans, "some_panels": some_panels,
        "vectors_of_channels": vectors_of_channels, "some_channels": some_channels,
        "some_positions": some_positions, "lanes": lanes, "vectors": unit.vectors,
        "tall": unit.rows, "line": line(unit, itemsize), "flipped": flipped,
        "a": of_rows * line(unit, itemsize),
        # turned squares are written whole: one more behind the last row
        "b": some_channels * len(corners) * plane + lanes * lanes,
        "c": whole * (of_rows | 1) * lanes,
    }  # fmt: skip
    table = np.zeros(1, _TABLE)
    for name, number in numbers.items():
        table[name] = number
    scratch = (numbers["a"] + numbers["b"] + numbers["c"]) * itemsize
    return Tables(
        np.stack([offsets, rows], axis=1), corners, panels, table, tasks * spans, spans, flipped,
        scratch + 8 * (some_rows + 2 * whole),
    )  # fmt: skip
