"""Sums of products of spectra in blocks: convolution and both its gradients.

    C[i, j] = back transform of sum over terms t of (conj) A[i, t] * B[j, t]

Rows i and j and terms t are filters, channels and squares of images, each in its place:

    forward        i = filter, t = channel, j = square of x     C[i, j] a part of y
    input grad     i = channel, t = filter, j = square of dy    C[i, j] a part of dx
    weight grad    i = filter, t = square of dy and of x, j = channel    C[i, j] a filter of dw

The spectra of the side that has fewer numbers, the *far* one, are made first, for all tasks. Those
of the other, *near* one are made block by block in L2, where they are used:

    task: some blocks of rows of the near side
        for some terms, or all where the far side has many rows
            their spectra                                              L2
            for some rows of the far side
                for each pair of vectors, some terms: all products     a far panel in L1, C in L2
                C transformed back, to the result, with the last terms
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
from fastcnn.kernels.cpu.threads import launch, zeros
from fastcnn.kernels.cpu.winograd_limits import results_stand
from fastcnn.memory import SCRATCH

# Bytes of the near side's panels, half of a 1 MB L2, and of C: the far side's panels pass through.
NEAR_BYTES, C_BYTES = 512 << 10, 216 << 10
# Terms whose products are formed together: 12 KB of each panel, in L1 with some more.
TERMS = 32
# Tasks that keep a few threads evenly busy, and the most there are.
FEW_TASKS, TASKS = 8, 32
# Squares ahead of the one that is transformed whose pixels are fetched.
AHEAD = 4
# Terms of a panel that a task transforms for all others.
FAR_TERMS = 32


@kernel
def _transform(source, side, tiles, row, term, ahead, small, target, t0, step, peaks):
    """One square to its place in a panel. side = (steps of a row and a term in the source, those in
    tiles, pitch); tiles[n] = (place in the source, first row, end, first column, end)."""
    n = row * side[2] + term * side[3]
    s0 = tiles[n, 0] + row * side[0] + term * side[1]
    if small:
        spectrum_of_half(
            source, s0, ahead, side[4], tiles[n, 1], tiles[n, 2], tiles[n, 3], tiles[n, 4],
            target, t0, step, peaks,
        )  # fmt: skip
    else:
        spectrum(
            source, s0, ahead, side[4], tiles[n, 1], tiles[n, 2], tiles[n, 3], tiles[n, 4],
            target, t0, step, peaks,
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
            _transform(
                source, side, tiles, which, t, AHEAD * side[1], small, target, at, terms * TERM, own
            )


@kernel
def _near_panels(source, side, tiles, first, rows, panels, t0, t1, some_terms, small, near, peaks):
    """Terms t0 … t1-1 of some panels of the near side, in the order of the source."""
    step = some_terms * TERM
    if side[0] > 0 and (side[1] == 0 or side[0] < side[1]):
        for t in range(t0, t1):
            for row in range(panels * ROWS):
                at = row // ROWS * PAIRS * step + (t - t0) * TERM + row % ROWS * PAIR
                _transform(
                    source, side, tiles, min(first + row, rows - 1), t, AHEAD * side[0], small,
                    near, at, step, peaks,
                )  # fmt: skip
    else:
        for row in range(panels * ROWS):
            for t in range(t0, t1):
                at = row // ROWS * PAIRS * step + (t - t0) * TERM + row % ROWS * PAIR
                _transform(
                    source, side, tiles, min(first + row, rows - 1), t, AHEAD * side[1], small,
                    near, at, step, peaks,
                )  # fmt: skip


@kernel
def _multiply(depth, near, n, far, f, c, at, again, real, of_a, turned):
    """Products of two panels."""
    if of_a and turned:
        multiply_turned(depth, near, n, far, f, c, at, again, real)
    elif of_a:
        multiply(depth, near, n, far, f, c, at, again, real)
    elif turned:
        multiply_turned(depth, far, f, near, n, c, at, again, real)
    else:
        multiply(depth, far, f, near, n, c, at, again, real)


@kernel
def _store(c, at, i0, a_rows, j0, b_rows, bias, lowest, out, side, tiles, sums):
    """What exists of rows i0 … of A and j0 … of B, transformed back."""
    j1 = min(j0 + ROWS, b_rows)
    for i in range(i0, min(i0 + ROWS, a_rows)):
        addend = bias[i] if bias.size > 0 else c.dtype.type(0)
        for j in range(j0, j1):
            n = j * side[3]
            o = tiles[n, 0] + i * side[0] + j * side[1]
            next_i, next_j = (i, j + 1) if j + 1 < j1 else (i + 1, j0)
            onward = tiles[next_j * side[3], 0] + next_i * side[0] + next_j * side[1]
            square(
                c, at + ((i - i0) * ROWS + j - j0) * SQUARE, addend, lowest, out, o, onward - o,
                side[4], tiles[n, 1], tiles[n, 2], tiles[n, 3], tiles[n, 4], sums,
            )  # fmt: skip


@kernel
def _near_chunk(
    task, source, side, tiles, rows, terms, small, far, far_rows, of_a, turned, some_rows,
    some_terms, some_far, span, bias, lowest, out, out_side, out_tiles, peaks, sums,
):  # fmt: skip
    """Some blocks of rows of the near side, with all of the far one."""
    own, total = peaks[task * SIZE : (task + 1) * SIZE], sums[task * SIZE : (task + 1) * SIZE]
    size, far_size = PAIRS * TERM * some_terms, PAIRS * TERM * terms  # of panels
    near = np.empty(some_rows // ROWS * size, far.dtype)
    c = np.empty(some_rows * some_far * SQUARE, far.dtype)
    tile = ROWS * ROWS * SQUARE
    far_panels = (far_rows + ROWS - 1) // ROWS
    blocks = (rows + some_rows - 1) // some_rows
    for block in range(task * span, min(blocks, (task + 1) * span)):
        first = block * some_rows
        panels = (min(some_rows, rows - first) + ROWS - 1) // ROWS
        for t0 in range(0, terms, some_terms):
            t1 = min(terms, t0 + some_terms)
            _near_panels(
                source, side, tiles, first, rows, panels, t0, t1, some_terms, small, near, own
            )
            for f0 in range(0, far_panels, some_far // ROWS):
                f1 = min(far_panels, f0 + some_far // ROWS)
                for pair in range(PAIRS):
                    for t in range(t0, t1, TERMS):
                        depth, again = min(TERMS, t1 - t), t > 0
                        at_near = (pair * some_terms + t - t0) * TERM
                        at_far = (pair * terms + t) * TERM
                        for f in range(f0, f1):
                            for n in range(panels):
                                _multiply(
                                    depth, near, at_near + n * size, far, at_far + f * far_size, c,
                                    ((f - f0) * panels + n) * tile + pair * PAIR, again, pair == 0,
                                    of_a, turned,
                                )  # fmt: skip
                if t1 == terms:
                    for f in range(f0, f1):
                        for n in range(panels):
                            at = ((f - f0) * panels + n) * tile
                            i, j = f * ROWS, first + n * ROWS
                            if of_a:
                                _store(
                                    c, at, j, rows, i, far_rows, bias, lowest, out, out_side,
                                    out_tiles, total,
                                )  # fmt: skip
                            else:
                                _store(
                                    c, at, i, far_rows, j, rows, bias, lowest, out, out_side,
                                    out_tiles, total,
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
    some_terms: int
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

    def far_bytes(self, itemsize: int) -> int:
        """Bytes of the far side's spectra."""
        return itemsize * ROWS * self.far_panels * self.terms * SQUARE

    def scratch(self, itemsize: int) -> int:
        """Bytes that a task allocates."""
        return itemsize * SQUARE * self.some_rows * (self.some_terms + self.some_far)


def plan(a: Side, b: Side, out: Side, terms: int, turned: bool, itemsize: int) -> Fourier:
    """Cut a sum of products into blocks."""
    of_a = a.rows >= b.rows
    near, far = (a, b) if of_a else (b, a)
    each = SQUARE * itemsize
    panels, far_panels = blocks_of(near.rows, ROWS), blocks_of(far.rows, ROWS)
    most = blocks_of(panels, FEW_TASKS)
    together = min(most, C_BYTES // (ROWS * far_panels * ROWS * each))
    if ROWS * terms * each > NEAR_BYTES:  # C may have to pass its bytes
        together = max(1, together)
    if ROWS * terms * each * together > NEAR_BYTES:
        some_rows, some_far = ROWS * even(panels, together), ROWS * far_panels
        some_terms = even(terms, NEAR_BYTES // (some_rows * each))
    else:
        some_terms = terms
        some_rows = ROWS * even(panels, max(1, min(most, NEAR_BYTES // (ROWS * terms * each))))
        some_far = ROWS * even(far_panels, max(1, C_BYTES // (some_rows * each) // ROWS))
    blocks = blocks_of(near.rows, some_rows)
    span = blocks_of(blocks, TASKS)
    return Fourier(a, b, out, terms, turned, of_a, some_rows, some_terms, some_far, blocks, span)


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
    peaks, sums = zeros((far_tasks + tasks) * SIZE, dtype), zeros(tasks * SIZE, dtype)
    far_peaks, near_peaks = np.split(peaks, [far_tasks * SIZE])
    launch(
        _far_chunk, far_tasks, 16 * spectra.size,
        far.reshape(-1), f.far.steps, f.far.tiles, f.far.rows, terms, f.far.small, spectra,
        far_peaks,
    )  # fmt: skip
    launch(
        _near_chunk, tasks, 8 * f.products,
        near.reshape(-1), f.near.steps, f.near.tiles, f.near.rows, terms, f.near.small, spectra,
        f.far.rows, f.of_a, f.turned, f.some_rows, f.some_terms, f.some_far, f.span, bias, lowest,
        out.reshape(-1), f.out.steps, f.out.tiles, near_peaks, sums,
    )  # fmt: skip
    return results_stand(peaks, sums)
