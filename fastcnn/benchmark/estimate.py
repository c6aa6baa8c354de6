"""How long a run will take, said beforehand and corrected as it goes."""

from __future__ import annotations

from collections.abc import Sequence

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.settings import Settings

# What sides reach on one core, roughly, from runs on a Zen 5 machine: convolutions by the portable
# kernels, whole steps of networks likewise, passes over memory.
_FLOPS = 30e9
_BYTES = 5e9
# Imports of all libraries, the limits, and per case and side: inputs, JIT, warm-up, judgement.
_START = 10.0
_PREPARE = 0.25
# Until a side's threads sleep after its turn, on average.
_REST = 0.02
_JUDGE_FLOPS = 15e9
# The same of a large GPU.
_GPU_FLOPS, _GPU_BYTES = 20e12, 2e12


def call_seconds(case: Case, threads: int, device: str = "cpu") -> float:
    """One call of one side, roughly."""
    if device == "cuda":
        return case.flops / _GPU_FLOPS + case.bytes / _GPU_BYTES + 1e-5
    return (case.flops / _FLOPS + case.bytes / _BYTES) / threads + 1e-5


def sides_of(case: Case, settings: Settings) -> int:
    """How many sides a case will have, roughly: ONNX Runtime and SciPy have no gradients."""
    images = hasattr(case.problem, "C")
    forward = not case.operation.endswith("_grad") and not isinstance(case.problem, NetworkProblem)
    counts = {
        "numpy": 1,
        "torch": 2 if images else 1,
        "jax": int(images or forward),
        "ort": int(forward),
    }
    return 1 + sum(counts.get(peer, 0) for peer in settings.peers)


def case_seconds(case: Case, settings: Settings) -> float:
    """One case on all numbers of threads."""
    total = case.flops / _JUDGE_FLOPS
    for threads in settings.threads:
        call = call_seconds(case, threads, settings.device)
        # rounds, with a fifth more for those that are added, and three calls to warm up
        rounds = 1.2 * settings.rounds * (max(call, settings.seconds) + _REST)
        total += sides_of(case, settings) * (rounds + 3 * call + _PREPARE)
    return total


def run_seconds(cases: Sequence[Case], settings: Settings) -> float:
    """A whole run; at most the deadline and the last case begun before it."""
    total = _START + sum(case_seconds(case, settings) for case in cases)
    return total if settings.deadline is None else min(total, settings.deadline + 15)


def said(seconds: float) -> str:
    """A time as people say it: "40 s", "3 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
