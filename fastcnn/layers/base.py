"""What all layers share: state, checks of types, building, and the order of the passes."""

from __future__ import annotations

import inspect
from math import prod
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastcnn.functional.devices import to_device, to_host

from .backends import check_backend, operations
from .dtypes import expect_dtype, float_dtype
from .initializers import Initializer, draw
from .parameters import Parameters

Array = np.ndarray
Shape = tuple[Any, ...]  # None for the batch, ints for the rest


class Layer:
    """A step of a network: parameters, their gradients, and what the backward pass needs.

    A layer computes nothing itself; it calls `fastcnn.functional` or, for
    ``backend="reference"``, `fastcnn.reference`. Layers work alone, in a loop written by hand, and
    in a `fastcnn.training.Sequential`.

    Parameters
    ----------
    dtype : "float32" or "float64"
        Type of parameters, inputs, outputs and gradients; nothing is converted silently.
    backend : {"auto", "cpu", "cuda", "reference"}
        "auto" and "cpu" compute on Numba kernels, "cuda" on the GPU, "reference" in plain NumPy.
        With "cuda" the parameters live on the GPU, NumPy arrays that come in are moved there, and
        what comes out stays there (`fastcnn.to_host`).
    name : str, optional
        Shown by `Sequential.summary`.

    Attributes
    ----------
    parameters : mapping of str to ndarray
        "weight" and "bias", where the layer has them: the live arrays. Changes in place, and
        assignments, take effect at the next forward pass.
    gradients : dict of str to ndarray
        The same names: zeros at first, then what the last `backward` found. Each backward pass
        OVERWRITES them (with new arrays; those of earlier passes stay as they are). Add up
        gradients of several passes yourself if that is what you want.
    built : bool
        Whether the parameters exist.
    """

    # Dimensions of the input with the batch axis; None where any number will do.
    input_rank: ClassVar[int | None] = None
    # Attributes that decide what the passes compute, and may be changed between them.
    live_settings: ClassVar[tuple[str, ...]] = ("backend",)
    # For the initial parameters; None leaves them to `build`'s rng or to chance.
    seed: int | np.random.Generator | None = None

    def __init__(
        self,
        *,
        dtype: npt.DTypeLike = "float32",
        backend: str = "auto",
        name: str | None = None,
    ) -> None:
        self.dtype = float_dtype(dtype)
        self.backend = check_backend(backend)
        self.name = name
        self.built = False
        self.parameters = Parameters(type(self).__name__)
        self.gradients: dict[str, Array] = {}
        self.activation_layer: Layer | None = None
        self._initializers: dict[str, Initializer] = {}
        self._kept: Any = None

    # What a kind of layer defines.

    def parameter_shapes(self, input_shape: Shape) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the parameters for inputs of this shape (batch axis first)."""
        return {}

    def output_shape(self, input_shape: Shape) -> Shape:
        """Shape of the output for inputs of this shape, both with the batch axis first.

        Raises
        ------
        ValueError
            If the layer cannot take such inputs.
        """
        return tuple(input_shape)

    def _forward(self, x: Any, training: bool) -> tuple[Array, Any]:
        """The output before the activation, and what `_backward` will need."""
        raise NotImplementedError

    def _backward(self, dy: Any, kept: Any, input_grad: bool) -> Array | None:
        """Write `gradients`; the gradient with respect to the input, or None if not wanted."""
        raise NotImplementedError

    def _outputs(self, x: Any) -> Array:
        """The output, with its activation, when nothing need be kept."""
        z, _ = self._forward(x, False)
        return z if self.activation_layer is None else self.activation_layer.forward(z, False)

    # What every layer does.

    @property
    def ops(self) -> ModuleType:
        """The module that computes for this layer, see `backend`."""
        return operations(self.backend)

    def configure(self, *, dtype: npt.DTypeLike | None = None, backend: str | None = None) -> None:
        """Change type and backend (None: leave as it is) of this layer and its activation.

        Raises
        ------
        ValueError
            If the parameters exist already in another type, or there is no such backend.
        TypeError
            If the type is not float32 or float64.
        """
        if dtype is not None:
            wanted = float_dtype(dtype)
            if self.parameters and wanted != self.dtype:
                raise ValueError(
                    f"{type(self).__name__} is built in {self.dtype} and cannot become {wanted}"
                )
            self.dtype = wanted
        if backend is not None:
            self.backend = check_backend(backend)
            move = to_device if backend == "cuda" else to_host
            for name, array in self.parameters.items():
                self.parameters.create(name, move(array))
                self.gradients[name] = move(self.gradients[name])
        if self.activation_layer is not None:
            self.activation_layer.configure(dtype=dtype, backend=backend)

    def build(self, input_shape: Shape, rng: np.random.Generator | None = None) -> None:
        """Make the parameters for inputs of this shape; does nothing where that was done before.

        Parameters
        ----------
        input_shape : tuple
            Batch axis first, which may be None: (None, C, H, W) or (None, features).
        rng : numpy.random.Generator, optional
            Source of the initial values for a layer without a seed of its own.

        Raises
        ------
        ValueError
            If the layer cannot take such inputs, or was built for others.
        """
        shapes = self.parameter_shapes(input_shape)
        if self.built:
            self.expect_same_parameters(shapes, input_shape)
            return
        self.output_shape(input_shape)
        if self.seed is not None or rng is None:
            rng = np.random.default_rng(self.seed)
        for name, shape in shapes.items():
            values = draw(self._initializers[name], shape, shapes["weight"], rng)
            self.parameters.create(name, self._moved(values.astype(self.dtype)))
            self.gradients[name] = self._moved(np.zeros(shape, self.dtype))
        self.built = True

    def _moved(self, array: Any) -> Any:
        """An array where this layer computes: on the GPU for the backend "cuda"."""
        return to_device(array) if self.backend == "cuda" else array

    def expect_same_parameters(
        self, shapes: dict[str, tuple[int, ...]], input_shape: Shape
    ) -> None:
        """ValueError if parameters of `shapes` are not those that the layer has."""
        for name, shape in shapes.items():
            if self.parameters[name].shape != shape:
                raise ValueError(
                    f"{type(self).__name__} was built with a {name} of shape "
                    f"{self.parameters[name].shape}; inputs of shape {tuple(input_shape)} need "
                    f"{shape}: make a new layer for them"
                )

    def forward(self, x: Any, training: bool = True) -> Array:
        """The layer's output, with its activation.

        Parameters
        ----------
        x : array_like of the layer's dtype
            Batch axis first. `Conv2D` and `MaxPool2D` take one image (C, H, W) too, `Dense` one
            row. The backward pass may use this very array: leave it unchanged until then.
        training : bool
            Keep what `backward` needs; False keeps nothing and drops what was kept.

        Returns
        -------
        ndarray

        Raises
        ------
        TypeError
            If x is of another type than the layer; says how to convert it.
        ValueError
            If the shapes do not fit.
        """
        if not training:
            return self._outputs(self._accept(x))
        z = self.forward_linear(x)
        return z if self.activation_layer is None else self.activation_layer.forward(z)

    def forward_linear(self, x: Any, training: bool = True) -> Array:
        """As `forward`, but without the activation: the logits of a network's last layer."""
        y, kept = self._forward(self._accept(x), training)
        if training:
            self._kept = kept
        return y

    def backward(self, dy: Any, input_grad: bool = True) -> Array | None:
        """Gradients of the loss from that of the output; OVERWRITES `gradients`.

        Parameters
        ----------
        dy : array_like of the layer's dtype, the output's shape
            Gradient of the loss with respect to the output of the last forward pass.
        input_grad : bool
            False leaves out the gradient with respect to the input, which the first layer of a
            network does not need.

        Returns
        -------
        ndarray, the input's shape, or None
            Gradient with respect to the input; None without `input_grad`.

        Raises
        ------
        RuntimeError
            If no forward pass kept anything.
        TypeError, ValueError
            If dy is of another type or shape than the output.
        """
        if self.activation_layer is not None:
            self._expect_kept()
            dy = self.activation_layer.backward(dy)
        return self.backward_linear(dy, input_grad)

    def backward_linear(self, dz: Any, input_grad: bool = True) -> Array | None:
        """As `backward`, but from the gradient with respect to `forward_linear`'s output."""
        self._expect_kept()
        dz = expect_dtype(dz, "dy", self.dtype, type(self).__name__)
        return self._backward(self._moved(dz), self._kept, input_grad)

    def forget(self) -> None:
        """Drop what the last forward pass kept for `backward`."""
        self._kept = None
        if self.activation_layer is not None:
            self.activation_layer.forget()

    def count_params(self) -> int:
        """Number of trainable numbers; 0 until the layer is built."""
        return sum(array.size for array in self.parameters.values())

    def _accept(self, x: Any) -> Any:
        """x, checked, with the layer built for it; nothing is kept of the pass before."""
        self.forget()
        x = expect_dtype(x, "x", self.dtype, type(self).__name__)
        if not self.built:
            single = self.input_rank is not None and x.ndim == self.input_rank - 1
            self.build(x.shape if x.ndim and not single else (None, *x.shape))
        return self._moved(x)

    def _expect_kept(self) -> None:
        if self._kept is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward needs a forward pass before it: call forward(x) "
                "first (predict and forward(x, training=False) keep nothing for backward)"
            )

    def _expect_rank(self, input_shape: Shape) -> tuple[int, ...]:
        """`input_shape` without its batch axis; ValueError unless it has `input_rank` axes."""
        shape = tuple(input_shape)
        if len(shape) != self.input_rank:
            wanted = {4: "(N, C, H, W)", 2: "(N, features)"}[self.input_rank or 0]
            fix = "put Flatten() before it" if self.input_rank == 2 else "C is 1 for grey images"
            raise ValueError(
                f"{type(self).__name__} takes inputs of shape {wanted}, but got {shape}: {fix}"
            )
        if any(n is None or n < 0 for n in shape[1:]):
            raise ValueError(f"only the batch axis may be None, but got {shape}")
        return shape[1:]

    def __repr__(self) -> str:
        parts: list[str] = []
        for parameter in inspect.signature(type(self)).parameters.values():
            value, default = getattr(self, parameter.name), parameter.default
            if isinstance(value, np.dtype):
                value = value.name
            if default is parameter.empty and not parts:
                parts.append(repr(value))
            elif value not in (default, (default, default)):
                parts.append(f"{parameter.name}={value!r}")
        return f"{type(self).__name__}({', '.join(parts)})"


def features(input_shape: Shape) -> int:
    """Numbers per image: the product of all sizes but the batch's."""
    return prod(input_shape[1:])
