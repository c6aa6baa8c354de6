"""Losses and their gradients; a loss is summed in float64, block by block, in a fixed order.

With p a probability or output, z a logit and y the target, for one element:

    binary                L = -y log p - (1 - y) log(1 - p)              dp = (p - y) / (p (1 - p))
    binary, logits        L = max(z, 0) - z y + log(1 + e^-|z|)          dz = sigmoid(z) - y
    half squared          L = (y - p)^2 / 2                              dp = p - y

and for one image, over its classes c:

    categorical           L = -sum_c y_c log p_c                         dp_c = -y_c / p_c
    categorical, logits   L = -sum_c y_c (z_c - log sum_k e^(z_k))       dz_c = softmax(z)_c - y_c

Logarithms of probabilities are clamped at -100, divisors at 1e-12. A loss stays on the device, as
an array without dimensions: reading it is the caller's choice, and the only wait.
"""

from __future__ import annotations

from math import exp, log, log1p
from typing import Any

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.elements import from_two, logistic
from fastcnn.kernels.cuda.indices import add_up, element, launch_elements, threads
from fastcnn.kernels.cuda.softmax import THREADS as ROW
from fastcnn.kernels.cuda.softmax import highest, row_start
from fastcnn.kernels.cuda.target import cuda, helper, kernel, real

LOWEST_LOG = -100
SMALLEST_DIVISOR = 1e-12

# Threads of a block that adds elements up, and how many elements it takes: from the size of the
# arrays alone, never from the device, follow the order and so the bits of a sum.
THREADS = 256
_SHARE = 8192


@helper
def _log(p):
    """log p, -100 at the least; of NaN NaN, of p <= 0 as for 0."""
    if p > real(0):
        return real(max(log(p), real(LOWEST_LOG)))
    return p if p != p else real(LOWEST_LOG)


@helper
def _log1p(p):
    """log(1 + p), likewise."""
    if p > real(-1):
        return real(max(log1p(p), real(LOWEST_LOG)))
    return p if p != p else real(LOWEST_LOG)


@helper
def _divisor(value):
    smallest = real(SMALLEST_DIVISOR)
    return smallest if value < smallest else value


@helper
def _binary(p, y, unused):
    return -y * _log(p) - (real(1) - y) * _log1p(-p)


@helper
def _binary_logits(z, y, unused):
    # max(z, 0) - z y without the cancellation for y near 1
    linear = z * (real(1) - y) if z >= real(0) else -z * y
    return linear + real(log1p(exp(-abs(z))))


@helper
def _half_squared(p, y, unused):
    return (y - p) * (y - p) * real(0.5)


@helper
def _binary_slope(p, y, count):
    return (p - y) / _divisor(p * (real(1) - p)) / count


@helper
def _binary_logits_slope(z, y, count):
    # sigmoid(z) - y; for z >= 0 as (1 - y) - sigmoid(-z), which keeps its digits at y = 1
    tail = logistic(-abs(z))
    return ((real(1) - y) - tail if z >= real(0) else tail - y) / count


@helper
def _categorical_slope(p, y, count):
    return -y / _divisor(p) / count


@helper
def _half_squared_slope(p, y, count):
    return (p - y) / count


# Settled with the program.
formula: Any = _binary
LOGITS = False


@kernel("real* p, real* y, float64* sums, int64 n, int64 share")
def _sum_elements(p, y, sums, n, share):
    """sums[block]: the losses of its share of the elements."""
    partial = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    i = np.int64(cuda.blockIdx.x) * share + t
    end = min(n, (np.int64(cuda.blockIdx.x) + 1) * share)
    total = np.float64(0)
    while i < end:
        total += formula(p[i], y[i], real(0))
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    if t == 0:
        sums[cuda.blockIdx.x] = partial[0]


@kernel("float64* sums, real* loss, int64 n, float64 count")
def _total(sums, loss, n, count):
    partial = cuda.shared.array(THREADS, np.float64)
    t = cuda.threadIdx.x
    total = np.float64(0)
    i = np.int64(t)
    while i < n:
        total += sums[i]
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    if t == 0:
        loss[0] = real(partial[0] / count)


@kernel("real* p, real* y, float64* sums, int64 classes")
def _sum_images(p, y, sums, classes):
    """sums[image]: its loss. One block per image; p are logits or probabilities."""
    partial, maxima = cuda.shared.array(THREADS, np.float64), cuda.shared.array(THREADS, real)
    t = cuda.threadIdx.x
    start = row_start(np.int64(cuda.blockIdx.x), np.int64(1), classes)
    largest, log_sum = real(0), real(0)
    if LOGITS:
        largest = highest(p, start, np.int64(1), classes, maxima, t)
        total = np.float64(0)
        i = np.int64(t)
        while i < classes:
            total += real(exp(p[start + i] - largest))
            i += THREADS
        partial[t] = total
        add_up(partial, t, THREADS)
        log_sum = real(log(partial[0]))
        cuda.syncthreads()
    total = np.float64(0)
    i = np.int64(t)
    while i < classes:
        target = y[start + i]
        # 0 log 0 is 0
        if target != real(0):
            if LOGITS:
                total -= target * ((p[start + i] - largest) - log_sum)
            else:
                total -= target * _log(p[start + i])
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    if t == 0:
        sums[cuda.blockIdx.x] = partial[0]


@kernel("float64* sums, real* losses, int64 n")
def _rounded(sums, losses, n):
    i = element()
    if i < n:
        losses[i] = sums[i]


@kernel("real* z, real* y, real* dz, int64 classes, real count")
def _softmax_slopes(z, y, dz, classes, count):
    """dz = (softmax(z) - y) / count, one block per image."""
    partial, maxima = cuda.shared.array(THREADS, np.float64), cuda.shared.array(THREADS, real)
    t = cuda.threadIdx.x
    start = row_start(np.int64(cuda.blockIdx.x), np.int64(1), classes)
    largest = highest(z, start, np.int64(1), classes, maxima, t)
    total = np.float64(0)
    i = np.int64(t)
    while i < classes:
        e = real(exp(z[start + i] - largest))
        dz[start + i] = e
        total += e
        i += THREADS
    partial[t] = total
    add_up(partial, t, THREADS)
    divisor = real(partial[0])
    i = np.int64(t)
    while i < classes:
        dz[start + i] = (dz[start + i] / divisor - y[start + i]) / count
        i += THREADS


@kernel("label* y, real* rows, int64 n, int64 classes")
def _rows(y, rows, n, classes):
    """One-hot rows; NaN for labels that are no class, which no error can say without waiting."""
    i = element()
    if i < n * classes:
        number, c = np.int64(y[i // classes]), i % classes
        value = real(1) if number == c else real(0)
        rows[i] = value if number >= 0 and number < classes else real(np.nan)


def one_hot(labels: DeviceArray, rows: DeviceArray) -> None:
    """rows (N, classes), written whole, from labels (N,) of any integer type."""
    program = _rows.of(label=labels.dtype.name, real=rows.dtype.name)
    launch_elements(program, labels.stream, rows.size, labels, rows, *rows.shape)


def _finish(sums: DeviceArray, loss: DeviceArray, count: int) -> None:
    """loss[()] = the sum over `count`."""
    block = threads(THREADS)
    program = _total.of(real=loss.dtype.name, THREADS=block)
    program.launch(loss.stream, (1,), block, sums, loss, sums.size, count)


def _elements(by: Any, p: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int) -> None:
    if count == 0:
        from_two(by, p, y, losses)
        return
    block = threads(THREADS)
    sums = p.empty((-(-p.size // _SHARE),), np.dtype(np.float64))
    program = _sum_elements.of(real=p.dtype.name, formula=by, THREADS=block)
    program.launch(p.stream, (sums.size,), block, p, y, sums, p.size, _SHARE)
    _finish(sums, losses, count)


def _images(logits: bool, p: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int) -> None:
    images, classes = p.shape
    block = threads(ROW)
    sums = p.empty((images,), np.dtype(np.float64))
    program = _sum_images.of(real=p.dtype.name, LOGITS=logits, THREADS=block)
    program.launch(p.stream, (images,), block, p, y, sums, classes)
    if count == 0:
        finish = _rounded.of(real=p.dtype.name)
        launch_elements(finish, p.stream, images, sums, losses, images)
    else:
        _finish(sums, losses, count)


# Every loss takes p (or z), y of the same shape, and writes `losses` whole: with a count of 0 each
# loss by itself, else their sum over `count`, to an array without dimensions. Every gradient is
# divided by `count` and written whole.


def binary_cross_entropy(
    geometry: Extent, p: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int
) -> None:
    """The losses of probabilities p; `losses` has p's shape."""
    _elements(_binary, p, y, losses, count)


def binary_cross_entropy_grad(
    geometry: Extent, p: DeviceArray, y: DeviceArray, dp: DeviceArray, count: int
) -> None:
    """dp, p's shape."""
    from_two(_binary_slope, p, y, dp, count)


def binary_cross_entropy_with_logits(
    geometry: Extent, z: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int
) -> None:
    """The losses of logits z; `losses` has z's shape."""
    _elements(_binary_logits, z, y, losses, count)


def binary_cross_entropy_with_logits_grad(
    geometry: Extent, z: DeviceArray, y: DeviceArray, dz: DeviceArray, count: int
) -> None:
    """dz, z's shape."""
    from_two(_binary_logits_slope, z, y, dz, count)


def categorical_cross_entropy(
    geometry: Extent, p: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int
) -> None:
    """The losses of probabilities p (N, classes); `losses` has shape (N,)."""
    _images(False, p, y, losses, count)


def categorical_cross_entropy_grad(
    geometry: Extent, p: DeviceArray, y: DeviceArray, dp: DeviceArray, count: int
) -> None:
    """dp, p's shape."""
    from_two(_categorical_slope, p, y, dp, count)


def categorical_cross_entropy_with_logits(
    geometry: Extent, z: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int
) -> None:
    """The losses of logits z (N, classes); `losses` has shape (N,)."""
    _images(True, z, y, losses, count)


def categorical_cross_entropy_with_logits_grad(
    geometry: Extent, z: DeviceArray, y: DeviceArray, dz: DeviceArray, count: int
) -> None:
    """dz, z's shape."""
    images, classes = z.shape
    block = threads(ROW)
    program = _softmax_slopes.of(real=z.dtype.name, THREADS=block)
    program.launch(z.stream, (images,), block, z, y, dz, classes, count)


def half_squared_error(
    geometry: Extent, p: DeviceArray, y: DeviceArray, losses: DeviceArray, count: int
) -> None:
    """The losses of outputs p; `losses` has p's shape."""
    _elements(_half_squared, p, y, losses, count)


def half_squared_error_grad(
    geometry: Extent, p: DeviceArray, y: DeviceArray, dp: DeviceArray, count: int
) -> None:
    """dp, p's shape."""
    from_two(_half_squared_slope, p, y, dp, count)
