"""A fastcnn network rebuilt in PyTorch with the same parameters, for one training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.networks import LEARNING_RATE, NetworkProblem
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported
from fastcnn.geometry import conv2d_geometry, pool2d_geometry
from fastcnn.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh
from fastcnn.layers.keras_arguments import functional_padding

_ACTIVATIONS: dict[type[Layer], Any] = {ReLU: nn.ReLU, Sigmoid: nn.Sigmoid, Tanh: nn.Tanh}
# The loss of a network that ends in this activation, from the logits before it.
_FROM_LOGITS: dict[tuple[str, type[Layer]], Any] = {
    ("binary_cross_entropy", Sigmoid): F.binary_cross_entropy_with_logits,
    ("categorical_cross_entropy", Softmax): F.cross_entropy,
}


class _Bias(nn.Module):
    """A bias of its own shape: one per output pixel, or one for a whole dense layer."""

    def __init__(self, bias: Any) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, x: Any) -> Any:
        return x + self.bias


def _equal_sides(padding: tuple[int, int, int, int]) -> tuple[int, int]:
    top, bottom, left, right = padding
    if top != bottom or left != right:
        raise Unsupported("padding that differs from side to side")
    return top, left


def _conv(layer: Conv2D, shape: tuple[int, ...]) -> list[Any]:
    w = torch.tensor(layer.parameters["weight"])
    options = layer.strides, functional_padding(layer.padding), layer.dilation_rate, layer.groups
    g = conv2d_geometry(shape, tuple(w.shape), *options)
    padding, bias = _equal_sides(g.padding), layer.parameters.get("bias")
    plain = bias is not None and bias.ndim == 1
    conv = nn.Conv2d(g.C, g.K, (g.R, g.S), g.stride, padding, g.dilation, g.groups, bias=plain)
    conv.weight = nn.Parameter(w)
    if bias is None:
        return [conv]
    if not plain:
        return [conv, _Bias(torch.tensor(bias))]
    conv.bias = nn.Parameter(torch.tensor(bias))
    return [conv]


def _dense(layer: Dense) -> list[Any]:
    w, b = layer.parameters["weight"], layer.parameters.get("bias")
    plain = b is not None and b.shape == w.shape[:1]
    linear = nn.Linear(w.shape[1], w.shape[0], bias=plain)
    linear.weight = nn.Parameter(torch.tensor(w))
    if b is None:
        return [linear]
    if not plain:
        return [linear, _Bias(torch.tensor(b))]
    linear.bias = nn.Parameter(torch.tensor(b))
    return [linear]


def _pool(layer: MaxPool2D, shape: tuple[int, ...]) -> list[Any]:
    padding, d, ceil = functional_padding(layer.padding), layer.dilation, layer.ceil_mode
    g = pool2d_geometry(shape, layer.pool_size, layer.strides, padding, d, ceil)
    return [nn.MaxPool2d((g.R, g.S), g.stride, _equal_sides(g.padding), g.dilation, False, ceil)]


def _modules(layer: Layer, shape: tuple[int, ...]) -> list[Any]:
    if isinstance(layer, Conv2D):
        return _conv(layer, shape)
    if isinstance(layer, Dense):
        return _dense(layer)
    if isinstance(layer, MaxPool2D):
        return _pool(layer, shape)
    if isinstance(layer, Flatten):
        return [nn.Flatten()]
    if type(layer) in _ACTIVATIONS:
        return [_ACTIVATIONS[type(layer)]()]
    raise Unsupported(f"no counterpart of {type(layer).__name__}")


def _half_squared_error(p: Any, y: Any) -> Any:
    return F.mse_loss(p, y, reduction="sum") / (2 * len(p))


def _rebuilt(problem: NetworkProblem, x: np.ndarray) -> tuple[Any, Any]:
    """The network, and its loss; without the last activation where the loss takes that in."""
    network = problem.build(str(x.dtype))
    shape: tuple[int, ...] = x.shape
    modules: list[Any] = []
    layers: list[Layer] = []
    for layer in network.layers:
        layers.append(layer)
        if not isinstance(layer, Softmax):
            modules += _modules(layer, shape)
        if layer.activation_layer is not None:
            layers.append(layer.activation_layer)
            if not isinstance(layer.activation_layer, Softmax):
                modules += _modules(layer.activation_layer, shape)
        shape = layer.output_shape(shape)
    loss = _FROM_LOGITS.get((network.loss or "", type(layers[-1])))
    if loss is None and network.loss == "half_squared_error":
        return nn.Sequential(*modules), _half_squared_error
    if loss is None or any(isinstance(layer, Softmax) for layer in layers[:-1]):
        raise Unsupported(f"{network.loss} after {type(layers[-1]).__name__}")
    if isinstance(layers[-1], Sigmoid):
        modules.pop()
    return nn.Sequential(*modules), loss


def prepare_network(
    case: Case, sets: list[Arrays], device: str = "cpu", half: Any = None
) -> Prepared:
    """Forward, loss, backward and plain gradient descent, as PyTorch's users write them.

    With a dtype `half` under autocast, which rounds what convolutions and dense layers multiply.
    """
    assert isinstance(case.problem, NetworkProblem)
    network, loss_of = _rebuilt(case.problem, sets[0]["x"])
    network.to(device)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)
    batches = [[torch.from_numpy(s[name]).to(device) for name in ("x", "y")] for s in sets]

    def gradients(number: int) -> Any:
        x, y = batches[number]
        optimizer.zero_grad()
        with torch.enable_grad(), torch.autocast(device, half, enabled=half is not None):
            # losses from logits in float32, as autocast has it for those it knows
            loss = loss_of(network(x).float() if half is not None else network(x), y)
        loss.backward()
        return loss

    def launch(number: int) -> Any:
        loss = gradients(number)
        optimizer.step()
        return loss

    def answer(number: int) -> Arrays:
        # the order of parameters is that of fastcnn's state, whose names the judge uses
        loss = gradients(number).cpu().numpy()
        names = case.problem.build(case.dtype).parameters()  # type: ignore[union-attr]
        found = (parameter.grad.cpu().numpy() for parameter in network.parameters())
        return {"loss": loss, **dict(zip(names, found, strict=True))}

    return Prepared(lambda n: float(launch(n)), answer, lambda: None, launch=launch)
