"""Losses of elements by themselves, and their gradients; the formulas are in loss.py.

Logarithms of probabilities are clamped at -100, divisors at 1e-12, as PyTorch does. Literals take
the arrays' type: a plain 1.0 would turn the arithmetic of float32 into float64.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.chunks import CHUNK
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.rows import add_up
from fastcnn.kernels.cpu.transcendental import exp_below_zero, log, log1p

LOWEST_LOG = -100
SMALLEST_DIVISOR = 1e-12

# Which formula an element goes through. One kernel for all, with a loop for each: compiling a
# kernel for each would take seconds.
BINARY, BINARY_LOGITS, HALF_SQUARED = range(3)


@exact
def clamped(logarithm):
    lowest = type(logarithm)(LOWEST_LOG)
    return lowest if logarithm < lowest else logarithm


@exact
def divisor(value):
    smallest = type(value)(SMALLEST_DIVISOR)
    return smallest if value < smallest else value


@exact
def _losses(formula, p, y, losses):
    """Losses of the formulas that treat elements by themselves."""
    zero, one, half = p.dtype.type(0), p.dtype.type(1), p.dtype.type(0.5)
    if formula == BINARY:
        for i in range(len(p)):
            high, low = clamped(log(p[i])), clamped(log1p(-p[i]))
            losses[i] = -y[i] * high - (one - y[i]) * low
    elif formula == BINARY_LOGITS:
        for i in range(len(p)):
            # max(z, 0) - z y without the cancellation for y near 1
            linear = p[i] * (one - y[i]) if p[i] >= zero else -p[i] * y[i]
            losses[i] = linear + log1p(exp_below_zero(-abs(p[i])))
    else:
        for i in range(len(p)):
            losses[i] = (y[i] - p[i]) * (y[i] - p[i]) * half


@exact
def losses_chunk(task, p, y, losses, sums, formula):
    """sums[task], the chunk's losses added up; each loss as well if `losses` has room."""
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, losses = p[start:stop], y[start:stop], losses[start:stop]
    if len(losses) == 0:
        losses = np.empty(len(p), p.dtype)
    _losses(formula, p, y, losses)
    sums[task] = add_up(losses)


@exact
def gradients_chunk(task, p, y, dp, count, formula):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, dp = p[start:stop], y[start:stop], dp[start:stop]
    zero, one = p.dtype.type(0), p.dtype.type(1)
    if formula == BINARY:
        for i in range(len(p)):
            dp[i] = (p[i] - y[i]) / divisor(p[i] * (one - p[i])) / count
    elif formula == BINARY_LOGITS:
        for i in range(len(p)):
            # sigmoid(z) - y; for z >= 0 as (1 - y) - sigmoid(-z), which keeps its digits at y = 1
            e = exp_below_zero(-abs(p[i]))
            tail = e / (one + e)
            dp[i] = ((one - y[i]) - tail if p[i] >= zero else tail - y[i]) / count
    else:
        for i in range(len(p)):
            dp[i] = (p[i] - y[i]) / count
