"""Rows of images with their padding, as the kernels for few channels read them.

A copy of some rows of an image stands in scratch memory as

    [row][channel][phase][column]

with zeros where padding is. A phase holds every sw-th column (sw: the horizontal stride), beginning
at its own; there are as many as the taps of a kernel's row need. So a tap is one constant offset
into the copy, and the columns that neighbouring outputs read are neighbours, at any stride.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import take_every, take_second, take_stepped
from fastcnn.kernels.cpu.units import known_unit


@kernel
def copy_rows(xs, o, x, image, first, count, phases, sizes, zeros):
    """Copy rows first … first+count-1 (negative: padding) of all channels to xs[o:].

    sizes = (C, H, W, stride, left padding, columns of a phase, lanes); phases[f] is the first
    column of phase f. The copy's padding right and left is written, too; rows of padding are
    written if `zeros`, and are else known to be zeros already.
    """
    C, H, W, stride, left, columns, lanes = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
    )  # fmt: skip
    n = phases.shape[0]
    step = C * n * columns
    top = min(count, max(0, 0 - first))
    bottom = max(top, min(count, H - first))
    if zeros:
        zero = xs.dtype.type(0)
        before = xs[o : o + top * step]
        for i in range(before.size):
            before[i] = zero
        after = xs[o + bottom * step : o + count * step]
        for i in range(after.size):
            after[i] = zero
    if bottom == top:
        return
    for c in range(C):
        row = ((image * C + c) * H + first + top) * W
        for f in range(n):
            target = o + top * step + (c * n + f) * columns
            for j in range(0, columns, lanes):
                column = j * stride + phases[f] - left
                low = min(lanes, max(0, (stride - 1 - column) // stride))
                high = max(low, min(lanes, (W - column + stride - 1) // stride))
                if stride == 1:
                    take_every(
                        bottom - top, x, row + column, W, stride, xs, target + j, step, low, high,
                        True,
                    )  # fmt: skip
                elif stride == 2:
                    take_second(
                        bottom - top, x, row + column, W, stride, xs, target + j, step, low, high,
                        True,
                    )  # fmt: skip
                else:
                    take_stepped(
                        bottom - top, x, row + column, W, stride, xs, target + j, step, low, high,
                        True,
                    )  # fmt: skip


@dataclass(frozen=True)
class Copy:
    """How rows are copied: what `copy_rows` takes by these names, and where the taps are.

    Attributes
    ----------
    taps : ndarray
        Offset of each tap (c, r, s) into the copy.
    row : int
        Elements of a row of all channels.
    overlap : int
        Rows that an output row reads: the kernel's height with its dilation.
    """

    phases: np.ndarray
    sizes: np.ndarray
    taps: np.ndarray
    row: int
    overlap: int

    def rows(self, outputs: int, stride: int) -> int:
        """Rows that some rows of outputs read."""
        return (outputs - 1) * stride + self.overlap


def copy_of(g: Conv2dGeometry, itemsize: int) -> Copy:
    """The copy of a geometry's rows, from which vectors at any output column may be read."""
    lanes = known_unit().lanes(itemsize)
    (_, sw), (dh, dw) = g.stride, g.dilation
    s = np.arange(g.S) * dw
    phases = np.unique(s % sw)
    furthest = int(s[-1]) // sw
    columns = -(-(max(g.Q, lanes) + furthest) // lanes) * lanes
    row = g.C * len(phases) * columns
    in_row = np.searchsorted(phases, s % sw) * columns + s // sw
    c, r = np.arange(g.C) * (len(phases) * columns), np.arange(g.R) * (dh * row)
    taps = c[:, np.newaxis, np.newaxis] + r[:, np.newaxis] + in_row
    sizes = np.array((g.C, g.H, g.W, sw, g.padding[2], columns, lanes))
    return Copy(phases, sizes, taps.reshape(-1), row, dh * (g.R - 1) + 1)


def vector_starts(length: int, lanes: int) -> np.ndarray:
    """First columns of the vectors that cover a row; the last overlaps the one before."""
    starts = np.arange(0, length, lanes)
    starts[-1] = max(0, length - lanes)
    return starts
