"""CUDA graphs: what the driver is asked for, with one that only writes it down; and whole steps."""

import gc
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from fastcnn.functional.devices import taken
from fastcnn.functional.graphs import Repeated
from fastcnn.kernels.cuda import elements, graphs, memory, products, target
from fastcnn.training.step_graphs import StepGraph
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
        lambda: products._upload([np.zeros(2)], STREAM),
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


def test_memory_dropped_in_another_thread_is_not_freed_within_a_capture(notebook):
    held = [memory.Memory.__new__(memory.Memory) for _ in range(2)]
    for number, one in enumerate(held):
        one.pointer, one.stream = 40 + number, STREAM
    del one
    with graphs.recording():
        launch()
        thread = threading.Thread(target=held.pop)
        thread.start()
        thread.join()
    assert "cuMemFreeAsync" not in notebook.names()
    held.pop()
    freed = {call[1:] for call in notebook.calls if call[0] == "cuMemFreeAsync"}
    assert freed == {(40, STREAM), (41, STREAM)}


class Tensor:
    """What fastcnn reads of a torch tensor, on stream 7; a strided one is copied there."""

    device = SimpleNamespace(index=0)
    __cuda_array_interface__ = None  # which an instance has its own of
    dtype, shape, calls = "torch.float32", (2, 2), []

    def __init__(self, strides=None):
        self.__cuda_array_interface__ = {
            "shape": (2, 2), "typestr": "<f4", "data": (64, False), "strides": strides, "version": 3
        }  # fmt: skip

    def __len__(self):
        return 2

    def contiguous(self):
        self.calls.append(("copy", 7))
        return Tensor()


class Plain:
    """What a Numba device array shows."""

    __cuda_array_interface__ = None

    def __init__(self, shape=(2, 2), stream=None):
        self.shape = shape
        self.__cuda_array_interface__ = {
            "shape": shape, "typestr": "<f4", "data": (8, False), "version": 3, "stream": stream
        }  # fmt: skip


def test_a_strided_batch_is_copied_before_the_graph_waits_for_its_stream(notebook, monkeypatch):
    """A copy that is launched later, on torch's stream, would be under way while it is read."""
    cuda = SimpleNamespace(
        current_device=lambda: 0, current_stream=lambda device: SimpleNamespace(cuda_stream=7)
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(Tensor=Tensor, cuda=cuda))
    monkeypatch.setattr(target, "require_device", lambda: None)
    monkeypatch.setattr(Tensor, "calls", notebook.calls)
    step = StepGraph.__new__(StepGraph)
    step._work, step._figures = Repeated([], 100), {}
    step._work._work.graph = SimpleNamespace(launch=lambda: None)
    step._x, step._y, step._rates = (Plain() for _ in range(3))
    step.dtype = np.dtype("f4")
    step.loss = SimpleNamespace(targets=lambda y, *_: y, placed=lambda y, _: y)
    step.optimizer = SimpleNamespace(iterations=0, rates=lambda: np.zeros((2, 2)))
    step._remains = SimpleNamespace(put_back=lambda _: None)
    notebook.calls.clear()
    step.again(Tensor((4, 8)), Tensor((4, 8)))
    names = notebook.names()
    assert names[:4] == ["copy", "copy", "cuEventCreate", "cuEventRecord"], names
    assert names.count("copy") == 2
    launches = [call[9] for call in notebook.calls if call[0] == "cuLaunchKernel"]
    assert launches == [STREAM, STREAM]


def test_streams_take_turns_where_one_reads_what_is_of_another(notebook):
    """The other must not free or change it before it has been read."""
    program = elements._from_one.of(real="float32", formula=elements._copied)
    read, written = Array(8), Array(16)
    read.stream, written.stream = 5, STREAM
    program.launch(STREAM, (1,), 32, read, written, 3)
    steps = [
        call[:3:2] if call[0] == "cuEventRecord" else call[:2]
        for call in notebook.calls
        if call[0] in ("cuEventRecord", "cuStreamWaitEvent", "cuLaunchKernel")
    ]
    assert steps == [
        ("cuEventRecord", 5), ("cuStreamWaitEvent", STREAM), ("cuLaunchKernel", "function"),
        ("cuEventRecord", STREAM), ("cuStreamWaitEvent", 5),
    ]  # fmt: skip


def test_row_numbers_go_to_the_stream_of_the_rows(notebook, monkeypatch):
    streams = []

    def new(shape, dtype, stream):
        streams.append(stream)
        return Plain(shape)

    monkeypatch.setattr(memory, "_new", new)
    monkeypatch.setattr(target, "require_device", lambda: None)
    notebook.calls.clear()
    taken(Plain(stream=7), np.array([1, 0, 1]))
    assert streams == [7, 7]
    copies = [call[4] for call in notebook.calls if call[0] == "cuMemcpyHtoDAsync"]
    launches = [call[9] for call in notebook.calls if call[0] == "cuLaunchKernel"]
    assert (copies, launches) == ([7], [7])


def test_other_streams_wait_for_a_graph_that_failed_too(notebook):
    work = graphs.Repeated(100)
    with pytest.raises(ZeroDivisionError), work.after([3]):
        1 / 0  # noqa: B018
    waits = [call[1:3] for call in notebook.calls if call[0] == "cuStreamWaitEvent"]
    assert [stream for stream, _ in waits] == [STREAM, 3]


def test_memory_dropped_while_a_capture_ends_is_freed_after_it(notebook, monkeypatch):
    """Freeing it within would be captured, too."""
    end = graphs.Graph._end

    def late(graph):
        dropped = memory.Memory.__new__(memory.Memory)
        dropped.pointer, dropped.stream = 24, STREAM
        del dropped
        end(graph)

    monkeypatch.setattr(graphs.Graph, "_end", late)
    with graphs.recording():
        launch()
    assert "cuMemFreeAsync" not in notebook.names()
    memory._unfreed.clear()


def test_memory_that_is_done_with_can_be_given_back(notebook, monkeypatch):
    monkeypatch.setattr(memory, "_pool", lambda device: f"pool {device}")
    memory.trim()
    assert notebook.calls == [("cuCtxSynchronize",), ("cuMemPoolTrimTo", "pool 0", 0)]


def test_no_garbage_is_collected_within_a_capture(notebook):
    assert gc.isenabled()
    with graphs.recording():
        assert not gc.isenabled()
        launch()
    assert gc.isenabled()


def test_threads_take_turns_on_the_graphs_stream(notebook):
    """A launch of one would else be captured by the other."""
    work, order = graphs.Repeated(100), []

    def other():
        with graphs.Repeated(100).after([]):
            order.append("other")

    thread = threading.Thread(target=other)
    with work.after([]):
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


@needs_extra
def test_repeated_steps_are_the_plain_ones():
    """In the simulator a graph runs the launches it has written down: the same bits as eagerly."""
    lines = simulate("graphs").splitlines()
    assert lines[0] == "the same bits"
    assert lines[1] == "21 launches, and nothing allocated for them"
    assert [line.split()[0] for line in lines[2:5]] == ["ValueError"] * 3
    said = "training steps of batches (2, 1, 3, 3): no CUDA graph, "
    assert lines[5:] == [
        f"{said}its arrays take more than 0 MB",
        f"{said}reading from the host cannot be part of a graph",
    ]
