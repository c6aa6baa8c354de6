"""The runner: who takes turns when, who is refused, and what a slower kernel is called."""

import json
from contextlib import suppress
from typing import ClassVar

import numpy as np
import pytest

from fastcnn.benchmark import results, runner
from fastcnn.benchmark.cases import cases, quick_cases
from fastcnn.benchmark.comparison import compare
from fastcnn.benchmark.estimate import run_seconds, said
from fastcnn.benchmark.processes import WorkerError
from fastcnn.benchmark.settings import Settings, quick
from fastcnn.verification.problems import find
from tests.benchmark.conftest import LIMITS


def rows_by_side(found):
    return {row["side"]: row for row in found.to_dict()["rows"]}


def test_a_kernel_made_slower_by_a_fifth_is_seen_beside_the_other(offer, run_here):
    offer("fast", 1e-3, noise=0.03)
    offer("slow", 1.2e-3, noise=0.03)
    found = rows_by_side(run_here())
    ratio = found["auto"]["ratios"]["slow"]
    assert found["auto"]["algorithm"] == "fast"
    assert ratio["verdict"] == "faster"
    assert 1.15 < ratio["median"] < 1.25
    assert ratio["rounds"] >= 8


def test_a_kernel_made_slower_by_a_fifth_is_seen_between_two_runs(offer, run_here):
    offer("kernel", 1e-3, noise=0.03)
    old = run_here().to_dict()
    offer("newer", 1.2e-3, noise=0.03)
    # the newer comes last but claims to be the cheapest, if not so cheap that calls of it would be
    # repeated as one, without the clock
    from fastcnn.kernels.selection import IMPLEMENTATIONS

    IMPLEMENTATIONS["conv2d"].reverse()
    object.__setattr__(IMPLEMENTATIONS["conv2d"][0], "cost", lambda problem: 0.5)
    from fastcnn.kernels import plans

    plans.forget()
    new = run_here().to_dict()
    change = next(c for c in compare(old, new).changes if " auto " in c.label)
    assert change.verdict == "slower"
    assert 1.15 < change.ratio < 1.25
    assert compare(old, new).beyond(1.05) == [change]
    assert compare(old, new).beyond(1.3) == []


def test_two_runs_of_the_same_kernel_are_noise(offer, run_here):
    offer("kernel", 1e-3, noise=0.03)
    old, new = run_here().to_dict(), run_here().to_dict()
    assert [c.verdict for c in compare(old, new).changes] == ["noise"]


def one_wrong_element(y):
    y[0, 0, 0, 0] += 0.1


def nothing_written(y):
    y[:] = 0


def not_a_number(y):
    y[0, 0, 0, 0] = np.nan


@pytest.mark.parametrize("spoil", [one_wrong_element, nothing_written, not_a_number])
def test_a_wrong_kernel_is_refused_and_named_and_not_timed(offer, run_here, spoil):
    offer("right", 1e-3)
    offer("wrong", 1e-4, spoil=spoil)
    found = run_here()
    wrong = rows_by_side(found)["wrong"]
    assert wrong["status"] == "wrong"
    assert "relative error" in wrong["reason"]
    assert "median" not in wrong
    assert found.refused == [row for row in found.rows if row["side"] == "wrong"]
    assert rows_by_side(found)["auto"]["status"] == "ok"


def test_weights_that_are_kept_from_an_earlier_call_are_found_out(offer, run_here):
    first = []

    def stale(y):
        first.append(y.copy())
        y[:] = first[0]

    offer("stale", 1e-3, spoil=stale)
    assert rows_by_side(run_here())["auto"]["status"] == "wrong"


class Recorder:
    """A worker with made-up timings that notes who was asked for what."""

    cases: ClassVar = []  # of all turns
    interrupt = 0  # the turn in which Ctrl-C is pressed

    def __init__(self, log, library, seconds, broken=False):
        self.log, self.library, self.seconds, self.broken = log, library, seconds, broken
        self.case = None

    def ask(self, method, *arguments):
        if method == "begin":
            self.case = arguments[0]
            return ["auto"] if self.library == "fastcnn" else [self.library]
        if method == "limits":
            return {"threads": 1, "at": 0.0, **LIMITS}
        if method == "measure":
            if self.broken:
                raise WorkerError(f"{self.library}, measure:\nMemoryError: none left")
            self.log.append(self.library)
            self.cases.append(str(self.case.problem))
            if len(self.cases) == self.interrupt:
                raise KeyboardInterrupt
            return [self.seconds]
        facts = {"prepare": {}, "check": {"right": True, "error": 0.0, "allowed": 1e-5}}
        return facts.get(method, {"seconds": self.seconds})

    def settle(self, seconds):
        pass

    def close(self):
        self.log.append(f"{self.library} closed")


def recorded(peers, seconds, broken=(), problems=("n1c1h6k1r3",), threads=(1,), **settings):
    log = []
    Recorder.cases.clear()
    wanted = cases([], ["forward"], [find(problem) for problem in problems])
    chosen = Settings(threads, peers, pause=0.0, **settings)

    def make(library, threads, device, precision):
        return Recorder(log, library, seconds.get(library, 1.0), library in broken)

    with runner.Run(wanted, chosen, make_worker=make) as run, suppress(KeyboardInterrupt):
        run.execute()
    return log, run.results


def test_sides_take_strict_turns():
    log, _ = recorded(("torch", "ort"), {})
    turns = [name for name in log if "closed" not in name]
    assert turns == ["fastcnn", "torch", "ort"] * 8


THREE = ("n1c1h6k1r3", "n1c1h7k1r3", "n1c1h8k1r3")


@pytest.mark.parametrize("threads", [(1,), (1, 2)])
def test_cases_that_are_measured_together_have_every_round_in_turn(threads):
    log, found = recorded(("torch",), {}, problems=THREE, threads=threads, together=100)
    assert [name for name in log if "closed" not in name] == ["fastcnn", "torch"] * 24 * len(
        threads
    )
    one_round = [problem for problem in THREE for _ in ("fastcnn", "torch") * len(threads)]
    assert Recorder.cases == one_round * 8
    rows = found.to_dict()["rows"]
    assert len(rows) == 3 * 2 * len(threads)
    assert {len(row["rounds"]) for row in rows} == {8}


@pytest.mark.parametrize("together", [1, 100])
def test_a_deadline_that_is_far_leaves_nothing_out(together):
    _, found = recorded(("torch",), {}, problems=THREE, together=together, deadline=1000.0)
    assert not found.left_out
    assert len(found.rows) == 6


def test_a_run_of_one_round_is_reported():
    _, found = recorded(("torch",), {}, rounds=1, most_rounds=1)
    assert [len(row["rounds"]) for row in found.rows] == [1, 1]


def test_cases_that_are_measured_apart_have_one_after_the_other():
    recorded(("torch",), {}, problems=THREE)
    assert Recorder.cases == [problem for problem in THREE for _ in range(16)]


@pytest.mark.parametrize(
    ("together", "turn", "kept"), [(1, 17, 1), (1, 23, 2), (100, 12, 0), (100, 19, 3), (100, 24, 3)]
)
def test_an_interrupt_keeps_what_has_had_three_rounds(monkeypatch, together, turn, kept):
    monkeypatch.setattr(Recorder, "interrupt", turn)
    _, found = recorded(("torch",), {}, problems=THREE, together=together)
    content = found.to_dict()
    assert not content["finished"]
    assert {row["problem"] for row in content["rows"]} == set(THREE[:kept])
    assert all(len(row["rounds"]) >= 3 for row in content["rows"])


def test_a_peer_that_dies_leaves_what_is_measured_together_to_the_others():
    _, found = recorded(("torch", "ort"), {}, ("torch",), problems=THREE, together=100)
    status = {(row["side"], row["problem"]): row["status"] for row in found.to_dict()["rows"]}
    assert {status["torch", problem] for problem in THREE} == {"failed"}
    assert {status[side, problem] for side in ("auto", "ort") for problem in THREE} == {"ok"}


def test_every_process_is_closed_at_the_end():
    log, _ = recorded(("torch",), {})
    assert {"fastcnn closed", "torch closed", "numpy closed"} <= set(log)


def test_a_side_that_is_far_behind_stops_after_its_time():
    log, _ = recorded(("numpy", "torch"), {"numpy": 5.0, "torch": 1.1}, patience=3.0)
    assert log.count("numpy") == 3
    assert log.count("torch") == log.count("fastcnn") == 8


def test_a_peer_that_breaks_down_is_a_fact_about_the_peer():
    _, found = recorded(("torch", "ort"), {}, broken=("torch",))
    sides = rows_by_side(found)
    assert sides["torch"]["status"] == "failed"
    assert "MemoryError" in sides["torch"]["reason"]
    assert sides["ort"]["status"] == "ok"
    assert found.finished


def test_our_own_process_must_not_break_down():
    with pytest.raises(WorkerError, match="MemoryError"):
        recorded((), {}, broken=("fastcnn",))


def test_on_a_gpu_our_process_is_started_anew_and_the_run_goes_on():
    """After an illegal address all calls of a process fail: other cases get another process."""
    log, found = recorded(("torch",), {}, broken=("fastcnn",), device="cuda", patience=0.0)
    ours, theirs = (rows_by_side(found)[name] for name in ("auto", "torch"))
    assert (ours["status"], theirs["status"]) == ("failed", "ok")
    assert "MemoryError" in ours["reason"]
    assert len(theirs["rounds"]) == 8
    assert log.count("fastcnn closed") == 2  # the broken one, and at the end the new one
    assert found.finished


def test_what_the_deadline_leaves_out_is_named():
    _, found = recorded((), {}, deadline=-1.0)
    assert found.left_out == ["n1c1h6k1r3 conv fwd"]
    assert found.rows == []


def test_rounds_are_added_while_the_spread_is_too_wide(offer, run_here):
    offer("steady", 2e-3)
    offer("shaky", 2e-3, noise=2.0)
    found = rows_by_side(run_here(most_rounds=12))
    assert len(found["auto"]["rounds"]) == 12
    assert not found["auto"]["noisy"]
    assert found["shaky"]["noisy"]


FIELDS = {
    "layer", "problem", "operation", "label", "dtype", "flops", "bytes", "threads", "library",
    "side", "status", "reason", "algorithm", "workspace_bytes", "error", "allowed",
    "peak_rss_bytes", "extra_bytes", "minimum", "rounds", "median", "low", "high", "spread",
    "noisy", "gflops", "gbs", "percent_of_peak", "percent_of_attainable",
}  # fmt: skip


def test_the_json_has_what_the_schema_says(offer, run_here, tmp_path):
    offer("kernel", 1e-3)
    offer("other", 1e-3)
    found = run_here()
    results.write(tmp_path / "run.json", found.to_dict())
    content = results.read(tmp_path / "run.json")
    assert set(content) == {
        "format", "version", "created", "finished", "seconds", "command", "machine", "settings",
        "limits", "rows", "startup", "left_out",
    }  # fmt: skip
    assert content["finished"] is True
    assert content["machine"]["cores"] >= 1
    for row in content["rows"]:
        assert set(row) == FIELDS | {"ratios"}  # peers have none
    row = content["rows"][0]
    # 2 N K P Q C R S = 2 * 2*6*81 * 4*9 in 1 ms
    assert row["flops"] == 2 * 2 * 6 * 81 * 36
    assert row["gflops"] == pytest.approx(69984e-9 / 1e-3)
    assert row["percent_of_peak"] == pytest.approx(100 * 0.069984 / LIMITS["fma_gflops"])
    assert row["minimum"] == pytest.approx(1e-3)


def test_what_is_no_such_file_is_refused(tmp_path):
    file = tmp_path / "x.json"
    for text, message in (
        ("{", "is not JSON"),
        ("[]", "was not written by fastcnn bench"),
        (json.dumps({"format": results.FORMAT, "version": 99}), "version 99"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            results.read(file)


def test_quick_is_said_to_end_within_two_minutes():
    peers = ("numpy", "torch", "ort", "jax", "scipy")
    assert run_seconds(quick_cases(), quick((2,), peers)) <= 120
    assert said(45) == "45 s"
    assert said(600) == "10 min"
    assert said(4800) == "1 h 20 min"


def test_quick_holds_convolution_its_gradients_and_pooling():
    held = {case.operation for case in quick_cases()}
    assert held == {
        "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_grad",
    }  # fmt: skip
