"""Choosing algorithms by measuring them, for those who want it, instead of by the cost model."""

from __future__ import annotations

import json
import os
import time
from contextvars import Context
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import functional
from fastcnn.files.replacing import replacing
from fastcnn.geometry import Conv2dGeometry, Pool2dGeometry
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Implementation, Problem
from fastcnn.kernels.selection import IMPLEMENTATIONS, choose, trace

# Rounds in which all candidates take turns, and the seconds that one's turn lasts at the least (or
# one call): the least time of five turns repeats within a few percent on a busy machine.
_ROUNDS = 5
_TURN = 2e-3
# What the cost model prefers stays unless another is faster by this much, which is not noise.
_CLEARLY = 0.95

# Those that take `algorithm=`.
_OPERATIONS = (
    "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_grad",
)  # fmt: skip
_FORMAT = "fastcnn choices 1"

_measured: dict[str, str] = {}
_file: Path | None = None


def autotune(enabled: bool = True, *, file: str | os.PathLike[str] | None = None) -> None:
    """Choose algorithms by measuring them on this machine, in the whole process, from now on.

    The first call of a convolution or pooling on a new problem (geometry, type, precision) then
    runs every algorithm that can serve it, on random numbers, for some 10 ms each, and remembers
    the fastest. As with PyTorch's `cudnn.benchmark`, results can differ in their last bits from run
    to run where two algorithms are equally fast; with a `file` they do not. FASTCNN_VERBOSE=1
    prints what was measured.

    Parameters
    ----------
    enabled : bool
        False goes back to the cost model; what was measured is kept for the next time.
    file : path, optional
        JSON, read now if it exists and rewritten after every measurement: choices for later
        processes on this machine.

    Raises
    ------
    ValueError
        The file is none of these; it is left as it is.
    OSError
        The file cannot be read; or written, from the call that measures.
    """
    global _file
    if file is not None:
        path = Path(file)
        if path.exists():
            _measured.update(_read(path))
        _file = path
    plans.choose_by(_choose if enabled else None)


def _read(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text())
        choices = content["choices"] if content["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no choices of fastcnn.autotune: {error}") from error
    if not isinstance(choices, dict) or not all(isinstance(v, str) for v in choices.values()):
        raise ValueError(f"{path} holds no choices of fastcnn.autotune, format {_FORMAT!r}")
    return choices


def _key(problem: Problem) -> str:
    return f"{problem} precision={problem.precision}"


def _choose(problem: Problem) -> Implementation:
    """What was measured to be the fastest for a problem; measures at first."""
    preferred = choose(problem)
    candidates = [i for i in IMPLEMENTATIONS[problem.operation] if i.supports(problem) is None]
    by_name = {candidate.name: candidate for candidate in candidates}
    key = _key(problem)
    if _measured.get(key) not in by_name:
        if len(candidates) < 2 or not _can_measure(problem):
            return preferred
        # in a context of its own, so that nothing of it is recorded (kernels/cpu/replay.py)
        seconds = Context().run(measure, problem, candidates)
        best = min(seconds, key=lambda name: seconds[name])
        keeps = seconds[best] > _CLEARLY * seconds[preferred.name]
        _measured[key] = preferred.name if keeps else best
        times = ", ".join(f"{name} {1e3 * t:.3g} ms" for name, t in seconds.items())
        trace(f"{problem}: {_measured[key]} (measured: {times})")
        if _file is not None:
            with replacing(_file) as out:
                content = {"format": _FORMAT, "choices": _measured}
                out.write(json.dumps(content, indent=1, sort_keys=True).encode())
    return by_name[_measured[key]]


def _can_measure(problem: Problem) -> bool:
    g = problem.geometry
    return (
        problem.operation in _OPERATIONS
        and isinstance(g, Conv2dGeometry | Pool2dGeometry)
        and g.N * g.P * g.Q * g.C > 0
    )


def _call(problem: Problem) -> Any:
    """A function of an algorithm's name that runs the problem once, on random numbers."""
    g: Any = problem.geometry
    rng = np.random.default_rng(0)

    def numbers(shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape, np.dtype(problem.dtype))

    window = {"stride": g.stride, "padding": g.padding, "dilation": g.dilation}
    if isinstance(g, Conv2dGeometry):
        window["groups"] = g.groups
        given: tuple[Any, ...] = {
            "conv2d": lambda: (numbers(g.input_shape), numbers(g.weight_shape)),
            "conv2d_input_grad": lambda: (
                numbers(g.output_shape), numbers(g.weight_shape), g.input_shape,
            ),
            "conv2d_weight_grad": lambda: (
                numbers(g.input_shape), numbers(g.output_shape), g.weight_shape,
            ),
        }[problem.operation]()  # fmt: skip
    else:
        window["ceil_mode"] = g.ceil_mode
        kernel = (g.R, g.S)
        x = numbers(g.input_shape)
        if problem.operation.endswith("_grad"):
            y, mask = functional.max_pool2d(
                x, kernel, **window, return_mask=True, algorithm="portable"
            )
            given = (y, mask, g.input_shape, kernel)
        else:
            given = (x, kernel)
            window["return_mask"] = True
    operation = getattr(functional, problem.operation)
    return lambda name: operation(*given, **window, algorithm=name)


def measure(problem: Problem, candidates: list[Implementation]) -> dict[str, float]:
    """The least seconds of a call by each candidate's name, in turns, on random numbers.

    Parameters
    ----------
    problem : Problem
        Of a convolution or pooling on at least one output element.
    candidates : list of Implementation
        That can serve it.
    """
    call = _call(problem)
    repeats = {}
    for candidate in candidates:
        call(candidate.name)  # compiles
        start = time.perf_counter()
        call(candidate.name)
        repeats[candidate.name] = 1 + int(_TURN / (time.perf_counter() - start))
    best = dict.fromkeys(repeats, float("inf"))
    for _ in range(_ROUNDS):
        for name, count in repeats.items():
            start = time.perf_counter()
            for _ in range(count):
                call(name)
            best[name] = min(best[name], (time.perf_counter() - start) / count)
    return best
