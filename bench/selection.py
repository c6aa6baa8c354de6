"""How good the cost models' choices are: python bench/selection.py [--threads 1] [--random 300]

Every convolution and pooling of the suites, random ones of a few thousand elements, and random
layers as networks have them, by every algorithm that serves them, where there are several: how much
slower the chosen one is than the fastest. Prints the share of choices within 10 % of the best, and
the worst.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

import numpy as np

import fastcnn
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.precision import current
from fastcnn.kernels.selection import IMPLEMENTATIONS, choose
from fastcnn.tuning import measure
from fastcnn.verification.kinds import ConvProblem, PoolProblem
from fastcnn.verification.problems import suite, suites
from fastcnn.verification.random_problems import random_problem

OPERATIONS = {
    ConvProblem: ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"),
    PoolProblem: ("max_pool2d", "max_pool2d_grad"),
}
NEAR = 1.1
# FLOPs of a random layer: long enough to be measured, short enough for many of them.
FLOPS = 3e5, 6e8


def layers(rng: np.random.Generator, count: int) -> Iterator[ConvProblem]:
    """Random layers as networks have them, first layers often among them."""
    while count:
        n = int(rng.choice([1, 2, 4, 8, 16, 64]))
        c = int(rng.choice([1, 1, 3, 3, 4, 6, 8, 16, 32, 48, 64, 128]))
        k = int(rng.choice([4, 6, 8, 16, 16, 32, 64, 96, 128]))
        h, w = (int(size) for size in rng.integers(7, 100, 2))
        r, stride = int(rng.choice([1, 3, 3, 3, 5, 5, 7, 11])), int(rng.choice([1, 1, 1, 2]))
        padding = int(rng.choice([0, r // 2]))
        if min(h, w) + 2 * padding < r:
            continue
        p = ConvProblem(n, c, h, w, k, r, r, (stride, stride), (padding,) * 4, (1, 1), 1)
        if FLOPS[0] < p.geometry.flops < FLOPS[1]:
            count -= 1
            yield p


def problems(named: Iterable[str], count: int, of_layers: int) -> Iterator[tuple[str, Problem]]:
    """(suite, problem) of every operation on every geometry once, then on random ones."""
    rng, seen = np.random.default_rng(0), set()
    listed = [(name, p) for name in named for p in suite(name)]
    listed += [("random", random_problem(kind, rng)) for _ in range(count) for kind in OPERATIONS]
    listed += [("layers", p) for p in layers(rng, of_layers)]
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
    parser.add_argument("--layers", type=int, default=100, help="random layers")
    parser.add_argument("--suite", nargs="*", default=list(suites()), choices=list(suites()))
    arguments = parser.parse_args()
    fastcnn.set_num_threads(arguments.threads)
    found: list[tuple[float, str, str]] = []
    for name, problem in problems(arguments.suite, arguments.random, arguments.layers):
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
        ("suites", [f[0] for f in found if f[1] not in ("random", "layers")]),
        ("random", [f[0] for f in found if f[1] == "random"]),
        ("layers", [f[0] for f in found if f[1] == "layers"]),
    ):
        if not losses:
            continue
        near = sum(loss <= NEAR for loss in losses)
        print(f"{group}: {near} of {len(losses)} within 10 % of the best, {near / len(losses):.1%}")
    for loss, name, text in sorted(found, reverse=True)[:30]:
        print(f"{loss:6.2f}  {name}  {text}")


if __name__ == "__main__":
    main()
