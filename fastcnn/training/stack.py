"""Layers one after the other: their parameters under flat names, and the two passes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcnn.arguments import shape_of
from fastcnn.functional.devices import to_host
from fastcnn.layers import Layer
from fastcnn.layers.base import Shape
from fastcnn.layers.dtypes import expect_dtype

from . import pairs, state, weights
from .shapes import ACTIVATIONS, check_images, image_rank, walk

Array = np.ndarray


class Stack:
    """What a network is before it has a loss: see `Sequential`, which documents the arguments."""

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        input_shape: tuple[int, ...] | None,
        seed: int | np.random.Generator | None,
        dtype: npt.DTypeLike | None,
        backend: str | None,
        name: str | None,
        default_input_shape: tuple[int, ...] | None,
    ) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers must be a list of Layer objects, but got {layers!r}")
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError("a network needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                call = f": call it, {layer.__name__}()" if isinstance(layer, type) else ""
                raise TypeError(f"layers must be Layer objects, but got {layer!r}{call}")
            layer.configure(dtype=dtype, backend=backend)
        places: dict[int, int] = {}
        for number, layer in enumerate(self.layers):
            first = places.setdefault(id(layer), number)
            if first != number:
                raise ValueError(
                    f"layers {first} and {number} are the same object, which stands in the "
                    f"network twice ({layer!r}): make a layer for each place"
                )
        if len({layer.dtype for layer in self.layers}) > 1:
            kinds = ", ".join(f"{type(layer).__name__} {layer.dtype}" for layer in self.layers)
            raise TypeError(f"layers of different types ({kinds}): pass dtype= to Sequential")
        self.dtype = self.layers[0].dtype
        # The loss and the optimizer compute where the network ends.
        self.backend = self.layers[-1].backend
        self.name = name
        self.built = False
        self._seed = seed
        self._default_input_shape = default_input_shape
        self._input_shape: tuple[int, ...] = ()
        activations = (layer.activation_layer for layer in self.layers)
        self._every = [*self.layers, *(a for a in activations if a is not None)]
        self._settings = [(layer, name) for layer in self._every for name in layer.live_settings]
        self._rectified = pairs.find(self.layers)
        self._parameters: dict[str, Array] = {}
        if input_shape is not None:
            self.build((None, *shape_of(input_shape, "input_shape", ())))

    @property
    def input_shape(self) -> Shape | None:
        """(None, ...) with the batch axis first, of the inputs it was built for; None before."""
        return (None, *self._input_shape) if self.built else None

    def build(self, input_shape: Shape) -> None:
        """Make all parameters for inputs of this shape; nothing if they are made already.

        Parameters
        ----------
        input_shape : tuple
            With the batch axis first, which may be None: (None, C, H, W).

        Raises
        ------
        ValueError
            If a layer cannot take what comes to it, or the network was built for other inputs.
        """
        shapes = walk(self.layers, input_shape)
        if self.built:
            return
        rngs = np.random.default_rng(self._seed).spawn(len(self.layers))
        for layer, shape, rng in zip(self.layers, shapes, rngs, strict=False):
            layer.build(shape, rng)
        # A parameter stays the same array for as long as its layer lives.
        self._parameters = state.flat(self.layers, "parameters")
        self._input_shape = tuple(input_shape[1:])
        self.built = True

    def _need_parameters(self) -> None:
        if self.built:
            return
        if self._default_input_shape is None:
            raise ValueError(
                "This model has not yet been built. Build the model first by calling `build()` "
                "or by calling the model on a batch of data, or pass input_shape= to Sequential"
            )
        self.build((None, *self._default_input_shape))

    def parameters(self) -> dict[str, Array]:
        """The live arrays: `0.weight`, `0.bias`, ..., by position in `layers`."""
        self._need_parameters()
        return dict(self._parameters)

    def gradients(self) -> dict[str, Array]:
        """What the last backward pass found (zeros before it), under the parameters' names.

        The next backward pass makes new arrays; those returned stay as they are.
        """
        self._need_parameters()
        return state.flat(self.layers, "gradients")

    def state_dict(self) -> dict[str, Array]:
        """Copies of the parameters: `0.weight`, `0.bias`, ..., by position in `layers`."""
        return {name: np.array(to_host(array)) for name, array in self.parameters().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Copy parameters in.

        Raises
        ------
        ValueError
            Names that are missing or unexpected, other shapes or types: each is named, and no
            parameter is changed.
        """
        state.load(self.parameters(), state_dict)

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write `state_dict()` to a .npz or .safetensors file, whole or not at all.

        Errors are those of `fastcnn.training.save_weights`.
        """
        weights.save_weights(path, self.state_dict())

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Copy parameters in from a .npz or .safetensors file.

        Raises
        ------
        ValueError
            The file is damaged, or as in `load_state_dict`; no parameter is changed.
        ImportError, OSError
            As `fastcnn.training.load_weights`.
        """
        self._need_parameters()
        state_dict = weights.load_weights(path)
        try:
            self.load_state_dict(state_dict)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def count_params(self) -> int:
        """Number of trainable numbers."""
        return sum(array.size for array in self.parameters().values())

    def _accept(self, x: Any) -> Any:
        """x, checked, with the network built for it."""
        x = expect_dtype(x, "x", self.dtype, self.name or type(self).__name__)
        shape = self._input_shape if self.built else self._default_input_shape
        rank = image_rank(self.layers) if shape is None else len(shape) + 1
        check_images(x.shape, rank, self._input_shape if self.built else None, self.layers)
        if not self.built:
            self.build(x.shape)
        return x

    def _activation(self) -> Layer | None:
        """The last activation, as a layer of its own or of the last layer."""
        last = self.layers[-1]
        return last if isinstance(last, ACTIVATIONS) else last.activation_layer

    def _forward(self, x: Any, training: bool) -> tuple[Array, Array]:
        """Logits z and outputs p = activation(z); both the same where no activation is last."""
        z, last = self._accept(x), self.layers[-1]
        for number in range(len(self.layers) - 1):
            z = self._pass(number, z, training)
        activation = self._activation()
        if activation is None:
            z = self._pass(len(self.layers) - 1, z, training)
            return z, z
        if activation is not last:
            z = last.forward_linear(z, training)
        return z, activation.forward(z, training)

    def _pass(self, number: int, x: Any, training: bool) -> Array:
        """Output of a layer; of a ReLU before a pooling its input, since the pooling does both."""
        layer = self.layers[number]
        if self._as_pair(number, training):
            return layer.forward_rectified(x, training)  # type: ignore[attr-defined]
        if self._as_pair(number + 1, training):
            relu, _ = self._rectified[number + 1]
            z = x if relu is layer else layer.forward_linear(x, training)
            relu.leave_to_pooling(training)
            return z
        return layer.forward(x, training)

    def _as_pair(self, number: int, training: bool) -> bool:
        """Whether this layer is a pooling that does the part of the ReLU before it as well.

        Without training a convolution does it as it stores, which costs nothing.
        """
        pair = self._rectified.get(number)
        if pair is None or not pairs.still_one(*pair):
            return False
        return training or pair[0] is self.layers[number - 1]

    def forward(self, x: Any, training: bool = True) -> Array:
        """Outputs for a batch.

        Parameters
        ----------
        x : array_like, (N, ...), of the network's dtype
        training : bool
            Keep what `backward` needs; False keeps nothing and drops what was kept.

        Raises
        ------
        TypeError
            If x is of another type; says how to convert it.
        ValueError
            If x is one image without a batch axis, or of another size than those before.
        """
        return self._forward(x, training)[1]

    def backward(self, dy: Any) -> Array:
        """Gradient with respect to the input from that of the output; OVERWRITES `gradients()`.

        Raises
        ------
        RuntimeError
            If no forward pass kept anything.
        TypeError, ValueError
            If dy is of another type or shape than the output.
        """
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def forget(self) -> None:
        """Drop what the last forward pass kept for `backward`."""
        for layer in self.layers:
            layer.forget()

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"{type(self).__name__}([{layers}])"
