"""Threads: at once from Python threads, any number of Numba's, beside other libraries."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Where pip puts TBB, which is not among the folders that the dynamic linker looks into.
TBB = Path(sys.prefix) / "lib" / "libtbb.so.12"

LAYERS = [
    pytest.param({"NUMBA_THREADING_LAYER": "workqueue"}, id="workqueue"),
    pytest.param({"NUMBA_THREADING_LAYER": "omp"}, id="omp"),
    pytest.param(
        {"NUMBA_THREADING_LAYER": "tbb", "LD_LIBRARY_PATH": str(TBB.parent)},
        id="tbb",
        marks=pytest.mark.skipif(not TBB.exists(), reason="the package tbb is not installed"),
    ),
]
KERNELS = "fastcnn.kernels.cpu.threads"
each_layer = pytest.mark.parametrize("layer", LAYERS)


@each_layer
def test_eight_python_threads_at_once(run, layer):
    run("eight_threads", layer["NUMBA_THREADING_LAYER"], NUMBA_NUM_THREADS="4", **layer)


# TBB hands tasks to threads as they come, so one thread may get them all.
@pytest.mark.parametrize("layer", LAYERS[:2])
@pytest.mark.parametrize(("pool", "first"), [(4, 1), (2, 4)])
def test_same_bits_and_as_many_threads_as_asked_for(run, layer, pool, first):
    run("thread_counts", pool, first, NUMBA_NUM_THREADS=str(pool), **layer)


@each_layer
def test_own_numba_code_keeps_its_thread_count(run, layer):
    run("own_numba_code", NUMBA_NUM_THREADS="4", **layer)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("order", [("torch", KERNELS), (KERNELS, "torch")], ids="-".join)
def test_torch_in_the_same_process(run, order):
    run("torch_too", *order)


def test_no_memory_for_a_workspace(run):
    run("no_memory")
