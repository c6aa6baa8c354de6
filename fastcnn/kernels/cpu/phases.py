"""A dilated convolution of stride 1 as one without dilation, on more and smaller images.

    x_ab[i, j] = x[i*dh + a - top % dh, j*dw + b - left % dw]       zeros where that is outside
    y[p, q]    = (x_ab * w)[p // dh, q // dw]                  with a = p % dh, b = q % dw

x_ab is padded by top // dh rows and left // dw columns before it. The dh*dw phases of an image are
images of their own: [image][a][b][channel][row][column].
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.vectors import load, load_step, store, store_pairs

# Lanes of a vector, in float32 half of the widest: rows of phases are short.
LANES = 8


@lru_cache(maxsize=256)
def of_phases(g: Conv2dGeometry) -> Conv2dGeometry:
    """The convolution of the phases; zeros fill the last rows and columns up where they do not
    divide evenly."""
    (dh, dw), (top, bottom, left, right) = g.dilation, g.padding
    rows, columns = blocks_of(g.H + top, dh), blocks_of(g.W + left, dw)  # with those before
    padding = (
        *(top // dh, blocks_of(g.H + top + bottom, dh) - rows),
        *(left // dw, blocks_of(g.W + left + right, dw) - columns),
    )
    H, W = rows - top // dh, columns - left // dw
    return dataclasses.replace(g, N=g.N * dh * dw, H=H, W=W, padding=padding, dilation=(1, 1))


@kernel
def _take(source, target, count, step):
    """target[j] = source[j*step] for j < count."""
    if step == 2 and count >= LANES:
        for k in range(0, count, LANES):
            j = min(k, count - LANES)  # the last vector overlaps the one before
            store(target, j, load_step(source, 2 * j, 2, LANES))
    elif step == 1:
        for j in range(count):
            target[j] = source[j]
    else:
        for j in range(count):
            target[j] = source[j * step]


@kernel
def _split_chunk(task, x, phases, s):
    """The phases of one plane."""
    C, H, W, dh, dw, top, left, rows, columns = s
    n, c = divmod(task, C)
    for a in range(dh):
        for b in range(dw):
            # the columns and rows that are those of the image
            j0 = max(0, (left - b + dw - 1) // dw)
            j1 = max(j0, min(columns, (W - 1 + left - b) // dw + 1))
            first = (((n * dh + a) * dw + b) * C + c) * rows * columns
            i0 = max(0, (top - a + dh - 1) // dh)
            i1 = max(i0, min(rows, (H - 1 + top - a) // dh + 1))
            if (i1 - i0) * (j1 - j0) < rows * columns:
                phases[first : first + rows * columns] = 0
            for i in range(i0, i1):
                at, h = first + i * columns + j0, i * dh + a - top
                source = x[(task * H + h) * W + j0 * dw + b - left :]
                _take(source, phases[at : at + j1 - j0], j1 - j0, dw)


@kernel
def _join_chunk(task, phases, x, s):
    """One plane from its phases."""
    C, H, W, dh, dw, top, left, rows, columns = s
    n, c = divmod(task, C)
    for h in range(H):
        i, a = divmod(h + top, dh)
        row = x[(task * H + h) * W : (task * H + h + 1) * W]
        first = (((n * dh + a) * dw) * C + c) * rows * columns + i * columns
        apart = C * rows * columns  # from phase to phase
        done = 0
        if dw == 2 and W >= 2 * LANES:
            even = phases[first + left % 2 * apart + left // 2 :]
            odd = phases[first + (left + 1) % 2 * apart + (left + 1) // 2 :]
            done = W // 2 * 2
            for k in range(0, W // 2, LANES):
                j = min(k, W // 2 - LANES)  # the last vector overlaps the one before
                store_pairs(row, 2 * j, load(even, j, LANES), load(odd, j, LANES))
        for w in range(done, min(W, done + dw)):  # the first column that is of each phase
            j, b = divmod(w + left, dw)
            source, target = phases[first + b * apart + j :], row[w:]
            for k in range((W - w + dw - 1) // dw):
                target[k * dw] = source[k]


@lru_cache(maxsize=256)
def _sizes(g: Conv2dGeometry, padded: bool) -> tuple[int, np.ndarray]:
    """How many planes g's input has, or its output, which is not padded; and a plane's numbers."""
    (dh, dw), (top, _, left, _), near = g.dilation, g.padding, of_phases(g)
    (N, *plane), (_, _, *rest) = (
        (g.input_shape, near.input_shape) if padded else (g.output_shape, near.output_shape)
    )
    before = (top % dh, left % dw) if padded else (0, 0)
    return N * plane[0], np.array((*plane, dh, dw, *before, *rest))


def split(g: Conv2dGeometry, x: np.ndarray, phases: np.ndarray, padded: bool) -> None:
    """Write the phases of x, which is padded as g's input, or of y, which is not."""
    planes, sizes = _sizes(g, padded)
    launch(_split_chunk, planes, phases.nbytes, x.reshape(-1), phases.reshape(-1), sizes)


def join(g: Conv2dGeometry, phases: np.ndarray, x: np.ndarray, padded: bool) -> None:
    """Write x, g's input, whose padding is left out, or y, from its phases."""
    planes, sizes = _sizes(g, padded)
    launch(_join_chunk, planes, x.nbytes, phases.reshape(-1), x.reshape(-1), sizes)
