"""The rectifier."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .base import Array, Layer

_LEFT_TO_POOLING = "the pooling layer has the gradient of both"


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

    def leave_to_pooling(self, training: bool = True) -> None:
        """Be passed over: `MaxPool2D.forward_rectified` comes next, and does this layer's part.

        It has done it backward too when the gradient arrives here.
        """
        self.forget()
        if training:
            self._kept = _LEFT_TO_POOLING

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        if not input_grad:
            return None
        return dy if kept is _LEFT_TO_POOLING else self.ops.relu_grad(dy, kept, self.at_zero)
