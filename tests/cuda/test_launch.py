"""What the driver is asked to do, with a driver that only writes it down."""

import ctypes
import re
import weakref
from pathlib import Path

import numpy as np
import pytest

from fastcnn.kernels.cuda import elements, memory, target, update
from tests.cuda.conftest import needs_extra

PACKAGE = Path(memory.__file__).parent


class Array:
    """What a kernel is given: an address."""

    def __init__(self, pointer):
        self.pointer = pointer


class Notebook:
    """A driver whose calls succeed; keeps the launches, with their parameters read back."""

    def __init__(self, kinds):
        self.kinds, self.launches = kinds, []

    def cuLaunchKernel(self, function, *numbers):
        *shape, stream, address, extra = numbers
        cells = (ctypes.c_void_p * len(self.kinds)).from_address(address)
        values = [k.from_address(c).value for k, c in zip(self.kinds, cells, strict=True)]
        self.launches.append((function, *shape, stream, values, extra))
        return (0,)


@pytest.fixture
def notebook(monkeypatch):
    kinds = [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_float]
    driver = Notebook(kinds)
    monkeypatch.setattr(target.driver, "_find", lambda: driver)
    monkeypatch.setattr(target.Program, "handle", lambda self, shared: ("loaded", shared))
    return driver


def test_parameters_are_packed_as_the_kernel_reads_them(notebook):
    program = elements._from_two.of(real="float32", formula=elements._relu_slope)
    big = 2**33 + 1
    program.launch(77, (5, 2), 256, Array(2**40), None, Array(24), big, 0.5, shared=99)
    (launch,) = notebook.launches
    assert launch == (("loaded", 99), 5, 2, 1, 256, 1, 1, 99, 77, [2**40, None, 24, big, 0.5], 0)


def test_a_prepared_launch_runs_again(notebook):
    program = elements._from_two.of(real="float32", formula=elements._relu_slope)
    ready = target.Launch(program, (1,), 32, (Array(8), Array(16), Array(24), 3, 1.0))
    ready.run(0)
    ready.run(5)
    first, second = notebook.launches
    assert first[:8] == second[:8]
    assert (first[8], second[8]) == (0, 5)
    assert first[9] == second[9] == [8, 16, 24, 3, 1.0]


def test_an_empty_grid_launches_nothing(notebook):
    program = elements._from_two.of(real="float32", formula=elements._relu_slope)
    program.launch(0, (0,), 32, Array(8), Array(16), Array(24), 0, 1.0)
    assert notebook.launches == []


def test_parameters_must_be_those_of_the_function():
    def scale(x, n):
        pass

    with pytest.raises(TypeError, match="scale takes"):
        target.kernel("real* x, int32 m")(scale)


def test_a_kernel_is_one_program_for_each_meaning():
    assert update._sgd.of(real="float32") is update._sgd.of(real="float32")
    assert update._sgd.of(real="float32") is not update._sgd.of(real="float64")


def test_an_arena_gives_the_same_arrays_again(monkeypatch):
    made = []

    def new(shape, dtype, stream):
        made.append(np.empty(shape, dtype))
        return made[-1]

    monkeypatch.setattr(memory, "_new", new)
    monkeypatch.setattr(target, "require_device", lambda: None)
    arena, f4 = memory.Arena(1000), np.dtype("f4")
    rounds = []
    for _ in range(2):
        with arena.replaying():
            rounds.append([memory.allocate(shape, f4, 0) for shape in ((2,), (3, 4), (2,))])
    assert len(made) == 3
    assert all(a is b for a, b in zip(*rounds, strict=True))
    with arena.replaying(), pytest.raises(RuntimeError, match="a replayed step allocates"):
        memory.allocate((9,), f4, 0)
    assert memory.allocate((2,), f4, 0) is made[3]


def test_an_arena_beyond_its_limit_keeps_nothing(monkeypatch):
    """What a step would take is then what it holds at a time, as without an arena."""
    alive = weakref.WeakSet()

    class Made(np.ndarray):
        __hash__ = object.__hash__

    def new(shape, dtype, stream):
        made = np.empty(shape, dtype).view(Made)
        alive.add(made)
        return made

    written = []
    monkeypatch.setattr(memory, "_new", new)
    monkeypatch.setattr(memory, "write", lambda array, values, stream: written.append(values))
    monkeypatch.setattr(target, "require_device", lambda: None)
    arena, f4 = memory.Arena(100), np.dtype("f4")
    rate = np.ones(1, f4)
    for _ in range(2):
        with arena.replaying():
            memory.placed(rate, 0)
            for _ in range(20):
                memory.allocate((10,), f4, 0)
            memory.placed(rate, 0)
        assert arena.reason == "its arrays take more than 0 MB"
        assert arena.moved == []
        assert len(alive) == 0
    assert len(written) == 4  # never thought to be there already


@needs_extra
def test_every_call_of_the_driver_exists():
    from cuda.bindings import driver

    called = set()
    for path in PACKAGE.rglob("*.py"):
        called |= set(re.findall(r"\bdriver\.((?:cu|CU)\w+(?:\.CU_\w+)?)", path.read_text()))
    assert len(called) > 20
    for name in called:
        found = driver
        for part in name.split("."):
            found = getattr(found, part)
