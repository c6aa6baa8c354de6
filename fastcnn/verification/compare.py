"""Every implementation in every selection list against the reference, on the machine at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np

import fastcnn
from fastcnn.arguments import one_of, whole
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Implementation
from fastcnn.kernels.selection import IMPLEMENTATIONS, ON_CUDA
from fastcnn.verification import problems as named
from fastcnn.verification.cases import Array, Case
from fastcnn.verification.operations import DATA, OPERATIONS, Operation
from fastcnn.verification.problems import Problem, unknown
from fastcnn.verification.random_problems import random_problem
from fastcnn.verification.report import Report, Row

Progress = Callable[[int, int, str], None]


class NothingToCompare(ValueError):
    """No implementation that was asked for runs on any problem that was asked for."""


# Suites of small layers: enough to find what is wrong, in a fraction of the time.
QUICK = ("seeds", "small_images", "odd", "pooling", "dense", "elementwise")

# A specialised implementation serves few random problems: how many are drawn, at the most, for each
# case asked for.
_DRAWS_PER_CASE = 50


def _examine(
    case: Case, implementation: Implementation, threads: Sequence[int], device: str, row: Row
) -> None:
    """Run one case on every number of threads, or twice on a GPU, and enter it in the row."""
    results: list[list[Array]] = []
    error, message = 0.0, ""
    at, bound = threads[0], case.bound(implementation)
    for n in threads:
        fastcnn.set_num_threads(n)
        try:
            got = case.answer(implementation, device)
            found, text = case.judge(got, bound)
        except plans.CannotServe:
            return
        except Exception as e:  # whatever it is, it is this implementation's failure
            got, found, text = [], np.inf, f"raised {type(e).__name__}: {e}"
        if results and not found > bound and not _same_bits(got, results[0]):
            found, text = np.inf, f"not the same bits as on {threads[0]} thread(s)"
        results.append(got)
        if not found <= error:
            error, message, at = found, text, n
    name = f"{case.problem.name} " if case.problem.name else ""
    where = f"{name}{case.problem}, {case.data}, {at} thread{'s' if at > 1 else ''}"
    row.add(float(error), bound, where, str(case.problem), message)


def _same_bits(got: list[Array], other: list[Array]) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(got, other, strict=True))


def _named(operation: Operation, names: Sequence[str], batch: int) -> Iterator[tuple[Problem, str]]:
    """The problems of suites, each on integers, which catch any wrong element, and on one more."""
    others = [data for data in DATA if data != "integers"]
    problems = (p for name in names for p in named.suite(name) if operation.takes(p))
    for i, problem in enumerate(problems):
        for data in ("integers", others[i % len(others)]):
            yield problem.scaled(batch=batch), data


def _random(operation: Operation, seed: int) -> Iterator[tuple[Problem, str]]:
    rng = np.random.default_rng((seed, crc32(operation.name.encode())))
    i = 0
    while True:
        problem = random_problem(operation.kind, rng)
        if operation.takes(problem):
            yield problem, DATA[i % len(DATA)]
            i += 1


def _expect_list(what: str, names: Sequence[str] | None) -> None:
    """TypeError for one name in the place of several: its letters would pass for names."""
    if isinstance(names, str):
        raise TypeError(f"{what}s must be a list of names, but got {names!r}: pass [{names!r}]")


def _checked(what: str, names: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The names asked for, or all; ValueError for one that does not exist."""
    _expect_list(what, names)
    for name in names or ():
        if name not in known:
            raise ValueError(unknown(what, name, known))
    return list(known if names is None else names)


def _cases_of(
    operation: Operation,
    fixed: list[tuple[Problem, str]],
    rows: dict[Any, Row],
    cases: int,
    seed: int,
) -> Iterator[tuple[Problem, str]]:
    """All fixed cases, then random ones until every row has had enough or draws run out."""
    yield from fixed
    for draw in islice(_random(operation, seed), _DRAWS_PER_CASE * cases):
        if all(row.cases >= cases for row in rows.values()):
            return
        yield draw


def compare(
    operations: Sequence[str] | None = None,
    implementations: Sequence[str] | None = None,
    suites: Sequence[str] | None = None,
    problems: Sequence[str] | None = None,
    *,
    dtypes: Sequence[str] = ("float32", "float64"),
    threads: Sequence[int] | None = None,
    cases: int = 100,
    seed: int = 0,
    batch: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    progress: Progress | None = None,
) -> Report:
    """Run implementations against the float64 reference.

    Each runs on the problems of the suites, scaled down in batch, and on random ones, until it has
    had enough cases; with mean-zero, post-ReLU and integer data. Results must be within the bounds
    of `bounds.py`, and the same bits on every number of threads.

    Parameters
    ----------
    operations, implementations, suites : sequences of str, optional
        Names to restrict the comparison to; all by default.
    problems : sequence of str, optional
        Names or problem strings (see `problems.py`) to run on, with all kinds of data, instead of
        suites and random problems.
    dtypes : sequence of str
        "float32", "float64".
    threads : sequence of int, optional
        Numbers of threads; 1 and all by default.
    cases : int
        At least this many for each implementation and type, if random problems that it supports
        can be found.
    seed : int
        The random problems and all data follow from it.
    batch : int
        Images that problems of suites are scaled down to.
    precision : str
        As in `fastcnn.precision`.
    device : "cpu" or "cuda"
        Where. On a GPU there is one number of threads, and every case runs twice.
    progress : callable, optional
        Called with (done, total, operation) after every case.

    Returns
    -------
    Report
        A row for each operation, implementation and type; `passed`, `to_dict()` and `str()`.

    Raises
    ------
    TypeError
        One name in the place of a list.
    ValueError
        A name that does not exist, with the nearest that does; a number out of range.
    CudaUnavailable
        Without the CUDA extra, a driver or a GPU, for device="cuda".
    NothingToCompare
        A ValueError: the names together leave nothing.
    """
    lists = {"cpu": IMPLEMENTATIONS, "cuda": ON_CUDA}[one_of(device, "device", ("cpu", "cuda"))]
    if device == "cuda":
        fastcnn.to_device(np.zeros(1))  # raises where there is none
    names = _checked("operation", operations, list(IMPLEMENTATIONS))
    listed = dict.fromkeys(i.name for name in names for i in lists[name])
    algorithms = _checked("implementation", implementations, list(listed))
    chosen = _checked("suite", suites, list(named.suites()))
    dtypes = _checked("dtype", dtypes, ("float32", "float64"))
    cases, batch = whole(cases, "cases", 0), whole(batch, "batch")
    fixed = {name: list(_named(OPERATIONS[name], chosen, batch)) for name in names}
    _expect_list("problem", problems)
    if problems is not None:
        found = [(named.find(p), data) for p in problems for data in DATA]
        fixed = {name: [c for c in found if OPERATIONS[name].takes(c[0])] for name in names}
        cases = 0
    before = fastcnn.get_num_threads()
    counts = (1, 1) if device == "cuda" else tuple(dict.fromkeys(threads or (1, before)))
    report = Report(seed, counts, precision)
    finished, total = 0, sum(max(cases, len(fixed[name])) for name in names)
    try:
        with fastcnn.precision(precision):
            for name in names:
                candidates = [i for i in lists[name] if i.name in algorithms]
                rows = {(i.name, d): Row(name, i.name, d) for i in candidates for d in dtypes}
                share = max(cases, len(fixed[name]))
                draws = _cases_of(OPERATIONS[name], fixed[name], rows, cases, seed)
                for done, (problem, data) in enumerate(draws):
                    if progress is not None:
                        progress(finished + min(done, share), total, name)
                    for dtype in dtypes:
                        case = Case(OPERATIONS[name], problem, data, dtype, seed)
                        for i in candidates:
                            row = rows[i.name, dtype]
                            if done < len(fixed[name]) or row.cases < cases:
                                _examine(case, i, counts, device, row)
                report.rows += [row for row in rows.values() if row.cases]
                finished += share
    finally:
        fastcnn.set_num_threads(before)
    if not report.rows:
        raise NothingToCompare("no implementation asked for runs on any problem asked for")
    if progress is not None:
        progress(total, total, "")
    return report
