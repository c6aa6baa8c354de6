"""Start-up as a benchmark of its own: from an empty cache of kernels, and from a full one.

Each measurement is a fresh process that imports fastcnn and takes two training steps of a small
network. With NUMBA_CACHE_DIR empty, the first step compiles every kernel that it needs; with it
full, it loads them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastcnn.benchmark.results import figures

_PROGRAM = """
import json, time
start = time.perf_counter()
import numpy as np
import fastcnn
from fastcnn.benchmark.networks import NetworkProblem
problem = NetworkProblem("lenet5", 64)
network = problem.build()
data = problem.data(np.random.default_rng(0), np.float32)
imported = time.perf_counter()
network.train_on_batch(data["x"], data["y"])
first = time.perf_counter()
network.train_on_batch(data["x"], data["y"])
second = time.perf_counter()
print(json.dumps([imported - start, first - imported, second - first]))
"""

COLD, WARM = 1, 5
NAMES = {
    "process": "from starting Python to the end of two training steps",
    "import": "importing fastcnn and building LeNet-5",
    "first step": "the first training step: compiling kernels, or loading them",
    "second step": "the second",
}


def _process(cache: str) -> dict[str, float]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, check=True, stdout=subprocess.PIPE
    )
    whole = time.perf_counter() - start
    return dict(zip(NAMES, [whole, *json.loads(done.stdout)], strict=True))


def measure(
    progress: Callable[[str], None], cold: int = COLD, warm: int = WARM
) -> list[dict[str, Any]]:
    """Rows for `Results.startup`.

    Parameters
    ----------
    progress : callable
        Told what is going on.
    cold, warm : int
        How many processes of each kind.

    Raises
    ------
    subprocess.CalledProcessError
        A process failed; its error went to standard error.
    """
    with tempfile.TemporaryDirectory(prefix="fastcnn-cache-") as folder:
        found = {"cold cache": [], "warm cache": []}  # type: dict[str, list[dict[str, float]]]
        for number in range(cold):
            progress(f"start-up from an empty cache, {number + 1} of {cold}")
            found["cold cache"].append(_process(str(Path(folder) / str(number))))
        for number in range(warm):
            progress(f"start-up from a full cache, {number + 1} of {warm}")
            found["warm cache"].append(_process(str(Path(folder) / "0")))
    rows = []
    for cache, runs in found.items():
        for name in NAMES:
            seconds = [run[name] for run in runs]
            if seconds:
                rows.append({"name": f"{cache}: {name}", **_row(seconds)})
    return rows


def _row(seconds: list[float]) -> dict[str, Any]:
    row = figures(seconds, 1.0)
    row["seconds"] = row.pop("rounds")
    del row["noisy"]
    return {"minimum": min(seconds), **row}
