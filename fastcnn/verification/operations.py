"""One small maker of arguments per operation: what comparison, fuzzing and warm-up call them with.

The arguments are those of `fastcnn.functional` and of `fastcnn.reference`, whose signatures are
the same. Every operation in a selection list must be in `OPERATIONS`; a test sees to that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastcnn import reference
from fastcnn.verification.kinds import (
    ConvProblem,
    DenseProblem,
    PoolProblem,
    Problem,
    ShapeProblem,
)

Array = np.ndarray

# mean-zero: as inputs and gradients are; post-relu: half zeros, none negative, so that sums do not
# cancel; integers: small, so that every sum of products is exact and results must be equal
DATA = ("mean-zero", "post-relu", "integers")


class Call(NamedTuple):
    """Arguments of one call."""

    args: tuple[Any, ...]
    options: dict[str, Any]


class Source:
    """Random arrays of one type and one kind of data.

    Parameters
    ----------
    rng : numpy.random.Generator
    dtype : str
        "float32" or "float64".
    data : str
        One of `DATA`.
    """

    def __init__(self, rng: np.random.Generator, dtype: str, data: str) -> None:
        self.rng = rng
        self.dtype = np.dtype(dtype)
        self.data = data

    def signal(self, *shape: int) -> Array:
        """What flows through a network, forward or backward: of this source's kind of data."""
        if self.data == "post-relu":
            return np.maximum(self.weights(*shape), 0)
        return self.weights(*shape)

    def weights(self, *shape: int) -> Array:
        """Mean-zero numbers; whole ones of -4 to 4 for "integers"."""
        if self.data == "integers":
            return self.rng.integers(-4, 4, shape, endpoint=True).astype(self.dtype)
        return self.rng.standard_normal(shape, self.dtype)

    def probabilities(self, *shape: int) -> Array:
        """From 0 to 1; only 0, 1/2 and 1 for "integers"."""
        if self.data == "integers":
            return (self.rng.integers(0, 2, shape, endpoint=True) / 2).astype(self.dtype)
        return self.rng.random(shape, self.dtype)

    def one_of(self, *values: Any) -> Any:
        return values[self.rng.integers(len(values))]


def _conv2d(p: ConvProblem, source: Source) -> Call:
    g = p.geometry
    b = source.one_of(None, source.weights(g.K), source.weights(*g.output_shape[1:]))
    return Call((source.signal(*g.input_shape), source.weights(*g.weight_shape), b), p.options)


def _conv2d_input_grad(p: ConvProblem, source: Source) -> Call:
    g = p.geometry
    dy, w = source.signal(*g.output_shape), source.weights(*g.weight_shape)
    return Call((dy, w, g.input_shape), p.options)


def _conv2d_weight_grad(p: ConvProblem, source: Source) -> Call:
    g = p.geometry
    x, dy = source.signal(*g.input_shape), source.weights(*g.output_shape)
    return Call((x, dy, g.weight_shape), p.options)


def _conv2d_bias_grad(p: ConvProblem, source: Source) -> Call:
    dy = source.signal(*p.geometry.output_shape)
    return Call((dy,), {"per_pixel": source.one_of(False, True)})


def _max_pool2d(p: PoolProblem, source: Source) -> Call:
    return Call((source.signal(*p.geometry.input_shape),), {**p.options, "return_mask": True})


def _max_pool2d_grad(p: PoolProblem, source: Source) -> Call:
    x = source.signal(*p.geometry.input_shape)
    y, mask = reference.max_pool2d(x, **p.options, return_mask=True)
    return Call((source.signal(*y.shape), mask, x.shape), p.options)


def _relu_max_pool2d_grad(p: PoolProblem, source: Source) -> Call:
    x = source.weights(*p.geometry.input_shape)
    y, mask, passes = reference.relu_max_pool2d(x, **p.options, return_mask=True)
    return Call((source.signal(*y.shape), mask, passes, x.shape), p.options)


def _signal(p: ShapeProblem, source: Source) -> Call:
    # 30: far into the tails, where careless formulas overflow
    return Call((source.one_of(1, 1, 30) * source.signal(*p.shape),), {})


def _relu_grad(p: ShapeProblem, source: Source) -> Call:
    arrays = source.weights(*p.shape), source.signal(*p.shape)
    return Call(arrays, {"at_zero": source.one_of(1.0, 0.0)})


def _from_output(activation: Callable[..., Array]) -> Callable[[ShapeProblem, Source], Call]:
    def make(p: ShapeProblem, source: Source) -> Call:
        return Call((source.weights(*p.shape), activation(source.signal(*p.shape))), {})

    return make


def _softmax(p: ShapeProblem, source: Source) -> Call:
    return Call(_signal(p, source).args, {"axis": source.one_of(*range(-1, len(p.shape) - 1))})


def _softmax_grad(p: ShapeProblem, source: Source) -> Call:
    (x,), options = _softmax(p, source)
    return Call((source.weights(*p.shape), reference.softmax(x, **options)), options)


def _dense(p: DenseProblem, source: Source) -> Call:
    b = source.one_of(None, source.weights(p.O))
    return Call((source.signal(p.N, p.I), source.weights(p.O, p.I), b), {})


def _dense_input_grad(p: DenseProblem, source: Source) -> Call:
    return Call((source.signal(p.N, p.O), source.weights(p.O, p.I)), {})


def _dense_weight_grad(p: DenseProblem, source: Source) -> Call:
    return Call((source.signal(p.N, p.I), source.weights(p.N, p.O)), {})


def _dense_bias_grad(p: DenseProblem, source: Source) -> Call:
    return Call((source.signal(p.N, p.O),), {})


def _reduction(source: Source) -> dict[str, Any]:
    return {"reduction": source.one_of("mean", "sum", "none")}


def _targets(source: Source, shape: tuple[int, ...]) -> Array:
    """Of a binary loss: in half of the draws 0 and 1 alone."""
    y = source.probabilities(*shape)
    return source.one_of(y, np.round(y))


def _binary(p: ShapeProblem, source: Source) -> Call:
    p_ = source.probabilities(*p.shape)
    return Call((p_, _targets(source, p.shape)), _reduction(source))


def _binary_logits(p: ShapeProblem, source: Source) -> Call:
    (z,), _ = _signal(p, source)
    return Call((z, _targets(source, p.shape)), _reduction(source))


def _classes(source: Source, images: int, classes: int) -> Array:
    """Integer labels, rows of one 1, or rows of probabilities."""
    labels = source.rng.integers(0, classes, images)
    one_hot = np.zeros((images, classes), source.dtype)
    one_hot[np.arange(images), labels] = 1
    rows = source.probabilities(images, classes) + one_hot
    return source.one_of(labels, one_hot, rows / rows.sum(axis=1, keepdims=True))


def _categorical(p: ShapeProblem, source: Source) -> Call:
    return Call((source.probabilities(*p.shape), _classes(source, *p.shape)), _reduction(source))


def _categorical_logits(p: ShapeProblem, source: Source) -> Call:
    (z,), _ = _signal(p, source)
    return Call((z, _classes(source, *p.shape)), _reduction(source))


def _squared(p: ShapeProblem, source: Source) -> Call:
    return Call((source.signal(*p.shape), source.weights(*p.shape)), _reduction(source))


def _sgd_step(p: ShapeProblem, source: Source) -> Call:
    return Call((source.weights(*p.shape), source.signal(*p.shape), 0.05), {})


def _momentum_step(p: ShapeProblem, source: Source) -> Call:
    w, dw, velocity = (source.weights(*p.shape) for _ in range(3))
    return Call((w, dw, velocity, 0.05), {"nesterov": source.one_of(False, True)})


def _adam_step(p: ShapeProblem, source: Source) -> Call:
    w, dw, m = (source.weights(*p.shape) for _ in range(3))
    return Call((w, dw, m, source.probabilities(*p.shape), source.one_of(1, 2, 1000)), {})


@dataclass(frozen=True)
class Operation:
    """An operation and how to call it.

    Attributes
    ----------
    name : str
        In `fastcnn.functional`, `fastcnn.reference` and `selection.IMPLEMENTATIONS`.
    kind : type
        The kind of problem it runs on.
    make : callable
        (problem, Source) -> Call
    updated : tuple of int
        Positions of the arguments that it changes in place.
    rank : int
        Dimensions a shape must have; 0 for any.
    """

    name: str
    kind: type[Problem]
    make: Callable[[Any, Source], Call]
    updated: tuple[int, ...] = ()
    rank: int = 0

    def takes(self, problem: Problem) -> bool:
        """Whether it can run on this problem."""
        if not isinstance(problem, self.kind):
            return False
        return not (isinstance(problem, ShapeProblem) and self.rank not in (0, len(problem.shape)))


_over_classes = partial(Operation, kind=ShapeProblem, rank=2)
_elementwise = partial(Operation, kind=ShapeProblem)
_LOSSES = (
    _elementwise("binary_cross_entropy", make=_binary),
    _elementwise("binary_cross_entropy_with_logits", make=_binary_logits),
    _over_classes("categorical_cross_entropy", make=_categorical),
    _over_classes("categorical_cross_entropy_with_logits", make=_categorical_logits),
    _elementwise("half_squared_error", make=_squared),
)
_ALL = (
    Operation("conv2d", ConvProblem, _conv2d),
    Operation("conv2d_input_grad", ConvProblem, _conv2d_input_grad),
    Operation("conv2d_weight_grad", ConvProblem, _conv2d_weight_grad),
    Operation("conv2d_bias_grad", ConvProblem, _conv2d_bias_grad),
    Operation("conv2d_parameter_grads", ConvProblem, _conv2d_weight_grad),
    Operation("max_pool2d", PoolProblem, _max_pool2d),
    Operation("max_pool2d_grad", PoolProblem, _max_pool2d_grad),
    Operation("relu_max_pool2d", PoolProblem, _max_pool2d),
    Operation("relu_max_pool2d_grad", PoolProblem, _relu_max_pool2d_grad),
    _elementwise("relu", make=_signal),
    _elementwise("relu_grad", make=_relu_grad),
    _elementwise("sigmoid", make=_signal),
    _elementwise("sigmoid_grad", make=_from_output(reference.sigmoid)),
    _elementwise("tanh", make=_signal),
    _elementwise("tanh_grad", make=_from_output(reference.tanh)),
    _elementwise("softmax", make=_softmax),
    _elementwise("softmax_grad", make=_softmax_grad),
    Operation("dense", DenseProblem, _dense),
    Operation("dense_input_grad", DenseProblem, _dense_input_grad),
    Operation("dense_weight_grad", DenseProblem, _dense_weight_grad),
    Operation("dense_bias_grad", DenseProblem, _dense_bias_grad),
    _elementwise("sgd_step", make=_sgd_step, updated=(0,)),
    _elementwise("momentum_step", make=_momentum_step, updated=(0, 2)),
    _elementwise("adam_step", make=_adam_step, updated=(0, 2, 3)),
    *_LOSSES,
    *(replace(loss, name=f"{loss.name}_grad") for loss in _LOSSES),
)
OPERATIONS: dict[str, Operation] = {operation.name: operation for operation in _ALL}
