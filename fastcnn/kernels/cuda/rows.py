"""Rows of a data set by number, and how many of a batch's answers are right."""

from __future__ import annotations

from math import prod

import numpy as np

from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import add_up, element, launch_elements, threads
from fastcnn.kernels.cuda.target import cuda, kernel, label, real

# What rows hold, of any type; settled with the program, like the answers' number of threads.
item = label
THREADS = 256


@kernel("item* x, int64* rows, item* y, int64 count, int64 width")
def _take(x, rows, y, count, width):
    i = element()
    if i < count * width:
        row = i // width
        y[i] = x[rows[row] * width + (i - row * width)]


@kernel("real* p, real* y, int64* right, int64 images, int64 classes")
def _count_right(p, y, right, images, classes):
    """right[0]: images whose answer is right; right[1]: single answers; right[2]: whether all rows
    of targets have one 1, so that the first counts.
    """
    rows = cuda.shared.array(THREADS, np.int64)
    answers = cuda.shared.array(THREADS, np.int64)
    other = cuda.shared.array(THREADS, np.int64)
    t = cuda.threadIdx.x
    rows[t], answers[t], other[t] = 0, 0, 0
    image = np.int64(t)
    while image < images:
        best, wanted, total = 0, 0, real(0)
        for c in range(classes):
            at = image * classes + c
            best = c if p[at] > p[image * classes + best] else best
            wanted = c if y[at] > y[image * classes + wanted] else wanted
            total += y[at]
            answers[t] += 1 if (p[at] >= real(0.5)) == (y[at] >= real(0.5)) else 0
        rows[t] += 1 if best == wanted else 0
        other[t] += 1 if total != real(1) else 0
        image += THREADS
    add_up(rows, t, THREADS)
    add_up(answers, t, THREADS)
    add_up(other, t, THREADS)
    if t == 0:
        right[0], right[1], right[2] = rows[0], answers[0], other[0]


def take(x: DeviceArray, rows: DeviceArray, y: DeviceArray) -> None:
    """y[i] = x[rows[i]], written whole."""
    width = prod(x.shape[1:])
    name = x.dtype.name
    launch_elements(_take.of(item=name), x.stream, rows.size * width, x, rows, y, rows.size, width)


def count_right(p: DeviceArray, y: DeviceArray, right: DeviceArray) -> None:
    """right (3 int64), written whole, from outputs and targets (images, classes)."""
    block = threads(THREADS)
    program = _count_right.of(real=p.dtype.name, THREADS=block)
    images = p.shape[0]
    program.launch(p.stream, (1,), block, p, y, right, images, p.size // max(images, 1))
