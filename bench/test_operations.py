"""Every operation on every layer of a suite, on every side; grouped by operation and layer."""

from __future__ import annotations

from statistics import median

import pytest

from fastcnn.benchmark.rates import attainable

ROUNDS = 8
SECONDS = 0.05  # of calls per round


class Clock:
    """What pytest-benchmark reads: it stands still but for what the worker measured."""

    def __init__(self):
        self._now = 0.0

    def __call__(self):
        return self._now

    def advance(self, seconds):
        self._now += seconds


CLOCK = Clock()


@pytest.mark.benchmark(timer=CLOCK, disable_gc=False)
def test_operation(benchmark, workers, limits, case, library, side):
    worker = workers[library]
    worker.ask("end")  # of what an earlier test left when it was skipped or failed
    if side not in worker.ask("begin", case):
        pytest.skip(f"{side} has no {case.operation} of this geometry")
    facts = worker.ask("prepare", side)
    unable = facts.get("reason") or facts.get("failed")
    if unable:
        pytest.skip(unable)
    facts |= worker.ask("check", side, workers.judged(case))
    assert facts["right"], f"{side} is wrong: relative error {facts['error']}"
    facts |= worker.ask("warm", side)

    def one_round():
        CLOCK.advance(median(worker.ask("measure", side, SECONDS)))

    benchmark.group = f"{case.measured.label}, {case.layer}"
    benchmark.pedantic(one_round, rounds=ROUNDS)
    worker.ask("end")
    benchmark.extra_info |= {
        **case.facts(), **facts, "side": side, "threads": workers.threads, "limits": limits,
    }  # fmt: skip
    if benchmark.stats is not None:
        seconds = benchmark.stats.stats.median
        least = attainable(case.flops, case.bytes, limits)
        benchmark.extra_info |= {
            "gflops": case.flops / seconds / 1e9,
            "gbs": case.bytes / seconds / 1e9,
            "percent_of_attainable": None if least is None else 100 * least / seconds,
        }
