"""Convolution and its input gradient as products on register tiles (tiled_product.py).

    forward       row = filter, tap = (c, r, s), the grid is Y
    input grad    row = channel, tap = (k, r, s); one product for each residue of dX's rows and
                  columns modulo the stride, with its own grid and taps (portable.py says why)

There is no im2col in memory, nothing is multiplied by an inserted zero, and images are not padded:
padding is zeros that the columns of a tap are filled up with.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.microkernel import padded
from fastcnn.kernels.cpu.packed_weights import pack as put_in_order
from fastcnn.kernels.cpu.planes import MOST_RESIDUES
from fastcnn.kernels.cpu.portable import meeting
from fastcnn.kernels.cpu.product_tables import InTurn, Product, combine, tabulate
from fastcnn.kernels.cpu.tiled_product import LEAST_ROWS, NO_UNIT, run
from fastcnn.kernels.cpu.units import known_unit, vector_unit


def _taps(
    rows: np.ndarray, row_offsets: np.ndarray, cols: np.ndarray, col_offsets: np.ndarray, S: int
) -> np.ndarray:
    """(positions, 3): row offset, column offset and place in the kernel's plane."""
    table = np.empty((len(rows), len(cols), 3), np.int64)
    table[..., 0] = np.reshape(row_offsets, (-1, 1))
    table[..., 1] = col_offsets
    table[..., 2] = rows[:, np.newaxis] * S + cols
    return table.reshape(-1, 3)


def _joined(g: Conv2dGeometry) -> bool:
    """Whether pixels are what they read, so that an image's rows are one."""
    return g.R * g.S == 1 and g.stride == (1, 1) and not any(g.padding)


@lru_cache(maxsize=256)
def _forward(g: Conv2dGeometry, itemsize: int) -> Product:
    (dh, dw), (top, _, left, _) = g.dilation, g.padding
    r, s = np.arange(g.R), np.arange(g.S)
    taps = _taps(r, r * dh - top, s, s * dw - left, g.S)
    channels, rows, plane = g.C // g.groups, g.K // g.groups, g.R * g.S
    source, grid = (g.C, g.H, g.W, *g.stride), (g.P, g.Q)
    if _joined(g):  # fewer pieces
        source, grid = (g.C, 1, g.H * g.W, 1, 1), (1, g.P * g.Q)
    part = tabulate(
        rows, channels, g.groups, taps, (channels * plane, plane, rows * channels * plane),
        source, (g.N, *grid), (g.K, *grid, 0, 0, 1, 1), itemsize, plane,
    )  # fmt: skip
    return combine([part], itemsize)


@lru_cache(maxsize=256)
def _residues(g: Conv2dGeometry, itemsize: int) -> tuple[Product | None, bool]:
    """The product of an input gradient, and whether it leaves out pixels that no tap reaches."""
    (sh, sw), (dh, dw), (top, _, left, _) = g.stride, g.dilation, g.padding
    channels, rows, plane = g.K // g.groups, g.C // g.groups, g.R * g.S
    if _joined(g):
        part = tabulate(
            rows, channels, g.groups, np.zeros((1, 3), np.int64), (1, rows, channels * rows),
            (g.K, 1, g.H * g.W, 1, 1), (g.N, 1, g.H * g.W), (g.C, 1, g.H * g.W, 0, 0, 1, 1),
            itemsize, 1,
        )  # fmt: skip
        return combine([part], itemsize), False
    rows_of = [meeting(g.H, g.R, sh, dh, top, a) for a in range(min(sh, g.H))]
    columns_of = [meeting(g.W, g.S, sw, dw, left, b) for b in range(min(sw, g.W))]
    met = [a for a, (r, _, _) in enumerate(rows_of) if len(r)]
    met_columns = [b for b, (s, _, _) in enumerate(columns_of) if len(s)]
    if not met or not met_columns:
        return None, True
    most = max(len(r) for r, _, _ in rows_of) * max(len(s) for s, _, _ in columns_of)
    # Columns of all residues are stored in turn, and zeros below.
    whole_rows = 1 < sw <= min(g.W, MOST_RESIDUES)
    parts = []
    for a, until in zip(met, [*met[1:], len(rows_of)], strict=True):
        r, row_offsets, grid_h = rows_of[a]
        taps = [_taps(r, row_offsets, columns_of[b][0], columns_of[b][1], g.S) for b in met_columns]
        for i, b in enumerate(met_columns):
            in_turn = None
            if whole_rows:
                together = 0 if i else len(met_columns)
                in_turn = InTurn(together, until - a - 1, np.concatenate(taps))
            parts.append(
                tabulate(
                    rows, channels, g.groups, taps[i],
                    (plane, rows * plane, channels * rows * plane), (g.K, g.P, g.Q, 1, 1),
                    (g.N, grid_h, columns_of[0 if whole_rows else b][2]),
                    (g.C, g.H, g.W, a, b, sh, sw), itemsize, most, in_turn,
                )
            )  # fmt: skip
    gaps = met[0] > 0 if whole_rows else len(parts) < len(rows_of) * len(columns_of)
    return combine(parts, itemsize), gaps


def pack(operation: str, geometry: Conv2dGeometry, w: np.ndarray) -> np.ndarray:
    """w in the order in which `operation`, "conv2d" or "conv2d_input_grad", reads it.

    The result serves every call with this w on this geometry; the number of images may differ.
    """
    g, itemsize = geometry, w.itemsize
    product = _forward(g, itemsize) if operation == "conv2d" else _residues(g, itemsize)[0]
    return np.empty(0, w.dtype) if product is None else put_in_order(product, w)


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: np.ndarray | None = None,
    relu: bool = False,
) -> None:
    """y = conv(x, w) + b, or relu(conv(x, w) + b), written whole; shapes as in
    `fastcnn.functional.conv2d`, batched. `packed` is from `pack`, where that has been kept."""
    if y.size:
        bias = np.empty(0, x.dtype) if b is None else b.reshape(-1)
        product = _forward(geometry, x.itemsize)
        if packed is None:
            packed = put_in_order(product, w, kept=False)
        run(product, x, packed, bias, relu, y)


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: np.ndarray | None = None,
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w: one product per residue modulo the stride.

    `packed` is from `pack`, where that has been kept.
    """
    if dx.size:
        product, gaps = _residues(geometry, dy.itemsize)
        if gaps:
            dx.fill(0)
        if product is not None:
            if packed is None:
                packed = put_in_order(product, w, kept=False)
            run(product, dy, packed, np.empty(0, dy.dtype), False, dx)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    rows = (g.K if operation == "conv2d" else g.C) // g.groups
    if g.groups > 1 and rows < LEAST_ROWS:
        what = "filters" if operation == "conv2d" else "channels"
        return f"{rows} {what} per group fill too little of a register tile: {LEAST_ROWS} needed"
    return None


# Measured on one core of a Zen 5 machine, float32, over 1,170 layers of the suites and random ones,
# of which nine of ten take 0.9 to 1.4 times what they say together: FLOP/s of whole tiles, and
# seconds of a tile beside its multiply-adds; elements copied for B (at strides above MOST_RESIDUES
# gathered; of a single tap in long runs) and of the weights per second; seconds of a row that is
# laid out, of a tap found for a tile of pixels, and where rows are short; of the smallest call and
# of each part; of a pixel that is stored beside others. ROW, CALL and PART were fitted again on
# Zen 4 when recipes had taken Python out of calls (docs/performance.md).
TILE_FLOPS = 235e9
TILE = 51e-9
COPIED, GATHERED, IN_RUNS = 6e9, 1.1e9, 8.4e9
PACKED = 1e9
ROW = 3e-9
TAP, TAP_OF_SHORT_ROWS = 4e-9, 10e-9
CALL = 2.5e-6
PART = 2.2e-6
INTERLEAVED = 1e-9


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, B copied, results stored, weights packed."""
    forward = operation == "conv2d"
    rows = (g.K if forward else g.C) // g.groups
    source, result = g.input_shape, g.output_shape
    width, parts = g.Q, 1
    if not forward:
        source, result = result, source
        (sh, sw), together = g.stride, g.stride[1] <= min(g.W, MOST_RESIDUES)
        width, parts = g.W // sw, min(sh, g.H) * (1 if together else min(sw, g.W))
    narrow, taken = width < known_unit().lanes(itemsize), g.flops / (2 * rows)
    if not forward and g.stride == (1, 1) and g.P and g.Q:
        # dX is larger than dY where there is little padding: its borders are multiplied by zeros,
        # but for rows of them that a whole tile has in common
        taken *= g.W / g.Q * (1 + g.H / g.P) / 2
    weights = prod(g.weight_shape)
    if g.R * g.S == 1:
        weights = 0  # read as they are
    unit, begun = known_unit(), ROW * prod(source[:3])
    if g.R * g.S == 1 and g.stride == (1, 1):
        copied, begun = prod(source) / IN_RUNS, 0.0
    elif narrow and not unit.picks:
        copied = taken / COPIED  # vectors of more than two rows: packed tap by tap
    else:  # into planes, with a halo
        gathered = forward and g.stride[1] > MOST_RESIDUES and not narrow
        copied = min(taken, 2 * prod(source)) / (GATHERED if gathered else COPIED)
    seconds = 2 * padded(rows) * taken / TILE_FLOPS + copied + weights / PACKED
    tiles = prod(result) / max(1, result[1]) / (unit.lanes(itemsize) * unit.vectors)
    if g.R * g.S > 1:
        begun += g.groups * tiles * g.R * g.S * (TAP_OF_SHORT_ROWS if narrow else TAP)
    tiles *= padded(rows) / unit.rows
    if not forward and g.stride != (1, 1):
        begun += INTERLEAVED * g.N * g.H * g.W
    return CALL + parts * PART + begun + g.groups * tiles * TILE + itemsize / 4 * seconds


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: a chunk of B, a block of C, a table of pieces.

    The packed weights, as large as w but for padding, are shared by all threads and not counted.
    """
    if not g.N or not g.C * g.H * g.W:
        return 0
    product = _forward(g, itemsize) if operation == "conv2d" else _residues(g, itemsize)[0]
    return 0 if product is None else product.scratch
