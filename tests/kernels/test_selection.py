"""How an implementation is chosen, refused and traced."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcnn
from fastcnn import functional, reference
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels import plans, selection
from fastcnn.kernels.implementation import Implementation, Problem
from fastcnn.kernels.precision import PRECISIONS
from fastcnn.kernels.selection import IMPLEMENTATIONS, choose
from tests.functional.operations import CONVOLUTIONS, POOLINGS, geometry_of
from tests.geometries import conv_cases, pool_cases

GEOMETRY = conv2d_geometry((2, 3, 9, 8), (4, 3, 3, 3))
PROBLEM = Problem("conv2d", GEOMETRY, "float32")


def refuses(problem):
    return None if problem.dtype == "float32" else "it takes float32 alone"


@pytest.fixture
def temporary(monkeypatch):
    """A second implementation of conv2d: one file and one line, as any new one. Yields a function
    that puts it into the list at a multiple of the portable kernel's cost."""
    calls = []
    kernel_file = ModuleType("fastcnn.kernels.cpu.temporary")

    def conv2d(geometry, x, w, b, y):
        calls.append(geometry)
        y[...] = reference.conv2d(x, w, b)

    kernel_file.conv2d = conv2d
    monkeypatch.setitem(sys.modules, kernel_file.__name__, kernel_file)
    listed = list(IMPLEMENTATIONS["conv2d"])
    (portable,) = (entry for entry in listed if entry.name == "portable")

    def add(factor):
        entry = Implementation(
            "temporary", "cpu.temporary", refuses, lambda p: factor * portable.cost(p), lambda p: 7
        )
        monkeypatch.setitem(IMPLEMENTATIONS, "conv2d", [*listed, entry])
        plans.forget()
        return calls

    yield add
    plans.forget()


class TestAuto:
    @pytest.mark.parametrize("precision", PRECISIONS)
    @settings(deadline=None, max_examples=40)
    @given(conv=conv_cases(), pool=pool_cases(), dtype=st.sampled_from(["float32", "float64"]))
    def test_never_raises(self, precision, conv, pool, dtype):
        for operations, case in ((CONVOLUTIONS, conv), (POOLINGS, pool)):
            for operation in operations:
                problem = Problem(operation, geometry_of(case), dtype, precision)
                chosen = choose(problem)
                assert chosen in IMPLEMENTATIONS[operation]
                assert chosen.supports(problem) is None
                assert chosen.cost(problem) >= 0
                assert chosen.workspace(problem) >= 0
                assert callable(chosen.load(operation))

    def test_a_cheaper_implementation_serves(self, temporary):
        calls = temporary(1e-6)
        assert choose(PROBLEM).name == "temporary"
        x, w = np.ones((2, 3, 9, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
        np.testing.assert_array_equal(functional.conv2d(x, w), np.full((2, 4, 7, 6), 27))
        assert calls == [GEOMETRY]
        functional.conv2d(x, w, algorithm="portable")
        assert len(calls) == 1

    def test_a_dearer_one_does_not_unless_named(self, temporary):
        calls = temporary(1e6)
        assert choose(PROBLEM).name != "temporary"
        x, w = np.ones((2, 3, 9, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
        functional.conv2d(x, w)
        assert calls == []
        functional.conv2d(x, w, algorithm="temporary")
        assert calls == [GEOMETRY]

    def test_of_equals_the_first_in_the_list_serves(self, temporary, monkeypatch):
        temporary(1)
        pair = [e for e in IMPLEMENTATIONS["conv2d"] if e.name in ("portable", "temporary")]
        monkeypatch.setitem(IMPLEMENTATIONS, "conv2d", pair)
        assert choose(PROBLEM).name == "portable"
        monkeypatch.setitem(IMPLEMENTATIONS, "conv2d", pair[::-1])
        assert choose(PROBLEM).name == "temporary"

    def test_one_that_cannot_serve_is_passed_over(self, temporary):
        calls = temporary(1e-6)
        assert choose(replace(PROBLEM, dtype="float64")).name != "temporary"
        y = functional.conv2d(np.ones((2, 3, 9, 8)), np.ones((4, 3, 3, 3)))
        np.testing.assert_array_equal(y, np.full((2, 4, 7, 6), 27))
        assert calls == []


class TestByName:
    def test_portable_takes_everything(self):
        for operation, entries in IMPLEMENTATIONS.items():
            assert any(e.name == "portable" for e in entries), operation
        for dtype in ("float32", "float64"):
            assert choose(replace(PROBLEM, dtype=dtype), "portable").name == "portable"

    def test_unknown(self):
        names = ", ".join(repr(e.name) for e in IMPLEMENTATIONS["conv2d"])
        message = f"conv2d has no algorithm 'fastest'; it has 'auto' and {names}"
        with pytest.raises(ValueError, match=f"^{message}$"):
            choose(PROBLEM, "fastest")

    @pytest.mark.parametrize("value", [None, 1, b"portable", ("portable",), np.array(["auto"] * 2)])
    def test_no_string(self, value):
        with pytest.raises(TypeError, match="algorithm must be a string, but got"):
            choose(PROBLEM, value)
        with pytest.raises(TypeError, match="algorithm must be a string, but got"):
            plans.plan("conv2d", GEOMETRY, "float32", value)

    def test_one_that_cannot_serve_says_why(self, temporary):
        temporary(1)
        assert choose(PROBLEM, "temporary").name == "temporary"
        x, w = np.ones((2, 3, 9, 8)), np.ones((4, 3, 3, 3))
        with pytest.raises(
            ValueError,
            match=r"algorithm='temporary' cannot serve conv2d float64 N=2 C=3 H=9 W=8 .*: it takes "
            "float32 alone",
        ):
            functional.conv2d(x, w, algorithm="temporary")


class TestThreads:
    def test_a_problem_does_not_know_them(self):
        known = ["operation", "geometry", "dtype", "precision", "device"]
        assert [f.name for f in fields(Problem)] == known

    def test_the_choice_does_not_depend_on_them(self):
        before = fastcnn.get_num_threads()
        found = []
        try:
            for threads in (1, 2, 64):
                fastcnn.set_num_threads(threads)
                found.append(
                    [
                        (choose(problem).name, [e.cost(problem) for e in IMPLEMENTATIONS[name]])
                        for name in CONVOLUTIONS
                        for size in (4, 16, 64)
                        for problem in [
                            Problem(
                                name, conv2d_geometry((1, 8, size, size), (8, 8, 3, 3)), "float32"
                            )
                        ]
                    ]
                )
        finally:
            fastcnn.set_num_threads(before)
        assert found[0] == found[1] == found[2]


class TestTrace:
    def test_names_the_choice_and_the_reasons(self, temporary, monkeypatch, capsys):
        monkeypatch.setenv("FASTCNN_VERBOSE", "1")
        temporary(1e6)
        x, w = np.ones((2, 3, 9, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
        functional.conv2d(x, w)
        line = capsys.readouterr().err
        assert line.startswith("fastcnn: conv2d float32 N=2 C=3 H=9 W=8 K=4 R=3 S=3 ")
        assert "cheapest of " in line
        assert "not temporary: estimated " in line
        functional.conv2d(x, w)
        assert capsys.readouterr().err == "", "a kept plan is chosen, and traced, once"
        functional.conv2d(x.astype(float), w.astype(float))
        assert "not temporary: it takes float32 alone" in capsys.readouterr().err
        functional.conv2d(x, w, algorithm="temporary")
        assert capsys.readouterr().err.endswith(": temporary (asked for)\n")

    @pytest.mark.parametrize("value", ["", "0", None])
    def test_is_silent_unless_asked_for(self, value, monkeypatch, capsys):
        if value is None:
            monkeypatch.delenv("FASTCNN_VERBOSE", raising=False)
        else:
            monkeypatch.setenv("FASTCNN_VERBOSE", value)
        choose(PROBLEM)
        selection.trace("nothing")
        assert capsys.readouterr() == ("", "")

    def test_in_a_process_of_its_own(self):
        program = (
            "import numpy as np\n"
            "from fastcnn.functional import conv2d, max_pool2d\n"
            "x = np.ones((1, 2, 6, 6), np.float32)\n"
            "max_pool2d(conv2d(x, np.ones((3, 2, 3, 3), np.float32)), 2)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"FASTCNN_VERBOSE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == ""
        first, second = done.stderr.splitlines()
        assert first.startswith("fastcnn: conv2d float32 N=1 C=2 H=6 W=6 K=3 ")
        assert second.startswith("fastcnn: max_pool2d float32 N=1 C=3 H=4 W=4 R=2 S=2 ")
        for line in (first, second):
            assert "cheapest of" in line
