"""Losses of images over their classes, and their gradients; the formulas are in loss.py.

Targets are probabilities, or class numbers: a chunk of gradients then writes its own rows of 0 and
one 1, which stay in its cache. A number that is no class makes its loss NaN.
"""

from __future__ import annotations

import numpy as np
from numba import types

from fastcnn.kernels.cpu.jit import exact, helper, in_place_of
from fastcnn.kernels.cpu.loss_elements import clamped, divisor
from fastcnn.kernels.cpu.row_vectors import LANES, exponentials, highest
from fastcnn.kernels.cpu.rows import add_up
from fastcnn.kernels.cpu.rows import highest as highest_of
from fastcnn.kernels.cpu.transcendental import exp_below_zero, log


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
    return (value - less) - log_sum if logits else clamped(log(value))


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
def images_chunk(task, p, y, losses, sums, logits, images, classes, share):
    """As `losses_chunk`, for `share` images; p are logits or probabilities."""
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
def image_gradients_chunk(task, p, y, dp, strays, count, logits, images, classes, share):
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
            dp[i] = -y[i] / divisor(p[i]) / count
        return
    _less_the_highest(p, dp, classes)
    for i in range(len(dp)):
        dp[i] = exp_below_zero(dp[i])
    for start in range(0, len(p), classes):
        y_row, dp_row = y[start : start + classes], dp[start : start + classes]
        total = p.dtype.type(add_up(dp_row))
        for c in range(classes):
            dp_row[c] = (dp_row[c] / total - y_row[c]) / count
