"""Ctrl-C: while kernels run, and while they compile."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fastcnn.kernels.cpu.jit import kernel
from tests.reliability.test_threads import each_layer


@each_layer
def test_interrupted_launch(run, layer):
    run("interrupt_launch", layer["NUMBA_THREADING_LAYER"], NUMBA_NUM_THREADS="2", **layer)


def test_interrupted_compilation(run):
    run("interrupt_compilation", FASTCNN_CACHE="0")


def test_interrupted_compilation_and_exit(run):
    assert run("interrupt_exit", FASTCNN_CACHE="0") == "interrupted"


class TestCompilationOutOfReach:
    """The main thread has another compile for it, and gets what that one got."""

    def test_errors_come_back(self):
        @kernel
        def wrong(x):
            return x.nothing

        with pytest.raises(Exception, match=r"Unknown attribute 'nothing'"):
            wrong(np.zeros(1))

    def test_where_no_thread_can_be_started(self, monkeypatch):
        def start(thread):
            raise RuntimeError("can't start new thread")

        @kernel
        def double(x):
            return 2 * x

        monkeypatch.setattr(threading.Thread, "start", start)
        assert double(2.0) == 4
