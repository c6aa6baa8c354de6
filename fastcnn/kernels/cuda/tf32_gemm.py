"""Implicit GEMM on tensor cores in TF32: 10 bits of mantissa, for "tf32", "f16" and "bf16"."""

from __future__ import annotations

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda.tensor_gemm import missing, products

# Half of what mma.sync reaches of an H100's TF32: copies and loads take the other half
# (docs/cuda.md).
_PRODUCTS = products(split=False, rate=150e12)
conv2d = _PRODUCTS.conv2d
conv2d_input_grad = _PRODUCTS.conv2d_input_grad
conv2d_weight_grad = _PRODUCTS.conv2d_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: Conv2dGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision not in ("tf32", "f16", "bf16"):
        return f"precision {precision!r} asks for more than the 10 bits of TF32"
    return missing() or _PRODUCTS.refusal(operation, g, itemsize)
