"""`fastcnn bench --device cuda` without a GPU: the whole run in the simulator, and what is said."""

import json

import numpy as np
import pytest

from fastcnn.benchmark import judging, sides
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.processes import ProcessWorker
from fastcnn.benchmark.runner import check_peers
from fastcnn.benchmark.sides.prepared import back_to_back
from fastcnn.cli import main
from fastcnn.kernels.cuda import target, timing
from fastcnn.verification.problems import find
from tests.cuda.conftest import INSTALLED, needs_extra, run_program, simulate

CONV = Case("conv2d", find("n1c1h4k1r2"))


@needs_extra
def test_a_run_is_rehearsed():
    """Every operation and a network's step: right, timed, with the limits beside it, in JSON."""
    first, *lines = simulate("bench").splitlines()
    content = json.loads(first)
    assert content["finished"]
    assert content["settings"]["device"] == "cuda"
    assert content["machine"]["gpu"] == "Numba's simulator"
    rows = content["rows"]
    assert [(row["status"], row["reason"]) for row in rows] == [("ok", None)] * len(rows)
    operations = {row["operation"] for row in rows}
    assert {"conv2d", "conv2d_weight_grad", "max_pool2d_grad", "dense", "train_step"} < operations
    for limits in content["limits"]:
        assert limits["multiply_add_gflops"] == limits["fma_gflops"] > 0
        assert limits["copy_gbs"] > 0
        assert limits["tensor_gflops"] is None
    assert "numerics on all sides: ieee" in lines


@pytest.mark.skipif(target.missing_device() is None, reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so(capsys):
    assert main(["bench", "--device", "cuda", "--peers", "none"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fastcnn bench: ")
    assert said.count("\n") == 1
    assert ("driver" if INSTALLED else "pip install") in said


def test_peers_without_a_side_on_a_gpu_are_refused():
    with pytest.raises(ValueError, match="peer 'ort' has no side on a GPU: use --peers torch"):
        check_peers(["ort"], "cuda")
    assert set(sides.installed("cuda")) <= {"torch"}


@pytest.mark.skipif(bool(sides.missing("torch")), reason="torch is not installed")
def test_torch_without_cuda_says_so():
    worker = ProcessWorker("torch", 1, "cuda", "tf32")
    try:
        if worker.ask("facts")["torch_cuda"] is not None:
            pytest.skip("this torch has CUDA")
        assert worker.ask("begin", CONV) == ["torch", "torch_cl"]
        assert worker.ask("prepare", "torch") == {"reason": "this PyTorch finds no GPU"}
    finally:
        worker.close()


@pytest.mark.skipif(bool(sides.missing("torch")), reason="torch is not installed")
def test_torch_in_halves_is_right():
    """What its side on a GPU does in bf16, done on the host: layers, and a network's step."""
    assert run_program("torch_halves").split() == ["right"]


def test_rounded_factors_are_judged_as_such():
    assert judging.allowed(CONV, "tf32") == judging.allowed(CONV, "f16") == 2e-3
    assert judging.allowed(CONV, "bf16") == 1.6e-2
    assert judging.allowed(Case("relu", find("2x3")), "bf16") <= 1e-5
    assert judging.allowed(CONV, "float32") == judging.allowed(CONV, "ieee") == 1e-5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "bf16"], "precision 'bf16' is for --device cuda"),
        (["--precision", "ieee"], "precision 'ieee' is for --device cuda"),
        (
            ["--device", "cuda", "--dtype", "float64", "--precision", "bf16"],
            "precision 'bf16' is for arrays of float32, not of float64",
        ),
    ],
)
def test_a_precision_that_some_side_would_not_compute_in_is_refused(options, said, capsys):
    """Its judge would be more generous than what is computed, or PyTorch round what we do not."""
    assert main(["bench", "--peers", "none", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fastcnn bench: {said}")
    assert error.count("\n") == 1


class Events:
    """A driver with two events, 5 ms apart."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            given = {"cuEventCreate": len(self.calls), "cuEventElapsedTime": 5.0}
            return 0, given.get(name)

        return call


class Result:
    """Says when it is let go."""

    def __init__(self, calls):
        self.calls = calls

    def __del__(self):
        self.calls.append("let go")


def test_time_is_between_two_events_of_the_stream(monkeypatch):
    driver = Events()
    monkeypatch.setattr(target.driver, "_find", lambda: driver)
    monkeypatch.setattr(target, "simulated", lambda: False)

    def call(number):
        driver.calls.append(f"work {number}")
        return Result(driver.calls)

    found = timing.seconds(call, 2, 9)
    assert np.isclose(found, 5e-3)
    assert driver.calls[2:] == [
        ("cuEventRecord", 1, 9), "work 0", "work 1", "let go", ("cuEventRecord", 2, 9),
        ("cuEventSynchronize", 2), "let go", ("cuEventElapsedTime", 1, 2), ("cuEventDestroy", 1),
        ("cuEventDestroy", 2),
    ]  # fmt: skip


def test_short_calls_are_timed_back_to_back():
    """As many as take milliseconds: around one alone, events would time the host."""
    asked = []

    def timed(number, calls):
        asked.append((number, calls))
        return calls * 1e-4

    seconds = back_to_back(timed)
    assert np.isclose([seconds(0), seconds(1)], 1e-4).all()
    assert asked == [(0, 1), (0, 25), (1, 25)]
    assert np.isclose(back_to_back(lambda number, calls: 1.0)(0), 1.0)
    assert np.isclose(back_to_back(lambda number, calls: calls * 1e-9)(0), 1e-9)
