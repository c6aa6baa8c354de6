"""Products by blocks: a block's tile of the result, its span of depth, a kernel for each tile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import numpy as np
from numba import int32

from fastcnn.kernels.cuda.target import Kernel, cuda, helper, kernel

# Placeholders, settled for each tile.
ROWS, COLUMNS = np.uint32(128), np.uint32(128)


@helper
def tile_place(row_tiles):
    """First row and column of a block's tile.

    Neighbouring blocks share columns, of which there are more than rows as a rule.
    """
    tile_column = int32(int32(cuda.blockIdx.x) // row_tiles)
    tile_row = int32(int32(cuda.blockIdx.x) - tile_column * row_tiles)
    return int32(tile_row * ROWS), int32(tile_column * COLUMNS)


@helper
def span_place(spans):
    """A block's group and span, in a grid of all groups' spans."""
    group = int32(int32(cuda.blockIdx.z) // spans)
    return group, int32(int32(cuda.blockIdx.z) - group * spans)


@helper
def span_sums(group, span, spans, rows, columns):
    """Where a group's sums of a span begin: each span has a result of its own, of all groups."""
    return int32((span * (int32(cuda.gridDim.z) // spans) + group) * rows * columns)


class SizedTile(Protocol):
    """What a launch needs of a tile."""

    @property
    def threads(self) -> int:
        """Of a block."""

    @property
    def resident(self) -> int:
        """Blocks that should fit on a multiprocessor."""


AnyTile = TypeVar("AnyTile", bound=SizedTile)


def by_tile(
    function: Callable[..., Any], parameters: str, tiles: Iterable[AnyTile]
) -> dict[AnyTile, Kernel]:
    """A product's kernel for each of some tiles."""
    return {
        tile: kernel(parameters, threads=tile.threads, blocks_per_sm=tile.resident, unroll=True)(
            function
        )
        for tile in tiles
    }
