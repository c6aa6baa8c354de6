"""CUDA graphs: what the driver is asked for, with one that only writes it down; and whole steps."""

import numpy as np
import pytest

from fastcnn.kernels.cuda import elements, graphs, memory, target
from tests.cuda.conftest import needs_extra, simulate

STREAM = 11
# What calls of the driver give back.
RESULTS = {
    "cuStreamCreate": STREAM,
    "cuStreamEndCapture": "made",
    "cuGraphInstantiate": "ready",
    "cuGetErrorName": b"CUDA_ERROR",
    "cuGetErrorString": b"no",
}


class Array:
    """What a kernel is given: an address."""

    def __init__(self, pointer):
        self.pointer = pointer


class Notebook:
    """A driver that keeps the names and first arguments of its calls; `fails` names what fails."""

    fails = ""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("CU"):
            return self

        def call(*arguments):
            self.calls.append((name, *arguments))
            return (1 if name == self.fails else 0, RESULTS.get(name))

        return call

    def names(self):
        return [call[0] for call in self.calls]


@pytest.fixture
def notebook(monkeypatch):
    driver = Notebook()
    monkeypatch.setattr(target.driver, "_find", lambda: driver)
    monkeypatch.setattr(target, "current_device", lambda: 0)
    monkeypatch.setattr(target.Program, "handle", lambda self, shared: "function")
    graphs._stream.cache_clear()
    yield driver
    graphs._stream.cache_clear()


def launch(n=3):
    program = elements._from_one.of(real="float32", formula=elements._copied)
    program.launch(STREAM, (1,), 32, Array(8), Array(16), n)


def test_launches_are_captured_and_run_by_one_call(notebook):
    with graphs.recording() as graph:
        launch()
        launch()
    assert notebook.names() == [
        "cuStreamCreate", "cuStreamBeginCapture", "cuLaunchKernel", "cuLaunchKernel",
        "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy",
    ]  # fmt: skip
    assert notebook.calls[2][9] == STREAM
    assert len(graph.launches) == 2
    notebook.calls.clear()
    graph.launch()
    graph.launch()
    assert notebook.calls == [("cuGraphLaunch", "ready", STREAM)] * 2
    notebook.calls.clear()
    del graph
    assert notebook.calls == [("cuGraphExecDestroy", "ready")]


def test_a_graph_holds_what_its_launches_read(notebook):
    array = Array(8)
    with graphs.recording() as graph:
        elements._from_one.of(real="float32", formula=elements._copied).launch(
            STREAM, (1,), 32, array, array, 1
        )
    assert graph.launches[0].arguments[0] is array


@pytest.mark.parametrize(
    "step",
    [
        lambda: memory.Memory(8, STREAM),
        lambda: memory.write(None, np.zeros(2), STREAM),
        lambda: memory.read(8, np.zeros(2), STREAM),
    ],
)
def test_what_a_graph_cannot_hold_ends_the_capture(notebook, step):
    with pytest.raises(target.NotRecordable, match="cannot be part of a graph"), graphs.recording():
        step()
    assert notebook.names()[-2:] == ["cuStreamEndCapture", "cuGraphDestroy"]
    assert not target.is_recording()


def test_a_step_without_launches_is_no_graph(notebook):
    with pytest.raises(target.NotRecordable, match="nothing was launched"), graphs.recording():
        pass


@pytest.mark.parametrize("call", ["cuStreamEndCapture", "cuGraphInstantiate"])
def test_what_the_driver_refuses_is_its_error(notebook, call):
    notebook.fails = call
    with pytest.raises(target.CudaError, match="CUDA_ERROR: no"), graphs.recording():
        launch()
    assert ("cuGraphDestroy" in notebook.names()) == (call == "cuGraphInstantiate")


def test_memory_dropped_during_a_capture_is_freed_after_it(notebook):
    dropped = memory.Memory.__new__(memory.Memory)
    dropped.pointer, dropped.stream = 24, STREAM
    with graphs.recording():
        launch()
        del dropped
    assert "cuMemFreeAsync" not in notebook.names()
    other = memory.Memory.__new__(memory.Memory)
    other.pointer, other.stream = 32, 5
    del other
    freed = {call[1:] for call in notebook.calls if call[0] == "cuMemFreeAsync"}
    assert freed == {(24, STREAM), (32, 5)}


@needs_extra
def test_repeated_steps_are_the_plain_ones():
    """In the simulator a graph runs the launches it has written down: the same bits as eagerly."""
    lines = simulate("graphs").splitlines()
    assert lines[0] == "the same bits"
    assert lines[1] == "21 launches, and nothing allocated for them"
    assert [line.split()[0] for line in lines[2:5]] == ["ValueError"] * 3
    assert lines[5:] == ["its arrays take 0 MB", "reading from the host cannot be part of a graph"]
