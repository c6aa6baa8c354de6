"""The logistic function."""

from __future__ import annotations

from typing import Any

from .base import Array, Layer


class Sigmoid(Layer):
    """1 / (1 + e^-x); any shape (SEEDS.md S1: A2 = sigmoid(Z2), dA2/dZ2 = A2 (1 - A2)).

    As the last layer of a `Sequential` with the binary cross-entropy its own gradient is not
    used: see `Sequential.loss_and_gradients`.

    Parameters
    ----------
    dtype, backend, name
        As in `Layer`.
    """

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        y = self.ops.sigmoid(x)
        return y, y

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        return self.ops.sigmoid_grad(dy, kept) if input_grad else None
