"""What can be measured: each operation's problems, input data, calls, FLOPs and bytes.

An entry of `MEASURED` says everything about one operation that every side must agree on. Sides
(sides/) add only how their library is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.verification.kinds import (
    ConvProblem,
    DenseProblem,
    PoolProblem,
    Problem,
    ShapeProblem,
)
from fastcnn.verification.operations import Source

Array = np.ndarray
Arrays = dict[str, Array]
# `functional`, `reference` or `reference.loops`: one set of names and signatures
Namespace = Any
AnyProblem = Problem | NetworkProblem


@dataclass(frozen=True)
class Measured:
    """One operation as it is measured.

    Attributes
    ----------
    name : str
        What JSON and `--ops` call it.
    label : str
        What tables call it.
    function : str
        Its name in `fastcnn.functional` and in `selection.IMPLEMENTATIONS`; empty for a whole
        training step.
    kind : type
        Of the problems it runs on.
    groups : tuple of str
        Short words by which `--ops` also finds it.
    make : callable
        (problem, Source) -> arrays by name, signals from the source's generator.
    call : callable
        (namespace, problem, arrays) -> results by name.
    flops : callable
        problem -> 2 per multiply-add of the direct form; 0 for work that memory bounds.
    bytes : callable
        (problem, itemsize) -> bytes of inputs and outputs.
    weights : tuple of str
        Arrays that are changed in place between calls.
    """

    name: str
    label: str
    function: str
    kind: type
    groups: tuple[str, ...]
    make: Callable[[Any, Source], Arrays]
    call: Callable[[Namespace, Any, Arrays], Arrays]
    flops: Callable[[Any], int]
    bytes: Callable[[Any, int], int]
    weights: tuple[str, ...] = ()

    def takes(self, problem: AnyProblem) -> bool:
        """Whether it can run on this problem; categorical losses need rows of classes."""
        if not isinstance(problem, self.kind):
            return False
        if isinstance(problem, ShapeProblem) and self.name.startswith("categorical"):
            return len(problem.shape) == 2
        return True


def _flops(problem: Any) -> int:
    return problem.geometry.flops


def _bytes(problem: Any, itemsize: int) -> int:
    return problem.geometry.bytes(itemsize)


def _none(problem: Any) -> int:
    return 0


def _conv_data(p: ConvProblem, source: Source) -> Arrays:
    g = p.geometry
    return {"x": source.signal(*g.input_shape), "w": source.weights(*g.weight_shape),
            "b": source.weights(g.K)}  # fmt: skip


def _conv_input_grad_data(p: ConvProblem, source: Source) -> Arrays:
    return {"dy": source.signal(*p.geometry.output_shape),
            "w": source.weights(*p.geometry.weight_shape)}  # fmt: skip


def _conv_weight_grad_data(p: ConvProblem, source: Source) -> Arrays:
    g = p.geometry
    return {"x": source.signal(*g.input_shape), "dy": source.signal(*g.output_shape)}


def _conv2d(ops: Namespace, p: ConvProblem, a: Arrays) -> Arrays:
    return {"y": ops.conv2d(a["x"], a["w"], a["b"], **p.options)}


def _conv2d_input_grad(ops: Namespace, p: ConvProblem, a: Arrays) -> Arrays:
    shape = p.geometry.input_shape
    return {"dx": ops.conv2d_input_grad(a["dy"], a["w"], shape, **p.options)}


def _conv2d_weight_grad(ops: Namespace, p: ConvProblem, a: Arrays) -> Arrays:
    shape = p.geometry.weight_shape
    dw, db = ops.conv2d_parameter_grads(a["x"], a["dy"], shape, **p.options)
    return {"dw": dw, "db": db}


def _pool_data(p: PoolProblem, source: Source) -> Arrays:
    return {"x": source.signal(*p.geometry.input_shape)}


def _pool_grad_data(p: PoolProblem, source: Source) -> Arrays:
    from fastcnn import reference

    x, dy = source.signal(*p.geometry.input_shape), source.signal(*p.geometry.output_shape)
    return {"x": x, "dy": dy, "mask": reference.max_pool2d(x, **p.options, return_mask=True)[1]}


def _max_pool2d(ops: Namespace, p: PoolProblem, a: Arrays) -> Arrays:
    y, mask = ops.max_pool2d(a["x"], **p.options, return_mask=True)
    return {"y": y, "mask": mask}


def _max_pool2d_grad(ops: Namespace, p: PoolProblem, a: Arrays) -> Arrays:
    shape = p.geometry.input_shape
    return {"dx": ops.max_pool2d_grad(a["dy"], a["mask"], shape, **p.options)}


def _relu_pool_data(p: PoolProblem, source: Source) -> Arrays:
    x = source.signal(*p.geometry.input_shape)
    x[x == 0] = 1  # where conventions differ
    return {"x": x}


def _relu_pool_grad_data(p: PoolProblem, source: Source) -> Arrays:
    from fastcnn import reference

    x, dy = _relu_pool_data(p, source)["x"], source.signal(*p.geometry.output_shape)
    _, mask, passes = reference.relu_max_pool2d(x, **p.options, return_mask=True)
    return {"x": x, "dy": dy, "mask": mask, "passes": passes}


def _relu_max_pool2d(ops: Namespace, p: PoolProblem, a: Arrays) -> Arrays:
    y, mask, passes = ops.relu_max_pool2d(a["x"], **p.options, return_mask=True)
    return {"y": y, "mask": mask, "passes": passes}


def _relu_max_pool2d_grad(ops: Namespace, p: PoolProblem, a: Arrays) -> Arrays:
    shape = p.geometry.input_shape
    dx = ops.relu_max_pool2d_grad(a["dy"], a["mask"], a["passes"], shape, **p.options)
    return {"dx": dx}


def _relu_pool_bytes(p: PoolProblem, itemsize: int) -> int:
    """Those of pooling, and `passes`."""
    return _bytes(p, itemsize) + prod(p.geometry.output_shape)


def _dense_data(p: DenseProblem, source: Source) -> Arrays:
    return {"x": source.signal(p.N, p.I), "w": source.weights(p.O, p.I), "b": source.weights(p.O)}


def _dense_grad_data(p: DenseProblem, source: Source) -> Arrays:
    return {"x": source.signal(p.N, p.I), "dy": source.signal(p.N, p.O),
            "w": source.weights(p.O, p.I)}  # fmt: skip


def _dense(ops: Namespace, p: DenseProblem, a: Arrays) -> Arrays:
    return {"y": ops.dense(a["x"], a["w"], a["b"])}


def _dense_input_grad(ops: Namespace, p: DenseProblem, a: Arrays) -> Arrays:
    return {"dx": ops.dense_input_grad(a["dy"], a["w"])}


def _dense_weight_grad(ops: Namespace, p: DenseProblem, a: Arrays) -> Arrays:
    return {"dw": ops.dense_weight_grad(a["x"], a["dy"]), "db": ops.dense_bias_grad(a["dy"])}


def _activation_data(p: ShapeProblem, source: Source) -> Arrays:
    return {"x": source.signal(*p.shape)}


def _activation_grad_data(name: str, p: ShapeProblem, source: Source) -> Arrays:
    """dy, and what the gradient starts from: relu's input, the others' output."""
    from fastcnn import reference

    x = source.signal(*p.shape)
    if name == "relu":
        x[x == 0] = 1  # where conventions differ
    kept = x if name == "relu" else getattr(reference, name)(x)
    return {"dy": source.signal(*p.shape), "kept": kept}


def _activation(name: str, ops: Namespace, p: ShapeProblem, a: Arrays) -> Arrays:
    return {"y": getattr(ops, name)(a["x"])}


def _activation_grad(name: str, ops: Namespace, p: ShapeProblem, a: Arrays) -> Arrays:
    return {"dx": getattr(ops, f"{name}_grad")(a["dy"], a["kept"])}


def _loss_data(name: str, p: ShapeProblem, source: Source) -> Arrays:
    """Outputs p (or logits z) and targets y: labels for the categorical losses."""
    if name.startswith("categorical"):
        y = source.rng.integers(0, p.shape[1], p.shape[0])
    elif name.startswith("binary"):
        y = np.round(source.probabilities(*p.shape))
    else:
        y = source.signal(*p.shape)
    if name.endswith("_cross_entropy"):
        # away from 0, where log and 1/p are the clamp's business
        return {"p": 0.01 + np.float32(0.98) * source.probabilities(*p.shape), "y": y}
    return {"p": source.signal(*p.shape), "y": y}


def _loss(name: str, ops: Namespace, p: ShapeProblem, a: Arrays) -> Arrays:
    return {"loss": getattr(ops, name)(a["p"], a["y"])}


def _loss_grad(name: str, ops: Namespace, p: ShapeProblem, a: Arrays) -> Arrays:
    return {"dp": getattr(ops, f"{name}_grad")(a["p"], a["y"])}


def _passes(count: int, p: ShapeProblem, itemsize: int) -> int:
    """Bytes of reading and writing `count` arrays of the problem's shape."""
    return count * itemsize * prod(p.shape)


def _loss_bytes(name: str, gradient: bool, p: ShapeProblem, itemsize: int) -> int:
    labels = 8 * p.shape[0] if name.startswith("categorical") else _passes(1, p, itemsize)
    return labels + _passes(2 if gradient else 1, p, itemsize)


def _step(ops: Namespace, p: NetworkProblem, a: Arrays) -> Arrays:
    """Loss and gradients of one step; the namespace is a network."""
    loss, gradients = ops.loss_and_gradients(a["x"], a["y"])
    return {"loss": np.asarray(loss), **gradients}


def _step_data(p: NetworkProblem, source: Source) -> Arrays:
    return p.data(source.rng, source.dtype)


ACTIVATIONS = {"relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh", "softmax": "softmax"}
LOSSES = {
    "binary_cross_entropy": "bce",
    "binary_cross_entropy_with_logits": "bce logit",
    "categorical_cross_entropy": "cce",
    "categorical_cross_entropy_with_logits": "cce logit",
    "half_squared_error": "half sq",
}


def _elementwise() -> list[Measured]:
    found = []
    for name, label in ACTIVATIONS.items():
        groups = ("activations",)
        found += [
            Measured(name, label, name, ShapeProblem, groups, _activation_data,
                     partial(_activation, name), _none, partial(_passes, 2)),
            Measured(f"{name}_grad", f"{label} dx", f"{name}_grad", ShapeProblem, groups,
                     partial(_activation_grad_data, name), partial(_activation_grad, name),
                     _none, partial(_passes, 3)),
        ]  # fmt: skip
    for name, label in LOSSES.items():
        groups, make = ("losses",), partial(_loss_data, name)
        found += [
            Measured(name, label, name, ShapeProblem, groups, make, partial(_loss, name),
                     _none, partial(_loss_bytes, name, False)),
            Measured(f"{name}_grad", f"{label} dx", f"{name}_grad", ShapeProblem, groups, make,
                     partial(_loss_grad, name), _none, partial(_loss_bytes, name, True)),
        ]  # fmt: skip
    return found


MEASURED: dict[str, Measured] = {
    m.name: m
    for m in (
        Measured("conv2d", "conv fwd", "conv2d", ConvProblem, ("forward",),
                 _conv_data, _conv2d, _flops, _bytes, weights=("w", "b")),
        # the same with weights that never change, as in inference
        Measured("conv2d_frozen", "conv frozen", "conv2d", ConvProblem, ("frozen",),
                 _conv_data, _conv2d, _flops, _bytes),
        Measured("conv2d_input_grad", "conv dx", "conv2d_input_grad", ConvProblem, ("dx",),
                 _conv_input_grad_data, _conv2d_input_grad, _flops, _bytes, weights=("w",)),
        Measured("conv2d_weight_grad", "conv dw", "conv2d_weight_grad", ConvProblem, ("dw",),
                 _conv_weight_grad_data, _conv2d_weight_grad, _flops, _bytes),
        Measured("max_pool2d", "pool fwd", "max_pool2d", PoolProblem, ("forward",),
                 _pool_data, _max_pool2d, _none, _bytes),
        Measured("max_pool2d_grad", "pool dx", "max_pool2d_grad", PoolProblem, ("dx",),
                 _pool_grad_data, _max_pool2d_grad, _none, _bytes),
        Measured("relu_max_pool2d", "relu+pool fwd", "relu_max_pool2d", PoolProblem, ("forward",),
                 _relu_pool_data, _relu_max_pool2d, _none, _relu_pool_bytes),
        Measured("relu_max_pool2d_grad", "relu+pool dx", "relu_max_pool2d_grad", PoolProblem,
                 ("dx",), _relu_pool_grad_data, _relu_max_pool2d_grad, _none, _relu_pool_bytes),
        Measured("dense", "dense fwd", "dense", DenseProblem, ("forward",),
                 _dense_data, _dense, _flops, _bytes, weights=("w", "b")),
        Measured("dense_input_grad", "dense dx", "dense_input_grad", DenseProblem, ("dx",),
                 _dense_grad_data, _dense_input_grad, _flops, _bytes, weights=("w",)),
        Measured("dense_weight_grad", "dense dw", "dense_weight_grad", DenseProblem, ("dw",),
                 _dense_grad_data, _dense_weight_grad, _flops, _bytes),
        *_elementwise(),
        Measured("train_step", "step", "", NetworkProblem, ("step",),
                 _step_data, _step, lambda p: p.flops, lambda p, itemsize: 0),
    )
}  # fmt: skip


def chosen(names: list[str] | None) -> list[Measured]:
    """The operations that `--ops` means: names, or group words such as "forward"; None for all.

    Raises
    ------
    ValueError
        A word that means none of them; suggests one.
    """
    from fastcnn.verification.problems import unknown

    if names is None:
        return list(MEASURED.values())
    known = words()
    for name in names:
        if name not in known:
            raise ValueError(unknown("operation", name, known))
    return [m for m in MEASURED.values() if {m.name, *m.groups} & set(names)]


def words() -> list[str]:
    """Every word that `chosen` understands, group words first."""
    groups = dict.fromkeys(g for m in MEASURED.values() for g in m.groups)
    return list(dict.fromkeys([*groups, *MEASURED]))
