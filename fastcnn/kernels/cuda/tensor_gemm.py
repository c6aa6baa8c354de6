"""Implicit GEMM on tensor cores, from sm_80 on: in 3xTF32, float32's accuracy, and in TF32.

The kernels are tensor_columns.py and tensor_dots.py; products.py launches them. This file has the
operations in 3xTF32, tf32_gemm.py those in TF32.
"""

from __future__ import annotations

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import target, tensor_columns, tensor_dots
from fastcnn.kernels.cuda.products import TileProducts


def products(split: bool, rate: float) -> TileProducts:
    """The products in 3xTF32, or in TF32."""
    columns, dots = tensor_columns.PRODUCTS, tensor_dots.PRODUCTS
    return TileProducts(columns, dots, rate, rounded=not split, constants={"SPLIT": split})


def missing(least: tuple[int, int] = (8, 0)) -> str | None:
    """Why there are no tensor cores of an architecture at the least; None if there are."""
    if target.simulated():
        return "the simulator runs no inline PTX"
    found = target.architecture(target.current_device())
    if found[:2] < least:
        needed, this = (f"sm_{a[0]}{a[1]}" for a in (least, found))
        return f"it needs the tensor cores of {needed} or later, and this is {this}"
    return None


# Four fifths of the 100 TFLOP/s that mma.sync leaves of an H100 for three products (docs/cuda.md).
_PRODUCTS = products(split=True, rate=80e12)
conv2d = _PRODUCTS.conv2d
conv2d_input_grad = _PRODUCTS.conv2d_input_grad
conv2d_weight_grad = _PRODUCTS.conv2d_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: Conv2dGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision == "ieee":
        return 'precision "ieee" takes plain multiply-adds only'
    return missing() or _PRODUCTS.refusal(operation, g, itemsize)
