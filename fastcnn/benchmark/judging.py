"""Right or wrong: no side is timed before its result has been held against the reference.

    relative error = ||got - want|| / ||want||

`want` is the reference's, computed in float64 from the same inputs. A single wrong element shows:
among 10 million it makes an error of 3e-4. The masks and indices of pooling must be equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import reference
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.operations import Arrays
from fastcnn.verification.bounds import limit
from fastcnn.verification.kinds import PoolProblem

# What the library promises in norm (fastcnn.precision); Winograd algorithms, ours and peers', are
# held to it where sums are short, and to rounding's own bound where they are long.
_PROMISED = {"float32": 1e-5, "float64": 1e-12}
# A rectifier or a maximum within rounding of a tie decides either way, and each such decision
# changes a gradient by a whole element: whole networks agree less closely than operations.
_NETWORK = {"float32": 5e-3, "float64": 1e-9}
# Where factors are rounded before they are multiplied, as verification/bounds.py has it; over the
# layers of a network such errors add up.
_PROMISED_ROUNDED = {"tf32": 2e-3, "f16": 2e-3, "bf16": 1.6e-2}
_NETWORK_ROUNDED = 20


def expected(case: Case) -> Arrays:
    """The reference's results for the first input set."""
    arrays = case.data()[0]
    if isinstance(case.problem, NetworkProblem):
        network = case.problem.build(dtype="float64", backend="reference")
        own = case.problem.build(dtype=case.dtype)
        network.load_state_dict({k: v.astype(float) for k, v in own.state_dict().items()})
        wide = {k: v.astype(float) if v.dtype.kind == "f" else v for k, v in arrays.items()}
        return case.measured.call(network, case.problem, wide)
    results = case.measured.call(reference, case.problem, arrays)
    if isinstance(case.problem, PoolProblem) and "mask" in results:
        shape, options = case.problem.geometry.input_shape, case.problem.options
        results["indices"] = reference.mask_to_indices(results["mask"], shape, **options)
    return {name: np.asarray(result) for name, result in results.items()}


def save(file: Path, results: Arrays) -> None:
    """For the other processes."""
    np.savez(file, **results)  # type: ignore[arg-type]


def load(file: Path) -> Arrays:
    with np.load(file) as content:
        return dict(content)


def allowed(case: Case, precision: str = "float32") -> float:
    """The largest relative error that counts as right."""
    rounded = _PROMISED_ROUNDED.get(precision, 0.0) if case.dtype == "float32" else 0.0
    if isinstance(case.problem, NetworkProblem):
        return max(_NETWORK[case.dtype], _NETWORK_ROUNDED * rounded)
    if rounded and case.operation.startswith(("conv2d", "dense")):
        return rounded
    bound = limit(case.measured.function, case.dtype, case.problem, "mean-zero")
    return max(_PROMISED[case.dtype], bound)


def error(got: Arrays, want: Arrays) -> float:
    """The worst relative error among results that both have; inf for what no error can measure."""
    return max(_error(np.asarray(got[name]), want[name]) for name in got)


def _error(got: np.ndarray, want: np.ndarray) -> float:
    if got.shape != want.shape:
        return float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(got, want) else float("inf")
    distance = float(np.linalg.norm((got.astype(np.float64) - want).reshape(-1)))
    norm = float(np.linalg.norm(want.astype(np.float64).reshape(-1)))
    if distance == 0:
        return 0.0
    return distance / norm if np.isfinite(distance) and norm > 0 else float("inf")


def negated(results: Arrays) -> Arrays:
    """What a linear operation gives for weights (and bias) of the opposite sign."""
    return {name: -result for name, result in results.items()}


def describe(case: Case, found: float, precision: str = "float32") -> dict[str, Any]:
    """The judgement of one side, for JSON; a relative error of inf is null there."""
    bound = allowed(case, precision)
    return {
        "error": found if np.isfinite(found) else None,
        "allowed": bound,
        "right": bool(found <= bound),
    }
