"""Losses and their gradients; a loss is summed in float64, chunk by chunk.

With p a probability or output, z a logit and y the target, for one element:

    binary                L = -y log p - (1 - y) log(1 - p)              dp = (p - y) / (p (1 - p))
    binary, logits        L = max(z, 0) - z y + log(1 + e^-|z|)          dz = sigmoid(z) - y
    half squared          L = (y - p)^2 / 2                              dp = p - y

and for one image, over its classes c:

    categorical           L = -sum_c y_c log p_c                         dp_c = -y_c / p_c
    categorical, logits   L = -sum_c y_c (z_c - log sum_k e^(z_k))       dz_c = softmax(z)_c - y_c
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Extent
from fastcnn.kernels.cpu.chunks import TRANSCENDENTAL, chunks, launch_elements, rows_per_chunk
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.loss_elements import (
    BINARY,
    BINARY_LOGITS,
    HALF_SQUARED,
    gradients_chunk,
    losses_chunk,
)
from fastcnn.kernels.cpu.loss_images import image_gradients_chunk, images_chunk
from fastcnn.kernels.cpu.threads import launch

# In place of where to count labels that are no class, for targets that are no labels.
_NO_STRAYS = np.empty(0, np.int64)


@exact
def _total_chunk(task, sums, count, total):
    """total[0] = the sums of the chunks, in their order, over `count`."""
    total[0] = 0
    for i in range(len(sums)):
        total[0] += sums[i]
    total[0] /= count


def _total(sums: np.ndarray, count: int) -> float:
    total = np.empty(1)
    launch(_total_chunk, 1, 0, sums, count, total, tells=True)
    return total[0]


def _sum_elements(
    formula: int, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    sums = np.empty(chunks(p.size))
    launch_elements(losses_chunk, TRANSCENDENTAL, p, y, losses, sums, formula)
    return _total(sums, count)


def _sum_images(
    logits: bool, p: np.ndarray, y: np.ndarray, losses: np.ndarray, count: int
) -> float:
    images, classes = p.shape
    share = rows_per_chunk(classes)
    sums = np.empty(-(-images // share))
    launch(
        images_chunk, len(sums), TRANSCENDENTAL * p.size,
        p.reshape(-1), y.reshape(-1), losses, sums, logits, images, classes, share,
    )  # fmt: skip
    return _total(sums, count)


def _gradients(
    formula: int, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int, work: int
) -> None:
    launch_elements(gradients_chunk, work, p, y, dp, p.dtype.type(count), formula)


def _image_gradients(
    logits: bool, p: np.ndarray, y: np.ndarray, dp: np.ndarray, count: int
) -> int | None:
    images, classes = p.shape
    share = rows_per_chunk(classes)
    tasks = -(-images // share)
    labels = y.dtype.kind == "i"
    strays = np.empty(tasks, np.int64) if labels else _NO_STRAYS
    launch(
        image_gradients_chunk, tasks, (TRANSCENDENTAL if logits else 3 * p.itemsize) * p.size,
        p.reshape(-1), y.reshape(-1), dp.reshape(-1), strays, p.dtype.type(count), logits,
        images, classes, share, tells=labels,
    )  # fmt: skip
    return int(strays.sum()) if labels else None


# Every loss takes p (or z), y of the same shape, and `losses`, which is written whole or, if it is
# empty, not at all; it returns the sum over `count`, which its last launch tells. Every gradient is
# divided by `count` and written whole. For the categorical ones y may also be labels, (N,) of
# int64; the gradients then return how many of them are no class.


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
