"""What a side hands to the worker for one case: how to run, check and change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays, Namespace


class Unsupported(Exception):
    """A side does not offer an operation, or not this geometry; says why."""


@dataclass
class Prepared:
    """One side, ready for one case.

    Attributes
    ----------
    run : callable
        (number of an input set) -> anything; the timed call. Done when it returns.
    answer : callable
        (number of an input set) -> results as NumPy arrays in the reference's shapes; not timed.
    change : callable
        Turns the sign of the weights, in place where the library has a place.
    algorithm : str or None
        What served, where the side says so.
    workspace : int or None
        Bytes of scratch memory per thread, where the side says so.
    launch : callable or None
        As `run`, without waiting for the result, where that makes a difference.
    seconds : callable or None
        (number of an input set) -> how long one call takes by the clock of a device; None where
        the host's clock tells.
    """

    run: Callable[[int], Any]
    answer: Callable[[int], Arrays]
    change: Callable[[], None]
    algorithm: str | None = None
    workspace: int | None = None
    launch: Callable[[int], Any] | None = None
    seconds: Callable[[int], float] | None = None


def with_namespace(ops: Namespace, case: Case, sets: list[Arrays]) -> Prepared:
    """A side with fastcnn's own names and signatures: `functional`, `reference` or its loops."""
    measured, problem = case.measured, case.problem

    def run(number: int) -> Arrays:
        return measured.call(ops, problem, sets[number])

    def change() -> None:
        for name in measured.weights:
            np.negative(sets[0][name], out=sets[0][name])

    return Prepared(run, run, change)


def with_network(case: Case, sets: list[Arrays], backend: str) -> Prepared:
    """A network's training step; its parameters change by themselves."""
    network = case.problem.build(case.dtype, backend)  # type: ignore[union-attr]

    def run(number: int) -> Any:
        return network.train_on_batch(sets[number]["x"], sets[number]["y"])

    def answer(number: int) -> Arrays:
        return case.measured.call(network, case.problem, sets[number])

    return Prepared(run, answer, lambda: None)


# Seconds between two events at the least, and calls at the most: by far more than the time from the
# first event to the first launch, which is the host's.
_LEAST = 2e-3
_MOST_CALLS = 1000


def back_to_back(timed: Callable[[int, int], float]) -> Callable[[int], float]:
    """`Prepared.seconds` from what times some calls, one after the other, by a device's clock.

    Parameters
    ----------
    timed : callable
        (number of the first input set, calls) -> seconds of all of them.
    """
    calls = 1

    def seconds(number: int) -> float:
        nonlocal calls
        while True:
            found = timed(number, calls)
            if found >= _LEAST or calls == _MOST_CALLS:
                return found / calls
            # a quarter more than would do, as later calls are faster than the first
            wanted = ceil(1.25 * calls * _LEAST / max(found, 1e-9))
            calls = min(max(wanted, calls + 1), _MOST_CALLS)

    return seconds
