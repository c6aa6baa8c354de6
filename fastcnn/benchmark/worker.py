"""The process of one library: prepares cases, answers the judge, and times calls when told to.

Started as `python -m fastcnn.benchmark.worker FD LIBRARY THREADS CORES DEVICE
PRECISION` by processes.py, it takes
(method, arguments) over a pipe and sends back (True, result) or (False, text of the error). It
imports one library only, so that thread pools and their settings are nobody else's.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from fastcnn.benchmark import judging, sides
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported

# Tiny calls: enough of them for a median, without filling memory with timings.
_MOST_CALLS = 1000


def _status(field: str) -> int:
    """A figure of this process in bytes, such as VmRSS or VmHWM (its highest); 0 if unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


def _forget_peak() -> bool:
    """Let the kernel start a new peak of resident memory from here; False where it cannot."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _keep_freed_memory() -> None:
    """Let glibc's malloc give nothing back to the system; other systems' are left as they are.

    Memory that comes back has to be mapped anew, page by page, and whether that happens at every
    call depends on what was freed before. With 21 cases in one process PyTorch's gradient of a
    pooling took 2.2 ms or 9, in no order; with this, 2.1 to 2.4, and spreads of all sides fell
    from 10 to 50 % to 3 to 19 %.
    """
    mmap_max, trim_threshold = -4, -1  # of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)


@dataclass
class _Taken:
    """A case that was taken up: its inputs, and the sides that were prepared."""

    case: Case
    names: list[str]
    sets: list[Arrays]
    prepared: dict[str, Prepared] = field(default_factory=dict)
    typical: dict[str, float] = field(default_factory=dict)


class Session:
    """One library's side of a benchmark: what a worker does, also usable within a process.

    Several cases can be ready at once; `prepare` and what follows it are of the one that `begin`
    was last called with.

    Parameters
    ----------
    library : str
        A key of `sides.LIBRARIES`.
    threads : int
    device, precision : str
        As in `Settings`. The judge computes on the host whatever they are.
    """

    def __init__(
        self, library: str, threads: int, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.library, self.threads, self.precision = library, threads, precision
        on_cuda = device == "cuda" and library in sides.ON_CUDA
        self.module: Any = sides.module(library, "cuda" if on_cuda else "cpu")
        # what modules of a GPU's sides take besides
        self._more = (precision,) if on_cuda else ()
        self._taken: dict[Case, _Taken] = {}
        self._now: _Taken | None = None

    def begin(self, case: Case) -> list[str]:
        """Take up a case, or go back to it; returns the names of this library's sides in it."""
        if case not in self._taken:
            if self._taken:
                _keep_freed_memory()
            names: list[str] = self.module.variants(case, *self._more)
            self._taken[case] = _Taken(case, names, case.data() if names else [])
        self._now = self._taken[case]
        return self._now.names

    def end(self) -> None:
        """Let go of all cases and their memory."""
        self._now = None
        self._taken.clear()
        gc.collect()

    def judge(self, case: Case, file: str) -> None:
        """Write the reference's results, for `check`."""
        judging.save(Path(file), judging.expected(case))

    def prepare(self, side: str) -> dict[str, Any]:
        """Make a side ready; {"reason": …} if it cannot serve."""
        assert self._now is not None
        case, sets = self._now.case, self._now.sets
        try:
            prepared = self.module.prepare(side, case, sets, self.threads, *self._more)
            prepared.run(0)  # compiles; some libraries only find here that they cannot
        except Unsupported as error:
            return {"reason": str(error)}
        except Exception as error:  # a peer's failure is a fact about the peer
            text = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {text[0]}"}
        self._now.prepared[side] = prepared
        return {"algorithm": prepared.algorithm, "workspace": prepared.workspace}

    def check(self, side: str, file: str) -> dict[str, Any]:
        """Hold a side against the judge's file, before and after its weights have changed.

        The second time finds caches and packed weights that outlive a change in place.
        """
        assert self._now is not None
        prepared, want = self._now.prepared[side], judging.load(Path(file))
        error = judging.error(prepared.answer(0), want)
        if self._now.case.measured.weights:
            prepared.change()
            error = max(error, judging.error(prepared.answer(0), judging.negated(want)))
            prepared.change()
        return judging.describe(self._now.case, error, self.precision)

    def warm(self, side: str) -> dict[str, Any]:
        """Call a side until it is warm; peak memory is that of one warm call.

        Returns
        -------
        dict
            "seconds" of the last call; "peak_rss_bytes", the process's highest resident memory
            during it (since it began where the system cannot say), and "extra_bytes", by how much
            that is more than before: results and scratch memory that is not kept.
        """
        assert self._now is not None
        prepared = self._now.prepared[side]
        prepared.run(1)
        gc.collect()
        before = _status("VmRSS")
        fresh = _forget_peak()
        start = time.perf_counter()
        result = prepared.run(2)
        seconds = time.perf_counter() - start
        peak = _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        del result
        self._now.typical[side] = seconds
        extra = max(0, peak - before) if fresh and before else None
        return {"seconds": seconds, "peak_rss_bytes": peak, "extra_bytes": extra}

    def measure(self, side: str, seconds: float) -> list[float]:
        """Time calls of a side for about so many seconds, at least one.

        The input sets take turns and the weights change between calls; neither is timed. Work that
        is short against the time given is called once before, because another process has had
        the core, its caches and its clock.
        """
        assert self._now is not None
        prepared, spent = self._now.prepared[side], 0.0
        timings: list[float] = []
        if self._now.typical[side] < seconds / 4:
            prepared.run(0)
        enabled = gc.isenabled()
        gc.disable()
        try:
            while not timings or (spent < seconds and len(timings) < _MOST_CALLS):
                number = len(timings) % len(self._now.sets)
                start = time.perf_counter()
                elapsed = (prepared.seconds or self._clocked(prepared.run))(number)
                timings.append(elapsed)
                # of a device's clock each is the mean of several calls
                spent += time.perf_counter() - start if prepared.seconds else elapsed
                prepared.change()
            if len(timings) % 2 == 1:
                prepared.change()  # sides of one library share their arrays
        finally:
            if enabled:
                gc.enable()
        self._now.typical[side] = median(timings)
        return timings

    @staticmethod
    def _clocked(run: Callable[[int], Any]) -> Callable[[int], float]:
        """A call that takes the time of `run` by this machine's clock."""

        def clocked(number: int) -> float:
            start = time.perf_counter()
            result = run(number)
            elapsed = time.perf_counter() - start
            del result  # which may take time as well
            return elapsed

        return clocked

    def facts(self) -> dict[str, Any]:
        """What a reader of figures must know of a GPU and of the library on it; else nothing."""
        return self.module.facts() if self._more else {}

    def limits(self, at: float) -> dict[str, Any]:
        """The machine's limits, with as many threads as this session has; or the GPU's."""
        if self._more:
            return self.module.limits(at, self.precision)
        import fastcnn
        from fastcnn.benchmark import roofline

        fastcnn.set_num_threads(self.threads)
        return roofline.measure(self.threads, at).to_dict()


def serve(
    connection: Connection,
    library: str,
    threads: int,
    cores: list[int],
    device: str,
    precision: str,
) -> None:
    """Answer until the other end of the pipe is gone."""
    session: Session | None = None
    while True:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if session is None:
                session = Session(library, threads, device, precision)
                if hasattr(session.module, "bind"):  # OpenMP is told by the environment
                    session.module.bind(cores)
            answer = True, getattr(session, method)(*arguments)
        except Exception:
            answer = False, traceback.format_exc()
        with contextlib.suppress(BrokenPipeError):
            connection.send(answer)


def main() -> None:
    """Pin this process, then serve; nothing heavy is imported before."""
    fd, library, threads, listed, device, precision = sys.argv[1:7]
    cores = [int(core) for core in listed.split(",")]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    os.sched_setaffinity(0, cores)
    serve(Connection(int(fd)), library, int(threads), cores, device, precision)


if __name__ == "__main__":
    main()
