"""The dense (fully connected) layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastcnn.arguments import one_of, whole
from fastcnn.functional.devices import reshaped, shared

from .activations import activation_layer
from .base import Array, Layer, Shape
from .initializers import Initializer, check_initializer


class Dense(Layer):
    """y = x W^T + b, one image per row (SEEDS.md S1: Z2 = W2 F + b2).

    Parameters
    ----------
    units : int
        O, the number of outputs.
    activation : {"relu", "sigmoid", "tanh", "softmax", "linear"} or None
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
        See `fastcnn.layers.initializers`.
    bias : {"per_unit", "shared"}
        One bias per output, (O,), or one number for the whole layer, (1,), as the plain network of
        document 000 has it.
    seed : int or numpy.random.Generator, optional
        For the initial parameters.
    dtype, backend, name
        As in `Layer`.

    Attributes
    ----------
    parameters
        "weight", (O, I), one row per output, and "bias".

    Raises
    ------
    TypeError, ValueError
        Arguments that fit no dense layer.
    """

    input_rank = 2

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        *,
        bias: str = "per_unit",
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        seed: int | np.random.Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, backend=backend, name=name)
        self.units = whole(units, "units")
        self.activation = activation
        self.activation_layer = activation_layer(activation, -1, dtype=dtype, backend=backend)
        self.use_bias = bool(use_bias)
        self.bias = one_of(bias, "bias", ("per_unit", "shared"))
        self.seed = seed
        self.kernel_initializer = check_initializer(kernel_initializer, "kernel_initializer")
        self.bias_initializer = check_initializer(bias_initializer, "bias_initializer")
        self._initializers = {"weight": kernel_initializer, "bias": bias_initializer}

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        (inputs,) = self._expect_rank(input_shape)
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.units, inputs)}
        if self.use_bias:
            shapes["bias"] = (1,) if self.bias == "shared" else (self.units,)
        return shapes

    def output_shape(self, input_shape: Shape) -> Shape:
        self._expect_rank(input_shape)
        return (input_shape[0], self.units)

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        b = self.parameters.get("bias")
        if self.bias == "shared" and b is not None:
            b = shared(b, self.units)
        return self.ops.dense(x, self.parameters["weight"], b), x

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        ops = self.ops
        self.gradients["weight"] = ops.dense_weight_grad(kept, dy)
        if self.use_bias:
            # All outputs share one bias: every element of dy is an image of that one output.
            column = reshaped(dy, (-1, 1)) if self.bias == "shared" else dy
            self.gradients["bias"] = ops.dense_bias_grad(column)
        return ops.dense_input_grad(dy, self.parameters["weight"]) if input_grad else None
