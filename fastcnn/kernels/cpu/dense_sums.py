"""The dense layer's gradients on register tiles of sums of rows.

    input grad     dX[n] = sum over o of dY[n, o] * W[o]
    weight grad    dW[o] = sum over n of dY[n, o] * X[n]

Both are C[m] = sum over k of A[k, m] B[k] with rows of B and C that are contiguous. A, the smaller
factor, is packed; B is read where it is:

    task: some panels of rows, some tiles of columns
        for each block of tiles
            for each chunk of terms
                the tile that would end beyond B's row, copied
                for each panel of rows                            A's chunk stays in L1
                    for each tile of the block                    B's chunk stays in L2
                        C[panel, tile] += A[panel, chunk] B[chunk, tile]

Every element is added up by one task in the order of k. How the work is cut depends on the geometry
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import put, turn
from fastcnn.kernels.cpu.microkernel import IN_ORDER, padded, short_product, tall_product
from fastcnn.kernels.cpu.product_tables import FEW_TASKS, blocks_of, even, panels_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

# Terms of a chunk: a panel of A takes 14 KB of L1.
DEPTH = 256
# Bytes of B from which on it comes from memory, and rows of C that do not make up for that: then
# chunks of 16 rows of B, which processors fetch ahead, were a fifth faster than longer ones.
# Fetching by instruction, further along the row or in the next chunk, gained nothing.
FLOWING_BYTES = 16 << 20
FEW_ROWS = 32
FLOWING_DEPTH = 16
# A chunk of a block of B's tiles, which every panel of rows reads again from L2.
BLOCK_BYTES = 256 << 10


@kernel
def _pack_chunk(p, a, packed, panels, terms, row_step, term_step, lanes):
    """A panel of A: packed[term][row]; a's element (row, term) is a[row*row_step + term*term_step],
    and one of the steps is 1."""
    row, valid, height, before = panels[p, 0], panels[p, 1], panels[p, 2], panels[p, 3]
    start = before * terms
    if valid < height:
        for i in range(start, start + height * terms):
            packed[i] = a.dtype.type(0)
    places = np.empty(lanes, np.int64)
    for j in range(lanes):
        places[j] = j * height
    for m in range(0, valid, lanes):
        rows = min(lanes, valid - m)
        if row_step == 1:
            put(terms, a, row + m, term_step, packed, start + m, height, 1, 0, rows)
        else:
            for k in range(0, terms, lanes):
                turn(
                    rows, min(lanes, terms - k), a, (row + m) * row_step + k, row_step, packed,
                    start + k * height + m, places, 0,
                )  # fmt: skip


@kernel
def _sums_chunk(task, packed, b, out, panels, runs, no_offset, sizes):
    """Some panels of rows and some tiles of columns."""
    terms, width, columns, tall = sizes[0], sizes[1], sizes[2], sizes[3]
    panel_blocks, tile_blocks, block, chunk = sizes[4], sizes[5], sizes[6], sizes[7]
    panel_block, tile_block = divmod(task, tile_blocks)
    p0 = panel_block * panels.shape[0] // panel_blocks
    p1 = (panel_block + 1) * panels.shape[0] // panel_blocks
    tiles = (width + columns - 1) // columns
    t0, t1 = tile_block * tiles // tile_blocks, (tile_block + 1) * tiles // tile_blocks
    copied = np.empty(chunk * columns, b.dtype)
    c = np.empty(tall * columns, b.dtype)
    for first in range(t0, t1, block):
        last = min(t1, first + block)
        for k0 in range(0, terms, chunk):
            depth = min(chunk, terms - k0)
            rest = width - (last - 1) * columns
            if rest < columns:
                j = (last - 1) * columns
                for k in range(depth):
                    for i in range(rest):
                        copied[k * columns + i] = b[(k0 + k) * width + j + i]
                    for i in range(rest, columns):
                        copied[k * columns + i] = b.dtype.type(0)
            for p in range(p0, p1):
                row, valid, height = panels[p, 0], panels[p, 1], panels[p, 2]
                at_a = panels[p, 3] * terms + k0 * height
                for tile in range(first, last):
                    j = tile * columns
                    n = min(columns, width - j)
                    whole = n == columns
                    at_b, step = k0 * width + j, width
                    if not whole:
                        at_b, step = 0, columns
                    direct = whole and valid == height
                    at_c, c_step = row * width + j, width
                    if not direct:
                        at_c, c_step = 0, columns
                        if k0 > 0:
                            for m in range(valid):
                                for i in range(n):
                                    c[m * columns + i] = out[(row + m) * width + j + i]
                    if height == tall:
                        tall_product(
                            1, depth, packed, at_a, copied, b, whole, at_b, no_offset, 0,
                            runs, 0, step, 0, c, out, direct, at_c, c_step, k0 > 0, packed, 0, 0,
                        )  # fmt: skip
                    else:
                        short_product(
                            1, depth, packed, at_a, copied, b, whole, at_b, no_offset, 0,
                            runs, 0, step, 0, c, out, direct, at_c, c_step, k0 > 0, packed, 0, 0,
                        )  # fmt: skip
                    if not direct:
                        for m in range(valid):
                            for i in range(n):
                                out[(row + m) * width + j + i] = c[m * columns + i]


@dataclass(frozen=True)
class _Sums:
    """Tables of a product; the arrays are what the kernels above take by these names."""

    panels: np.ndarray
    runs: np.ndarray
    sizes: np.ndarray
    tasks: int
    packed: int  # elements of A
    lanes: int
    scratch: int  # bytes that a task allocates


_NO_OFFSET = np.zeros(1, np.int64)


@lru_cache(maxsize=256)
def _sums(rows: int, terms: int, width: int, itemsize: int) -> _Sums:
    """C (rows, width) = A (rows, terms) B (terms, width)."""
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    columns = lanes * unit.vectors
    panels = panels_of(rows, unit)
    starts = lanes * np.arange(unit.vectors)
    runs = np.array([(start, start, lanes, *IN_ORDER) for start in starts])
    tiles = blocks_of(width, columns)
    tile_blocks = min(tiles, FEW_TASKS)
    panel_blocks = min(len(panels), blocks_of(FEW_TASKS, tile_blocks))
    flows = terms * width * itemsize > FLOWING_BYTES and rows <= FEW_ROWS
    chunk = even(terms, FLOWING_DEPTH if flows else DEPTH)
    block = max(1, BLOCK_BYTES // (chunk * columns * itemsize))
    sizes = (
        terms, width, columns, unit.rows, panel_blocks, tile_blocks, block, chunk,
    )  # fmt: skip
    return _Sums(
        panels, runs.reshape(-1), np.array(sizes), tile_blocks * panel_blocks,
        int(panels[:, 2].sum()) * terms, lanes, itemsize * columns * (chunk + unit.rows),
    )  # fmt: skip


def _multiply(
    a: np.ndarray,
    b: np.ndarray,
    out: np.ndarray,
    sums: _Sums,
    terms: int,
    steps: tuple[int, int],
    flops: int,
) -> None:
    """Two launches; steps are those of a row and a term in a."""
    s = sums
    packed = np.empty(s.packed, a.dtype)
    launch(
        _pack_chunk, len(s.panels), a.nbytes,
        a.reshape(-1), packed, s.panels, terms, *steps, s.lanes,
    )  # fmt: skip
    launch(
        _sums_chunk, s.tasks, flops,
        packed, b.reshape(-1), out.reshape(-1), s.panels, s.runs, _NO_OFFSET, s.sizes,
    )  # fmt: skip


def dense_input_grad(
    geometry: DenseGeometry, dy: np.ndarray, w: np.ndarray, dx: np.ndarray
) -> None:
    """dx = dy w, written whole; (N, O) by (O, I) to (N, I)."""
    g = geometry
    _multiply(dy, w, dx, _sums(g.N, g.O, g.I, dy.itemsize), g.O, (g.O, 1), g.flops)


def dense_weight_grad(
    geometry: DenseGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> None:
    """dw = dy^T x, written whole; (N, O) by (N, I) to (O, I)."""
    g = geometry
    _multiply(dy, x, dw, _sums(g.O, g.N, g.I, dy.itemsize), g.N, (1, g.O), g.flops)


def refusal(operation: str, g: DenseGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    return None if g.flops else "nothing to multiply"


# Measured on a Zen 5 core in float32: FLOP/s of whole tiles, bytes per second, seconds of the
# smallest call.
TILE_FLOPS = 200e9
BYTES = 25e9
CALL = 6e-6


def cost(operation: str, g: DenseGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, everything fetched and written."""
    rows, terms = (g.N, g.O) if operation == "dense_input_grad" else (g.O, g.N)
    flops = 2 * padded(rows) * terms * g.I
    return CALL + itemsize / 4 * flops / TILE_FLOPS + g.bytes(itemsize) / BYTES


def workspace(operation: str, g: DenseGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: a tile of B, one of C.

    Packed A, which all threads share, is not counted.
    """
    rows, terms = (g.N, g.O) if operation == "dense_input_grad" else (g.O, g.N)
    return _sums(rows, terms, g.I, itemsize).scratch
