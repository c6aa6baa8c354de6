"""What a problem is, and one way to solve it: a kernel file, what it serves, costs and needs.

Kernel files below `kernels/cpu` and `kernels/cuda` state by functions of their own what they refuse
(`refusal`), the estimated seconds on one core (`cost`) and the bytes of scratch memory of a thread
(`workspace`). They are imported when they are first asked, never before.

Rates in `cost` are of a Zen 5 core; the smallest calls (`CALL`) of convolutions are of a Zen 4 core
and of calls that are repeated (`functional/repeated.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry, DenseGeometry, Extent, Pool2dGeometry

Geometry = Conv2dGeometry | Pool2dGeometry | DenseGeometry | Extent


@dataclass(frozen=True)
class Problem:
    """What a choice may depend on. The number of threads is deliberately not here."""

    operation: str
    geometry: Geometry
    dtype: str
    precision: str = "float32"
    device: str = "cpu"

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        known = vars(self.geometry).items()
        fields = (f"{name}={value}" for name, value in known if not name.startswith("_"))
        on = "" if self.device == "cpu" else f" {self.device}"
        return f"{self.operation} {self.dtype}{on} {' '.join(fields)}"


@dataclass(frozen=True)
class Implementation:
    """One way to do one operation.

    Attributes
    ----------
    name : str
        What `algorithm=` takes.
    module : str
        Kernel file below fastcnn.kernels; it has a function named like the operation.
    supports : Problem -> None or str
        None if it can serve the problem, else the reason why not.
    cost : Problem -> float
        Estimated seconds on one core.
    workspace : Problem -> int
        Bytes of scratch memory that one thread needs at the most.
    transforms : bool
        Whether it multiplies transformed numbers, as Winograd's algorithms do: its sums of small
        integers are not exact, it may have to compute a result in another way (its function then
        returns why), and precision "ieee" leaves it out.
    rounding : float
        The relative error with which it rounds the numbers that it multiplies; 0 if it takes them
        as they are.
    sums_dy : bool
        Whether its `conv2d_weight_grad` takes `db` behind dw, the bias gradient, and adds up dy
        while it reads it.
    """

    name: str
    module: str
    supports: Callable[[Problem], str | None]
    cost: Callable[[Problem], float]
    workspace: Callable[[Problem], int]
    transforms: bool = False
    rounding: float = 0.0
    sums_dy: bool = False

    def load(self, operation: str) -> Callable[..., Any]:
        """Import the kernel file and return the function that does the operation."""
        return getattr(import_module(f"fastcnn.kernels.{self.module}"), operation)

    def packer(self) -> Callable[..., Any] | None:
        """The kernel file's `pack(operation, geometry, w)`, if it puts weights in an order."""
        return getattr(import_module(f"fastcnn.kernels.{self.module}"), "pack", None)


def stated(
    name: str, module: str, transforms: bool = False, sums_dy: bool = False
) -> Implementation:
    """An implementation whose file states its refusals, cost and workspace."""

    def ask(question: str) -> Callable[[Problem], Any]:
        def answer(problem: Problem) -> Any:
            statement = getattr(import_module(f"fastcnn.kernels.{module}"), question)
            return statement(problem.operation, problem.geometry, problem.itemsize)

        return answer

    refusal = ask("refusal")

    def supports(problem: Problem) -> str | None:
        if transforms and problem.precision == "ieee":
            return 'precision "ieee" leaves out what multiplies transformed numbers'
        return refusal(problem)

    return Implementation(
        name, module, supports, ask("cost"), ask("workspace"), transforms, sums_dy=sums_dy
    )


def on_cuda(name: str, module: str, rounding: float = 0.0) -> Implementation:
    """An implementation for arrays on a GPU; its file states its refusals, cost and workspace.

    The refusals depend on the precision in force as well. A portable one serves everything, at
    the highest cost.
    """

    def ask(question: str) -> Any:
        return getattr(import_module(f"fastcnn.kernels.cuda.{module}"), question)

    def supports(problem: Problem) -> str | None:
        if name == "portable":
            return None
        settled = problem.operation, problem.geometry, problem.itemsize, problem.precision
        return ask("refusal")(*settled)

    def cost(problem: Problem) -> float:
        if name == "portable":
            return inf
        return ask("cost")(problem.operation, problem.geometry, problem.itemsize)

    def workspace(problem: Problem) -> int:
        if name == "portable":
            return 0
        return ask("workspace")(problem.operation, problem.geometry, problem.itemsize)

    return Implementation(name, f"cuda.{module}", supports, cost, workspace, rounding=rounding)
