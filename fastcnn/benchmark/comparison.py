"""Two runs held against each other: what got faster, slower, or stayed inside the noise.

    slower    every time in the new interval is above every time in the old one, and the ratio of
              the medians is above 1 + LEVEL; and where peers took turns with it in both runs, it
              is slower beside most of them as well, by the intervals of those ratios; and where
              a row's spread is marked as too wide, its fastest call is above the other's interval
    faster    likewise
    noise     everything else

Only fastcnn's own rows count. Peers tell a slower kernel from a slower machine: a virtual one's
speed drifts by more between two runs than it does within a case.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, fsum, log
from typing import Any

from fastcnn.benchmark.results import typical_limits
from fastcnn.benchmark.statistics import LEVEL, Interval, paired_ratio

# From the operation and the problem, not the name of a layer: suites may be renamed.
_KEY = ("operation", "problem", "dtype", "threads", "library", "side")
_CASE = _KEY.index("library")
Key = tuple[Any, ...]
Rows = dict[Key, dict[str, Any]]


@dataclass(frozen=True)
class Change:
    """One row in both runs.

    Attributes
    ----------
    label : str
    ratio : float
        New median over old.
    verdict : str
        "faster", "slower", "noise", or "wrong" where the new run refused the result.
    """

    label: str
    ratio: float
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All rows that two runs share.

    Attributes
    ----------
    changes : list of Change
        The slowest first.
    only_old, only_new : int
        Rows of one run alone.
    machine : list of str
        What speaks against comparing the two: another processor, clock, or peers' times.
    """

    changes: list[Change]
    only_old: int
    only_new: int
    machine: list[str]

    def beyond(self, bound: float) -> list[Change]:
        """Rows that are wrong, or slower by more than this ratio and outside the noise."""
        return [
            c
            for c in self.changes
            if c.verdict == "wrong" or (c.verdict == "slower" and c.ratio > bound)
        ]

    def lines(self, bound: float) -> Iterator[str]:
        """The comparison as text of at most 100 columns."""
        counts = {v: [c for c in self.changes if c.verdict == v] for v in
                  ("wrong", "slower", "faster", "noise")}  # fmt: skip
        for verdict in ("wrong", "slower", "faster"):
            for change in counts[verdict]:
                mark = "  past the bound" if change in self.beyond(bound) else ""
                yield f"{verdict:<7}{change.ratio:7.2f}  {change.label[:66]}{mark}"
        yield ", ".join(f"{len(found)} {verdict}" for verdict, found in counts.items()) + (
            f"; {self.only_old} rows only in the old run, {self.only_new} only in the new"
        )
        yield from self.machine


def _interval(row: dict[str, Any]) -> Interval:
    return Interval(row["median"], row["low"], row["high"])


def verdict(old: Interval, new: Interval) -> str:
    """How a new median stands to an old one."""
    ratio = new.median / old.median
    if old.overlaps(new) or abs(ratio - 1) <= LEVEL:
        return "noise"
    return "slower" if ratio > 1 else "faster"


def _seen_beside(key: Key, old: Rows, new: Rows) -> list[str]:
    """The verdict of each peer that took turns with a row in both runs, to the last round.

    Those that were far behind have stopped early: their few rounds say little. Paired ratios are
    peer/ours: ours is slower where they have become smaller.
    """
    found = []
    for peer in old:
        if peer[:_CASE] != key[:_CASE] or peer[_CASE] == "fastcnn":
            continue
        if all(_to_the_end(key, peer, rows) for rows in (old, new)):
            before, after = (
                paired_ratio(rows[key]["rounds"], rows[peer]["rounds"]) for rows in (old, new)
            )
            found.append(verdict(_interval(after.to_dict()), _interval(before.to_dict())))
    return found


def _to_the_end(key: Key, peer: Key, rows: Rows) -> bool:
    """Whether a peer had as many rounds as we."""
    found = rows.get(peer, {})
    return found.get("status") == "ok" and len(found["rounds"]) >= len(rows[key]["rounds"])


def _judge(key: Key, old: Rows, new: Rows) -> str:
    by_time, beside = verdict(_interval(old[key]), _interval(new[key])), _seen_beside(key, old, new)
    if beside and 2 * beside.count(by_time) <= len(beside):
        return "noise"
    if old[key]["noisy"] or new[key]["noisy"]:
        slow, fast = (old[key], new[key]) if by_time == "faster" else (new[key], old[key])
        return by_time if slow["minimum"] > fast["high"] else "noise"
    return by_time


def _rows(content: dict[str, Any]) -> Rows:
    return {tuple(row[name] for name in _KEY): row for row in content["rows"]}


def compare(old: dict[str, Any], new: dict[str, Any]) -> Comparison:
    """Compare the contents of two JSON files (`results.read`)."""
    before, after = _rows(old), _rows(new)
    timed = [key for key in before if before[key]["status"] == "ok"]
    ours = [key for key in timed if before[key]["library"] == "fastcnn"]
    changes = []
    for key in ours:
        if key not in after:
            continue
        row = after[key]
        label = f"{row['layer']} {row['label']} {row['side']} {row['threads']}T {row['dtype']}"
        if row["status"] == "ok":
            ratio = row["median"] / before[key]["median"]
            changes.append(Change(label, ratio, _judge(key, before, after)))
        else:
            changes.append(Change(label, float("nan"), "wrong"))
    changes.sort(key=lambda c: (c.verdict != "wrong", -c.ratio if c.ratio == c.ratio else 0.0))
    mine = [key for key in after if after[key]["library"] == "fastcnn"]
    peers = [
        after[key]["median"] / before[key]["median"]
        for key in timed
        if before[key]["library"] != "fastcnn" and after.get(key, {}).get("status") == "ok"
    ]
    return Comparison(
        changes,
        sum(key not in after for key in ours),
        sum(key not in before for key in mine),
        list(_machines(old, new, peers)),
    )


def _machines(old: dict[str, Any], new: dict[str, Any], peers: list[float]) -> Iterator[str]:
    cpus = old["machine"].get("cpu"), new["machine"].get("cpu")
    if cpus[0] != cpus[1]:
        yield f"another processor: {cpus[0]}, then {cpus[1]}"
    before, after = typical_limits(old["limits"]), typical_limits(new["limits"])
    for threads in before.keys() & after.keys():
        for name, text in (("fma_gflops", "FMA peak"), ("copy_gbs", "copy bandwidth")):
            one, other = before[threads][name], after[threads][name]
            if one and other and abs(other / one - 1) > LEVEL:
                yield f"the machine: {text} of {threads} threads was {one:.0f}, then {other:.0f}"
    if peers:
        mean = exp(fsum(map(log, peers)) / len(peers))
        if abs(mean - 1) > LEVEL:
            yield f"the machine: peers took {mean:.2f} times as long as in the old run"
        drift = sorted(max(ratio, 1 / ratio) for ratio in peers)[len(peers) * 9 // 10]
        if drift > 1.1:
            yield f"the machine: one in ten of peers' rows changed by {drift:.2f} times or more"
