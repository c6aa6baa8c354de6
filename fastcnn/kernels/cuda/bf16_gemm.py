"""Implicit GEMM on tensor cores in bf16: 7 bits of mantissa and float32's range."""

from __future__ import annotations

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda.half_gemm import products
from fastcnn.kernels.cuda.tensor_gemm import missing

_PRODUCTS = products(bfloat=True)
conv2d = _PRODUCTS.conv2d
conv2d_input_grad = _PRODUCTS.conv2d_input_grad
conv2d_weight_grad = _PRODUCTS.conv2d_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: Conv2dGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision != "bf16":
        return f"precision {precision!r} does not round to bf16"
    return missing() or _PRODUCTS.refusal(operation, g, itemsize)
