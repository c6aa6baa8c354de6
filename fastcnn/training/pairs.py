"""ReLU directly before max pooling: which layers of a network do both in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from fastcnn.layers import Layer, MaxPool2D, ReLU

Pair = tuple[ReLU, MaxPool2D]


def find(layers: Sequence[Layer]) -> dict[int, Pair]:
    """The pairs by the number of the pooling layer.

    The ReLU is the layer before, or its activation. Classes derived from these are left alone:
    their own methods must run.
    """
    pairs: dict[int, Pair] = {}
    for number, (layer, pooling) in enumerate(pairwise(layers), start=1):
        relu = layer if type(layer) is ReLU else layer.activation_layer
        whole = type(layer).forward is Layer.forward
        if whole and type(relu) is ReLU and type(pooling) is MaxPool2D:
            pairs[number] = relu, pooling
    return pairs


def still_one(relu: ReLU, pooling: MaxPool2D) -> bool:
    """Whether one operation can do both.

    Settings may change between passes, and somebody may watch a layer through methods of its own.
    """
    same = relu.at_zero == 1 and relu.backend == pooling.backend
    return same and as_made(relu) and as_made(pooling)


def as_made(layer: Layer) -> bool:
    """Whether a layer has its class's passes, none that were put on this one object."""
    own = vars(layer)
    return "forward" not in own and "backward" not in own
