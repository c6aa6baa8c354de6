"""fastcnn's sides on a GPU: the automatic choice, and every implementation of its list there.

Arrays are moved before anything is timed, and only results that are checked come back.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastcnn
from fastcnn import functional
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.fast import implementation_of, pinned, variants_of
from fastcnn.benchmark.sides.prepared import Prepared, back_to_back
from fastcnn.functional.devices import assign
from fastcnn.kernels.cuda import rates, target, timing
from fastcnn.kernels.implementation import Problem


def _problem(case: Case, precision: str) -> Problem:
    geometry = case.problem.geometry  # type: ignore[union-attr]
    return Problem(case.measured.function, geometry, case.dtype, precision, "cuda")


def variants(case: Case, precision: str) -> list[str]:
    """ "auto", and every implementation that supports the problem but is not what auto takes."""
    if not case.measured.function:
        return ["auto"]
    return variants_of(_problem(case, precision))


def _moved(sets: list[Arrays], weights: tuple[str, ...]) -> list[dict[str, Any]]:
    """The input sets on the GPU; weights are shared by all, as they are on the host."""
    moved = [{name: fastcnn.to_device(array) for name, array in a.items()} for a in sets]
    for others in moved[1:]:
        others.update({name: moved[0][name] for name in weights})
    return moved


def _on_the_host(results: dict[str, Any]) -> Arrays:
    return {name: np.asarray(fastcnn.to_host(result)) for name, result in results.items()}


def _ready(launch: Any, answer: Any, change: Any, sets: int, precision: str) -> Prepared:
    """A side from what launches it: waited for when it is run, timed by events."""

    def run(number: int) -> None:
        with fastcnn.precision(precision):
            launch(number)
        timing.wait()

    def timed(number: int, calls: int) -> float:
        with fastcnn.precision(precision):
            return timing.seconds(lambda i: launch((number + i) % sets), calls)

    def answered(number: int) -> Arrays:
        with fastcnn.precision(precision):
            return _on_the_host(answer(number))

    return Prepared(run, answered, change, seconds=back_to_back(timed))


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int, precision: str) -> Prepared:
    """One of fastcnn's sides; a network's steps become CUDA graphs as they always do."""
    measured, problem = case.measured, case.problem
    moved = _moved(sets, measured.weights)
    if not measured.function:
        network: Any = case.problem.build(case.dtype, "cuda")  # type: ignore[union-attr]
        return _ready(
            lambda number: network._step(moved[number]["x"], moved[number]["y"]),
            lambda number: measured.call(network, problem, moved[number]),
            lambda: None,
            len(sets),
            precision,
        )
    where = _problem(case, precision)
    implementation = implementation_of(variant, where)
    ops = functional if variant == "auto" else pinned(where.operation, implementation)
    signs = {
        name: [fastcnn.to_device(sign * sets[0][name]) for sign in (-1, 1)]
        for name in measured.weights
    }

    def change() -> None:
        for name, values in signs.items():
            assign(moved[0][name], values[0])
            values.reverse()
        timing.wait()

    def launch(number: int) -> Arrays:
        return measured.call(ops, problem, moved[number])

    prepared = _ready(launch, launch, change, len(sets), precision)
    prepared.algorithm = implementation.name
    prepared.workspace = implementation.workspace(where)
    return prepared


def facts() -> dict[str, Any]:
    """Which GPU, and its driver's version of CUDA."""
    if target.simulated():
        return {"gpu": "Numba's simulator"}
    current, driver, checked = target.current_device(), target.driver, target.checked
    name = checked(*driver.cuDeviceGetName(128, current)).decode().rstrip("\0")
    return {
        "gpu": name,
        "gpu_architecture": target.architecture(current),
        "multiprocessors": target.multiprocessors(),
        "cuda_driver": checked(*driver.cuDriverGetVersion()),
    }


def limits(at: float, precision: str) -> dict[str, Any]:
    """The GPU's limits as `fastcnn.benchmark.roofline` has the processor's, and which it has.

    "fma_gflops" is the rate at which products of the precision asked for can be made: of float32's
    multiply-adds for "ieee"; of the tensor cores for the others, and a third of it in TF32 for
    "float32", whose products take three; no more is said of what `mma.sync` cannot reach.
    """
    plain, tensor, half = rates.multiply_adds(), *map(rates.tensor_cores, ("tf32", "bf16"))
    fastest = {"ieee": plain, "float32": max(plain, (tensor or 0) / 3), "tf32": tensor or plain}
    fastest |= dict.fromkeys(("f16", "bf16"), half or plain)
    return {
        "threads": 1,
        "at": at,
        "fma_gflops": fastest[precision] / 1e9,
        "copy_gbs": rates.copied() / 1e9,
        "clock_ghz": None,
        "multiply_add_gflops": plain / 1e9,
        "tensor_gflops": None if tensor is None else tensor / 1e9,
        "half_gflops": None if half is None else half / 1e9,
    }
