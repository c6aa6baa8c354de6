"""Results of a run: a row per case, number of threads and side; as JSON and from it.

Schema of the JSON, version 1. `fastcnn bench --json` writes it; a run that was interrupted has
"finished": false and is otherwise the same.

    format, version, created, finished, seconds, command, machine, settings
    limits    [{threads, at, fma_gflops, copy_gbs, clock_ghz, trip_ns}] measured during the run
              of a GPU also multiply_add_gflops, tensor_gflops (TF32), half_gflops (bf16);
              fma_gflops is then what the precision asked for allows (sides/on_cuda.py)
    rows      [{layer, problem, operation, label, dtype, flops, bytes, threads, library, side,
                status, reason, algorithm, workspace_bytes, error, allowed, peak_rss_bytes,
                extra_bytes, rounds, minimum, median, low, high, spread, noisy, gflops, gbs,
                percent_of_peak, percent_of_attainable, ratios}]        seconds and 10^9/s
    startup   [{name, seconds, minimum, median, low, high, spread}]
    left_out  names of cases that the deadline left no time for

status is "ok"; "wrong": refused, not timed; "unsupported"; "failed". rounds holds the median call
of each round. ratios, in fastcnn's rows, has for each other side how many times longer it took.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from fastcnn.benchmark.settings import Settings
from fastcnn.benchmark.statistics import interval, paired_ratio

if TYPE_CHECKING:
    from fastcnn.benchmark.turns import Contest, Side

FORMAT, VERSION = "fastcnn benchmark", 1

# In seconds; below it, timer and call overhead are not small against the work.
_LONG = 1e-3


def figures(rounds: list[float], spread_allowed: float) -> dict[str, Any]:
    """Median, interval and spread of rounds, in seconds; `noisy` asks no spread of short work."""
    found = interval(rounds)
    return {
        "rounds": rounds,
        "median": found.median,
        "low": found.low,
        "high": found.high,
        "spread": found.spread,
        "noisy": found.median >= _LONG and found.spread > spread_allowed,
    }


def _status(facts: dict[str, Any]) -> tuple[str, str | None]:
    if "reason" in facts:
        return "unsupported", facts["reason"]
    if "failed" in facts:
        return "failed", facts["failed"]
    if not facts["right"]:
        error = facts["error"]
        size = "not finite, or differently shaped" if error is None else f"{error:.2e}"
        return "wrong", f"relative error {size}, allowed {facts['allowed']:.2e}"
    return "ok", None


def row(contest: Contest, side: Side, settings: Settings) -> dict[str, Any]:
    """One side's row; rates are filled in by `Results.to_dict`, which knows the limits."""
    status, reason = _status(side.facts)
    facts, ours = side.facts, contest.ours
    found = {
        **contest.case.facts(),
        "threads": contest.threads,
        "library": side.library,
        "side": side.name,
        "status": status,
        "reason": reason,
        "algorithm": facts.get("algorithm"),
        "workspace_bytes": facts.get("workspace"),
        "error": facts.get("error"),
        "allowed": facts.get("allowed"),
        "peak_rss_bytes": facts.get("peak_rss_bytes"),
        "extra_bytes": facts.get("extra_bytes"),
    }
    if side.rounds:
        found |= {"minimum": side.fastest, **figures(side.rounds, settings.spread)}
        if ours is not None and side is not ours and ours.rounds:
            found["paired"] = paired_ratio(ours.rounds, side.rounds).to_dict()
    return found


@dataclass
class Results:
    """Everything that a run found."""

    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=dict)
    limits: list[dict[str, Any]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    startup: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0
    finished: bool = False

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Rows of sides that were wrong, ours first."""
        wrong = [r for r in self.rows if r["status"] == "wrong"]
        return sorted(wrong, key=lambda r: r["library"] != "fastcnn")

    def to_dict(self) -> dict[str, Any]:
        """For JSON, by the schema above."""
        from fastcnn.benchmark.rates import with_rates

        limits = typical_limits(self.limits)
        return {
            "format": FORMAT,
            "version": VERSION,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "finished": self.finished,
            "seconds": self.seconds,
            "command": ["fastcnn", *sys.argv[1:]],
            "machine": self.machine,
            "settings": self.settings,
            "limits": self.limits,
            "rows": with_rates(self.rows, limits),
            "startup": self.startup,
            "left_out": self.left_out,
        }


def typical_limits(limits: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """For each number of threads the medians over the run."""
    found: dict[int, dict[str, Any]] = {}
    for threads in dict.fromkeys(entry["threads"] for entry in limits):
        mine = [entry for entry in limits if entry["threads"] == threads]
        found[threads] = {
            name: _median([entry[name] for entry in mine])
            for name in mine[0]
            if name not in ("threads", "at")
        }
    return found


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def read(file: str | Path) -> dict[str, Any]:
    """The content of a JSON file that a run wrote.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no such file, or of a version that is not known here.
    """
    try:
        content = json.loads(Path(file).read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{file} was not written by fastcnn bench --json")
    if content.get("version") != VERSION:
        raise ValueError(f"{file} is of version {content.get('version')}, not {VERSION}")
    return content


def write(file: str | Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all: a run's figures are not made again in a moment."""
    target = Path(file)
    unfinished = target.with_name(target.name + ".part")
    unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    unfinished.replace(target)
