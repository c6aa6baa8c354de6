"""fastcnn's own sides: the automatic choice, and every implementation in the selection list."""

from __future__ import annotations

import inspect
from functools import partial
from types import SimpleNamespace
from typing import Any

import fastcnn
from fastcnn import functional
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import (
    Prepared,
    Unsupported,
    with_namespace,
    with_network,
)
from fastcnn.kernels.implementation import Implementation, Problem
from fastcnn.kernels.plans import only
from fastcnn.kernels.selection import choose, listed


def selection_problem(case: Case) -> Problem:
    """The case as the selection lists see it."""
    geometry = case.problem.geometry  # type: ignore[union-attr]
    return Problem(case.measured.function, geometry, case.dtype)


def variants(case: Case) -> list[str]:
    """ "auto", and every implementation that supports the problem but is not what auto takes."""
    if not case.measured.function:
        return ["auto"]
    return variants_of(selection_problem(case))


def variants_of(problem: Problem) -> list[str]:
    """The same for a problem, wherever its arrays are."""
    chosen = choose(problem)
    others = [i for i in listed(problem) if i.name != chosen.name]
    return ["auto", *(i.name for i in others if i.supports(problem) is None)]


def implementation_of(variant: str, problem: Problem) -> Implementation:
    """What a variant stands for; Unsupported says why it cannot serve the problem."""
    try:
        return choose(problem, variant)
    except ValueError as error:
        raise Unsupported(str(error)) from None


def pinned(operation: str, implementation: Implementation) -> Any:
    """`functional`, with one operation on one implementation.

    Operations that take `algorithm=` get it there, where the plan is kept between calls; for the
    others `plans.only` serves, whose plan is made anew at each call.
    """
    function = getattr(functional, operation)

    def call(*args: Any, **options: Any) -> Any:
        with only(operation, implementation):
            return function(*args, **options)

    takes_it = "algorithm" in inspect.signature(function).parameters
    pinned = {operation: partial(function, algorithm=implementation.name) if takes_it else call}
    if operation == "conv2d_weight_grad":
        both = partial(functional.conv2d_parameter_grads, algorithm=implementation.name)
        pinned["conv2d_parameter_grads"] = both
    return SimpleNamespace(**{**vars(functional), **pinned})


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int) -> Prepared:
    """One of fastcnn's sides. Frozen weights (`conv2d_frozen`) are packed once."""
    fastcnn.set_num_threads(threads)
    if not case.measured.function:
        return with_network(case, sets, "auto")
    problem = selection_problem(case)
    implementation = implementation_of(variant, problem)
    if case.operation == "conv2d_frozen":
        frozen: list[Any] = [fastcnn.PackedWeight(arrays["w"]) for arrays in sets]
        sets = [arrays | {"w": w} for arrays, w in zip(sets, frozen, strict=True)]
    ops = functional if variant == "auto" else pinned(problem.operation, implementation)
    prepared = with_namespace(ops, case, sets)
    prepared.algorithm = implementation.name
    prepared.workspace = implementation.workspace(problem)
    return prepared
