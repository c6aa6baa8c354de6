"""Rows of images with their padding, as the kernels for few channels read them.

A copy of some rows of an image stands in scratch memory as planes

    [channel][plane of columns][residue of rows][row][column]

with zeros where padding is. Rows lie apart by their number modulo the vertical stride, columns by
theirs modulo the horizontal one, so that a tap is one constant offset into the copy and what
neighbouring outputs read are neighbours. Either of two forms:

    joined    a plane for each tap of a kernel's row, whose rows are as long as those of outputs: so
              rows join, and a vector may hold the end of one and the beginning of others
    padded    a plane for each residue of columns, shared by the taps that fall on it; rows are
              longer than those of outputs, and vectors end with them

Joined rows waste no lanes, but are copied S times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import take_every, take_fourth, take_second, take_stepped
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.units import known_unit


@kernel
def copy_rows(xs, o, x, image, first, count, columns, residues, sizes):
    """Copy rows first … first+count-1 (negative: padding) of all channels to xs[o:].

    sizes = (C, H, W, strides, left padding, pitch, plane, lanes); plane f of columns begins with
    column columns[f], residue b of rows with row residues[b]. Planes are written whole, with their
    padding; behind each are a vector's elements that may be written over.
    """
    C, H, W, sh, sw, left, pitch, plane, lanes = (
        sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7], sizes[8],
    )  # fmt: skip
    zero, each = xs.dtype.type(0), columns.shape[0] * residues.shape[0] * plane
    for b in range(residues.shape[0]):
        h = first + residues[b]
        n = max(0, (count - residues[b] + sh - 1) // sh)
        top = min(n, max(0, (sh - 1 - h) // sh))
        bottom = max(top, min(n, (H - h + sh - 1) // sh))
        for f in range(columns.shape[0]):
            target = o + (f * residues.shape[0] + b) * plane
            # The last vector of a row writes over the beginning of the next, which comes later.
            for v in range((pitch - 1) // lanes if bottom > top else -1, -1, -1):
                j = v * lanes
                column = j * sw + columns[f] - left
                low = min(lanes, max(0, (sw - 1 - column) // sw))
                high = max(low, min(lanes, (W - column + sw - 1) // sw))
                source = (image * C * H + h + top * sh) * W + column
                there = target + top * pitch + j
                for c in range(C):
                    s, t, step = source + c * H * W, there + c * each, sh * W
                    if sw == 1:
                        take_every(bottom - top, x, s, step, sw, xs, t, pitch, low, high, True)
                    elif sw == 2:
                        take_second(bottom - top, x, s, step, sw, xs, t, pitch, low, high, True)
                    elif sw == 4:
                        take_fourth(bottom - top, x, s, step, sw, xs, t, pitch, low, high, True)
                    else:
                        take_stepped(bottom - top, x, s, step, sw, xs, t, pitch, low, high, True)
            if top > 0 or bottom < n:
                for c in range(C):
                    before = xs[target + c * each : target + c * each + top * pitch]
                    for i in range(before.size):
                        before[i] = zero
                    after = xs[target + c * each + bottom * pitch : target + c * each + n * pitch]
                    for i in range(after.size):
                        after[i] = zero


@dataclass(frozen=True)
class Sweep:
    """A convolution of each group of channels by itself, as the kernels for few channels do it:
    the forward pass, or an input gradient that is one. C and K are those of a group."""

    N: int
    groups: int
    C: int
    H: int
    W: int
    K: int
    P: int
    Q: int
    R: int
    S: int
    stride: tuple[int, int]
    dilation: tuple[int, int]
    top: int
    left: int

    @property
    def overlap(self) -> int:
        """Rows that an output row reads: the kernel's height with its dilation."""
        return self.dilation[0] * (self.R - 1) + 1


def forward(g: Conv2dGeometry) -> Sweep:
    """The forward pass."""
    return Sweep(
        g.N, g.groups, g.C // g.groups, g.H, g.W, g.K // g.groups, g.P, g.Q, g.R, g.S, g.stride,
        g.dilation, g.padding[0], g.padding[2],
    )  # fmt: skip


def full(g: Conv2dGeometry) -> Sweep:
    """The input gradient at stride 1: dY convolved with the rotated kernel."""
    top, _, left, _ = g.full_padding
    return Sweep(
        g.N, g.groups, g.K // g.groups, g.P, g.Q, g.C // g.groups, g.H, g.W, g.R, g.S, (1, 1),
        g.dilation, top, left,
    )  # fmt: skip


@dataclass(frozen=True)
class Copy:
    """How the rows that some rows of outputs read are copied.

    Attributes
    ----------
    columns, residues, sizes : ndarray
        What `copy_rows` takes by these names.
    taps : ndarray
        Offsets of taps into the copy, ascending: neighbours share lines.
    order : ndarray
        Their numbers (c, s, r).
    pitch, size : int
        Elements of a row, and of the whole copy.
    """

    columns: np.ndarray
    residues: np.ndarray
    sizes: np.ndarray
    taps: np.ndarray
    order: np.ndarray
    pitch: int
    size: int


def _form(sweep: Sweep, lanes: int, joined: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """First columns of planes, the taps' columns in each, elements of a row."""
    column, sw = np.arange(sweep.S) * sweep.dilation[1], sweep.stride[1]
    if joined:
        return column, np.zeros_like(column), sweep.Q
    furthest = int(column[-1]) // sw
    pitch = blocks_of(max(sweep.Q, lanes) + furthest, lanes) * lanes
    return np.unique(column % sw), column // sw, pitch


def copied_vectors(sweep: Sweep, rows: int, lanes: int, joined: bool) -> int:
    """Vectors that the copy of some rows of outputs of a group consists of."""
    columns, _, pitch = _form(sweep, lanes, joined)
    read = (rows - 1) * sweep.stride[0] + sweep.overlap
    return sweep.C * len(columns) * read * blocks_of(pitch, lanes)


def _plane(sweep: Sweep, rows: int, pitch: int, lanes: int) -> int:
    """Elements of a plane: an odd number of vectors, which go to all sets of a cache in turn, with
    one behind what counts."""
    in_plane = rows - 1 + (sweep.overlap - 1) // sweep.stride[0] + 1
    return lanes * (blocks_of(in_plane * pitch + lanes, lanes) | 1)


def copy_size(sweep: Sweep, rows: int, lanes: int, joined: bool) -> int:
    """Elements of the copy of some rows of outputs of a group."""
    columns, _, pitch = _form(sweep, lanes, joined)
    residues = min(sweep.stride[0], sweep.R)
    return sweep.C * len(columns) * residues * _plane(sweep, rows, pitch, lanes)


def read_by_tile(sweep: Sweep, rows: int, vectors: int, lanes: int, joined: bool) -> int:
    """Elements of the copy that the taps of a few vectors of outputs read."""
    columns, _, pitch = _form(sweep, lanes, joined)
    residues = min(sweep.stride[0], sweep.R)
    reached = min(rows, vectors * lanes / sweep.Q + 1) + (sweep.overlap - 1) // sweep.stride[0]
    across = min(pitch, (vectors + 1) * lanes)
    return int(sweep.C * len(columns) * residues * reached * across)


def copy_of(sweep: Sweep, rows: int, itemsize: int, joined: bool) -> Copy:
    """The copy of what up to `rows` rows of outputs read."""
    lanes, (sh, sw) = known_unit().lanes(itemsize), sweep.stride
    columns, in_row, pitch = _form(sweep, lanes, joined)
    r = np.arange(sweep.R) * sweep.dilation[0]
    residues = np.unique(r % sh)
    plane = _plane(sweep, rows, pitch, lanes)
    s = np.arange(sweep.S)
    plane_of = s if joined else np.searchsorted(columns, s * sweep.dilation[1] % sw)
    channel = len(columns) * len(residues) * plane
    of_s = plane_of * len(residues) * plane + in_row
    of_r = np.searchsorted(residues, r % sh) * plane + r // sh * pitch
    taps = (np.arange(sweep.C) * channel)[:, np.newaxis, np.newaxis] + of_s[:, np.newaxis] + of_r
    sizes = (sweep.C, sweep.H, sweep.W, sh, sw, sweep.left, pitch, plane, lanes)
    taps = taps.reshape(-1)
    order = np.argsort(taps)
    return Copy(columns, residues, np.array(sizes), taps[order], order, pitch, sweep.C * channel)


def vector_starts(length: int, lanes: int) -> np.ndarray:
    """First columns of the vectors that cover a row; the last overlaps the one before."""
    starts = np.arange(0, length, lanes)
    starts[-1] = max(0, length - lanes)
    return starts
