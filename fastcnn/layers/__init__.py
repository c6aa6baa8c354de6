"""Layers with Keras's names and arguments; see `Layer` for what they share.

By hand, without a `Sequential`:

    layer = Conv2D(8, 3, seed=0)
    y = layer.forward(x)                # x: (N, C, H, W), float32
    dx = layer.backward(dy)             # dy: gradient of your loss with respect to y
    for name, w in layer.parameters.items():
        functional.sgd_step(w, layer.gradients[name], learning_rate=0.01)
"""

from .base import Layer
from .conv2d import Conv2D
from .dense import Dense
from .flatten import Flatten
from .max_pool2d import MaxPool2D
from .relu import ReLU
from .sigmoid import Sigmoid
from .softmax import Softmax
from .tanh import Tanh

__all__ = [
    "Conv2D",
    "Dense",
    "Flatten",
    "Layer",
    "MaxPool2D",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
