"""Implicit GEMM in f16 on the tensor cores of sm_75, which have no TF32 and no bf16: "f16" alone.

The kernels are those of f16_gemm.py with half the depth to a product, and with plain copies.
"""

from __future__ import annotations

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.half_gemm import products
from fastcnn.kernels.cuda.tensor_gemm import missing

_PRODUCTS = products(bfloat=False, turing=True)
conv2d = _PRODUCTS.conv2d
conv2d_input_grad = _PRODUCTS.conv2d_input_grad
conv2d_weight_grad = _PRODUCTS.conv2d_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: Conv2dGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision != "f16":
        return f"precision {precision!r} does not round to f16"
    reason = missing((7, 5))
    if reason is None and target.architecture(target.current_device())[:2] >= (8, 0):
        reason = "f16_gemm takes the place from sm_80 on"
    return reason or _PRODUCTS.refusal(operation, g, itemsize)
