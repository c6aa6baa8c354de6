"""Ctrl-C: while kernels run, and while they compile."""

from __future__ import annotations

from tests.reliability.test_threads import each_layer


@each_layer
def test_interrupted_launch(run, layer):
    run("interrupt_launch", layer["NUMBA_THREADING_LAYER"], NUMBA_NUM_THREADS="2", **layer)


def test_interrupted_compilation(run):
    run("interrupt_compilation", FASTCNN_CACHE="0")


def test_interrupted_compilation_and_exit(run):
    assert run("interrupt_exit", FASTCNN_CACHE="0") == "interrupted"
