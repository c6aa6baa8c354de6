"""Implicit GEMM in plain float32 multiply-adds, for every precision and every GPU.

The kernels are ffma_columns.py and ffma_dots.py; products.py launches them.
"""

from __future__ import annotations

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import ffma_columns, ffma_dots, target
from fastcnn.kernels.cuda.ffma_products import TINY
from fastcnn.kernels.cuda.products import TileProducts


def _kernels(made):
    """Those for a GPU, or the one for the simulator."""
    return {tile: k for tile, k in made.items() if (tile is TINY) == target.simulated()}


# Two thirds of the 67 TFLOP/s of an H100 (docs/cuda.md).
_PRODUCTS = TileProducts(
    _kernels(ffma_columns.PRODUCTS), _kernels(ffma_dots.PRODUCTS), rate=44e12, by_depth=True
)
conv2d = _PRODUCTS.conv2d
conv2d_input_grad = _PRODUCTS.conv2d_input_grad
conv2d_weight_grad = _PRODUCTS.conv2d_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: Conv2dGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    return _PRODUCTS.refusal(operation, g, itemsize)
