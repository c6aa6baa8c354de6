"""Tiles of a product on tensor cores: sizes, and which word and which number is whose.

A block of threads multiplies a tile of A (ROWS x depth) with one of B (depth x COLUMNS), DEPTH of
depth at a time. Each of its warps owns WARP_ROWS x WARP_COLUMNS of the result, in pieces of 16 x 8
as `mma.sync` makes them (ptx.py).

Two ways of lying in shared memory, both free of bank conflicts (32 banks of one word):

    in rows      row r of a tile is 16 words of depth, four chunks of four. ldmatrix reads the same
                 chunk of eight rows at a time; chunk c lies at place c ^ (r >> 1) % 4, so that the
                 eight take the eight quarters of two rows of banks:

                     row 0  | 0 1 2 3 |     row 2  | 1 0 3 2 |     row 4  | 2 3 0 1 |
                     row 1  | 0 1 2 3 |     row 3  | 1 0 3 2 |     row 5  | 2 3 0 1 |  ...

    in columns   depths 2 i and 2 i + 1 of a column are neighbours, a row of 2 COLUMNS words to each
                 i. Lane (g, t) reads with one 16-byte load, which a quarter of a warp (two g, four
                 t) does at a time, columns 2 g and 2 g + 1 at depths 2 t and 2 t + 1: what it needs
                 of B for two pieces, in the registers where mma.sync takes it. Chunk c of row i
                 lies at place c ^ 2 (i % 4).

Depths 2 t and 2 t + 1 are thus t and t + 4 to mma.sync, which does not mind, as sums go over all of
them; A is stored in that order (`depth_order`). Of 16 columns, 2 g and 2 g + 1 are column g of one
piece and of the next, so that what lane (g, t) has of a row of two pieces, columns 2 t and 2 t + 1
of each, is columns 4 t .. 4 t + 3 of the 16: one 16-byte store.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import uint32

from fastcnn.kernels.cuda.target import helper

# Depth of a stage: two steps of mma.sync, and rows of 64 bytes, which copies of 16 bytes fill.
DEPTH = 16
# Stages in flight. A wide tile takes 16 KB a stage: three are the 48 KB that a kernel gets unasked,
# and two blocks fit on a multiprocessor.
STAGES = 3
# Row of a table of places where there is nothing: farther from 0 than any tap's offset, whatever
# is added to it, FAR included, lies outside of the image, and does not overflow.
FAR = 1 << 29

# A placeholder that `Tile.constants` settles.
COLUMNS: Any = np.uint32(128)


def depth_order(depth: int) -> np.ndarray:
    """Which depth stands at each place of a row of A, for a depth that is a multiple of 8."""
    return np.arange(depth).reshape(-1, 4, 2).swapaxes(1, 2).reshape(-1)


@dataclass(frozen=True)
class Tile:
    """Rows and columns of a block's tile, and of a warp's."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int

    @property
    def threads(self) -> int:
        return 32 * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def resident(self) -> int:
        """Blocks on a multiprocessor: sixteen warps, which leaves 128 registers a thread.

        What grids and kernels are made for, wherever they run: an sm_75, of 64 KB of shared memory,
        holds one block of FLAT (36 KB), and two of SMALL (24 KB).
        """
        return 512 // self.threads

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What kernels call these numbers; those that take part in arithmetic with their type."""
        words = {
            "ROWS": self.rows,
            "COLUMNS": self.columns,
            "WARP_ROWS": self.warp_rows,
            "WARP_COLUMNS": self.warp_columns,
            "WARPS_DOWN": self.rows // self.warp_rows,
            "THREADS": self.threads,
            "ROW_TILE": self.rows * DEPTH,
            "STAGE": (self.rows + self.columns) * DEPTH,
        }
        counts = {
            "SHARED": STAGES * (self.rows + self.columns) * DEPTH,
            "DOWN": self.warp_rows // 16,
            "ACROSS": self.warp_columns // 8,
        }
        return {name: np.uint32(n) for name, n in words.items()} | counts


# A multiprocessor's four quarters issue from eight warps or more. Warps of 64 x 32 read 96 numbers
# of shared memory per depth for 2048 products, 32 x 32 read 64 for 1024.
WIDE = Tile(128, 128, 64, 32)
# Where the result has few rows: 64 filters or channels.
FLAT = Tile(64, 128, 32, 32)
# Where wide tiles would leave multiprocessors idle.
SMALL = Tile(64, 64, 32, 32)


@helper
def row_word(row, chunk):
    """Word of a chunk of four of a row, in a tile that lies in rows."""
    return uint32((row << uint32(4)) + ((chunk ^ ((row >> uint32(1)) & uint32(3))) << uint32(2)))


@helper
def column_word(k, column):
    """Word of a column at depth k, in a tile that lies in columns."""
    pair = k >> uint32(1)
    chunk = (column >> uint32(1)) ^ ((pair & uint32(3)) << uint32(1))
    place = (chunk << uint32(2)) + ((column & uint32(1)) << uint32(1)) + (k & uint32(1))
    return uint32(pair * (COLUMNS + COLUMNS) + place)


@helper
def within(i, size):
    """Whether 0 <= i < size."""
    return uint32(i) < uint32(size)
