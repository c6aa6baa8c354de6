"""Training each network twice from the same seed, and what came of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.recipes import RECIPES, Recipe
from fastcnn.training import Callback, Sequential

NETWORKS = ("fifteen_parameter", "two_block")
BACKENDS = ("reference", "cpu")
# The reference computes in float64 and rounds at the end of each operation, the kernels in the
# network's own type throughout: in float64 they differ in the order of sums only.
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}


@dataclass
class Run:
    """One training of one network on one backend.

    Attributes
    ----------
    loss : list of float
        Mean loss of each epoch.
    accuracy, held_out_accuracy : float
        On the images trained on, and on those held out, at the end.
    seconds : float
        Training alone; `compile_seconds` is what compiling (or loading from the cache) took before.
    """

    backend: str
    network: Sequential
    loss: list[float]
    accuracy: float
    held_out_accuracy: float
    seconds: float
    compile_seconds: float

    def facts(self) -> dict[str, Any]:
        """Everything but the network, for JSON."""
        return {name: value for name, value in vars(self).items() if name != "network"}


@dataclass
class Comparison:
    """A network trained on the reference and on the kernels."""

    name: str
    recipe: Recipe
    dtype: str
    reference: Run
    kernels: Run

    @property
    def ratio(self) -> float:
        """How many times faster the kernels trained, compile time apart."""
        return self.reference.seconds / self.kernels.seconds

    @property
    def difference(self) -> float:
        """Largest relative difference between the two loss curves."""
        want, got = np.array(self.reference.loss), np.array(self.kernels.loss)
        return float(np.max(np.abs(got - want) / np.abs(want)))

    @property
    def tolerance(self) -> float:
        """Largest difference that rounding explains."""
        return TOLERANCE[self.dtype]

    @property
    def agrees(self) -> bool:
        """Whether the curves agree within the tolerance."""
        return self.difference <= self.tolerance

    def facts(self) -> dict[str, Any]:
        """For demo.json."""
        return {
            "data": self.recipe.data_description,
            "dtype": self.dtype,
            "epochs": len(self.kernels.loss),
            "reference": self.reference.facts(),
            "kernels": self.kernels.facts(),
            "ratio": self.ratio,
            "largest_relative_difference": self.difference,
            "tolerance": self.tolerance,
            "agrees": self.agrees,
        }


class _Watch(Callback):
    """Tells `progress` about every finished epoch."""

    def __init__(self, label: str, progress: Callable[[str, int, int], None]) -> None:
        self.label = label
        self.progress = progress

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        self.progress(self.label, epoch + 1, self.params["epochs"])


def _train(name: str, backend: str, dtype: str, progress: Callable[[str, int, int], None]) -> Run:
    recipe = RECIPES[name]
    x, y, x_held_out, y_held_out = recipe.load(dtype)
    # An epoch of another network has the same batches, the short last one among them: it compiles
    # every kernel that training will call.
    start = time.perf_counter()
    recipe.network(dtype=dtype, backend=backend).fit(
        x, y, batch_size=recipe.batch_size, optimizer=recipe.optimizer(), verbose=0
    )
    compile_seconds = time.perf_counter() - start
    network = recipe.network(dtype=dtype, backend=backend)
    watch = _Watch(f"{name} on {backend}", progress)
    start = time.perf_counter()
    history = recipe.train(network, x, y, callbacks=[watch])
    seconds = time.perf_counter() - start
    return Run(
        backend,
        network,
        history.history["loss"],
        network.evaluate(x, y)["accuracy"],
        network.evaluate(x_held_out, y_held_out)["accuracy"],
        seconds,
        compile_seconds if backend != "reference" else 0.0,
    )


def run_demo(
    out: str | os.PathLike[str],
    dtype: str = "float32",
    progress: Callable[[str, int, int], None] = lambda label, done, total: None,
) -> list[Comparison]:
    """Train `fifteen_parameter` on faces and `two_block` on two digits, and write the report.

    Parameters
    ----------
    out : path
        Folder for demo.json and demo.png; made if it does not exist.
    dtype : "float32" or "float64"
    progress : callable(label, done, total)
        Called after every epoch.

    Returns
    -------
    list of Comparison

    Raises
    ------
    ImportError
        A package of the extra `demo` is missing; names the extra.
    OSError
        The folder cannot be written to; found out before anything is trained.
    """
    from fastcnn.demo.picture import draw

    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "demo.json").touch()
    results = []
    for name in NETWORKS:
        reference, kernels = (_train(name, backend, dtype, progress) for backend in BACKENDS)
        results.append(Comparison(name, RECIPES[name], dtype, reference, kernels))
    facts = {comparison.name: comparison.facts() for comparison in results}
    (folder / "demo.json").write_text(json.dumps(facts, indent=2) + "\n")
    draw(results, folder / "demo.png")
    return results
