"""The hyperbolic tangent."""

from __future__ import annotations

from typing import Any

from .base import Array, Layer


class Tanh(Layer):
    """Hyperbolic tangent; any shape (SEEDS.md S2: f' = 1 - tanh^2).

    Parameters
    ----------
    dtype, backend, name
        As in `Layer`.
    """

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        y = self.ops.tanh(x)
        return y, y

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        return self.ops.tanh_grad(dy, kept) if input_grad else None
