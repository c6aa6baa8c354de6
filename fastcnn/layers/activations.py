"""Activation layers by Keras's names, for the `activation` argument of other layers."""

from __future__ import annotations

from typing import Any

from fastcnn.arguments import one_of

from .base import Layer
from .relu import ReLU
from .sigmoid import Sigmoid
from .softmax import Softmax
from .tanh import Tanh

_LAYERS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "sigmoid": Sigmoid,
    "softmax": Softmax,
    "tanh": Tanh,
}


def activation_layer(activation: str | None, class_axis: int, **options: Any) -> Layer | None:
    """The layer that an `activation` argument stands for.

    Parameters
    ----------
    activation : {"relu", "sigmoid", "tanh", "softmax", "linear"} or None
    class_axis : int
        The axis along which a softmax sums to 1.
    **options
        dtype and backend of the layer.

    Returns
    -------
    Layer, or None for "linear" and None

    Raises
    ------
    ValueError
        For any other name.
    """
    if activation is None or activation == "linear":
        return None
    one_of(activation, "activation", (*_LAYERS, "linear"))
    if activation == "softmax":
        options["axis"] = class_axis
    return _LAYERS[activation](**options)
