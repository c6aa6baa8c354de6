"""Filters larger than 3 x 3 for Winograd's algorithms: cut into pieces of 3 x 3.

The last pieces are filled up with zeros. A piece sees the source moved by where it lies in the
filter, so that all pieces have the same tiles of the result, and their products are added up before
they are transformed back: 5 x 5 takes 4 pieces, 144 products for 16 results in the place of 400,
9 x 9 takes 9 pieces, 324 in the place of 1296.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.winograd_forms import TAPS


def pieces_of(R: int, S: int) -> int:
    """How many pieces a filter is cut into."""
    return blocks_of(R, TAPS) * blocks_of(S, TAPS)


def cut(places: np.ndarray) -> tuple[np.ndarray, int]:
    """(pieces, 9) of what stands in a filter's places (R, S), -1 beyond them; and how many pieces
    lie side by side."""
    R, S = places.shape
    down, across = blocks_of(R, TAPS), blocks_of(S, TAPS)
    filled = np.full((down * TAPS, across * TAPS), -1)
    filled[:R, :S] = places
    pieces = filled.reshape(down, TAPS, across, TAPS).swapaxes(1, 2)
    return pieces.reshape(-1, TAPS * TAPS), across
