"""One case: an operation on a problem with data of its own, and how far an answer is from right.

The judge is the reference on float64 copies of the inputs. The size of a disagreement is

    ||got - want|| / max(||want||, ||want' - want|| / eps, tiny sqrt(size))

where want' is the reference's answer when each input is moved by about one rounding, at random, and
tiny the smallest normal number. The last two terms are the guard. Where a sum cancels
(or a result is zero but for rounding), ||want|| says nothing about the numbers that were rounded on
the way, and any computation in that type errs by as much; below tiny, numbers have fewer digits.
They are worked out only if ||want|| alone would find a result wrong. Masks must be equal, and so
must everything where the bound is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any
from zlib import crc32

import numpy as np

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Implementation
from fastcnn.verification.bounds import limit
from fastcnn.verification.kinds import Problem
from fastcnn.verification.operations import Call, Operation, Source

Array = np.ndarray

# How often the inputs are moved: with few elements, the random moves of one time may cancel.
_MOVES = 4


def run(
    operation: Operation, function: Callable[..., Any], call: Call, device: str = "cpu"
) -> list[Array]:
    """The results of a call: what it returns, or the arguments that it changes in place."""
    args = [a.copy() if i in operation.updated else a for i, a in enumerate(call.args)]
    if device == "cuda":
        args = [fastcnn.to_device(a) if isinstance(a, np.ndarray) else a for a in args]
    result = function(*args, **call.options)
    if operation.updated:
        result = tuple(args[i] for i in operation.updated)
    return [fastcnn.to_host(r) for r in (result if isinstance(result, tuple) else (result,))]


def _distance(got: Sequence[Array], want: Sequence[Array]) -> float:
    """Norm of the difference of all arrays of floats together."""
    pairs = ((g, w) for g, w in zip(got, want, strict=True) if g.dtype.kind == "f")
    return float(np.sqrt(sum(np.square(g.astype(np.float64) - w).sum() for g, w in pairs)))


def _finite(arrays: Sequence[Array]) -> list[Array]:
    return [np.nan_to_num(a, nan=0.0, posinf=0.0, neginf=0.0) for a in arrays]


@dataclass
class Truth:
    """The right answer to a call whose arrays of floats are all of one type."""

    operation: Operation
    call: Call
    dtype: str

    def _answer(self, move: Callable[[Array], Array] = lambda a: a) -> list[Array]:
        """The reference's answer to the same call in float64, its arrays moved."""
        args = (
            move(a.astype(np.float64)) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a
            for a in self.call.args
        )
        call = Call(tuple(args), self.call.options)
        return run(self.operation, getattr(reference, self.operation.name), call)

    @cached_property
    def want(self) -> list[Array]:
        return self._answer()

    @cached_property
    def _guard(self) -> float:
        """The least ||want|| that counts; see above."""
        info, rng = np.finfo(self.dtype), np.random.default_rng(0)
        moved = 0.0
        for _ in range(_MOVES):
            other = self._answer(lambda a: a * (1 + info.eps * rng.standard_normal(a.shape)))
            moved = max(moved, _distance(_finite(other), _finite(self.want)))
        size = sum(w.size for w in self.want)
        return max(moved / float(info.eps), float(info.tiny) * sqrt(size))

    def judge(self, got: list[Array], bound: float) -> tuple[float, str]:
        """Relative error of results, and what else is wrong with them."""
        for g, w in zip(got, self.want, strict=True):
            dtype = np.dtype(self.dtype) if w.dtype.kind == "f" else w.dtype
            if g.shape != w.shape or g.dtype != dtype:
                return np.inf, f"{g.dtype} {g.shape} instead of {dtype} {w.shape}"
            if w.dtype.kind != "f" and not np.array_equal(g, w):
                return np.inf, f"{np.count_nonzero(g != w)} of {w.size} integers differ"
            strange = ~(np.isfinite(g) & np.isfinite(w))
            if not np.array_equal(g[strange], w[strange].astype(g.dtype), equal_nan=True):
                return np.inf, "NaN or infinite where it should not be, or not where it should"
        want = _finite(self.want)
        distance = _distance(_finite(got), want)
        if distance == 0:
            return 0.0, ""
        norm = _distance(want, [np.zeros(())] * len(want))
        if bound > 0 and not distance <= bound * norm:
            norm = max(norm, self._guard)
        return (distance / norm if norm > 0 else np.inf), ""


@dataclass
class Case:
    """An operation on a problem with data of its own."""

    operation: Operation
    problem: Problem
    data: str
    dtype: str
    seed: int

    @cached_property
    def truth(self) -> Truth:
        # From what is said about the case, not from its number: alone, it has the same data.
        text = f"{self.operation.name} {self.problem} {self.data} {self.dtype}"
        source = Source(
            np.random.default_rng((self.seed, crc32(text.encode()))), self.dtype, self.data
        )
        return Truth(self.operation, self.operation.make(self.problem, source), self.dtype)

    def bound(self, implementation: Implementation) -> float:
        """What this implementation promises here."""
        transforms, rounding = implementation.transforms, implementation.rounding
        return limit(self.operation.name, self.dtype, self.problem, self.data, transforms, rounding)

    def judge(self, got: list[Array], bound: float) -> tuple[float, str]:
        """Relative error of results, and what else is wrong with them."""
        return self.truth.judge(got, bound)

    def answer(self, implementation: Implementation, device: str = "cpu") -> list[Array]:
        """What an implementation makes of it. CannotServe if it does not support the problem."""
        function = getattr(functional, self.operation.name)
        # Memory that is freed here is what the function is likely to be given for its result: an
        # element that is never written is then NaN, not what stood there after an earlier call.
        for w in self.truth.want:
            np.full(w.shape, np.nan, self.dtype)
        with plans.only(self.operation.name, implementation):
            return run(self.operation, function, self.truth.call, device)
