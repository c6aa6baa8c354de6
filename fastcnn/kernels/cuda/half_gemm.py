"""Implicit GEMM in halves on tensor cores, with sums in float32: what bf16 and f16 share.

The kernels are half_columns.py and half_dots.py; products.py launches them. Arrays are float32:
images are rounded once, on the way to chunks of eight channels, weights as they are packed.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import half_columns, half_dots, product_tables
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.half_products import CHUNK, THREADS, WORDS, pack_images, pack_weights
from fastcnn.kernels.cuda.product_tables import Chunks, Columns
from fastcnn.kernels.cuda.products import LAUNCH, MEMORY, TileProducts
from fastcnn.kernels.cuda.tiles import FLAT, SMALL, WIDE

# A third of the 990 TFLOP/s of an H100: what its second-level cache can feed (docs/cuda.md).
RATE = 300e12
# GPUs of sm_75 multiply halves eight times as fast as float32 (65 and 8 TFLOP/s on a T4). A third
# of it again, next to the two thirds that `implicit_gemm` states; in the H100's terms of all rates.
TURING_RATE = 4 * 44e12

_CHUNKS = Chunks(CHUNK)


class HalfProducts(TileProducts):
    """Products of halves."""

    @property
    def _type(self) -> dict[str, Any]:
        return {"BFLOAT": self.constants["BFLOAT"]}

    def _read(self, images: DeviceArray, groups: int) -> DeviceArray:
        count, channels, *plane = images.shape
        channels //= groups
        chunks = _CHUNKS.of(channels)
        elements = count * groups * chunks * prod(plane)
        cells = images.empty((WORDS * elements,), np.float32)
        pack_images.of(**self._type).launch(
            images.stream, (ceil(elements / THREADS),), THREADS,
            images, cells, channels, chunks, prod(plane), elements,
        )  # fmt: skip
        return cells

    def _packed(
        self, w: DeviceArray, order: DeviceArray, groups: int, part: Columns,
        row_step: int, group_step: int,
    ) -> DeviceArray:  # fmt: skip
        words = WORDS * part.depth
        elements = groups * part.rows * words
        a = w.empty((elements,), np.float32)
        pack_weights.of(**self._type).launch(
            w.stream, (ceil(elements / THREADS),), THREADS,
            w, a, order, part.rows, words, elements, row_step, group_step,
        )  # fmt: skip
        return a

    def _more(self, g: Conv2dGeometry) -> tuple[int, ...]:
        return (g.R * g.S,)

    def _rounded(self, operation: str, g: Conv2dGeometry) -> int:
        """Halves that are made of images."""
        of_x = g.N * CHUNK * prod(_CHUNKS.inputs(g).input_shape[1:])
        of_dy = g.N * CHUNK * prod(_CHUNKS.outputs(g).output_shape[1:])
        parts = {"conv2d": of_x, "conv2d_input_grad": of_dy}
        return parts.get(operation, of_x + of_dy)

    def refusal(self, operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
        reason = super().refusal(operation, g, itemsize)
        chunked = _CHUNKS.outputs(_CHUNKS.inputs(g))
        whole = replace(g, C=CHUNK * chunked.C, K=CHUNK * chunked.K)
        return reason or product_tables.refusal(whole)

    def cost(self, operation: str, g: Conv2dGeometry, itemsize: int) -> float:
        # Halves are written, and read once more.
        rounding = 4 * self._rounded(operation, g) / MEMORY
        launches = 2 if operation == "conv2d_weight_grad" else 1
        return super().cost(operation, g, itemsize) + rounding + launches * LAUNCH

    def workspace(self, operation: str, g: Conv2dGeometry, itemsize: int) -> int:
        weights = super().workspace(operation, g, itemsize)
        if operation != "conv2d_weight_grad":
            weights *= WORDS  # part.depth counts chunks
        return weights + 2 * self._rounded(operation, g)


def products(bfloat: bool, turing: bool = False) -> HalfProducts:
    """The products in bf16, or in f16; for the tensor cores of sm_75, or of sm_80 and later."""
    constants = {"BFLOAT": bfloat, "TURING": turing}
    # Wide tiles spill registers where copies go through them.
    tiles = (FLAT, SMALL) if turing else (WIDE, FLAT, SMALL)
    columns, dots = ({t: m.PRODUCTS[t] for t in tiles} for m in (half_columns, half_dots))
    rate = TURING_RATE if turing else RATE
    return HalfProducts(columns, dots, rate, chunks=_CHUNKS, constants=constants)
