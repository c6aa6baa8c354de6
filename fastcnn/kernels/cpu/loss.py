"""Losses and their gradients; a loss is summed in float64, chunk by chunk.

With p a probability or output, z a logit and y the target, for one element:

    binary                L = -y log p - (1 - y) log(1 - p)              dp = (p - y) / (p (1 - p))
    binary, logits        L = max(z, 0) - z y + log(1 + e^-|z|)          dz = sigmoid(z) - y
    half squared          L = (y - p)^2 / 2                              dp = p - y

and for one image, over its classes c:

    categorical           L = -sum_c y_c log p_c                         dp_c = -y_c / p_c
    categorical, logits   L = -sum_c y_c (z_c - log sum_k e^(z_k))       dz_c = softmax(z)_c - y_c

Targets of the categorical losses are probabilities, or class numbers: a chunk then writes its own
rows of 0 and one 1, which stay in its cache. A number that is no class makes its loss NaN.

Logarithms of probabilities are clamped at -100, divisors at 1e-12, as PyTorch does. Literals take
the arrays' type: a plain 1.0 would turn the arithmetic of float32 into float64.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import (
    CHUNK,
    TRANSCENDENTAL,
    chunks,
    launch_elements,
    rows_per_chunk,
)
from fastcnn.kernels.cpu.jit import exact, helper, in_place_of
from fastcnn.kernels.cpu.row_vectors import LANES, exponentials, highest
from fastcnn.kernels.cpu.rows import add_up
from fastcnn.kernels.cpu.rows import highest as highest_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.transcendental import exp_below_zero, log, log1p

LOWEST_LOG = -100
SMALLEST_DIVISOR = 1e-12

# Which formula an element goes through. One kernel for all, with a loop for each: compiling a
# kernel for each would take seconds.
BINARY, BINARY_LOGITS, HALF_SQUARED = range(3)

# In place of where to count labels that are no class, for targets that are no labels.
_NO_STRAYS = np.empty(0, np.int64)


@exact
def _clamped(logarithm):
    lowest = type(logarithm)(LOWEST_LOG)
    return lowest if logarithm < lowest else logarithm


@exact
def _divisor(value):
    smallest = type(value)(SMALLEST_DIVISOR)
    return smallest if value < smallest else value


@exact
def _losses(formula, p, y, losses):
    """Losses of the formulas that treat elements by themselves."""
    zero, one, half = p.dtype.type(0), p.dtype.type(1), p.dtype.type(0.5)
    if formula == BINARY:
        for i in range(len(p)):
            high, low = _clamped(log(p[i])), _clamped(log1p(-p[i]))
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
def _losses_chunk(task, p, y, losses, sums, formula):
    """sums[task], the chunk's losses added up; each loss as well if `losses` has room."""
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, losses = p[start:stop], y[start:stop], losses[start:stop]
    if len(losses) == 0:
        losses = np.empty(len(p), p.dtype)
    _losses(formula, p, y, losses)
    sums[task] = add_up(losses)


@exact
def _gradients_chunk(task, p, y, dp, count, formula):
    start, stop = task * CHUNK, (task + 1) * CHUNK
    p, y, dp = p[start:stop], y[start:stop], dp[start:stop]
    zero, one = p.dtype.type(0), p.dtype.type(1)
    if formula == BINARY:
        for i in range(len(p)):
            dp[i] = (p[i] - y[i]) / _divisor(p[i] * (one - p[i])) / count
    elif formula == BINARY_LOGITS:
        for i in range(len(p)):
            # sigmoid(z) - y; for z >= 0 as (1 - y) - sigmoid(-z), which keeps its digits at y = 1
            e = exp_below_zero(-abs(p[i]))
            tail = e / (one + e)
            dp[i] = ((one - y[i]) - tail if p[i] >= zero else tail - y[i]) / count
    else:
        for i in range(len(p)):
            dp[i] = (p[i] - y[i]) / count


@exact
def _less_the_highest(z, differences, classes):
    """differences = z less the highest of its row, for whole rows."""
    for start in range(0, len(z), classes):
        z_row, row = z[start : start + classes], differences[start : start + classes]
        largest = highest_of(z_row)
        for c in range(classes):
            row[c] = z_row[c] - largest


def _targets(y, first, last, classes, p):
    """Rows first … last - 1 of the targets, of p's type; of labels, 1 where they say."""
    return _rows_of_labels(y, first, last, classes, p) if y.dtype.kind == "i" else (
        y[first * classes : last * classes]
    )  # fmt: skip


@helper
def _rows_of_labels(y, first, last, classes, p):
    rows = np.zeros((last - first) * classes, p.dtype)
    for image in range(first, last):
        label = y[image]
        start = (image - first) * classes
        if 0 <= label < classes:
            rows[start + label] = 1
        else:
            rows[start : start + classes] = np.nan
    return rows


@in_place_of(_targets)
def _(y, first, last, classes, p):
    if isinstance(y.dtype, types.Integer):
        return lambda y, first, last, classes, p: _rows_of_labels(y, first, last, classes, p)
    return lambda y, first, last, classes, p: y[first * classes : last * classes]


def _loss_of_image(y, image, classes, p, start, less, log_sum, logits):
    """-sum_c y_c log p_c of one image, whose row of p begins at `start`, in float64.

    The logarithm of a class with the logit z is z - less - log_sum.
    """
    one_label = y.dtype.kind == "i"
    return (_loss_of_label if one_label else _loss_of_row)(
        y, image, classes, p, start, less, log_sum, logits
    )


@helper
def _log_p(value, less, log_sum, logits):
    return (value - less) - log_sum if logits else _clamped(log(value))


@helper
def _loss_of_label(y, image, classes, p, start, less, log_sum, logits):
    label = y[image]
    if label < 0 or label >= classes:
        return np.float64(np.nan)
    return np.float64(0) - _log_p(p[start + label], less, log_sum, logits)


@helper
def _loss_of_row(y, image, classes, p, start, less, log_sum, logits):
    zero, terms = p.dtype.type(0), np.empty(classes, p.dtype)
    p_row, y_row = p[start : start + classes], y[image * classes : (image + 1) * classes]
    if logits:
        for c in range(classes):
            terms[c] = _log_p(p_row[c], less, log_sum, True)
    else:
        for c in range(classes):
            terms[c] = _log_p(p_row[c], less, log_sum, False)
    for c in range(classes):
        # 0 log 0 is 0
        terms[c] = -(y_row[c] * terms[c]) if y_row[c] != zero else zero
    return add_up(terms)


@in_place_of(_loss_of_image)
def _(y, image, classes, p, start, less, log_sum, logits):
    if isinstance(y.dtype, types.Integer):
        return lambda y, image, classes, p, start, less, log_sum, logits: _loss_of_label(
            y, image, classes, p, start, less, log_sum, logits
        )
    return lambda y, image, classes, p, start, less, log_sum, logits: _loss_of_row(
        y, image, classes, p, start, less, log_sum, logits
    )


@exact
def _images_chunk(task, p, y, losses, sums, logits, images, classes, share):
    """As `_losses_chunk`, for `share` images; p are logits or probabilities."""
    first, last = task * share, min((task + 1) * share, images)
    p = p[first * classes : last * classes]
    zero, terms = p.dtype.type(0), np.empty(len(p) if logits else 0, p.dtype)
    if logits and classes < LANES:
        _less_the_highest(p, terms, classes)
        # of all rows at once: short rows alone would fill no vectors
        for i in range(len(p)):
            terms[i] = exp_below_zero(terms[i])
    total = np.float64(0)
    for image in range(first, last):
        start, less, log_sum = (image - first) * classes, zero, zero
        if logits:
            less = highest(p, start, classes)
            if classes < LANES:
                of_all = add_up(terms[start : start + classes])
            else:
                of_all = exponentials(p, start, classes, less, terms)
            # of a sum between 1 and the number of classes
            log_sum = p.dtype.type(log(of_all))
        loss = _loss_of_image(y, image, classes, p, start, less, log_sum, logits)
        total += loss
        if len(losses) > 0:
            losses[image] = loss
    sums[task] = total


@exact
def _image_gradients_chunk(task, p, y, dp, strays, count, logits, images, classes, share):
    """dp = -y / p / count, or (softmax(p) - y) / count, for `share` images.

    strays[task], where there is room, counts labels that are no class.
    """
    first, last = task * share, min((task + 1) * share, images)
    if len(strays) > 0:
        strays[task] = 0
        for image in range(first, last):
            strays[task] += y[image] < 0 or y[image] >= classes
    y = _targets(y, first, last, classes, p)
    p, dp = p[first * classes : last * classes], dp[first * classes : last * classes]
    if not logits:
        for i in range(len(p)):
            dp[i] = -y[i] / _divisor(p[i]) / count
        return
    _less_the_highest(p, dp, classes)
    for i in range(len(dp)):
        dp[i] = exp_below_zero(dp[i])
    for start in range(0, len(p), classes):
        y_row, dp_row = y[start : start + classes], dp[start : start + classes]
        divisor = p.dtype.type(add_up(dp_row))
        for c in range(classes):
            dp_row[c] = (dp_row[c] / divisor - y_row[c]) / count


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


def _image_gradients(
    logits: bool, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int
) -> int | None:
    images, classes = p.shape
    share = rows_per_chunk(classes)
    tasks = -(-images // share)
    labels = y.dtype.kind == "i"
    strays = np.empty(tasks, np.int64) if labels else _NO_STRAYS
    launch(
        _image_gradients_chunk, tasks, (TRANSCENDENTAL if logits else 3 * p.itemsize) * p.size,
        p.reshape(-1), y.reshape(-1), dp.reshape(-1), strays, p.dtype.type(count), logits,
        images, classes, share,
    )  # fmt: skip
    return int(strays.sum()) if labels else None


# Every loss takes p (or z), y of the same shape, and `losses`, which is written whole or, if it is
# empty, not at all; it returns the sum over `count`, which its last launch writes to the last of
# that launch's arguments. Every gradient is divided by `count` and written whole. For the
# categorical ones y may also be labels, (N,) of int64; the gradients then return how many of them
# are no class.


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
) -> int | None:
    """dp, p's shape."""
    return _image_gradients(False, p, y, dp, count)


def categorical_cross_entropy_with_logits(
    geometry: Extent, z: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    """The losses of logits z (N, classes); `losses` has shape (N,)."""
    return _sum_images(True, z, y, losses, count)


def categorical_cross_entropy_with_logits_grad(
    geometry: Extent, z: np.ndarray, y: np.ndarray, dz: np.ndarray, count: int
) -> int | None:
    """dz, z's shape."""
    return _image_gradients(True, z, y, dz, count)


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
