"""What a repeated step must leave in the layers, as the plain one does; and whose steps may be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sequential import Sequential

_OWN_NETWORK = "fastcnn.training.sequential"
_OWN_LAYERS = "fastcnn.layers."


def own_classes(network: Sequential) -> bool:
    """Whether network and layers are this package's, whose methods do nothing besides."""
    return type(network).__module__ == _OWN_NETWORK and all(
        type(layer).__module__.startswith(_OWN_LAYERS) for layer in network.layers
    )


class Remains:
    """The gradients, and what `backward` needs, that a step has just left in a network's layers."""

    def __init__(self, network: Sequential) -> None:
        self._gradients = [
            (layer.gradients, name, layer.gradients[name])
            for layer in network.layers
            for name in layer.parameters
        ]
        self._kept = [(layer, layer._kept) for layer in network._every]

    def put_back(self, gradient: Callable[[Any], Any]) -> None:
        """Leave the same arrays again, and of each gradient what `gradient` makes of it."""
        for layer, kept in self._kept:
            layer._kept = kept
        for gradients, name, array in self._gradients:
            gradients[name] = gradient(array)
