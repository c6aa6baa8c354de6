"""Softmax along one axis."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from .base import Array, Layer


class Softmax(Layer):
    """s_i = e^{z_i} / sum_j e^{z_j}, with its whole Jacobian (SEEDS.md S2).

    As the last layer of a `Sequential` with the categorical cross-entropy its own gradient is not
    used: see `Sequential.loss_and_gradients`.

    Parameters
    ----------
    axis : int
        The axis along which the outputs sum to 1.
    dtype, backend, name
        As in `Layer`.
    """

    live_settings = ("backend", "axis")

    def __init__(
        self,
        axis: int = -1,
        *,
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, backend=backend, name=name)
        self.axis = axis

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        y = self.ops.softmax(x, self.axis)
        return y, y

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        return self.ops.softmax_grad(dy, kept, self.axis) if input_grad else None
