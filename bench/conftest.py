"""pytest-benchmark over fastcnn.benchmark: `pytest bench/`.

Each side runs in its library's own process, as in `fastcnn bench`; the clock that pytest-benchmark
reads is that process's. Here sides are measured one after the other, not in turns: use this to
follow one side from commit to commit (--benchmark-json, --benchmark-compare), and `fastcnn bench`
for ratios.
"""

from __future__ import annotations

import pytest

import fastcnn
from fastcnn.benchmark import machine
from fastcnn.benchmark.cases import cases, quick_cases, suites
from fastcnn.benchmark.processes import ProcessWorker
from fastcnn.benchmark.sides import LIBRARIES, PEERS, installed


def pytest_addoption(parser):
    group = parser.getgroup("fastcnn")
    group.addoption("--suite", default="quick", help=f"quick, or some of {', '.join(suites())}")
    group.addoption("--ops", help="such as forward,dx,dw (all by default)")
    group.addoption("--peers", help=f"some of {', '.join(PEERS)}, or none (all installed)")
    group.addoption("--threads", type=int, default=fastcnn.get_num_threads())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    # The project's settings turn benchmarks off, for the tests' sake; whoever runs this folder
    # wants them, unless the command itself says otherwise.
    if "--benchmark-disable" not in config.invocation_params.args:
        config.option.benchmark_enable = True
    config.addinivalue_line(
        "filterwarnings", "default::pytest_benchmark.logger.PytestBenchmarkWarning"
    )


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info["fastcnn"] = machine.facts()


def _cases(config):
    suite, ops = config.getoption("--suite"), config.getoption("--ops")
    operations = ops.split(",") if ops else None
    return quick_cases(operations) if suite == "quick" else cases(suite.split(","), operations)


def _sides(config):
    peers = config.getoption("--peers")
    named = installed() if peers is None else [p for p in peers.split(",") if p != "none"]
    return [(library, side) for library in ("fastcnn", *named) for side in LIBRARIES[library][2]]


def pytest_generate_tests(metafunc):
    if {"case", "library", "side"} <= set(metafunc.fixturenames):
        found = [
            pytest.param(
                case,
                library,
                side,
                id="-".join((case.layer, case.measured.label.replace(" ", "-"), side)),
            )
            for case in _cases(metafunc.config)
            for library, side in _sides(metafunc.config)
        ]
        metafunc.parametrize(("case", "library", "side"), found, scope="session")


class Workers:
    """The libraries' processes, started when first needed, and the judge's results."""

    def __init__(self, threads, folder):
        self.threads, self._folder = threads, folder
        self._known = {}
        self._judged = None

    def __getitem__(self, library):
        if library not in self._known:
            self._known[library] = ProcessWorker(library, self.threads)
        return self._known[library]

    def judged(self, case):
        """The file of the reference's results, kept until the next case."""
        file = str(self._folder / "expected.npz")
        if self._judged != case:
            self["numpy"].ask("judge", case, file)
            self._judged = case
        return file

    def close(self):
        for worker in self._known.values():
            worker.close()


@pytest.fixture(scope="session")
def workers(request, tmp_path_factory):
    found = Workers(request.config.getoption("--threads"), tmp_path_factory.mktemp("bench"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def limits(workers):
    return workers["fastcnn"].ask("limits", 0.0)
