"""What kernels on tensor cores have in common: a warp's part of a block's tile, and its stages.

Lane 4 g + t of a warp holds, of each piece of 16 x 8, rows g and g + 8 at columns 2 t and 2 t + 1,
as `mma.sync` has it (ptx.py): sums[i, j, 2 h + c] is row 16 i + 8 h + g, column 8 j + 2 t + c.

Stages of shared memory are filled and used in turn, 0, 1, ..., STAGES - 1, 0, ...; each is known by
its first word.
"""

from __future__ import annotations

import numpy as np
from numba import float32, uint32

from fastcnn.kernels.cuda.target import cuda, helper
from fastcnn.kernels.cuda.tiles import STAGES, row_word

# Placeholders, settled for each tile (`Tile.constants`).
ROWS, COLUMNS, WARP_ROWS, WARP_COLUMNS, WARPS_DOWN, THREADS, ROW_TILE, STAGE = (
    np.uint32(n) for n in (128, 128, 64, 32, 2, 256, 2048, 4096)
)
SHARED, DOWN, ACROSS = 12288, 4, 4


@helper
def warp_place(warp):
    """First row and column of a warp, within the block's tile."""
    return uint32((warp % WARPS_DOWN) * WARP_ROWS), uint32((warp // WARPS_DOWN) * WARP_COLUMNS)


@helper
def no_sums():
    """A lane's sums, all 0."""
    sums = cuda.local.array((DOWN, ACROSS, 4), float32)
    for i in range(DOWN):
        for j in range(ACROSS):
            for c in range(4):
                sums[i, j, c] = float32(0)
    return sums


@helper
def matrices_of_a(lane, row):
    """Where a lane's row of ldmatrix's four matrices lies, at both steps of a stage's depth.

    For A's piece from this row on: rows 0..7, 8..15 at one chunk, and then at the next.
    """
    row = uint32(row + (lane & uint32(15)))
    chunk = uint32(lane >> uint32(4))
    return row_word(row, chunk), row_word(row, uint32(2 + chunk))


@helper
def matrices_of_b(lane, column):
    """Likewise for B, two pieces of eight columns: both chunks of one, then those of the next."""
    row = uint32(column + (lane & uint32(7)) + ((lane >> uint32(4)) << uint32(3)))
    chunk = uint32((lane >> uint32(3)) & uint32(1))
    return (
        uint32(ROW_TILE + row_word(row, chunk)),
        uint32(ROW_TILE + row_word(row, uint32(2 + chunk))),
    )


@helper
def next_stage(stage):
    """The stage after one."""
    return uint32(stage + STAGE) if stage < (STAGES - 1) * STAGE else uint32(0)
