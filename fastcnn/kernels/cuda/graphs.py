"""Launches written down in place of being run, and run again all at once: CUDA graphs.

    with recording() as graph:
        step(...)                   # launches on `graph.stream`, none of which runs
    graph.launch()                  # all of them, by one call of the driver

A graph holds launches with their addresses and numbers, and nothing else: memory that was allocated
for them must stay where it was (memory.Arena), and what the host reads or writes between them is no
part of it. Reading, writing or allocating while one is made is therefore an error, NotRecordable.

In the simulator a graph is the list of its launches, run one after the other: what the driver's
graph would hold.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from threading import RLock
from typing import Any

from fastcnn.kernels.cuda import memory, target
from fastcnn.kernels.cuda.streams import on_stream
from fastcnn.kernels.cuda.target import NotRecordable, Recorded, checked, driver, follow


@cache
def _stream(device: int) -> int:
    """The stream of a device's graphs, for as long as the process lives.

    One that the default stream neither waits for nor stops: the default stream itself cannot be
    captured. Memory and tables made for it serve all graphs.
    """
    return int(checked(*driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING)))


def stream() -> int:
    """The address of the stream on which graphs are recorded and run, on the current device."""
    return 0 if target.simulated() else _stream(int(target.current_device()))


# By device: held by the thread that works on `stream`.
_turns: dict[int, Any] = {}


def turn() -> AbstractContextManager[Any]:
    """To be held while work is given to `stream`.

    While one thread captures, what another gives to the stream would be captured along with it.
    """
    device = 0 if target.simulated() else int(target.current_device())
    return _turns.setdefault(device, RLock())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep the garbage collector still: what others free when it runs may break a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Graph:
    """A sequence of launches.

    Attributes
    ----------
    stream : int
        Where they run.
    launches : list of Recorded
        Their programs, grids and arguments; also what keeps the arguments' memory.
    """

    def __init__(self) -> None:
        self.stream = stream()
        self.launches: list[Recorded] = []
        self._ready: Any = None

    def _begin(self) -> None:
        if not target.simulated():
            # Only this thread's calls may break a capture; others go on as they like.
            mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
            checked(*driver.cuStreamBeginCapture(self.stream, mode))

    def _end(self) -> None:
        """Make what was recorded ready; NotRecordable if there is nothing, CudaError if refused."""
        if target.simulated():
            return
        made = checked(*driver.cuStreamEndCapture(self.stream))
        try:
            self._ready = checked(*driver.cuGraphInstantiate(made, 0))
        finally:
            checked(*driver.cuGraphDestroy(made))

    def _abandon(self) -> None:
        """End a capture whose result is not wanted; the stream is as before."""
        if not target.simulated():
            status, made = driver.cuStreamEndCapture(self.stream)
            if int(status) == 0 and made is not None:
                driver.cuGraphDestroy(made)

    def launch(self) -> None:
        """Run all launches, in order, after what the stream has been given."""
        if self._ready is not None:
            checked(*driver.cuGraphLaunch(self._ready, self.stream))
            return
        for recorded in self.launches:
            recorded.run(self.stream)

    def __del__(self) -> None:
        if self._ready is not None:
            with suppress(Exception):  # at the interpreter's end the driver may be gone
                driver.cuGraphExecDestroy(self._ready)


@contextmanager
def recording() -> Iterator[Graph]:
    """Within a `with` block, write launches down; afterwards the Graph can be launched.

    Raises
    ------
    NotRecordable, CudaError
        Something was done that a graph cannot hold. The stream is as before.
    """
    graph = Graph()
    # Memory that is dropped until the end is freed afterwards (memory.Memory).
    with turn(), _uncollected(), on_stream(graph.stream), target.writing_down(graph.launches):
        graph._begin()
        try:
            yield graph
        except BaseException:
            graph._abandon()
            raise
        graph._end()
    if not graph.launches:
        raise NotRecordable("nothing was launched")


class Repeated:
    """Work on fixed arrays, done once as it is and then again and again as a graph.

    Whatever the work allocates it gets again each time, at the same addresses. Numbers that the
    host gives it are written anew before each launch, or stay as they were.

    Parameters
    ----------
    most : int
        Bytes that may be kept for it.

    Attributes
    ----------
    stream : int
        Where it is done.
    graph : Graph
        From `record` on.
    """

    def __init__(self, most: int) -> None:
        self.stream = stream()
        self._arena = memory.Arena(most)
        self.graph: Graph | None = None

    @property
    def reason(self) -> str:
        """Why the work cannot be repeated, once it has been done; empty if it can."""
        return self._arena.reason

    def first(self, work: Callable[[], Any]) -> Any:
        """Do the work: compiles and allocates what it needs. Returns what it returns."""
        with on_stream(self.stream), self._arena.replaying():
            return work()

    def record(self, work: Callable[[], Any]) -> None:
        """Go through the work again without doing it; errors are those of `recording`."""
        with recording() as graph, self._arena.replaying():
            work()
        self.graph = graph

    @property
    def moved(self) -> list[Any]:
        """Where the numbers are that the host gave."""
        return self._arena.moved

    @contextmanager
    def after(self, others: Iterable[int]) -> Iterator[None]:
        """Within a `with` block work on the stream, in turn with what other streams are given.

        Other threads wait until it is left.
        """
        others = set(others)
        with turn():
            for other in others:
                follow(self.stream, other)
            try:
                with on_stream(self.stream):
                    yield
            finally:
                for other in others:
                    follow(other, self.stream)
