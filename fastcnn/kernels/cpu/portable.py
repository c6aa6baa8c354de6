"""Convolution for every geometry, as products over columns (column_products.py).

All three operations see the convolution as a matrix product over columns (columns.py): for a block
of output pixels, row t holds the source element that tap t multiplies for each of them.

    forward       Y[k, pixel]  = b[k] + sum_t W[k, t] * columns[t, pixel]          t = (c, r, s)
    input grad    dX[c, pixel] = sum_t W'[c, t] * columns of dY[t, pixel]          t = (k, r, s)
    weight grad   dW[k, t]     = sum over pixels of dY[k, pixel] * columns[t, pixel]

The input gradient is the forward product with another table of offsets (SEEDS.md S2, "full"
convolution with the rotated kernel): along each axis dY's element p and tap r meet in
h = p*stride - padding + r*dilation, so p = (h + padding - r*dilation)/stride. The pixels h of one
residue modulo the stride use the same taps, those that make the division exact; they form a dense
stride-1 problem of their own, so nothing is multiplied by an inserted zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.column_products import DEPTH, UNROLL, product_chunk, weight_grad_chunk
from fastcnn.kernels.cpu.columns import BLOCK, tap_table
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.weight_rows import Rows, tabulate, weight_rows

# Taps that one task of the weight gradient owns at the most.
MAX_TAPS = 64


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _depth(taps: int) -> int:
    """Taps, padded with zero weights to whole steps of the products; at least one step."""
    return max(UNROLL, _round_up(taps, UNROLL))


@lru_cache(maxsize=256)
def _forward_tables(g: Conv2dGeometry) -> tuple[Rows, np.ndarray, np.ndarray]:
    """Rows of weights, tap table, and the numbers that `product_chunk` takes."""
    (sh, sw), (dh, dw), (top, _, left, _) = g.stride, g.dilation, g.padding
    channels, filters, plane = g.C // g.groups, g.K // g.groups, g.R * g.S
    taps = tap_table(channels, np.arange(g.R) * dh - top, np.arange(g.S) * dw - left)
    depth = _depth(len(taps))
    steps = (filters * channels * plane, channels * plane, plane)
    rows = tabulate(g.groups, filters, channels, np.arange(plane), depth, steps)
    source, sizes = (g.C, g.H, g.W, sh, sw), (g.groups, filters, len(taps), depth)
    return rows, taps, np.array((*source, *sizes, g.P, g.Q, g.P, g.Q, 0, 0, 1, 1))


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
    g = geometry
    rows, taps, shape = _forward_tables(g)
    bias = np.empty(0, x.dtype) if b is None else b.reshape(-1)
    launch(
        product_chunk, g.N * g.groups * -(-g.P * g.Q // BLOCK), g.flops,
        x.reshape(-1), weight_rows(w, rows), taps, bias, relu, y.reshape(-1), shape,
    )  # fmt: skip


@dataclass(frozen=True)
class _Residue:
    """The pixels of dX whose row and column have one residue modulo the stride.

    Along each axis dY's element p and tap r meet in h = p*stride - padding + r*dilation.
    """

    rows: Rows  # weights of the taps that reach these pixels
    taps: np.ndarray  # the table of those taps over dY
    shape: np.ndarray  # the numbers that `product_chunk` takes
    blocks: int


def meeting(
    size: int, r: int, stride: int, dilation: int, before: int, residue: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Taps that reach the pixels of one residue along one axis, and where they read dY.

    Returns the taps r; for each the offset of p from the pixel's number within its residue; and
    how many pixels there are.
    """
    taps = np.arange(r)
    shift = residue + before - taps * dilation
    divides = shift % stride == 0
    return taps[divides], shift[divides] // stride, len(range(residue, size, stride))


@lru_cache(maxsize=256)
def _residues(g: Conv2dGeometry) -> list[_Residue]:
    (sh, sw), (dh, dw), (top, _, left, _) = g.stride, g.dilation, g.padding
    channels, filters, plane = g.C // g.groups, g.K // g.groups, g.R * g.S
    steps = (filters * channels * plane, plane, channels * plane)
    found = []
    for a in range(min(sh, g.H)):
        r, row_offsets, gh = meeting(g.H, g.R, sh, dh, top, a)
        for b in range(min(sw, g.W)):
            s, col_offsets, gw = meeting(g.W, g.S, sw, dw, left, b)
            taps = tap_table(filters, row_offsets, col_offsets)
            places, depth = (r[:, np.newaxis] * g.S + s).reshape(-1), _depth(len(taps))
            rows = tabulate(g.groups, channels, filters, places, depth, steps)
            sizes = (g.groups, channels, len(taps), depth)
            shape = np.array((g.K, g.P, g.Q, 1, 1, *sizes, gh, gw, g.H, g.W, a, b, sh, sw))
            found.append(_Residue(rows, taps, shape, -(-gh * gw // BLOCK)))
    return found


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: None = None,
) -> None:
    """dx, written whole, from dy (N, K, P, Q) and w: one product per residue modulo the stride.

    `packed` as in `conv2d`.
    """
    g = geometry
    none = np.empty(0, dy.dtype)
    for residue in _residues(g):
        launch(
            product_chunk, g.N * g.groups * residue.blocks, g.flops // (g.stride[0] * g.stride[1]),
            dy.reshape(-1), weight_rows(w, residue.rows), residue.taps, none, False,
            dx.reshape(-1), residue.shape,
        )  # fmt: skip


def _tap_block(taps: int) -> int:
    """Taps of one task of the weight gradient."""
    return min(taps, MAX_TAPS, max(UNROLL, _round_up(-(-taps // 16), UNROLL)))


@lru_cache(maxsize=256)
def _weight_grad_tables(g: Conv2dGeometry) -> tuple[int, np.ndarray, np.ndarray]:
    """Number of tasks, tap table, and the numbers that `weight_grad_chunk` takes.

    About 16 tasks or more keep a few threads evenly busy; a task of up to 64 taps reads each row
    of dY often enough. Few taps (first layers) are made up for by splitting the filters.
    """
    (sh, sw), (dh, dw), (top, _, left, _) = g.stride, g.dilation, g.padding
    taps = tap_table(g.C // g.groups, np.arange(g.R) * dh - top, np.arange(g.S) * dw - left)
    T, filters = len(taps), g.K // g.groups
    tap_block = _tap_block(T)
    tap_blocks = -(-T // tap_block)
    slices = max(1, min(filters // UNROLL, 16 // (tap_blocks * g.groups)))
    filter_block = _round_up(-(-filters // slices), UNROLL)
    tasks = g.groups * tap_blocks * -(-filters // filter_block)
    shape = (g.N, g.C, g.H, g.W, g.P, g.Q, sh, sw, g.groups, filters, T, tap_block, filter_block)
    return tasks, taps, np.array(shape)


def conv2d_weight_grad(
    geometry: Conv2dGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> None:
    """dw, written whole; every element is summed by one task over images and pixels in order."""
    tasks, taps, shape = _weight_grad_tables(geometry)
    launch(
        weight_grad_chunk, tasks, geometry.flops,
        x.reshape(-1), dy.reshape(-1), taps, dw.reshape(-1), shape,
    )  # fmt: skip


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes of columns and accumulators that one thread allocates at the most."""
    if operation == "conv2d_weight_grad":
        return itemsize * BLOCK * _tap_block(g.C // g.groups * g.R * g.S)
    channels = g.K if operation == "conv2d_input_grad" else g.C
    rows = min(DEPTH, _depth(channels // g.groups * g.R * g.S))
    return itemsize * BLOCK * (rows + UNROLL)
