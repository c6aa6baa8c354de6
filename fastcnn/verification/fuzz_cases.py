"""What a fuzz case calls: an operation, a geometry, arrays in hostile forms, and mistakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.verification.hostile import ARRAY_MISTAKES, FORMS, INTEGER_MISTAKES, VALUES, WRITABLE
from fastcnn.verification.kinds import (
    PoolProblem,
    Problem,
    ShapeProblem,
)
from fastcnn.verification.operations import DATA, OPERATIONS, Call, Operation, Source
from fastcnn.verification.random_problems import random_problem

Array = np.ndarray


def _mask(p: PoolProblem, source: Source) -> Call:
    _, mask, shape = OPERATIONS["max_pool2d_grad"].make(p, source).args
    return Call((mask, shape), p.options)


# Public operations that have no list of implementations.
_OTHERS = {
    "mask_to_indices": Operation("mask_to_indices", PoolProblem, _mask),
    "mask_to_input": Operation("mask_to_input", PoolProblem, _mask),
    "flatten": Operation(
        "flatten", ShapeProblem, lambda p, source: Call((source.signal(*p.shape),), {})
    ),
}
_ALL = tuple({**OPERATIONS, **_OTHERS}.values())

# Where NaN and infinities may be planted: not where a factor of them meets padding, which a direct
# convolution need not multiply at all; and not where inf - inf is or is not met on the way.
_PLANTED = {
    "conv2d": ("x",),
    "conv2d_input_grad": ("dy",),
    "conv2d_weight_grad": ("x",),
    "conv2d_parameter_grads": ("x",),
    "binary_cross_entropy_with_logits": (),
    "categorical_cross_entropy_with_logits": (),
}
_STRANGE = (np.nan, np.inf, -np.inf, -0.0)


@dataclass
class Draft:
    """What a case calls, before its arrays are given their forms."""

    operation: Operation
    problem: Problem
    data: str
    dtype: str
    values: dict[str, Any]
    positional: tuple[str, ...]
    arrays: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    mistaken: str = ""

    def call(self, values: dict[str, Any]) -> Call:
        """Arguments by position where the operation's maker gives them so, others by name."""
        options = {name: value for name, value in values.items() if name not in self.positional}
        return Call(tuple(values[name] for name in self.positional), options)

    @property
    def updated(self) -> list[str]:
        return [self.positional[i] for i in self.operation.updated]

    def __str__(self) -> str:
        what = f"{self.operation.name} {self.problem} {self.dtype} {self.data}"
        return "; ".join([what, *self.notes])


def _one_of(rng: np.random.Generator, values: Any) -> Any:
    values = list(values)
    return values[rng.integers(len(values))]


def _empty_batch(problem: Problem) -> Problem:
    if isinstance(problem, ShapeProblem):
        return replace(problem, shape=(0, *problem.shape[1:]))
    return replace(problem, N=0)


def _one_image(draft: Draft) -> None:
    """Drop the batch axis of the images, where there is one of size 1."""
    p = draft.problem
    if isinstance(p, ShapeProblem) or p.N != 1:
        return
    for name in draft.values.keys() & {"x", "dy", "mask", "input_shape"}:
        value = draft.values[name]
        draft.values[name] = value[1:] if isinstance(value, tuple) else value[0]
    draft.notes.append("no batch axis")


def _plant(draft: Draft, rng: np.random.Generator) -> None:
    """NaN and infinities in one array."""
    floats = [name for name in draft.arrays if draft.values[name].dtype.kind == "f"]
    name = _one_of(rng, _PLANTED.get(draft.operation.name, floats) or [""])
    if name and draft.values[name].size:
        array = draft.values[name].copy()
        places = rng.integers(array.size, size=1 + rng.integers(4))
        array.flat[places] = rng.choice(_STRANGE, len(places))
        draft.values[name] = array
        draft.notes.append(f"{name} with {array.flat[places]}")


def _mistake(draft: Draft, rng: np.random.Generator) -> None:
    """Another value for one argument."""
    function = getattr(reference, draft.operation.name)
    known = inspect.signature(function).parameters
    name = _one_of(rng, [*draft.arrays, *(n for n in known if n in VALUES)])
    if name in draft.arrays:
        integers = draft.values[name].dtype.kind != "f"
        kind, spoil = _one_of(rng, (INTEGER_MISTAKES if integers else ARRAY_MISTAKES).items())
        draft.values[name] = spoil(draft.values[name])
    else:
        draft.values[name] = _one_of(rng, VALUES[name])
        kind = repr(draft.values[name])
    draft.mistaken = name
    draft.notes.append(f"{name} is {kind}")


def draft_of(rng: np.random.Generator) -> Draft:
    operation = _one_of(rng, _ALL)
    dtype, data = _one_of(rng, ("float32", "float64")), _one_of(rng, DATA)
    problem = random_problem(operation.kind, rng)
    while not operation.takes(problem):
        problem = random_problem(operation.kind, rng)
    if rng.random() < 0.07:
        problem = _empty_batch(problem)
    call = operation.make(problem, Source(rng, dtype, data))
    names = tuple(inspect.signature(getattr(reference, operation.name)).parameters)
    positional = names[: len(call.args)]
    values = {**dict(zip(positional, call.args, strict=True)), **call.options}
    arrays = tuple(name for name, value in values.items() if isinstance(value, np.ndarray))
    draft = Draft(operation, problem, data, dtype, values, positional, arrays)
    if rng.random() < 0.25:
        _one_image(draft)
    if rng.random() < 0.25:
        _plant(draft, rng)
    if rng.random() < 0.4:
        _mistake(draft, rng)
    return draft


def dressed(draft: Draft, rng: np.random.Generator) -> tuple[dict[str, Any], list[str]]:
    """The arguments with their arrays in hostile forms, in memory of their own."""
    values, notes = dict(draft.values), []
    for name, value in values.items():
        if not isinstance(value, np.ndarray):
            continue
        if name == draft.mistaken:
            values[name] = value.copy()
            continue
        form = _one_of(rng, WRITABLE if name in draft.updated else FORMS)
        values[name] = FORMS[form](value)
        notes.append(f"{name} {form}")
    return values, notes


def _itself(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array whose elements all lie in the same place."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, dtype), shape, (0,) * len(shape))


_WRONG_OUTPUTS: dict[str, Callable[[tuple[int, ...], Any], Any]] = {
    "of one row more": lambda shape, dtype: np.empty((shape[0] + 1, *shape[1:]), dtype),
    "flat": lambda shape, dtype: np.empty((int(np.prod(shape)), 1, 1, 1, 1), dtype),
    "of another type": lambda shape, dtype: np.empty(shape, np.int32),
    "read-only": lambda shape, dtype: FORMS["read-only"](np.empty(shape, dtype)),
    "a list": lambda shape, dtype: np.empty(shape, dtype).tolist(),
}


def output_of(
    values: dict[str, Any], want: Array, dtype: str, rng: np.random.Generator
) -> tuple[Any, str, bool]:
    """Something to pass as out=, what it is, and whether it is right."""
    kind = rng.random()
    if kind < 0.3:
        name, make = _one_of(rng, _WRONG_OUTPUTS.items())
        return make(want.shape, np.dtype(dtype)), name, False
    if kind < 0.4 and want.size > 1:
        return _itself(want.shape, dtype), "overlapping itself", False
    if kind < 0.7:
        name = next(n for n, v in values.items() if isinstance(v, np.ndarray))
        array = values[name]
        if array.dtype == np.dtype(dtype):
            memory = np.full(array.size + want.size, np.nan, dtype)
            at, to = rng.integers(want.size + 1), rng.integers(array.size + 1)
            values[name] = memory[at : at + array.size].reshape(array.shape)
            values[name][...] = array
            return memory[to : to + want.size].reshape(want.shape), f"overlapping {name}", True
    form = _one_of(rng, WRITABLE)
    return WRITABLE[form](np.full(want.shape, np.nan, dtype)), form, True
