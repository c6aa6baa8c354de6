"""Whole networks as problems: one training step of each is a benchmark.

The lectures' networks come from `fastcnn.networks`; LeNet-5 and VGG-11 are built here from layers,
in the sizes that small images are benchmarked with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fastcnn import networks
from fastcnn.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D
from fastcnn.training import SGD, Sequential

# So small that thousands of steps on random labels neither converge nor diverge: the numbers that
# flow stay ordinary.
LEARNING_RATE = 1e-5


def _lenet5() -> list[Layer]:
    """LeCun, Bottou, Bengio and Haffner 1998, with max pooling and ReLU."""
    return [
        Conv2D(6, 5, padding=2, activation="relu"),
        MaxPool2D(2),
        Conv2D(16, 5, activation="relu"),
        MaxPool2D(2),
        Flatten(),
        Dense(120, activation="relu"),
        Dense(84, activation="relu"),
        Dense(10, activation="softmax"),
    ]


def _vgg11() -> list[Layer]:
    """Simonyan and Zisserman 2014, configuration A, for images of 32x32: one dense layer."""
    layers: list[Layer] = []
    for block in ((64,), (128,), (256, 256), (512, 512), (512, 512)):
        layers += [Conv2D(k, 3, padding=1, activation="relu") for k in block]
        layers.append(MaxPool2D(2))
    return [*layers, Flatten(), Dense(10, activation="softmax")]


_BUILT: dict[str, Callable[[], list[Layer]]] = {"lenet5": _lenet5, "vgg11": _vgg11}

# Name -> shape of one image. The lectures' networks at the lectures' sizes.
INPUT_SHAPES: dict[str, tuple[int, ...]] = {
    "fifteen_parameter": (1, 6, 6),
    "small_ann": (2,),
    "multichannel": (3, 8, 8),
    "sigmoid_cnn": (1, 8, 8),
    "two_block": (1, 28, 28),
    "dense_network": (1, 28, 28),
    "keras_counts": (1, 28, 28),
    "lenet5": (1, 28, 28),
    "vgg11": (3, 32, 32),
}


@dataclass(frozen=True)
class NetworkProblem:
    """A network and its batch; `str()` is "lenet5 n64"."""

    network: str
    N: int

    @property
    def name(self) -> str:
        return f"networks.{self.network}"

    def build(self, dtype: str = "float32", backend: str = "auto") -> Sequential:
        """The network with the same initial parameters every time."""
        shape = INPUT_SHAPES[self.network]
        optimizer = SGD(LEARNING_RATE)
        if self.network not in _BUILT:
            make = getattr(networks, self.network)
            made: Sequential = make(input_shape=shape, dtype=dtype, backend=backend)
            made.compile(optimizer)
            return made
        return Sequential(
            _BUILT[self.network](),
            loss="categorical_cross_entropy",
            optimizer=optimizer,
            input_shape=shape,
            dtype=dtype,
            backend=backend,
            name=self.network,
        )

    def data(self, rng: np.random.Generator, dtype: Any) -> dict[str, np.ndarray]:
        """One batch of standard normal images, and labels or targets that the loss takes."""
        network = self.build()
        shape: tuple[Any, ...] = (self.N, *INPUT_SHAPES[self.network])
        x = rng.standard_normal(shape, dtype)
        for layer in network.layers:
            shape = layer.output_shape(shape)
        if network.loss == "categorical_cross_entropy":
            return {"x": x, "y": rng.integers(0, shape[1], self.N)}
        return {"x": x, "y": rng.integers(0, 2, shape).astype(dtype)}

    @property
    def flops(self) -> int:
        """Of all convolutions and dense layers: forward, dw, and dx but for the first of them.

        Each takes two per weight, output pixel and image.
        """
        network, total, first = self.build(), 0, True
        shape: tuple[Any, ...] = (self.N, *INPUT_SHAPES[self.network])
        for layer in network.layers:
            shape = layer.output_shape(shape)
            if "weight" in layer.parameters:
                pixels = prod(shape[2:])
                total += (2 if first else 3) * 2 * self.N * pixels * layer.parameters["weight"].size
                first = False
        return total

    def __str__(self) -> str:
        return f"{self.network} n{self.N}"
