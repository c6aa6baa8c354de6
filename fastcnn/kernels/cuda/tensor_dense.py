"""The dense layer and its gradients on tensor cores, from sm_80 on: in 3xTF32, and in TF32.

    dense          Y[n, o]  = sum over i of X[n, i] W[o, i] + b[o]     both sides along
    input grad     dX[n, i] = sum over o of dY[n, o] W[o, i]           dY along, W across
    weight grad    dW[o, i] = sum over n of dY[n, o] X[n, i]           both sides across

The kernel is tensor_matrix.py. Nothing is packed: with small batches the weights are most of what
is read, once. This file has the operations in 3xTF32, tf32_dense.py those in TF32.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.product_tables import MOST_ELEMENTS
from fastcnn.kernels.cuda.products import (
    LAUNCH,
    MEMORY,
    MULTIPROCESSORS,
    SPANS_BYTES,
    time_in_waves,
)
from fastcnn.kernels.cuda.tensor_gemm import missing
from fastcnn.kernels.cuda.tensor_matrix import PRODUCTS, THIN, THREADS_ADDING, add_parts
from fastcnn.kernels.cuda.tiles import DEPTH, FLAT, Tile

# Depth that a span sums at the least: eight stages, of which the first two only fill.
SPAN = 128
# Blocks along z are numbered in 16 bits.
MOST_SPANS = 65535

# How A and B lie.
_ALONG = {
    "dense": (True, True),
    "dense_input_grad": (True, False),
    "dense_weight_grad": (False, False),
}


def _sizes(operation: str, g: DenseGeometry) -> tuple[int, int, int]:
    """Rows, columns and depth of the product."""
    sizes = {"dense": (g.N, g.O, g.I), "dense_input_grad": (g.N, g.I, g.O)}
    return sizes.get(operation, (g.O, g.I, g.N))


def _tile(rows: int) -> Tile:
    return THIN if rows <= THIN.rows else FLAT


@dataclass(frozen=True)
class MatrixProducts:
    """One way to multiply: in 3xTF32 or in TF32, at so many FLOP/s of a large GPU."""

    split: bool
    rate: float

    def _spans(self, rows: int, columns: int, depth: int) -> tuple[int, int]:
        """How many spans depth is divided into, and how long they are."""
        tile = _tile(rows)
        blocks = ceil(rows / tile.rows) * ceil(columns / tile.columns)
        # One wave: with small batches it is memory that is waited for.
        wanted = ceil(MULTIPROCESSORS * tile.resident / max(blocks, 1))
        most = min(depth // SPAN, MOST_SPANS, SPANS_BYTES // max(4 * rows * columns, 1))
        span = DEPTH * ceil(depth / max(1, min(wanted, most)) / DEPTH)
        return max(1, ceil(depth / max(span, 1))), span

    def _multiply(
        self,
        operation: str,
        g: DenseGeometry,
        a: DeviceArray,
        b: DeviceArray,
        bias: DeviceArray | None,
        c: DeviceArray,
    ) -> None:
        if not c.size:
            return
        rows, columns, depth = _sizes(operation, g)
        tile = _tile(rows)
        spans, span = self._spans(rows, columns, depth)
        along = _ALONG[operation]
        lines = (depth if along[0] else rows, depth if along[1] else columns)
        quads = all(n % 4 == 0 for n in (*lines, a.pointer // 4, b.pointer // 4))
        step = -1 if bias is None else 0 if bias.shared else 1
        parts = c if spans == 1 else a.empty((spans * c.size,), np.float32)
        down, across = ceil(rows / tile.rows), ceil(columns / tile.columns)
        program = PRODUCTS[tile].of(
            **tile.constants, SPLIT=self.split, ROUNDED=False,
            A_ALONG=along[0], B_ALONG=along[1], QUADS=quads,
        )  # fmt: skip
        program.launch(
            a.stream, (down * across, 1, spans), tile.threads,
            a, b, bias, parts, rows, columns, depth, down, span, step if spans == 1 else -1,
        )  # fmt: skip
        if spans > 1:
            add_parts.of().launch(
                a.stream, (ceil(c.size / THREADS_ADDING),), THREADS_ADDING,
                parts, bias, c, spans, columns, c.size, step,
            )  # fmt: skip

    # The operations.

    def dense(
        self,
        geometry: DenseGeometry,
        x: DeviceArray,
        w: DeviceArray,
        b: DeviceArray | None,
        y: DeviceArray,
    ) -> None:
        """y (N, O), written whole."""
        self._multiply("dense", geometry, x, w, b, y)

    def dense_input_grad(
        self, geometry: DenseGeometry, dy: DeviceArray, w: DeviceArray, dx: DeviceArray
    ) -> None:
        """dx (N, I), written whole."""
        self._multiply("dense_input_grad", geometry, dy, w, None, dx)

    def dense_weight_grad(
        self, geometry: DenseGeometry, x: DeviceArray, dy: DeviceArray, dw: DeviceArray
    ) -> None:
        """dw (O, I), written whole."""
        self._multiply("dense_weight_grad", geometry, dy, x, None, dw)

    # What selection asks.

    def refusal(self, operation: str, g: DenseGeometry, itemsize: int) -> str | None:
        """Why it cannot serve a geometry; None if it can."""
        if itemsize != 4:
            return "it multiplies float32"
        rows, columns, depth = _sizes(operation, g)
        # A tile's last places may lie behind an array's end: offsets that are not read.
        longest = max((rows + 128) * depth, (columns + 128) * depth, (depth + DEPTH) * rows)
        sums = SPANS_BYTES + rows * columns
        if max(longest, (depth + DEPTH) * columns, sums) > MOST_ELEMENTS:
            return "its offsets do not fit into 32 bits"
        return None

    def cost(self, operation: str, g: DenseGeometry, itemsize: int) -> float:
        """Seconds on a large GPU: waves of whole tiles or memory, whichever is longer; launches."""
        rows, columns, depth = _sizes(operation, g)
        spans, span = self._spans(rows, columns, depth)
        cells = time_in_waves(_tile(rows), rows, columns, spans)
        moved = g.bytes(4) + (8 * spans * rows * columns if spans > 1 else 0)
        return max(2 * cells * span / self.rate, moved / MEMORY) + (1 + (spans > 1)) * LAUNCH

    def workspace(self, operation: str, g: DenseGeometry, itemsize: int) -> int:
        """Bytes beside the arrays: the spans' sums."""
        rows, columns, depth = _sizes(operation, g)
        spans, _ = self._spans(rows, columns, depth)
        return 4 * spans * rows * columns if spans > 1 else 0


# What tiles of 64 x 128 are predicted to reach (docs/cuda.md, 3xTF32 dots).
_PRODUCTS = MatrixProducts(split=True, rate=55e12)
dense = _PRODUCTS.dense
dense_input_grad = _PRODUCTS.dense_input_grad
dense_weight_grad = _PRODUCTS.dense_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: DenseGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision == "ieee":
        return 'precision "ieee" takes plain multiply-adds only'
    return missing() or _PRODUCTS.refusal(operation, g, itemsize)
