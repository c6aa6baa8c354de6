"""Many ratios as few: geometric means per operation and peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log
from typing import Any

# Sides of one library that its user chooses between: the better of them, case by case, is what we
# have to beat.
BEST_OF = {"torch": ("torch", "torch_cl")}


@dataclass(frozen=True)
class Mean:
    """Geometric mean of how many times longer a peer took, over `cases` cases; and the worst."""

    mean: float
    worst: float
    cases: int


def geometric_mean(values: Sequence[float]) -> float:
    """Of at least one positive number."""
    return exp(fsum(map(log, values)) / len(values))


def own_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """fastcnn's automatic choice in every case where it was timed."""
    return [r for r in content["rows"] if r["side"] == "auto" and r["status"] == "ok"]


def peers(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Other libraries' sides in the rows, in order of appearance."""
    from fastcnn.benchmark.sides import DESCRIPTIONS

    found = dict.fromkeys(side for row in rows for side in row["ratios"])
    return [side for side in DESCRIPTIONS if side in found]


def best_ratio(row: dict[str, Any], library: str) -> dict[str, Any] | None:
    """The ratio against the faster of a library's sides."""
    sides = BEST_OF.get(library, (library,))
    found = [row["ratios"][side] for side in sides if side in row["ratios"]]
    return min(found, key=lambda ratio: ratio["median"]) if found else None


def libraries(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Peers with sides of one library as one."""
    second = {side for sides in BEST_OF.values() for side in sides[1:]}
    return [side for side in peers(rows) if side not in second]


def means(rows: Sequence[dict[str, Any]], library: str) -> Mean | None:
    """Over all rows that have the peer; None if none has."""
    found = [ratio["median"] for row in rows if (ratio := best_ratio(row, library))]
    return Mean(geometric_mean(found), min(found), len(found)) if found else None


def by_operation(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows under their operations' labels, in order of appearance."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["label"], []).append(row)
    return groups


def suite_of(row: dict[str, Any]) -> str:
    """The suite that a row's layer belongs to; "problems" for those made from strings."""
    head, dot, _ = row["layer"].partition(".")
    return head if dot else "problems"


def layer_of(row: dict[str, Any]) -> str:
    """A row's layer without its suite; with the batch where it is a network."""
    head, dot, tail = row["layer"].partition(".")
    name = tail if dot else head
    return row["problem"] if row["operation"] == "train_step" else name


# With fewer layers than this to an operation, several operations or suites share a chart.
_FEW = 4

# (what to call it, row)
Named = list[tuple[str, dict[str, Any]]]


def _few(rows: Sequence[dict[str, Any]]) -> bool:
    return max(map(len, by_operation(rows).values())) < _FEW


def charts(rows: Sequence[dict[str, Any]]) -> dict[str, Named]:
    """Rows in groups that are shown together, by title; names need not repeat the title.

    A chart is a suite's layers in one operation; all suites' layers, where each suite has few, as
    with `--quick`; all operations, where a suite has few layers, as the losses have.
    """
    suites = {name: [r for r in rows if suite_of(r) == name] for name in map(suite_of, rows)}
    found: dict[str, Named] = {}
    if all(map(_few, suites.values())):
        for label, group in by_operation(rows).items():
            found[label] = [(r["layer"] if "." in r["layer"] else layer_of(r), r) for r in group]
        return found
    for suite, mine in suites.items():
        if _few(mine):
            found[suite] = [(f"{layer_of(row)}, {row['label']}", row) for row in mine]
            continue
        for label, group in by_operation(mine).items():
            found[f"{suite}, {label}"] = [(layer_of(row), row) for row in group]
    return found
