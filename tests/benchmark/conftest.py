"""A run in this process on a clock of its own, so that tests measure nothing real.

Implementations made by `implementation` compute with the portable kernels and then move the clock:
by how much is what "measuring" them finds.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastcnn.benchmark import worker as worker_module
from fastcnn.benchmark.cases import cases
from fastcnn.benchmark.processes import LocalWorker
from fastcnn.benchmark.runner import Run
from fastcnn.benchmark.settings import Settings
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Implementation
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.problems import find

LIMITS = {"fma_gflops": 100.0, "copy_gbs": 10.0, "clock_ghz": 3.0, "trip_ns": None}


class LocalRunWorker(LocalWorker):
    """As a worker process, but the machine's limits are made up."""

    def ask(self, method, *arguments):
        if method == "limits":
            return {"threads": 1, "at": arguments[0], **LIMITS}
        return super().ask(method, *arguments)


class Clock:
    """Stands still but for `advance`."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(worker_module, "time", SimpleNamespace(perf_counter=found.perf_counter))
    return found


@pytest.fixture
def offer(monkeypatch, clock):
    """Replace conv2d's selection list: offer(name, seconds, noise=0, spoil=None) adds to it."""
    rng = np.random.default_rng(0)
    portable = next(i for i in IMPLEMENTATIONS["conv2d"] if i.name == "portable")
    listed = []
    monkeypatch.setitem(IMPLEMENTATIONS, "conv2d", listed)
    plans.forget()

    def add(name, seconds, noise=0.0, spoil=None):
        def load(operation):
            right = portable.load(operation)

            def conv2d(geometry, x, w, b, y):
                right(geometry, x, w, b, y)
                if spoil is not None:
                    spoil(y)
                clock.advance(seconds * (1 + noise * rng.random()))

            return conv2d

        made = Implementation(
            name, "cpu.portable", lambda p: None, lambda p: len(listed), lambda p: 0
        )
        object.__setattr__(made, "load", load)
        listed.append(made)

    yield add
    plans.forget()


@pytest.fixture
def run_here():
    """run_here(problem=…, ops=…, peers=…) -> Results, all in this process on one thread."""

    def go(problem="n2c4h9k6r3p1", ops=("forward",), peers=(), **settings):
        wanted = cases([], ops, [find(problem)])
        chosen = Settings((1,), peers, pause=0.0, seconds=0.01, **settings)
        with Run(wanted, chosen, make_worker=LocalRunWorker) as run:
            return run.execute()

    return go
