"""The rectifier."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .base import Array, Layer


class ReLU(Layer):
    """0 for x < 0, x for x >= 0; any shape (SEEDS.md S1: A1 = relu(Z1)).

    Parameters
    ----------
    at_zero : float
        The derivative at 0: 1 in the lecture (SEEDS.md S2), 0 in other frameworks.
    dtype, backend, name
        As in `Layer`.
    """

    live_settings = ("backend", "at_zero")

    def __init__(
        self,
        *,
        at_zero: float = 1.0,
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, backend=backend, name=name)
        self.at_zero = at_zero

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        return self.ops.relu(x), x

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        return self.ops.relu_grad(dy, kept, self.at_zero) if input_grad else None
