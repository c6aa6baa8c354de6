"""Random geometries times hostile arrays: the right answer, or one clear error, in both packages.

Each case calls one public operation of `fastcnn.functional`, and of `fastcnn.reference`, with the
same arguments: arrays in any memory layout, with NaN and infinities planted in some, one argument
replaced by a mistake in others, and `out=` of all kinds. Then

- both return, and both agree with the reference on plain float64 arrays; or
- both raise ValueError or TypeError, with a message; and
- no memory has changed but what was to be written.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import functional, reference
from fastcnn.kernels.plans import plan
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.bounds import BOUNDS, limit
from fastcnn.verification.cases import Truth
from fastcnn.verification.fuzz_cases import Draft, draft_of, dressed, output_of

Array = np.ndarray
Progress = Callable[[int, int, str], None]

# A wrong argument that both take may make more terms than the problem has.
_LOOSE = {"float32": 1e-4, "float64": 1e-12}


class _Watch:
    """Memory of arrays, to see afterwards that nothing but what may change has changed."""

    def __init__(self, values: dict[str, Any], changing: list[Array]) -> None:
        self._changing = changing
        self._owners: dict[int, tuple[str, Array, bytearray]] = {}
        for name, value in values.items():
            if isinstance(value, np.ndarray) and value.dtype != object:
                owner = value
                while isinstance(owner.base, np.ndarray):
                    owner = owner.base
                self._owners.setdefault(id(owner), (name, owner, bytearray(_memory(owner))))

    def complaint(self) -> str:
        for name, owner, before in self._owners.values():
            low, _ = np.lib.array_utils.byte_bounds(owner)
            for array in self._changing:
                start = array.__array_interface__["data"][0] - low
                if 0 <= start <= len(before) and array.size and np.shares_memory(array, owner):
                    layout = array.shape, array.dtype
                    np.ndarray(*layout, buffer=before, offset=start, strides=array.strides)[...] = (
                        array
                    )
            if bytes(before) != _memory(owner):
                return f"wrote where it should not, in the memory of {name}"
        return ""


def _memory(owner: Array) -> bytes:
    return owner.tobytes(order="A")


def _outcome(draft: Draft, function: Callable[..., Any], values: dict[str, Any], out: Any) -> Any:
    """The arrays that a call makes, or the exception that it raises."""
    args, options = draft.call(values)
    if out is not None:
        options = {**options, "out": out}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = function(*args, **options)
    except Exception as error:
        return error
    if draft.updated:
        return [np.asarray(values[name]) for name in draft.updated]
    return [np.asarray(r) for r in (result if isinstance(result, tuple) else (result,))]


def _error_complaint(fast: Any, slow: Any) -> str:
    """What is wrong where at least one of the two raised; nothing if both did as they should."""
    for name, found in (("functional", fast), ("reference", slow)):
        if isinstance(found, Exception):
            if not isinstance(found, ValueError | TypeError):
                return f"{name} raised {type(found).__name__}: {found}"
            if len(str(found)) < len("x is wrong"):
                return f"{name} raised {type(found).__name__} without saying why: {found}"
    if isinstance(fast, Exception) != isinstance(slow, Exception):
        return f"functional {_said(fast)}, but reference {_said(slow)}"
    return ""


def _said(found: Any) -> str:
    if isinstance(found, Exception):
        return f"raised {type(found).__name__} ({found})"
    return f"returned {', '.join(f'{a.dtype} {a.shape}' for a in found)}"


def _bound(draft: Draft, dtype: str) -> float:
    if draft.mistaken:
        return _LOOSE[dtype]
    if draft.operation.name not in BOUNDS:
        return 0.0
    name = draft.operation.name
    serves = "conv2d_weight_grad" if name == "conv2d_parameter_grads" else name
    transforms = any(entry.transforms for entry in IMPLEMENTATIONS[serves])
    if transforms:
        serving = plan(serves, draft.problem.geometry, draft.dtype).implementation
        transforms = serving.transforms
    bound = limit(name, draft.dtype, draft.problem, draft.data, transforms)
    # the reference, too, rounds its answer once
    return max(bound, float(np.finfo(draft.dtype).eps)) if bound > 0 else 0.0


def _answer_complaint(draft: Draft, fast: list[Array], slow: list[Array]) -> str:
    """What is wrong with two answers; nothing if both are right."""
    plain = {
        name: np.asarray(value) if name in draft.arrays and value is not None else value
        for name, value in draft.values.items()
    }
    floats = [v.dtype for v in plain.values() if isinstance(v, np.ndarray) and v.dtype.kind == "f"]
    dtype = floats[0].name if floats else draft.dtype
    truth = Truth(draft.operation, draft.call(plain), dtype)
    for name, found in (("functional", fast), ("reference", slow)):
        bound = _bound(draft, dtype)
        error, message = truth.judge(found, bound)
        if not error <= bound:
            return f"{name} is wrong: relative error {error:.2g} {message}"
    return ""


def _native(arrays: list[Array]) -> list[Array]:
    return [a.astype(a.dtype.newbyteorder("="), copy=False) for a in arrays]


def check(seed: int, number: int) -> tuple[str, str]:
    """Run one case.

    Returns
    -------
    description : str
        What was called.
    complaint : str
        What is wrong with the outcome; empty if it is as it should be.
    """
    draft = draft_of(np.random.default_rng((seed, number)))
    name = draft.operation.name
    # The same forms twice, each in memory of its own: operations that work in place change it.
    (values, notes), (others, _) = (
        dressed(draft, np.random.default_rng((seed, number, 1))) for _ in range(2)
    )
    rng = np.random.default_rng((seed, number, 2))
    takes_out = "out" in inspect.signature(getattr(functional, name)).parameters
    slow = _outcome(draft, getattr(reference, name), others, None)
    out, right = None, True
    if takes_out and not draft.mistaken and isinstance(slow, list) and rng.random() < 0.5:
        out, kind, right = output_of(values, slow[0], draft.dtype, rng)
        notes.append(f"out {kind}")
    changing = [values[n] for n in draft.updated if isinstance(values[n], np.ndarray)]
    if isinstance(out, np.ndarray):
        changing.append(out)
    watch = _Watch(values, changing)
    fast = _outcome(draft, getattr(functional, name), values, out)
    description = "; ".join([str(draft), *notes])
    if not right:
        slow = fast if isinstance(fast, Exception) else ValueError("refuses such an output")
    complaint = watch.complaint() or _error_complaint(fast, slow)
    if complaint or isinstance(fast, Exception):
        return description, complaint
    if out is not None and fast[0] is not out:
        return description, "did not return out"
    if out is not None or draft.updated:
        fast, slow = _native(fast), _native(slow)
    return description, _answer_complaint(draft, fast, slow)


@dataclass
class FuzzReport:
    """What a fuzz run found. `str()` says it, with the command that shows each failure again."""

    seed: int
    cases: int
    failures: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = "number", "description", "complaint"
        failures = [dict(zip(names, failure, strict=True)) for failure in self.failures]
        return {
            "seed": self.seed,
            "cases": self.cases,
            "pass": self.passed,
            "failures": failures,
        }

    def __str__(self) -> str:
        lines = [f"{self.cases} cases from seed {self.seed}: {len(self.failures)} wrong"]
        for number, description, complaint in self.failures:
            lines += [
                "",
                f"case {number}: {description}",
                f"  {complaint}",
                f"  again: fastcnn compare --fuzz 1 --first {number} --seed {self.seed}",
            ]
        return "\n".join(lines)


def fuzz(
    cases: int = 2000, *, seed: int = 0, first: int = 0, progress: Progress | None = None
) -> FuzzReport:
    """Call every public operation with random geometries, hostile arrays and mistakes.

    Parameters
    ----------
    cases : int
        How many calls.
    seed : int
        All cases follow from it and their numbers.
    first : int
        Number of the first case, to run one again.
    progress : callable, optional
        Called with (done, total, "seed ...") after every case.

    Returns
    -------
    FuzzReport
    """
    report = FuzzReport(seed, cases)
    for number in range(first, first + cases):
        description, complaint = check(seed, number)
        if complaint:
            report.failures.append((number, description, complaint))
        if progress is not None:
            progress(number - first + 1, cases, f"seed {seed}")
    return report
