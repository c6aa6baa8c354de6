"""Weights as rows of a matrix: one row per filter or channel, terms in the order of a tap table.

    out[group, row, k, j] = w[group*group_step + row*row_step + k*term_step + places[j]]

k counts the channels (forward) or filters (input gradient) that a row sums over, and places the
positions of the kernel's plane that it uses. Rows are filled up with zeros to `depth` elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import launch


class Rows(NamedTuple):
    """Where the rows find their weights."""

    places: np.ndarray
    sizes: np.ndarray  # rows of a group, terms, depth, and the three steps
    rows: int  # of all groups
    depth: int


@kernel
def _row_chunk(row, w, places, out, sizes):
    group, r = divmod(row, sizes[0])
    first = group * sizes[3] + r * sizes[4]
    o, end = row * sizes[2], (row + 1) * sizes[2]
    for k in range(sizes[1]):
        term = w[first + k * sizes[5] :]
        for j in range(len(places)):
            out[o] = term[places[j]]
            o += 1
    while o < end:
        out[o] = out.dtype.type(0)
        o += 1


def tabulate(
    groups: int,
    rows: int,
    terms: int,
    places: np.ndarray,
    depth: int,
    steps: tuple[int, int, int],
) -> Rows:
    """steps are those of a group, a row and a term in w."""
    return Rows(places, np.array((rows, terms, depth, *steps)), groups * rows, depth)


def weight_rows(w: np.ndarray, rows: Rows) -> np.ndarray:
    """The matrix, flattened."""
    out = np.empty(rows.rows * rows.depth, w.dtype)
    launch(_row_chunk, rows.rows, out.nbytes, w.reshape(-1), rows.places, out, rows.sizes)
    return out
