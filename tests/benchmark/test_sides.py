"""Every side of every library gives the reference's results, each library in its own process."""

import os
import re
from pathlib import Path

import pytest

from fastcnn.benchmark import judging
from fastcnn.benchmark.cases import cases
from fastcnn.benchmark.networks import INPUT_SHAPES, NetworkProblem
from fastcnn.benchmark.processes import ProcessWorker, WorkerError, cores_for
from fastcnn.benchmark.sides import LIBRARIES, missing
from fastcnn.verification.problems import find

PROBLEMS = (
    "n1c3h9k8r3",  # one image: SciPy's
    "n2c6h9w11k12r3s2st2x1p2x1x0x1",  # four different sides
    "n2c6h9w11k12r3p2d2g2",
    "n2c6h8k6r3p1g6",
    "n2c3h11r3st2p1",
    "n2c3h9r2ceil",
    "n2c3h9r3st1p1",
    "n4i20o30",
    "16x10",
)
WANTED = cases([], None, [find(text) for text in PROBLEMS])
NETWORKS = [NetworkProblem(name, 3) for name in INPUT_SHAPES if name != "vgg11"]


@pytest.fixture(scope="module", params=list(LIBRARIES))
def worker(request):
    lacking = missing(request.param)
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}")
    found = ProcessWorker(request.param, 1)
    yield found
    found.close()


def check(worker, wanted, tmp_path):
    """Prepare and check every side of every case; returns the sides that were right."""
    right, wrong = set(), []
    file = tmp_path / "expected.npz"
    for case in wanted:
        sides = worker.ask("begin", case)
        if sides:
            judging.save(file, judging.expected(case))
        for side in sides:
            facts = worker.ask("prepare", side)
            if "reason" in facts:
                continue
            facts |= {} if "failed" in facts else worker.ask("check", side, str(file))
            if facts.get("right"):
                right.add((case.operation, side))
            else:
                wrong.append((str(case), side, facts))
        worker.ask("end")
    assert not wrong
    return right


def test_operations_agree_with_the_reference(worker, tmp_path):
    right = check(worker, WANTED, tmp_path)
    expected = {
        "fastcnn": ("conv2d_weight_grad", "auto"),
        "numpy": ("conv2d_input_grad", "numpy"),
        "torch": ("max_pool2d_grad", "torch_cl"),
        "ort": ("conv2d_frozen", "ort"),
        "jax": ("max_pool2d", "jax"),
        "scipy": ("conv2d", "scipy"),
    }
    assert expected[worker.library] in right


def test_networks_agree_with_the_reference(worker, tmp_path):
    right = check(worker, cases([], ["step"], NETWORKS), tmp_path)
    has_networks = worker.library in ("fastcnn", "numpy", "torch")
    assert bool(right) == has_networks


def test_timings_come_back_and_memory_is_looked_at(worker):
    case = cases([], ["forward"], [find("n1c3h9k8r3")])[0]
    (side, *_) = worker.ask("begin", case)
    worker.ask("prepare", side)
    facts = worker.ask("warm", side)
    assert facts["peak_rss_bytes"] > 1 << 20
    timings = worker.ask("measure", side, 1e-4)
    assert timings
    assert all(seconds > 0 for seconds in timings)


def test_an_error_in_a_worker_comes_back_with_its_traceback(worker):
    worker.ask("begin", cases([], ["forward"], [find("n1c3h9k8r3")])[0])
    with pytest.raises(WorkerError, match="KeyError"):
        worker.ask("warm", "nobody")


def test_a_worker_that_dies_is_noticed():
    found = ProcessWorker("numpy", 1)
    found._process.kill()
    with pytest.raises(WorkerError, match="ended with status -9"):
        found.ask("end")
    found.close()


def test_more_threads_than_cores_are_refused():
    cores = len(os.sched_getaffinity(0))
    assert cores_for(cores) == sorted(os.sched_getaffinity(0))
    with pytest.raises(ValueError, match="cannot be compared"):
        cores_for(cores + 1)


@pytest.mark.parametrize("library", ["fastcnn", "torch", "ort"])
def test_each_thread_of_a_pool_is_bound_to_a_core_of_its_own(library):
    lacking = missing(library)
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core: there is nothing to bind")
    case = cases([], ["forward"], [find("n4c16h32k16r3p1")])[0]
    found = ProcessWorker(library, 2)
    try:
        side = found.ask("begin", case)[0]
        found.ask("prepare", side)
        tasks = Path(f"/proc/{found._process.pid}/task").glob("*/status")
        allowed = [re.search(r"Cpus_allowed_list:\t(.*)", task.read_text())[1] for task in tasks]
    finally:
        found.close()
    alone = [cores for cores in allowed if cores.isdigit()]
    assert {str(core) for core in cores_for(2)} <= set(alone)
