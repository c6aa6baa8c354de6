"""The dense layer and its gradients on tensor cores in TF32, for "tf32", "f16" and "bf16".

Halves would be no faster: float32 weights are read from memory once, whatever they are rounded to.
"""

from __future__ import annotations

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cuda.tensor_dense import MatrixProducts
from fastcnn.kernels.cuda.tensor_gemm import missing

# What tiles of 64 x 128 are predicted to reach (docs/cuda.md, TF32 dots).
_PRODUCTS = MatrixProducts(split=False, rate=75e12)
dense = _PRODUCTS.dense
dense_input_grad = _PRODUCTS.dense_input_grad
dense_weight_grad = _PRODUCTS.dense_weight_grad
cost, workspace = _PRODUCTS.cost, _PRODUCTS.workspace


def refusal(operation: str, g: DenseGeometry, itemsize: int, precision: str) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if precision not in ("tf32", "f16", "bf16"):
        return f"precision {precision!r} asks for more than the 10 bits of TF32"
    return missing() or _PRODUCTS.refusal(operation, g, itemsize)
