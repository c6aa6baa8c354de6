"""Workers as the runner sees them: one process per library and number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, Protocol

from fastcnn.benchmark.worker import Session

# Every pool of threads that a library here may start.
_THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)

# Each thread on a core of its own, for the pools that are OpenMP's (ours, PyTorch's). Without it
# some schedulers leave both threads of a pool on one core while the other idles: on the virtual
# machine of docs/performance.md one launch in fourteen then lost 4, 8 or 16 ms.
_BOUND = {"OMP_PROC_BIND": "true", "NUMBA_THREADING_LAYER_PRIORITY": "omp tbb workqueue"}

# Seconds between two looks at a process that is to come to rest.
_POLL = 1e-3


class WorkerError(RuntimeError):
    """A worker raised or died; has its traceback."""


class Worker(Protocol):
    """Something that does what a `Session` does, wherever it runs."""

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the session and return its result."""

    def settle(self, seconds: float) -> None:
        """Wait until it computes nothing any more, at most so long."""

    def close(self) -> None:
        """End it."""


def cores_for(threads: int) -> list[int]:
    """The cores that every side with so many threads is pinned to: the first ones allowed.

    Raises
    ------
    ValueError
        More threads than cores.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if threads > len(allowed):
        raise ValueError(
            f"{threads} threads asked for, but this process may use {len(allowed)} cores: "
            "sides that share cores cannot be compared"
        )
    return allowed[:threads]


class ProcessWorker:
    """A library in a process of its own, pinned, with a pool of `threads` threads.

    OpenMP's threads are bound to one core each; other pools may use all these cores, except that
    sides/onnx_runtime.py binds ONNX Runtime's in its own way.

    Parameters
    ----------
    library : str
    threads : int
    device, precision : str
        As in `Settings`.
    """

    def __init__(
        self, library: str, threads: int, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.library, self.threads = library, threads
        ours, theirs = Pipe()
        fd = theirs.fileno()
        cores = cores_for(threads)
        environment = dict(os.environ)
        environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads)) | _BOUND
        environment["OMP_PLACES"] = ",".join(f"{{{core}}}" for core in cores)
        # the package must be found from wherever the command was started
        root = str(Path(__file__).parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            part for part in (root, environment.get("PYTHONPATH", "")) if part
        )
        command = [sys.executable, "-m", "fastcnn.benchmark.worker"]
        listed = ",".join(map(str, cores))
        self._process = subprocess.Popen(
            [*command, str(fd), library, str(threads), listed, device, precision],
            pass_fds=[fd], env=environment, stdin=subprocess.DEVNULL,
            stdout=2,  # what libraries print is not our output
        )  # fmt: skip
        theirs.close()
        self._pipe = ours

    def ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
            done, result = self._pipe.recv()
        except (EOFError, OSError) as error:
            status = self._process.wait(timeout=10)
            raise WorkerError(
                f"the {self.library} process ended with status {status} during {method}"
            ) from error
        if not done:
            raise WorkerError(f"{self.library}, {method}:\n{result}")
        return result

    def settle(self, seconds: float) -> None:
        # Pools of threads spin for a while when they have nothing to do, and would take the next
        # side's core: 35 ms in ONNX Runtime, 45 ms in OpenBLAS, 6 ms in OpenMP.
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._is_running():
            time.sleep(_POLL)

    def _is_running(self) -> bool:
        """Whether any thread of the process is running or wants to."""
        try:
            stats = [
                path.read_text() for path in Path(f"/proc/{self._process.pid}/task").glob("*/stat")
            ]
        except OSError:  # a thread or the process has just ended
            return False
        # pid (name) state …, where the name may hold anything
        return any(stat.rpartition(")")[2].split()[0] == "R" for stat in stats)

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.wait()


class LocalWorker:
    """A session in this process: for tests, and for one library by itself."""

    def __init__(
        self, library: str, threads: int, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self._session = Session(library, threads, device, precision)

    def ask(self, method: str, *arguments: Any) -> Any:
        return getattr(self._session, method)(*arguments)

    def settle(self, seconds: float) -> None:
        """Nothing else computes here."""

    def close(self) -> None:
        self._session.end()
