"""Sums of products of spectra in blocks: convolution and both its gradients.

    C[i, j] = back transform of sum over terms t of (conj) A[i, t] * B[j, t]

Rows i and j and terms t are filters, channels and squares of images, each in its place:

    forward        i = filter, t = channel, j = square of x     C[i, j] a part of y
    input grad     i = channel, t = filter, j = square of dy    C[i, j] a part of dx
    weight grad    i = filter, t = square of dy and of x, j = channel    C[i, j] a filter of dw

The spectra of the side that has fewer numbers, the *far* one, are made first, for all tasks. Those
of the other, *near* one are made block by block in L2, where they are used:

    task: some blocks of rows of the near side
        their spectra, all terms                                   L2
        for some rows of the far side
            for each pair of vectors, some terms: all products     far panel in L1, C in L2
            C transformed back, to the result
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels.cpu.fourier_tiles import (
    ROWS,
    TERM,
    multiply,
    multiply_turned,
    spectrum,
    spectrum_of_half,
    square,
)
from fastcnn.kernels.cpu.fourier_transforms import HALF, PAIR, PAIRS, SIZE, SQUARE
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.winograd_limits import LARGEST, largest
from fastcnn.memory import SCRATCH

# Bytes of the near side's panels, half of a 1 MB L2, and of C: the far side's panels pass through.
NEAR_BYTES, C_BYTES = 512 << 10, 216 << 10
# Terms whose products are formed together: 12 KB of each panel, in L1 with some more.
TERMS = 32
# Tasks that keep a few threads evenly busy, and the most there are.
FEW_TASKS, TASKS = 8, 32
# Terms of a panel that a task transforms for all others.
FAR_TERMS = 32


@kernel
def _transform(source, side, tiles, row, term, small, target, t0, step, peaks):
    """One square to its place in a panel. side = (steps of a row and a term in the source, those in
    tiles, pitch); tiles[n] = (place in the source, first row, end, first column, end)."""
    n = row * side[2] + term * side[3]
    s0 = tiles[n, 0] + row * side[0] + term * side[1]
    if small:
        spectrum_of_half(
            source, s0, side[4], tiles[n, 1], tiles[n, 2], tiles[n, 3], tiles[n, 4], target, t0,
            step, peaks,
        )  # fmt: skip
    else:
        spectrum(
            source, s0, side[4], tiles[n, 1], tiles[n, 2], tiles[n, 3], tiles[n, 4], target, t0,
            step, peaks,
        )  # fmt: skip


@kernel
def _far_chunk(task, source, side, tiles, rows, terms, small, target, peaks):
    """Some terms of a panel of the far side. Rows behind the last are it once more."""
    panel, part = divmod(task, (terms + FAR_TERMS - 1) // FAR_TERMS)
    own = peaks[task * SIZE : (task + 1) * SIZE]
    for row in range(ROWS):
        which = min(panel * ROWS + row, rows - 1)
        for t in range(part * FAR_TERMS, min(terms, (part + 1) * FAR_TERMS)):
            at = panel * PAIRS * TERM * terms + t * TERM + row * PAIR
            _transform(source, side, tiles, which, t, small, target, at, terms * TERM, own)


@kernel
def _near_chunk(
    task, source, side, tiles, rows, terms, small, far, far_rows, of_a, turned, some_rows, some_far,
    span, bias, lowest, out, out_side, out_tiles, peaks, sums,
):  # fmt: skip
    """Some blocks of rows of the near side, with all of the far one."""
    own, total = peaks[task * SIZE : (task + 1) * SIZE], sums[task * SIZE : (task + 1) * SIZE]
    size = PAIRS * TERM * terms  # of a panel
    near = np.empty(some_rows // ROWS * size, far.dtype)
    c = np.empty(some_rows * some_far * SQUARE, far.dtype)
    tile = ROWS * ROWS * SQUARE
    far_panels = (far_rows + ROWS - 1) // ROWS
    blocks = (rows + some_rows - 1) // some_rows
    for block in range(task * span, min(blocks, (task + 1) * span)):
        first = block * some_rows
        panels = (min(some_rows, rows - first) + ROWS - 1) // ROWS
        for row in range(panels * ROWS):
            panel, place = divmod(row, ROWS)
            for t in range(terms):
                _transform(
                    source, side, tiles, min(first + row, rows - 1), t, small, near,
                    panel * size + t * TERM + place * PAIR, terms * TERM, own,
                )  # fmt: skip
        for f0 in range(0, far_panels, some_far // ROWS):
            f1 = min(far_panels, f0 + some_far // ROWS)
            for pair in range(PAIRS):
                for t in range(0, terms, TERMS):
                    depth, at = min(TERMS, terms - t), (pair * terms + t) * TERM
                    for f in range(f0, f1):
                        for n in range(panels):
                            at_c = ((f - f0) * panels + n) * tile + pair * PAIR
                            a, b = n * size + at, f * size + at
                            if of_a and turned:
                                multiply_turned(
                                    depth, near, a, far, b, c, at_c, t > 0, pair == 0
                                )
                            elif of_a:
                                multiply(depth, near, a, far, b, c, at_c, t > 0, pair == 0)
                            elif turned:
                                multiply_turned(
                                    depth, far, b, near, a, c, at_c, t > 0, pair == 0
                                )
                            else:
                                multiply(depth, far, b, near, a, c, at_c, t > 0, pair == 0)
            for f in range(f0, f1):
                for n in range(panels):
                    for place in range(ROWS * ROWS):
                        i, j = divmod(place, ROWS)
                        if of_a:
                            i, j = first + n * ROWS + i, f * ROWS + j
                            inside = i < rows and j < far_rows
                        else:
                            i, j = f * ROWS + i, first + n * ROWS + j
                            inside = i < far_rows and j < rows
                        if inside:
                            which = j * out_side[3]
                            at = out_tiles[which, 0] + i * out_side[0] + j * out_side[1]
                            square(
                                c, ((f - f0) * panels + n) * tile + place * SQUARE,
                                bias[i] if bias.size > 0 else c.dtype.type(0), lowest, out, at,
                                out_side[4], out_tiles[which, 1], out_tiles[which, 2],
                                out_tiles[which, 3], out_tiles[which, 4], total,
                            )  # fmt: skip


@dataclass(frozen=True)
class Side:
    """Where squares are found, or go to.

    Attributes
    ----------
    rows : int
    steps : ndarray
        Elements of a row and of a term, or of both rows of C; the same in `tiles`; elements of a
        row of pixels.
    tiles : ndarray, (n, 5)
        First element; first row that counts, and end; first column, and end.
    """

    rows: int
    steps: np.ndarray
    tiles: np.ndarray

    @property
    def small(self) -> bool:
        """Whether all that counts lies in the first half of rows and columns."""
        return bool((self.tiles[:, 2] <= HALF).all() and (self.tiles[:, 4] <= HALF).all())


@dataclass(frozen=True)
class Fourier:
    """A sum of products of spectra, and how it is cut."""

    a: Side
    b: Side
    out: Side
    terms: int
    turned: bool
    of_a: bool  # whether the near side is A
    some_rows: int
    some_far: int
    blocks: int
    span: int

    @property
    def near(self) -> Side:
        return self.a if self.of_a else self.b

    @property
    def far(self) -> Side:
        return self.b if self.of_a else self.a

    @property
    def far_panels(self) -> int:
        return blocks_of(self.far.rows, ROWS)

    @property
    def products(self) -> int:
        """Complex products of whole panels."""
        near = ROWS * blocks_of(self.near.rows, ROWS)
        return near * ROWS * self.far_panels * self.terms * SQUARE // 2

    @property
    def squares(self) -> int:
        """Squares transformed."""
        near, far = (ROWS * blocks_of(side.rows, ROWS) for side in (self.near, self.far))
        return (near + far) * self.terms + self.a.rows * self.b.rows

    def scratch(self, itemsize: int) -> int:
        """Bytes that a task allocates."""
        return itemsize * SQUARE * self.some_rows * (self.terms + self.some_far)


def plan(a: Side, b: Side, out: Side, terms: int, turned: bool, itemsize: int) -> Fourier:
    """Cut a sum of products into blocks."""
    of_a = a.rows >= b.rows
    near, far = (a, b) if of_a else (b, a)
    each = SQUARE * itemsize
    panels = blocks_of(near.rows, ROWS)
    most = max(1, min(NEAR_BYTES // (ROWS * terms * each), blocks_of(panels, FEW_TASKS)))
    some_rows = ROWS * even(panels, most)
    some_far = max(ROWS, C_BYTES // (some_rows * each) // ROWS * ROWS)
    some_far = ROWS * even(blocks_of(far.rows, ROWS), some_far // ROWS)
    blocks = blocks_of(near.rows, some_rows)
    span = blocks_of(blocks, TASKS)
    return Fourier(a, b, out, terms, turned, of_a, some_rows, some_far, blocks, span)


def run(
    f: Fourier,
    a: np.ndarray,
    b: np.ndarray,
    bias: np.ndarray,
    lowest: np.generic,
    out: np.ndarray,
) -> bool:
    """Whether `out` could be found: no input is too large, and no sum has overflowed."""
    near, far = (a, b) if f.of_a else (b, a)
    dtype, terms = out.dtype, f.terms
    far_tasks = f.far_panels * blocks_of(terms, FAR_TERMS)
    tasks = blocks_of(f.blocks, f.span)
    spectra = SCRATCH.empty((f.far_panels * PAIRS * TERM * terms,), dtype)
    far_peaks, peaks, sums = (
        np.zeros(n * SIZE, dtype) for n in (far_tasks, tasks, tasks)
    )
    launch(
        _far_chunk, far_tasks, 16 * spectra.size,
        far.reshape(-1), f.far.steps, f.far.tiles, f.far.rows, terms, f.far.small, spectra,
        far_peaks,
    )  # fmt: skip
    launch(
        _near_chunk, tasks, 8 * f.products,
        near.reshape(-1), f.near.steps, f.near.tiles, f.near.rows, terms, f.near.small, spectra,
        f.far.rows, f.of_a, f.turned, f.some_rows, f.some_far, f.span, bias, lowest,
        out.reshape(-1), f.out.steps, f.out.tiles, peaks, sums,
    )  # fmt: skip
    finite = max(largest(far_peaks), largest(peaks)) < LARGEST  # False of NaN, too
    return bool(finite and np.isfinite(sums).all())
