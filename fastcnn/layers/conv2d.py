"""2-D convolution."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastcnn.arguments import one_of, pair, whole
from fastcnn.functional.conv import PackedWeight, conv2d_with_relu
from fastcnn.functional.devices import is_on_device
from fastcnn.geometry import Conv2dGeometry, conv2d_geometry

from .activations import activation_layer
from .base import Array, Layer, Shape
from .initializers import Initializer, check_initializer
from .keras_arguments import check_data_format, functional_padding


class Conv2D(Layer):
    """Convolution of images with filters: Y_k = sum_c X_c * W_kc + b_k (SEEDS.md S2).

    Parameters
    ----------
    filters : int
        K, the number of output channels.
    kernel_size : int or (int, int)
        Height R and width S.
    strides : int or (int, int)
    padding : str, int, (int, int) or four ints
        "valid"; "same" as Keras means it, ceil(size/stride) outputs at any stride; "same_lower";
        or numbers: (vertical, horizontal), (top, bottom, left, right).
    data_format : None or "channels_first"
        For Keras's sake; images are (N, C, H, W).
    dilation_rate : int or (int, int)
    groups : int
        Each of them sees C/groups channels and makes K/groups.
    activation : {"relu", "sigmoid", "tanh", "softmax", "linear"} or None
        Applied to the output; softmax goes across channels.
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
        See `fastcnn.layers.initializers`.
    bias : {"per_filter", "per_pixel"}
        One bias per filter, (K,), or one for each pixel of the output, (K, P, Q).
    seed : int or numpy.random.Generator, optional
        For the initial parameters.
    dtype, backend, name
        As in `Layer`.

    Attributes
    ----------
    parameters
        "weight", (K, C/groups, R, S), and "bias".

    Raises
    ------
    TypeError, ValueError
        Arguments that fit no convolution. `data_format="channels_last"` is refused with advice.
    """

    input_rank = 4

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        *,
        bias: str = "per_filter",
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        seed: int | np.random.Generator | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(dtype=dtype, backend=backend, name=name)
        self.filters = whole(filters, "filters")
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.strides = pair(strides, "strides")
        self.padding = padding
        self.data_format = check_data_format(data_format)
        self.dilation_rate = pair(dilation_rate, "dilation_rate")
        self.groups = whole(groups, "groups")
        self.activation = activation
        # Channels are the third axis from the end, of a batch and of one image.
        self.activation_layer = activation_layer(activation, -3, dtype=dtype, backend=backend)
        self.use_bias = bool(use_bias)
        self.bias = one_of(bias, "bias", ("per_filter", "per_pixel"))
        self.seed = seed
        self.kernel_initializer = check_initializer(kernel_initializer, "kernel_initializer")
        self.bias_initializer = check_initializer(bias_initializer, "bias_initializer")
        self._initializers = {"weight": kernel_initializer, "bias": bias_initializer}
        self._packed: PackedWeight | None = None
        self._window = {
            "stride": self.strides,
            "padding": functional_padding(padding),
            "dilation": self.dilation_rate,
            "groups": self.groups,
        }

    def _geometry(self, input_shape: Shape) -> Conv2dGeometry:
        channels, height, width = self._expect_rank(input_shape)
        # With fewer channels than groups the geometry has the words for what is wrong.
        per_group = max(channels // self.groups, 1)
        weight = (self.filters, per_group, *self.kernel_size)
        return conv2d_geometry((1, channels, height, width), weight, **self._window)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        g = self._geometry(input_shape)
        shapes: dict[str, tuple[int, ...]] = {"weight": g.weight_shape}
        if self.use_bias:
            shapes["bias"] = (g.K, g.P, g.Q) if self.bias == "per_pixel" else (g.K,)
        return shapes

    def output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], *self._geometry(input_shape).output_shape[1:])

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        w, b = self.parameters["weight"], self.parameters.get("bias")
        if training:
            self._packed = None  # the next step changes w
            return self.ops.conv2d(x, w, b, **self._window), x
        return self.ops.conv2d(x, self._kept_order(w), b, **self._window), None

    def _outputs(self, x: Any) -> Array:
        if self.activation != "relu" or self.backend == "reference":
            return super()._outputs(x)
        w, b = self.parameters["weight"], self.parameters.get("bias")
        return conv2d_with_relu(x, self._kept_order(w), b, **self._window)

    def _kept_order(self, w: Array) -> PackedWeight | Array:
        """The weights in the kernels' order, as long as they are the same from call to call.

        The live array can be changed in place by whoever holds it: it is compared, every time,
        with what was packed.
        """
        if self.backend == "reference" or is_on_device(w):
            return w
        if self._packed is None or not self._packed.holds(w):
            self._packed = PackedWeight(w)
        return self._packed

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        ops, w = self.ops, self.parameters["weight"]
        if self.use_bias and self.bias == "per_filter":
            both = ops.conv2d_parameter_grads(kept, dy, w.shape, **self._window)
            self.gradients["weight"], self.gradients["bias"] = both
        else:
            self.gradients["weight"] = ops.conv2d_weight_grad(kept, dy, w.shape, **self._window)
            if self.use_bias:
                self.gradients["bias"] = ops.conv2d_bias_grad(dy, per_pixel=True)
        if not input_grad:
            return None
        return ops.conv2d_input_grad(dy, w, kept.shape, **self._window)
