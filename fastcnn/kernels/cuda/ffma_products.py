"""Products on register tiles in plain float32 multiply-adds: what both kernels of FFMA share.

    sums[m, n] += A[m, k] B[k, n]

Shared memory holds STEP depths of A and of B, each a line of the tile's rows or columns and PAD
words. A thread has, of the tile's rows and columns, QUADS_DOWN x QUADS_ACROSS quads of 4 x 4, as
far apart as all threads' quads take together:

             columns   0..3   4..7  ...  60..63  64..67 ...
             +--------+------+------+---+-------+------+----
    rows 0..3| thread | 0    | 1    |   | 15    | 0    | 1        16 x 16 threads, 2 x 2 quads:
         4..7|        | 16   | 17   |   | 31    | 16   | 17       tiles of 128 x 128
             :        :
       64..67|        | 0    | 1    |   | 15    | 0    | 1

so that a quarter of a warp reads eight neighbouring quads of B, 128 bytes without a bank conflict,
and one or two of A. Per depth a thread reads 16 numbers for 64 multiply-adds.

Two stages: while one is multiplied, the next is fetched to registers and put into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import uint32

from fastcnn.kernels.cuda.target import helper

STEP = 8
# Keeps lines multiples of 16 bytes, and puts the eight depths of a row four banks apart.
PAD = 4


@dataclass(frozen=True)
class RegisterTile:
    """Threads down and across a block's tile, and quads of each."""

    threads_down: int
    threads_across: int
    quads_down: int
    quads_across: int

    @property
    def rows(self) -> int:
        return 4 * self.threads_down * self.quads_down

    @property
    def columns(self) -> int:
        return 4 * self.threads_across * self.quads_across

    @property
    def threads(self) -> int:
        return self.threads_down * self.threads_across

    @property
    def resident(self) -> int:
        """Blocks on a multiprocessor: sixteen warps, which leaves 128 registers a thread."""
        return min(512 // self.threads, 32)

    @cached_property
    def constants(self) -> dict[str, Any]:
        """What kernels call these numbers; those that take part in arithmetic with their type."""
        words = {
            "THREADS": self.threads,
            "ACROSS": self.threads_across,
            "ROWS": self.rows,
            "COLUMNS": self.columns,
            "LINE_A": self.rows + PAD,
            "LINE_B": self.columns + PAD,
            "ROW_GAP": 4 * self.threads_down,
            "COLUMN_GAP": 4 * self.threads_across,
        }
        counts = {
            "QUADS_DOWN": self.quads_down,
            "QUADS_ACROSS": self.quads_across,
            "MINE_DOWN": 4 * self.quads_down,
            "MINE_ACROSS": 4 * self.quads_across,
            "COPIES_A": self.rows * STEP // self.threads,
            "COPIES_B": self.columns * STEP // self.threads,
            "SHARED_A": 2 * STEP * (self.rows + PAD),
            "SHARED_B": 2 * STEP * (self.columns + PAD),
            # Quads are read with one instruction; the simulator knows no alignment.
            "ALIGNMENT": None if self is TINY else 16,
        }
        return {name: np.uint32(n) for name, n in words.items()} | counts


LARGE = RegisterTile(16, 16, 2, 2)
LOW = RegisterTile(16, 16, 1, 2)
# For the simulator, where each thread is one of Python's. As many threads as rows and columns are
# the fewest: each fetches one of either.
TINY = RegisterTile(4, 4, 1, 1)

# Placeholders, settled for each tile.
THREADS, ACROSS, ROWS, COLUMNS, LINE_A, LINE_B, ROW_GAP, COLUMN_GAP = (
    np.uint32(n) for n in (256, 16, 128, 128, 132, 132, 64, 64)
)
QUADS_DOWN, QUADS_ACROSS, MINE_DOWN, MINE_ACROSS = 2, 2, 8, 8
COPIES_A, COPIES_B, SHARED_A, SHARED_B, ALIGNMENT = 4, 4, 2112, 2112, 16
FOUR = np.uint32(4)


@helper
def add_stage(sums, of_a, of_b, tile_a, tile_b, from_a, from_b):
    """STEP depths of a stage: from_a and from_b are the thread's first words of it."""
    # Indices stay sums of 64 bits: cut off to 32 after each addition, they would not be known to be
    # neighbours, and be read one by one.
    for k in range(uint32(STEP)):
        for q in range(uint32(QUADS_DOWN)):
            for e in range(uint32(4)):
                of_a[q * FOUR + e] = tile_a[from_a + k * LINE_A + q * ROW_GAP + e]
        for q in range(uint32(QUADS_ACROSS)):
            for e in range(uint32(4)):
                of_b[q * FOUR + e] = tile_b[from_b + k * LINE_B + q * COLUMN_GAP + e]
        for i in range(MINE_DOWN):
            for j in range(MINE_ACROSS):
                sums[i, j] += of_a[i] * of_b[j]
