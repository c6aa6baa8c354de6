"""How good the cost models' choices are: python bench/selection.py [--threads 1] [--random 300]

Every convolution and pooling of the suites, and random ones, by every algorithm that serves them,
where there are several: how much slower the chosen one is than the fastest. Prints the share of
choices within 10 % of the best, and the worst.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import numpy as np

import fastcnn
from fastcnn.kernels.precision import current
from fastcnn.kernels.selection import IMPLEMENTATIONS, Problem, choose
from fastcnn.tuning import measure
from fastcnn.verification.kinds import ConvProblem, PoolProblem
from fastcnn.verification.problems import suite, suites
from fastcnn.verification.random_problems import random_problem

OPERATIONS = {
    ConvProblem: ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"),
    PoolProblem: ("max_pool2d", "max_pool2d_grad"),
}
NEAR = 1.1


def problems(named: Iterable[str], count: int) -> Iterator[tuple[str, Problem]]:
    """(suite, problem) of every operation on every geometry once, then on random ones."""
    rng, seen = np.random.default_rng(0), set()
    listed = [(name, p) for name in named for p in suite(name)]
    listed += [("random", random_problem(kind, rng)) for _ in range(count) for kind in OPERATIONS]
    for name, p in listed:
        if type(p) not in OPERATIONS or p.geometry in seen:
            continue
        seen.add(p.geometry)
        for operation in OPERATIONS[type(p)]:
            yield name, Problem(operation, p.geometry, "float32", current())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--random", type=int, default=300, help="geometries of each kind")
    parser.add_argument("--suite", nargs="*", default=list(suites()), choices=list(suites()))
    arguments = parser.parse_args()
    fastcnn.set_num_threads(arguments.threads)
    found: list[tuple[float, str, str]] = []
    for name, problem in problems(arguments.suite, arguments.random):
        candidates = [i for i in IMPLEMENTATIONS[problem.operation] if i.supports(problem) is None]
        if len(candidates) < 2:
            continue
        chosen, seconds = choose(problem).name, measure(problem, candidates)
        best = min(seconds, key=lambda n: seconds[n])
        loss = seconds[chosen] / seconds[best]
        text = f"{chosen} {1e3 * seconds[chosen]:.4g} ms, {best} {1e3 * seconds[best]:.4g}"
        found.append((loss, name, f"{problem}: {text}"))
        if sys.stderr.isatty():
            print(f"\r{len(found)}", end="", file=sys.stderr)
    for group, losses in (
        ("suites", [f[0] for f in found if f[1] != "random"]),
        ("random", [f[0] for f in found if f[1] == "random"]),
    ):
        if not losses:
            continue
        near = sum(loss <= NEAR for loss in losses)
        print(f"{group}: {near} of {len(losses)} within 10 % of the best, {near / len(losses):.1%}")
    for loss, name, text in sorted(found, reverse=True)[:30]:
        print(f"{loss:6.2f}  {name}  {text}")


if __name__ == "__main__":
    main()
