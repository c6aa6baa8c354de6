"""Every image as one row."""

from __future__ import annotations

from typing import Any

from fastcnn.functional.devices import reshaped

from .base import Array, Layer, Shape, features


class Flatten(Layer):
    """(N, ...) to (N, features), row-major (SEEDS.md S1: F = flatten(P1), dP1 = reshape(dF)).

    Parameters
    ----------
    dtype, backend, name
        As in `Layer`.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], features(input_shape))

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        if x.ndim == 0:
            raise ValueError("x must have a batch axis, (N, ...), but got a single number")
        # A view where memory allows, as PyTorch's layer gives; `functional.flatten` copies.
        shape = tuple(x.shape)
        return reshaped(x, self.output_shape(shape)), shape

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        expected = self.output_shape(kept)
        if tuple(dy.shape) != expected:
            raise ValueError(
                f"dy must have shape {expected} (for an input of shape {kept}), but got {dy.shape}"
            )
        return reshaped(dy, kept) if input_grad else None
