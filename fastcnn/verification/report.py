"""What a comparison found: a row per operation, implementation and type, as a table and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import fastcnn


@dataclass
class Row:
    """One implementation of one operation in one type.

    Attributes
    ----------
    operation, implementation, dtype : str
    cases : int
        How many problems it ran on, each with its own data and on every number of threads.
    worst, bound : float
        The relative error that came nearest to its bound, or went furthest beyond it, and that
        bound (which differs from problem to problem).
    failures : int
        Cases beyond their bounds.
    case : str
        Where the worst was: problem, data and threads.
    problem : str
        Its problem string.
    message : str
        What is wrong with it other than the size of its error; empty if nothing is.
    """

    operation: str
    implementation: str
    dtype: str
    cases: int = 0
    worst: float = 0.0
    bound: float = 0.0
    failures: int = 0
    case: str = ""
    problem: str = ""
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.failures == 0

    def add(self, error: float, bound: float, case: str, problem: str, message: str) -> None:
        """Count one case; keep it if none was worse."""
        self.cases += 1
        self.failures += not error <= bound
        if not self.case or _excess(error, bound) > _excess(self.worst, self.bound):
            self.worst, self.bound = error, bound
            self.case, self.problem, self.message = case, problem, message

    def to_dict(self) -> dict[str, Any]:
        """For JSON: `worst` is null where it is not a finite number."""
        row = asdict(self)
        row["worst"] = self.worst if isfinite(self.worst) else None
        row["pass"] = self.passed
        return row


def _excess(error: float, bound: float) -> float:
    """Error in units of its bound; where the bound is 0, any error is infinitely much."""
    if error <= bound:
        return error / bound if bound > 0 else 0.0
    return error / bound if bound > 0 and isfinite(error) else float("inf")


@dataclass
class Report:
    """All rows of a comparison, and what it was made with. `str()` is a table of 100 columns."""

    seed: int
    threads: tuple[int, ...]
    precision: str
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every implementation stayed within its bounds."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `results` has an object per row."""
        return {
            "fastcnn": fastcnn.__version__,
            "seed": self.seed,
            "threads": list(self.threads),
            "precision": self.precision,
            "pass": self.passed,
            "results": [row.to_dict() for row in self.rows],
        }

    def command(self, row: Row) -> str:
        """What to type to see a row's worst case again."""
        command = (
            f"fastcnn compare --ops {row.operation} --implementations {row.implementation} "
            f"--dtype {row.dtype} --problem {row.problem} --seed {self.seed}"
        )
        return command if self.precision == "float32" else f"{command} --precision {self.precision}"

    def __str__(self) -> str:
        lines = [_line("operation", "algorithm", "dtype", "cases", "worst", "bound", "")]
        for row in self.rows:
            figures = f"{row.worst:.1e}", f"{row.bound:.1e}" if row.bound else "equal"
            verdict = "ok" if row.passed else "FAIL"
            names = row.operation, row.implementation, row.dtype, str(row.cases)
            lines.append(_line(*names, *figures, verdict))
        for row in self.rows:
            if not row.passed:
                lines += ["", *self._explain(row)]
        return "\n".join(lines)

    def _explain(self, row: Row) -> list[str]:
        bound = f"at most {row.bound:.2e} allowed" if row.bound else "equality required"
        return [
            f"{row.operation} {row.implementation} {row.dtype}: {row.failures} of {row.cases} "
            "cases wrong",
            f"  worst: {row.case}",
            f"  relative error {row.worst:.2e}, {bound}{row.message and f'; {row.message}'}",
            f"  again: {self.command(row)}",
        ]


def _line(
    operation: str, name: str, dtype: str, cases: str, worst: str, bound: str, verdict: str
) -> str:
    line = f"{operation:<42} {name:<15} {dtype:<7} {cases:>5} {worst:>8} {bound:>8}  {verdict}"
    return line.rstrip()
