"""The run: every case on every side, in turns, checked before it is timed.

    for each case, and each number of threads:
        the judge writes the reference's results; every side prepares, and is held against them;
        round after round:  ours  peer  peer  …  ours  peer  peer  …
        one process computes at a time; all others wait

`Settings.together` cases are prepared at once and have their rounds in turn, so that the rounds of
one case are spread over the time of all: a busy neighbour of some seconds then is in some rounds of
every case, where the median passes over it, not in all rounds of one. The price is memory, and that
a peer whose process dies loses all of them.

What has been measured so far is in `Run.results` at any moment: an interrupt loses a case that has
not had three rounds, nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from fastcnn.benchmark import machine
from fastcnn.benchmark import sides as registry
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.estimate import case_seconds, run_seconds
from fastcnn.benchmark.processes import ProcessWorker, Worker, WorkerError
from fastcnn.benchmark.results import Results, row
from fastcnn.benchmark.settings import Settings
from fastcnn.benchmark.turns import LEAST_ROUNDS, Contest, Side

# (seconds done, seconds in all, what is being measured), by the estimate
Progress = Callable[[float, float, str], None]
# (library, threads, device, precision)
MakeWorker = Callable[[str, int, str, str], Worker]


class Run:
    """A benchmark run.

    Parameters
    ----------
    cases : sequence of Case
    settings : Settings
    progress : callable, optional
    make_worker : callable
        (library, threads, device, precision) -> Worker; processes by default.

    Attributes
    ----------
    results : Results
        Grows as the run goes.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        settings: Settings,
        progress: Progress | None = None,
        make_worker: MakeWorker = ProcessWorker,
    ) -> None:
        self.cases, self.settings = cases, settings
        self._progress = progress
        self._make_worker = make_worker
        self._workers: dict[tuple[str, int], Worker] = {}
        self._began = time.monotonic()
        self._end_expected = 0.0
        self._batch_time = 0.0, float("inf")  # when it began, and how much it may take
        self._judged: Case | None = None
        self._limits_at: dict[int, float] = {}
        self.results = Results(settings.to_dict())

    def __enter__(self) -> Run:
        self._folder = tempfile.TemporaryDirectory(prefix="fastcnn-bench-")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._workers.values():
            worker.close()
        self._folder.cleanup()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def _late(self, share: float) -> bool:
        """Whether this share of the time for a batch is over."""
        began, time_given = self._batch_time
        return self.elapsed > began + share * time_given

    def _worker(self, library: str, threads: int) -> Worker:
        key = library, threads
        if key not in self._workers:
            where = self.settings.device, self.settings.precision
            self._workers[key] = self._make_worker(library, threads, *where)
        return self._workers[key]

    def execute(self) -> Results:
        """Measure everything.

        Raises
        ------
        WorkerError
            fastcnn's own process died, or the judge's. A peer's death is a fact about the peer.
            On a GPU, where an error in one kernel ends all work of a process, ours is, too.
        """
        results, settings = self.results, self.settings
        units = [(case, threads) for case in self.cases for threads in settings.threads]
        estimates = [case_seconds(c, replace(settings, threads=(t,))) for c, t in units]
        done, self._end_expected = 0.0, run_seconds(self.cases, settings)
        self._tell("starting the processes, measuring the machine")
        results.machine = machine.facts()
        if settings.device == "cuda":
            for library in ("fastcnn", *settings.peers):
                results.machine |= self._worker(library, settings.threads[0]).ask("facts")
        self._measure_limits(force=True)
        began = self.elapsed
        for first in range(0, len(units), settings.together):
            batch = slice(first, first + settings.together)
            share, rest = sum(estimates[batch]), sum(estimates[first:])
            # what is left, by the estimate times how wrong it has been so far
            left = rest * ((self.elapsed - began) / done if done > 5 else 1.0)
            if settings.deadline is not None:
                time_left = max(0.0, settings.deadline - self.elapsed)
                # twice its share of the time that is left, so that one slow case cannot take all
                self._batch_time = self.elapsed, min(1.0, 2 * share / rest) * time_left
                left = min(left, time_left)
            self._end_expected = self.elapsed + left
            self._measure(units[batch])
            results.seconds = self.elapsed
            done += share
            self._measure_limits()
        self._measure_limits(force=True)
        results.seconds, results.finished = self.elapsed, True
        return results

    def _tell(self, text: str) -> None:
        if self._progress is not None:
            self._progress(self.elapsed, max(self._end_expected, self.elapsed), text)

    def _measure_limits(self, force: bool = False) -> None:
        for threads in self.settings.threads:
            age = self.elapsed - self._limits_at.get(threads, 0.0)
            if force or age > self.settings.limits_every:
                worker = self._worker("fastcnn", threads)
                self.results.limits.append(worker.ask("limits", self.elapsed))
                self._limits_at[threads] = self.elapsed

    def _measure(self, units: Sequence[tuple[Case, int]]) -> None:
        """Some cases, each on a number of threads: prepared one by one, then all round by round."""
        contests: list[Contest] = []
        try:
            for case, threads in units:
                text = f"{case.layer} {case.measured.label}"
                # rounds are worth more than further cases once half of the time is over
                if not self._late(0.5 if contests else 1.0):
                    self._tell(text)
                    contests.append(self._contest(case, threads))
                elif text not in self.results.left_out:
                    self.results.left_out.append(text)
            self._play(contests)
        finally:
            for contest in contests:
                if not contest.measured(self.settings):
                    continue
                for side in contest.sides:
                    self.results.rows.append(row(contest, side, self.settings))
            for worker in self._workers.values():
                with suppress(WorkerError):  # whoever uses it next will find that it is dead
                    worker.ask("end")

    def _contest(self, case: Case, threads: int) -> Contest:
        """The sides of a case, checked against the judge's results."""
        file = str(Path(self._folder.name) / "expected.npz")
        if self._judged != case:
            self._worker("numpy", max(self.settings.threads)).ask("judge", case, file)
            self._judged = case
        sides = self._sides(case, threads)
        return Contest(case, threads, sides, [side for side in sides if self._ready(side, file)])

    def _play(self, contests: list[Contest]) -> None:
        """Round after round, until no contest asks for more or there is no time."""
        for number in range(self.settings.most_rounds):
            going = [contest for contest in contests if not contest.over(self.settings)]
            if not going or (number >= LEAST_ROUNDS and self._late(1.0)):
                return
            if len(contests) > 1:
                self._tell(f"round {number + 1} of {len(going)} cases")
                self._measure_limits()
            for contest in going:
                contest.play(self.settings, self._turn)

    def _sides(self, case: Case, threads: int) -> list[Side]:
        found = []
        for library in ("fastcnn", *self.settings.peers):
            worker = self._worker(library, threads)
            names = worker.ask("begin", case)
            if library == "fastcnn" and not self.settings.implementations:
                names = names[:1]
            found += [Side(case, library, name, worker) for name in names]
        return found

    def _ready(self, side: Side, file: str) -> bool:
        """Prepare, check and warm a side; False, with the reason in its facts, if it has to go."""
        try:
            side.facts |= side.worker.ask("prepare", side.name)
            if str(side.facts.get("failed", "")).startswith("CudaError"):
                self._broke(side, WorkerError(side.facts["failed"]))
            if "reason" in side.facts or "failed" in side.facts:
                return False
            side.facts |= side.worker.ask("check", side.name, file)
            if not side.facts["right"]:
                return False
            side.facts |= side.worker.ask("warm", side.name)
        except WorkerError as error:
            if self._must_not_break(side):
                raise
            self._broke(side, error)
            return False
        return True

    def _turn(self, side: Side) -> bool:
        """One turn; False if a process broke down in it that may."""
        try:
            side.take_turn(self.settings.seconds)
        except WorkerError as error:
            if self._must_not_break(side):
                raise
            self._broke(side, error)
            return False
        return True

    def _must_not_break(self, side: Side) -> bool:
        """Whether the run ends with the process of a side."""
        return side.ours and self.settings.device != "cuda"

    def _broke(self, side: Side, error: WorkerError) -> None:
        """A process raised or died: it is started anew for the cases that are prepared later."""
        side.facts["failed"] = str(error).strip().splitlines()[-1]
        side.rounds.clear()
        side.running = False
        for key, known in list(self._workers.items()):
            if known is side.worker:
                known.close()
                del self._workers[key]


def measure(
    cases: Sequence[Case],
    settings: Settings,
    progress: Progress | None = None,
    make_worker: MakeWorker = ProcessWorker,
) -> Results:
    """Run all cases to the end; see `Run` for a run whose results survive an interrupt."""
    with Run(cases, settings, progress, make_worker) as run:
        return run.execute()


def check_peers(peers: Sequence[str], device: str = "cpu") -> tuple[str, ...]:
    """Peers that were asked for by name, all installed.

    Raises
    ------
    ValueError
        One is not, or has no side on the device; says what to install or to take.
    """
    for peer in peers:
        if device == "cuda" and peer not in registry.ON_CUDA:
            raise ValueError(f"peer {peer!r} has no side on a GPU: use --peers torch, or none")
        lacking = registry.missing(peer)
        if lacking:
            raise ValueError(
                f"peer {peer!r} needs {', '.join(lacking)}: pip install 'fastcnn[peers]'"
            )
    return tuple(peers)
