"""Figures from repeated timings: medians, how far they can be trusted, and ratios of two sides.

The median of n timings lies between the sorted ones number j and n+1-j with the probability that a
binomial count of n fair coins lies between j and n-j: nothing is assumed about how times are
distributed. The interval shrinks as rounds are added; its width, relative to the median, is the
spread that is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import comb
from statistics import median
from typing import Any

_CONFIDENCE = 0.95
# A ratio this near to 1 is level whatever its interval says: a median of paired ratios below 0.97
# is what counts as losing.
LEVEL = 0.03


@cache
def _rank(n: int) -> int:
    """The largest j >= 1 for which [x(j), x(n+1-j)] holds the median with `_CONFIDENCE`.

    1, the whole range, where n is too small for that.
    """
    outside, best = 0.0, 1
    for j in range(1, n // 2 + 1):
        outside += comb(n, j - 1) / 2**n
        if 1 - 2 * outside < _CONFIDENCE:
            break
        best = j
    return best


@dataclass(frozen=True)
class Interval:
    """A median and the interval that holds it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Width of the interval relative to the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


def interval(values: Sequence[float]) -> Interval:
    """Median of at least one value, with its interval."""
    ordered = sorted(values)
    j = _rank(len(ordered))
    return Interval(median(ordered), ordered[j - 1], ordered[len(ordered) - j])


@dataclass(frozen=True)
class Ratio:
    """How many times longer a peer took, round by round.

    Attributes
    ----------
    median, low, high : float
        Of the paired ratios peer/ours.
    rounds : int
    verdict : str
        "faster" or "slower" (ours is), or "noise": the interval holds 1, or the median is within
        `LEVEL` of it.
    """

    median: float
    low: float
    high: float
    rounds: int
    verdict: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def paired_ratio(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """Compare two sides that took turns: the ratio of each round, so that drift cancels."""
    found = interval([p / o for o, p in zip(ours, peer, strict=False)])
    verdict = "faster" if found.median > 1 else "slower"
    if found.low <= 1 <= found.high or abs(found.median - 1) <= LEVEL:
        verdict = "noise"
    rounds = min(len(ours), len(peer))
    return Ratio(found.median, found.low, found.high, rounds, verdict)
