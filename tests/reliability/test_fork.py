"""Children: forked before, after and amid launches, and those of multiprocessing."""

from __future__ import annotations

import os

import pytest

from tests.reliability.test_threads import each_layer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@each_layer
def test_fork_after_a_launch(run, layer):
    run("fork_after_launch", layer["NUMBA_THREADING_LAYER"], NUMBA_NUM_THREADS="4", **layer)


@each_layer
def test_fork_before_any_launch(run, layer):
    run("fork_before_launch", NUMBA_NUM_THREADS="4", **layer)


@each_layer
def test_fork_amid_threads_that_launch_and_compile(run, layer):
    run("fork_amid_threads", **layer)


@pytest.mark.parametrize(
    ("method", "launch_first"),
    [("fork", "yes"), ("fork", "no"), ("spawn", "yes"), ("forkserver", "no")],
)
def test_multiprocessing_pool(run, method, launch_first):
    run("pools", method, launch_first)
