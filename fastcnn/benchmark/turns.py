"""Sides that take turns in a case: whose turn it is, who has had enough, and when all have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.processes import Worker
from fastcnn.benchmark.settings import Settings
from fastcnn.benchmark.statistics import interval

# Above it, the spread is asked to come down to `Settings.spread`.
_LONG = 1e-3
LEAST_ROUNDS = 3


class Side:
    """One side in one case: its timings, round by round."""

    def __init__(self, case: Case, library: str, name: str, worker: Worker) -> None:
        self.case, self.library, self.name, self.worker = case, library, name, worker
        self.facts: dict[str, Any] = {}
        self.rounds: list[float] = []
        self.fastest = float("inf")
        self.spent = 0.0
        self.running = True

    @property
    def ours(self) -> bool:
        return self.library == "fastcnn"

    def take_turn(self, seconds: float) -> None:
        self.worker.ask("begin", self.case)  # it may have others besides
        timings = self.worker.ask("measure", self.name, seconds)
        self.rounds.append(interval(timings).median)
        self.fastest = min(self.fastest, *timings)
        self.spent += sum(timings)

    def restless(self, spread: float) -> bool:
        """Whether more rounds may help: long enough to be asked for, and still too far apart."""
        if not self.running:
            return False
        found = interval(self.rounds)
        return found.median >= _LONG and found.spread > spread

    def hopeless(self, ours: Side, patience: float) -> bool:
        """Whether it has had its time and was more than twice as slow in every round."""
        if len(self.rounds) < LEAST_ROUNDS or self.spent < patience or not ours.rounds:
            return False
        return all(p > 2 * o for o, p in zip(ours.rounds, self.rounds, strict=False))


class Contest:
    """A case on a number of threads: all its sides, and those of them that take turns.

    Attributes
    ----------
    case : Case
    threads : int
    sides : list of Side
        All, whether they can serve or not.
    ready : list of Side
        Those that were right, and are warm.
    rounds : int
        Done so far.
    """

    def __init__(self, case: Case, threads: int, sides: list[Side], ready: list[Side]) -> None:
        self.case, self.threads, self.sides, self.ready = case, threads, sides, ready
        self.rounds = 0

    @property
    def ours(self) -> Side | None:
        """The side that users get."""
        return next((s for s in self.ready if s.name == "auto"), None)

    def measured(self, settings: Settings) -> bool:
        """Whether there is something to report, even if the run ends here."""
        enough = min(LEAST_ROUNDS, settings.rounds)
        return self.rounds >= enough or not any(s.running for s in self.ready)

    def over(self, settings: Settings) -> bool:
        """Whether it has had its rounds, and more of them are not asked for."""
        if self.rounds < settings.rounds:
            return False
        if self.rounds >= settings.most_rounds:
            return True
        return not any(side.restless(settings.spread) for side in self.ready)

    def play(self, settings: Settings, turn: Callable[[Side], bool]) -> None:
        """One round: `turn(side)` for each side that is still running, False if it broke down."""
        ours = self.ours
        for side in self.ready:
            if not side.running or not turn(side):
                continue
            side.worker.settle(settings.pause)
            if side is not ours and ours is not None and side.hopeless(ours, settings.patience):
                side.running = False
        self.rounds += 1
