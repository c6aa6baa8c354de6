"""Random problems: half of them odd, to find what is wrong, half typical, to meet every algorithm.

A specialised algorithm serves few of the odd geometries (it wants a 3x3 kernel, many channels, …),
so comparing all implementations needs both.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arguments import PADDING_STRINGS
from fastcnn.verification.kinds import (
    ConvProblem,
    DenseProblem,
    PoolProblem,
    Problem,
    ShapeProblem,
)

Pair = tuple[int, int]


def _pair(rng: np.random.Generator, most: int) -> Pair:
    """Two numbers of 1 to `most`, in half of the draws the same."""
    v, h = (int(n) for n in rng.integers(1, most, 2, endpoint=True))
    return (v, v) if rng.random() < 0.5 else (v, h)


def _padding(rng: np.random.Generator, most: Pair) -> Any:
    """A word, or four sides of up to `most` (vertical, horizontal), in half of the draws equal."""
    if rng.random() < 0.3:
        return str(rng.choice(PADDING_STRINGS))
    if rng.random() < 0.5:
        return int(rng.integers(0, min(most), endpoint=True))
    v, h = most
    return tuple(int(n) for n in rng.integers(0, (v, v, h, h), endpoint=True))


def _odd_conv(rng: np.random.Generator) -> ConvProblem:
    kernel, dilation = _pair(rng, 5), _pair(rng, 3)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    # one more than the full padding: there the input gradient has to crop
    padding = _padding(rng, (reach[0], reach[1]))
    groups, c, k = (int(n) for n in rng.integers(1, (4, 5, 6)))
    if rng.random() < 0.4:
        groups = 1
    if rng.random() < 0.15:  # depthwise, with one or more filters per channel
        groups, c = c * groups, 1
    n, h, w = (int(n) for n in rng.integers(1, (4, 16, 16)))
    stride = _pair(rng, 3)
    return ConvProblem(n, groups * c, h, w, groups * k, *kernel, stride, padding, dilation, groups)


def _typical_conv(rng: np.random.Generator) -> ConvProblem:
    size = int(rng.choice([1, 3, 3, 3, 5, 7]))
    stride = int(rng.choice([1, 1, 1, 2]))
    dilation = int(rng.choice([1, 1, 1, 2])) if stride == 1 else 1
    padding = int(rng.choice([0, dilation * (size // 2)]))
    n, h, w = (int(n) for n in rng.integers((1, 5, 5), (4, 20, 20)))
    c, k = (int(n) for n in rng.choice([1, 3, 8, 16, 24, 32, 64], 2))
    groups = int(rng.choice([1, 1, 1, 1, 2, 4, 8]))
    if rng.random() < 0.3:
        groups, k = c, c
    if c % groups or k % groups:
        groups = 1
    sides = (padding,) * 4
    dilations = (dilation, dilation)
    return ConvProblem(n, c, h, w, k, size, size, (stride, stride), sides, dilations, groups)


def _odd_pool(rng: np.random.Generator) -> PoolProblem:
    window, dilation = _pair(rng, 5), _pair(rng, 3)
    if rng.random() < 0.04:  # more cells than a byte can number
        window, dilation = (17, 17), (1, 1)
    reach = [d * (k - 1) for k, d in zip(window, dilation, strict=True)]
    padding = _padding(rng, (reach[0], reach[1]))
    n, c, h, w = (int(n) for n in rng.integers(1, (4, 5, 20, 20)))
    stride = window if rng.random() < 0.3 else _pair(rng, 4)
    ceil_mode = bool(rng.random() < 0.5)
    return PoolProblem(n, c, h, w, *window, stride, padding, dilation, ceil_mode)


def _typical_pool(rng: np.random.Generator) -> PoolProblem:
    r, s = ((2, 2), (3, 2), (3, 1), (2, 1), (3, 3))[rng.integers(5)]
    n, c, h, w = (int(n) for n in rng.integers((1, 1, 4, 4), (4, 20, 40, 40)))
    padding, ceil_mode = int(rng.integers(2)), bool(rng.random() < 0.3)
    return PoolProblem(n, c, h, w, r, r, (s, s), (padding,) * 4, (1, 1), ceil_mode)


def _odd_dense(rng: np.random.Generator) -> DenseProblem:
    n, i, o = (int(n) for n in rng.integers(1, (8, 60, 12)))
    return DenseProblem(n, i, o)


def _typical_dense(rng: np.random.Generator) -> DenseProblem:
    n, i, o = (int(n) for n in 2 ** rng.integers((0, 3, 0), (8, 11, 8)))
    return DenseProblem(n, i, o)


def _odd_shape(rng: np.random.Generator) -> ShapeProblem:
    rank = int(rng.integers(1, 5))
    return ShapeProblem(tuple(int(n) for n in rng.integers(1, 9, rank)))


def _typical_shape(rng: np.random.Generator) -> ShapeProblem:
    shapes = (64, 10), (32, 400), (16, 8, 14, 14), (5000,), (3, 4097), (1, 1000)
    return ShapeProblem(shapes[rng.integers(len(shapes))])


_DRAWS: dict[type[Problem], tuple[Any, Any]] = {
    ConvProblem: (_odd_conv, _typical_conv),
    PoolProblem: (_odd_pool, _typical_pool),
    DenseProblem: (_odd_dense, _typical_dense),
    ShapeProblem: (_odd_shape, _typical_shape),
}


def random_problem(kind: type[Problem], rng: np.random.Generator) -> Problem:
    """A problem of this kind that is possible; arrays stay below a few hundred thousand elements.

    Parameters
    ----------
    kind : type
        ConvProblem, PoolProblem, DenseProblem or ShapeProblem.
    rng : numpy.random.Generator
    """
    draw = _DRAWS[kind][rng.integers(2)]
    while True:
        try:
            return draw(rng)
        except ValueError:  # no room for a window, "same" with a stride, …: draw again
            continue
