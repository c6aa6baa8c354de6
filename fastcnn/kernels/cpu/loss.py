"""Losses and their gradients, in strict arithmetic; a loss is summed in float64, chunk by chunk.

With p a probability or output, z a logit and y the target, for one element:

    binary                L = -y log p - (1 - y) log(1 - p)              dp = (p - y) / (p (1 - p))
    binary, logits        L = max(z, 0) - z y + log(1 + e^-|z|)          dz = sigmoid(z) - y
    half squared          L = (y - p)^2 / 2                              dp = p - y

and for one image, over its classes c:

    categorical           L = -sum_c y_c log p_c                         dp_c = -y_c / p_c
    categorical, logits   L = -sum_c y_c (z_c - log sum_k e^(z_k))       dz_c = softmax(z)_c - y_c

Logarithms of probabilities are clamped at -100, divisors at 1e-12, as PyTorch does. Literals take
the arrays' type: a plain 1.0 would turn the arithmetic of float32 into float64.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import (
    CHUNK,
    TRANSCENDENTAL,
    chunks,
    launch_elements,
    rows_per_chunk,
)
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.threads import launch

LOWEST_LOG = -100
SMALLEST_DIVISOR = 1e-12

# Which formula an element goes through. One kernel for all: a branch that never changes costs
# nothing beside a logarithm, and compiling a kernel for each would take seconds.
BINARY, BINARY_LOGITS, HALF_SQUARED, CATEGORICAL = range(4)


@exact
def _clamped(logarithm):
    lowest = type(logarithm)(LOWEST_LOG)
    return lowest if logarithm < lowest else logarithm


@exact
def _divisor(value):
    smallest = type(value)(SMALLEST_DIVISOR)
    return smallest if value < smallest else value


@exact
def _loss(formula, p, y):
    """Loss of one element of the losses that treat elements by themselves."""
    zero, one = type(p)(0), type(p)(1)
    if formula == BINARY:
        return -y * _clamped(np.log(p)) - (one - y) * _clamped(np.log1p(-p))
    if formula == BINARY_LOGITS:
        # max(z, 0) - z y without the cancellation for y near 1
        linear = p * (one - y) if p >= zero else -p * y
        return linear + np.log1p(np.exp(-abs(p)))
    return (y - p) * (y - p) * type(p)(0.5)


@exact
def _gradient(formula, p, y):
    """Derivative of one element's loss with respect to p."""
    zero, one = type(p)(0), type(p)(1)
    if formula == BINARY:
        return (p - y) / _divisor(p * (one - p))
    if formula == BINARY_LOGITS:
        # sigmoid(z) - y; for z >= 0 as (1 - y) - sigmoid(-z), which keeps its digits at y = 1
        e = np.exp(-abs(p))
        tail = e / (one + e)
        return (one - y) - tail if p >= zero else tail - y
    if formula == CATEGORICAL:
        return -y / _divisor(p)
    return p - y


@exact
def _losses_chunk(task, p, y, losses, sums, formula):
    """sums[task], the chunk's losses added up; each loss as well if `losses` has room."""
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, losses = p[start:stop], y[start:stop], losses[start:stop]
    total = np.float64(0)
    for i in range(len(p)):
        loss = _loss(formula, p[i], y[i])
        total += loss
        if len(losses) > 0:
            losses[i] = loss
    sums[task] = total


@exact
def _gradients_chunk(task, p, y, dp, count, formula):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, dp = p[start:stop], y[start:stop], dp[start:stop]
    for i in range(len(p)):
        dp[i] = _gradient(formula, p[i], y[i]) / count


@exact
def _largest(z, classes):
    largest = z[0]
    for c in range(classes):
        largest = z[c] if z[c] > largest else largest
    return largest


@exact
def _log_sum(z, largest, classes):
    """log sum_c e^(z_c - largest), whose sum is between 1 and the number of classes."""
    total = np.float64(0)
    for c in range(classes):
        total += np.exp(z[c] - largest)
    return type(largest)(np.log(total))


@exact
def _images_chunk(task, p, y, losses, sums, logits, images, classes, share):
    """As `_losses_chunk`, for `share` images; p are logits or probabilities."""
    total = np.float64(0)
    for image in range(task * share, min((task + 1) * share, images)):
        p_row, y_row = p[image * classes :], y[image * classes :]
        largest = _largest(p_row, classes)
        log_sum = _log_sum(p_row, largest, classes) if logits else largest
        loss = np.float64(0)
        for c in range(classes):
            # 0 log 0 is 0; of a label's row one term is left
            if y_row[c] != 0:
                log = p_row[c] - largest - log_sum if logits else _clamped(np.log(p_row[c]))
                loss -= y_row[c] * log
        total += loss
        if len(losses) > 0:
            losses[image] = loss
    sums[task] = total


@exact
def _softmax_gradients_chunk(task, z, y, dz, count, images, classes, share):
    """dz = (softmax(z) - y) / count, for `share` images."""
    for image in range(task * share, min((task + 1) * share, images)):
        z_row, y_row, dz_row = z[image * classes :], y[image * classes :], dz[image * classes :]
        largest = _largest(z_row, classes)
        total = np.float64(0)
        for c in range(classes):
            dz_row[c] = np.exp(z_row[c] - largest)
            total += dz_row[c]
        divisor = type(largest)(total)
        for c in range(classes):
            dz_row[c] = (dz_row[c] / divisor - y_row[c]) / count


@exact
def _total_chunk(task, sums, count, total):
    """total[0] = the sums of the chunks, in their order, over `count`."""
    total[0] = 0
    for i in range(len(sums)):
        total[0] += sums[i]
    total[0] /= count


def _total(sums: np.ndarray, count: int) -> float:
    total = np.empty(1)
    launch(_total_chunk, 1, 0, sums, count, total)
    return total[0]


def _sum_elements(
    formula: int, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    sums = np.empty(chunks(p.size))
    launch_elements(_losses_chunk, TRANSCENDENTAL, p, y, losses, sums, formula)
    return _total(sums, count)


def _sum_images(
    logits: bool, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    images, classes = p.shape
    share = rows_per_chunk(classes)
    sums = np.empty(-(-images // share))
    launch(
        _images_chunk, len(sums), TRANSCENDENTAL * p.size,
        p.reshape(-1), y.reshape(-1), losses, sums, logits, images, classes, share,
    )  # fmt: skip
    return _total(sums, count)


def _gradients(
    formula: int, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int, work: int
) -> None:
    launch_elements(_gradients_chunk, work, p, y, dp, p.dtype.type(count), formula)


# Every loss takes p (or z), y of the same shape, and `losses`, which is written whole or, if it is
# empty, not at all; it returns the sum over `count`, which its last launch writes to the last of
# that launch's arguments. Every gradient is divided by `count` and written whole.


def binary_cross_entropy(
    geometry: Extent, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of probabilities p; `losses` has p's shape."""
    return _sum_elements(BINARY, p, y, losses, count)


def binary_cross_entropy_grad(
    geometry: Extent, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int
) -> None:
    """dp, p's shape."""
    _gradients(BINARY, p, y, dp, count, 3 * p.itemsize)


def binary_cross_entropy_with_logits(
    geometry: Extent, z: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of logits z; `losses` has z's shape."""
    return _sum_elements(BINARY_LOGITS, z, y, losses, count)


def binary_cross_entropy_with_logits_grad(
    geometry: Extent, z: np.ndarray, y: np.ndarray, dz: np.ndarray, count: int
) -> None:
    """dz, z's shape."""
    _gradients(BINARY_LOGITS, z, y, dz, count, TRANSCENDENTAL)


def categorical_cross_entropy(
    geometry: Extent, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of probabilities p (N, classes); `losses` has shape (N,)."""
    return _sum_images(False, p, y, losses, count)


def categorical_cross_entropy_grad(
    geometry: Extent, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int
) -> None:
    """dp, p's shape."""
    _gradients(CATEGORICAL, p, y, dp, count, 3 * p.itemsize)


def categorical_cross_entropy_with_logits(
    geometry: Extent, z: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of logits z (N, classes); `losses` has shape (N,)."""
    return _sum_images(True, z, y, losses, count)


def categorical_cross_entropy_with_logits_grad(
    geometry: Extent, z: np.ndarray, y: np.ndarray, dz: np.ndarray, count: int
) -> None:
    """dz, z's shape."""
    images, classes = z.shape
    share = rows_per_chunk(classes)
    launch(
        _softmax_gradients_chunk, -(-images // share), TRANSCENDENTAL * z.size,
        z.reshape(-1), y.reshape(-1), dz.reshape(-1), z.dtype.type(count), images, classes, share,
    )  # fmt: skip


def half_squared_error(
    geometry: Extent, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of outputs p; `losses` has p's shape."""
    return _sum_elements(HALF_SQUARED, p, y, losses, count)


def half_squared_error_grad(
    geometry: Extent, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int
) -> None:
    """dp, p's shape."""
    _gradients(HALF_SQUARED, p, y, dp, count, 3 * p.itemsize)
