"""Plans: what is settled once for a geometry and kept, so that a repeated call only computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, wraps
from importlib import import_module
from typing import Any

from fastcnn.geometry import Conv2dGeometry, Extent
from fastcnn.kernels import precision
from fastcnn.kernels.implementation import Geometry, Implementation, Problem
from fastcnn.kernels.selection import choose, trace

# A network has tens of geometries; the bound only stops a sweep over shapes from growing for ever.
_KEPT = 1024

# Seconds of a small call on one core: of one that launches several kernels 10 to 30 us are Python.
_SMALL = 1e-3


@dataclass(frozen=True)
class Plan:
    """A problem, the implementation chosen for it, and the function to call.

    Attributes
    ----------
    run : callable
        Called with the geometry and canonical arrays, the output among them; of a weight gradient
        also with db behind dw, for the bias gradient.
    workspace : int
        Bytes of scratch memory that each thread needs at the most.
    pack : callable or None
        Makes, from (operation, geometry, w), what `run` takes as `packed=`; None if it takes none.
    algorithm : str
        What was asked for; "auto" for whatever the cost models choose.
    small : bool
        Whether a call's own time shows beside the arithmetic's, so that a recipe pays.
    """

    problem: Problem
    implementation: Implementation
    run: Callable[..., Any]
    workspace: int
    pack: Callable[..., Any] | None
    algorithm: str = "auto"
    small: bool = False


def _tracing(run: Callable[..., Any], problem: Problem) -> Callable[..., Any]:
    """`run`, with what it says about how it came to its result traced."""

    @wraps(run)
    def traced(*args: Any, **options: Any) -> None:
        tape = _tape.get()
        if tape is not None:
            tape.conditional = True
        remark = run(*args, **options)
        if remark is not None:
            trace(f"{problem}: {remark}")

    return traced


def _with_bias(run: Callable[..., Any], problem: Problem) -> Callable[..., Any]:
    """A weight gradient's `run`, which leaves a `db` behind dw to the bias gradient's."""

    @wraps(run)
    def both(g: Conv2dGeometry, x: Any, dy: Any, dw: Any, db: Any = None) -> Any:
        if db is not None:
            extent = Extent(g.output_shape)
            plan("conv2d_bias_grad", extent, problem.dtype, device=problem.device).run(
                extent, dy, db
            )
        return run(g, x, dy, dw)

    return both


def _make(problem: Problem, implementation: Implementation, algorithm: str = "auto") -> Plan:
    run, pack = implementation.load(problem.operation), None
    if problem.operation == "conv2d_weight_grad" and not implementation.sums_dy:
        run = _with_bias(run, problem)
    if implementation.transforms:
        run = _tracing(run, problem)
    if problem.device == "cpu" and problem.operation in ("conv2d", "conv2d_input_grad"):
        pack = implementation.packer()
    small = problem.device == "cpu" and implementation.cost(problem) <= _SMALL
    workspace = implementation.workspace(problem)
    return Plan(problem, implementation, run, workspace, pack, algorithm, small)


@lru_cache(maxsize=_KEPT)
def _plan(
    operation: str, geometry: Geometry, dtype: str, in_force: str, algorithm: str, device: str
) -> Plan:
    problem = Problem(operation, geometry, dtype, in_force, device)
    if algorithm == "auto" and _chooser is not None and device == "cpu":
        return _make(problem, _chooser(problem))
    return _make(problem, choose(problem, algorithm), algorithm)


# By precision, an object for as long as plans last.
_marks: dict[str, object] = {}


# Who chooses in place of the cost model.
_chooser: Callable[[Problem], Implementation] | None = None


def choose_by(chooser: Callable[[Problem], Implementation] | None) -> None:
    """Let a function choose the implementation of every problem, once; None: the cost model."""
    global _chooser
    _chooser = chooser
    forget()


def forget() -> None:
    """Make every plan anew."""
    _plan.cache_clear()
    _marks.clear()


class CannotServe(ValueError):
    """The implementation that `only` prescribes does not support a problem; says why."""


_prescribed: ContextVar[tuple[str, Implementation] | None] = ContextVar(
    "fastcnn_prescribed", default=None
)


@contextmanager
def only(operation: str, implementation: Implementation) -> Iterator[None]:
    """Within a `with` block, let this implementation serve every call of an operation.

    For comparing implementations of operations that take no `algorithm=`. Whatever the list holds
    and earlier calls have kept is passed over. A problem that the implementation does not support
    raises CannotServe.
    """
    token = _prescribed.set((operation, implementation))
    try:
        yield
    finally:
        _prescribed.reset(token)


def _prescribed_plan(problem: Problem, implementation: Implementation) -> Plan:
    reason = implementation.supports(problem)
    if reason is not None:
        raise CannotServe(f"{implementation.name} cannot serve {problem}: {reason}")
    return _make(problem, implementation)


def plan(
    operation: str,
    geometry: Geometry,
    dtype: str,
    algorithm: str = "auto",
    device: str = "cpu",
) -> Plan:
    """The plan for an operation on a geometry, in the precision in force.

    Parameters
    ----------
    operation : str
        A key of `selection.IMPLEMENTATIONS` or `ON_CUDA`.
    geometry : Conv2dGeometry, Pool2dGeometry, DenseGeometry or Extent
    dtype : str
        "float32" or "float64".
    algorithm : str
        "auto" or a name from the operation's list.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    TypeError, ValueError
        From `selection.choose`, for an algorithm that does not exist or cannot serve.
    """
    in_force = precision.current()
    prescribed = _prescribed.get()
    if prescribed is not None and prescribed[0] == operation:
        problem = Problem(operation, geometry, dtype, in_force, device)
        return _prescribed_plan(problem, prescribed[1])
    if not isinstance(algorithm, str):  # an unhashable one would fail in the cache
        choose(Problem(operation, geometry, dtype, in_force, device), algorithm)  # raises
    return _plan(operation, geometry, dtype, in_force, algorithm, device)


def in_force() -> object:
    """What plans hang on besides their problems: the same object while they stay the same.

    None within `only`, whose plans last for one call.
    """
    if _prescribed.get() is not None:
        return None
    name = precision.current()
    mark = _marks.get(name)
    return _marks.setdefault(name, object()) if mark is None else mark


# What is being recorded in this thread or task.
_tape: ContextVar[Any] = ContextVar("fastcnn_recorded", default=None)


@contextmanager
def recording() -> Iterator[Any]:
    """Within a `with` block, record all launches: gives the Tape of kernels/cpu/replay.py.

    The tape is `conditional` if an algorithm looked at the numbers to decide what to launch.
    """
    with import_module("fastcnn.kernels.cpu.replay").recording() as tape:
        token = _tape.set(tape)
        try:
            yield tape
        finally:
            _tape.reset(token)


def recipe_of(
    run: Callable[..., Any], inputs: list[Any], outputs: list[Any], tells: bool = False
) -> Any:
    """How to repeat a call in one (kernels/cpu/recipe.py); None where that cannot be done."""
    return import_module("fastcnn.kernels.cpu.recipe").recipe_of(run, inputs, outputs, tells)


def is_recording() -> bool:
    """Whether launches are recorded in this thread or task."""
    return _tape.get() is not None
