"""The run: every case on every side, in turns, checked before it is timed.

    for each case, and each number of threads:
        the judge writes the reference's results; every side prepares, and is held against them;
        round after round:  ours  peer  peer  …  ours  peer  peer  …
        one process computes at a time; all others wait

What has been measured so far is in `Run.results` at any moment: an interrupt loses the case it
falls into, nothing else.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fastcnn.benchmark import machine
from fastcnn.benchmark import sides as registry
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.estimate import case_seconds, run_seconds
from fastcnn.benchmark.processes import ProcessWorker, Worker, WorkerError
from fastcnn.benchmark.results import Results, row
from fastcnn.benchmark.settings import Settings
from fastcnn.benchmark.statistics import interval

# (seconds done, seconds in all, what is being measured), by the estimate
Progress = Callable[[float, float, str], None]
# (library, threads, device, precision)
MakeWorker = Callable[[str, int, str, str], Worker]

# Above it, the spread is asked to come down to `Settings.spread`.
_LONG = 1e-3
_LEAST_ROUNDS = 3


class Side:
    """One side in one case: its timings, round by round."""

    def __init__(self, library: str, name: str, worker: Worker) -> None:
        self.library, self.name, self.worker = library, name, worker
        self.facts: dict[str, Any] = {}
        self.rounds: list[float] = []
        self.fastest = float("inf")
        self.spent = 0.0
        self.running = True

    @property
    def ours(self) -> bool:
        return self.library == "fastcnn"

    def take_turn(self, seconds: float) -> None:
        timings = self.worker.ask("measure", self.name, seconds)
        self.rounds.append(interval(timings).median)
        self.fastest = min(self.fastest, *timings)
        self.spent += sum(timings)


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
        self._case_ends = float("inf")
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

    @property
    def _late(self) -> bool:
        """Whether the deadline is over, and nothing is begun any more."""
        return self.settings.deadline is not None and self.elapsed > self.settings.deadline

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
        results, estimates = self.results, [case_seconds(c, self.settings) for c in self.cases]
        total, done = run_seconds(self.cases, self.settings), 0.0
        self._tell(0, total, "starting the processes, measuring the machine")
        results.machine = machine.facts()
        if self.settings.device == "cuda":
            for library in ("fastcnn", *self.settings.peers):
                results.machine |= self._worker(library, self.settings.threads[0]).ask("facts")
        self._measure_limits(force=True)
        began = self.elapsed
        for case, estimate in zip(self.cases, estimates, strict=True):
            if self._late:
                results.left_out.append(f"{case.layer} {case.measured.label}")
                continue
            # what is left, by the estimate times how wrong it has been so far
            pace = (self.elapsed - began) / done if done > 5 else 1.0
            left = pace * (sum(estimates) - done)
            if self.settings.deadline is not None:
                left = min(left, self.settings.deadline - self.elapsed)
            if self.settings.deadline is not None:
                # twice its share of the time that is left, so that one slow case cannot take all
                share = estimate / max(sum(estimates) - done, estimate)
                self._case_ends = self.elapsed + 2 * share * (self.settings.deadline - self.elapsed)
            text = f"{case.layer} {case.measured.label}"
            self._tell(self.elapsed, self.elapsed + left, text)
            results.rows += self._case(case)
            results.seconds = self.elapsed
            done += estimate
            self._measure_limits()
        self._measure_limits(force=True)
        results.seconds, results.finished = self.elapsed, True
        return results

    def _tell(self, done: float, total: float, text: str) -> None:
        if self._progress is not None:
            self._progress(done, total, text)

    def _measure_limits(self, force: bool = False) -> None:
        for threads in self.settings.threads:
            age = self.elapsed - self._limits_at.get(threads, 0.0)
            if force or age > self.settings.limits_every:
                worker = self._worker("fastcnn", threads)
                self.results.limits.append(worker.ask("limits", self.elapsed))
                self._limits_at[threads] = self.elapsed

    def _case(self, case: Case) -> list[dict[str, Any]]:
        file = str(Path(self._folder.name) / "expected.npz")
        judge = self._worker("numpy", max(self.settings.threads))
        judge.ask("judge", case, file)
        return [r for threads in self.settings.threads for r in self._on(case, threads, file)]

    def _on(self, case: Case, threads: int, file: str) -> list[dict[str, Any]]:
        """One case on one number of threads."""
        found = self._sides(case, threads)
        try:
            ready = [side for side in found if self._ready(side, file)]
            self._take_turns(ready)
        finally:
            for library in dict.fromkeys(side.library for side in found):
                self._let_go(library, threads)
        ours = next((s for s in ready if s.name == "auto"), None)
        return [row(case, threads, side, ours, self.settings) for side in found]

    def _let_go(self, library: str, threads: int) -> None:
        worker = self._workers.get((library, threads))
        if worker is not None:
            worker.ask("end")

    def _sides(self, case: Case, threads: int) -> list[Side]:
        found = []
        for library in ("fastcnn", *self.settings.peers):
            worker = self._worker(library, threads)
            names = worker.ask("begin", case)
            if library == "fastcnn" and not self.settings.implementations:
                names = names[:1]
            found += [Side(library, name, worker) for name in names]
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

    def _take_turns(self, sides: list[Side]) -> None:
        settings = self.settings
        ours = next((s for s in sides if s.name == "auto"), None)
        for number in range(settings.most_rounds):
            if number >= settings.rounds and not any(map(self._restless, sides)):
                return
            if number >= _LEAST_ROUNDS and self.elapsed > self._case_ends:
                return
            for side in sides:
                if not side.running:
                    continue
                if not self._turn(side):
                    continue
                side.worker.settle(settings.pause)
                if side is not ours and ours is not None and self._hopeless(side, ours):
                    side.running = False

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
        """A process raised or died: it is started anew for the next case."""
        side.facts["failed"] = str(error).strip().splitlines()[-1]
        side.rounds.clear()
        side.running = False
        for key, known in list(self._workers.items()):
            if known is side.worker:
                known.close()
                del self._workers[key]

    def _restless(self, side: Side) -> bool:
        """Whether more rounds may help: long enough to be asked for, and still too far apart."""
        if not side.running:
            return False
        found = interval(side.rounds)
        return found.median >= _LONG and found.spread > self.settings.spread

    def _hopeless(self, side: Side, ours: Side) -> bool:
        """Whether it has had its time and was more than twice as slow in every round."""
        early = len(side.rounds) < _LEAST_ROUNDS or side.spent < self.settings.patience
        if early or not ours.rounds:
            return False
        return all(p > 2 * o for o, p in zip(ours.rounds, side.rounds, strict=False))


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
