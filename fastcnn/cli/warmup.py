"""Compile kernels ahead of their first use, and keep them in the cache for later processes.

By default every implementation of every operation; with --suite, what the layers of a suite would
choose.
"""

from __future__ import annotations

import argparse
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastcnn import functional
from fastcnn.cli.facts import cache_folder
from fastcnn.cli.options import DTYPES, names
from fastcnn.cli.progress import Progress
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Implementation
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.cases import run as call
from fastcnn.verification.kinds import Problem
from fastcnn.verification.operations import OPERATIONS, Source
from fastcnn.verification.problems import find, suite, suites
from fastcnn.verification.random_problems import random_problem

# Of each kind, a call too small to share among threads and some that are shared; kernels that are
# special to a geometry; and a mask that takes more than a byte.
_PROBLEMS = (
    *("n1c1h6k1r3", "n2c3h32k32r3p1", "n1c32h28k32r3p1", "n2c32h28k64r1", "n1c32h28k32r3st2p1"),
    *("n2c32h28k32r3p1g32", "n1c32h28k32r5p2", "n4c1h28k6r5p2", "n2c3h96k32r3p1"),
    *("n1c1h4r2", "n2c32h56r2", "n2c32h56r3st2p1", "n2c16h56r3st1p1", "n2c8h40r17"),
    *("n1i4o1", "n64i400o120"),
    *("4", "2x3", "64x32x14x14", "256x2000"),
)
# How many random problems are tried for an implementation that serves none of these.
_DRAWS = 300


# No operation has more than three choices in an argument.
_TURNS = 3


class _Step(NamedTuple):
    operation: str
    implementation: Implementation | None  # None: the one that is chosen
    dtype: str
    problems: list[Problem]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastcnn warmup`."""
    add = parser.add_argument
    add("--suite", type=names("suite", suites()), metavar="NAMES", help=", ".join(suites()))
    add("--ops", type=names("operation", IMPLEMENTATIONS), metavar="NAMES", help="operations (all)")
    add(
        "--dtype",
        type=names("type", DTYPES),
        default=list(DTYPES),
        metavar="TYPES",
        help="float32, float64 (both)",
    )


def _steps(arguments: argparse.Namespace) -> list[_Step]:
    steps = []
    for name in arguments.ops or IMPLEMENTATIONS:
        fixed = [find(text) for text in _PROBLEMS]
        if arguments.suite:
            fixed = [p.scaled(batch=1) for layers in arguments.suite for p in suite(layers)]
        problems = [p for p in fixed if OPERATIONS[name].takes(p)]
        chosen = [None] if arguments.suite else IMPLEMENTATIONS[name]
        if problems:
            steps += [_Step(name, i, dtype, problems) for i in chosen for dtype in arguments.dtype]
    return steps


class _Turns(Source):
    """Arrays for one call; where there is a choice (no bias, or one), turn after turn another."""

    def __init__(self, dtype: str, turn: int) -> None:
        super().__init__(np.random.default_rng(0), dtype, "mean-zero")
        self._turn = turn

    def one_of(self, *values: Any) -> Any:
        return values[self._turn % len(values)]


def _call(step: _Step, problem: Problem) -> bool:
    """Call the operation on a problem, in all its turns; False if it is not supported."""
    operation, function = OPERATIONS[step.operation], getattr(functional, step.operation)
    served: AbstractContextManager[None] = nullcontext()
    if step.implementation is not None:
        served = plans.only(step.operation, step.implementation)
    try:
        with served:
            for turn in range(_TURNS):
                call(operation, function, operation.make(problem, _Turns(step.dtype, turn)))
    except plans.CannotServe:
        return False
    return True


def _compile(step: _Step) -> None:
    """Call the operation on all of the step's problems, or on the first random one it serves."""
    if sum(_call(step, problem) for problem in step.problems):
        return
    rng, operation = np.random.default_rng(0), OPERATIONS[step.operation]
    draws = (random_problem(operation.kind, rng) for _ in range(_DRAWS))
    next((p for p in draws if operation.takes(p) and _call(step, p)), None)


def run(arguments: argparse.Namespace) -> int:
    """Compile, and say how long it took and what is kept."""
    steps = _steps(arguments)
    before, start = _kept(), time.perf_counter()
    with Progress("compiling") as progress:
        for done, step in enumerate(steps):
            name = step.implementation.name if step.implementation else "auto"
            progress.update(done, len(steps), f"{step.operation} {name} {step.dtype}")
            _compile(step)
    seconds, kept = time.perf_counter() - start, _kept()
    print(f"{len({step.operation for step in steps})} operations ready after {seconds:.1f} s")
    if cache_folder() is None:
        print("the kernels are not kept: the cache is off, or has no folder that can be written to")
    else:
        print(f"{len(kept - before)} kernels compiled, {len(kept)} kept in {cache_folder()}")
    return 0


def _kept() -> set[Path]:
    """Files of compiled kernels."""
    folder = cache_folder()
    return set() if folder is None else set(Path(folder).glob("*.nbc"))
