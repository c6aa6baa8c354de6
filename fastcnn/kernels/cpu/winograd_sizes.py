"""Sizes of the blocks that Winograd's algorithm works in, and its tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels.cpu.product_tables import blocks_of, even, panels_of
from fastcnn.kernels.cpu.threads import WORTH_SHARING
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_forms import Form
from fastcnn.kernels.cpu.winograd_pieces import cut
from fastcnn.kernels.cpu.winograd_tiles import Fields

# Channels that are added up in registers: a panel of 14 takes 14 KB, its tile of V 32 KB.
DEPTH = 256
# Channels of a task of the input transform.
CHANNELS = 32
# Bytes of V, which all threads share and find in L3: with 20 MB, 64 channels and filters took 1.5
# times as long; with 1.5 and 8 as long as with 4.
SPAN = 4 << 20
# Products of a span at the least, which threads can share evenly; but fewer where V would then be
# larger than so many bytes, and half as many tiles to a block where that of two blocks still is:
# 192 channels of 5 x 5, 28x28, took 12.3 ms with 70 MB, 8.2 with 9 and 7.6 with 4.
FEW_TASKS, FEWEST_TASKS = 8, 2
MOST_SPAN = 12 << 20
# Bytes of U that are made and used before the next, where all tiles fit into a span: they are still
# in L3 then, while the whole U of 512 channels and filters takes 38 MB.
ROUND = 10 << 20


@dataclass(frozen=True)
class Winograd:
    """Tables of one layer in one direction; the arrays are what the kernels above take."""

    form: Form
    panels: np.ndarray
    places: np.ndarray  # of the taps of each piece among a filter's, times lanes; -1: a zero
    image: np.ndarray  # channels, H, W, filters, P, Q, top, left, rows and columns of tiles
    weights: np.ndarray
    input: np.ndarray
    product: np.ndarray
    blocks: int
    span: int  # blocks that share V
    input_parts: int
    parts: int  # blocks of filters of all groups
    some_panels: int
    u_part: int  # elements of U of a part
    u_round: int  # parts whose weights are transformed just before they are used
    v_size: int
    peaks: int  # lanes of all tasks of the input transform
    scratch: int  # bytes of a task
    flops: int


def tabulate(
    form: Form,
    source: tuple[int, int, int, int],
    result: tuple[int, ...],
    before: tuple[int, int],
    groups: int,
    steps: tuple[int, int, int],
    filter_places: np.ndarray,
    itemsize: int,
) -> Winograd:
    """Tables of a layer: source (N, C, H, W), result (K, P, Q), padding (top, left; negative where
    the first tile begins further on), and in w the steps of a row, a channel and a group, and where
    the taps (R, S) of a filter lie.
    """
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    m, (v_points, u_points, c_points) = form.m, form.points
    (N, C, H, W), (K, P, Q) = source, result
    places, across_filter = cut(filter_places)
    pieces = len(places)
    tile_rows, tile_columns = blocks_of(P, m), blocks_of(Q, m)
    tiles = N * tile_rows * tile_columns
    block = min(block_of(form, C * pieces) // itemsize, lanes * blocks_of(tiles, lanes))
    blocks = blocks_of(tiles, block)
    channels, rows = C // groups, K // groups
    panels = panels_of(rows, unit)
    padded = int(panels[:, 2].sum())
    # Rows of V and M, and the steps from point to point, are odd numbers of cache lines: rows, and
    # points of a tile, would share cache sets.
    v_row = block + lanes
    v_step = C * pieces * v_row + lanes
    v_block = v_points * v_step
    some_panels = len(panels)
    if padded > form.all_rows:
        some_panels = even(len(panels), max(1, form.rows // unit.rows))
    some, flops = min(C, CHANNELS), 2 * len(form.table) * tiles * K * channels * pieces
    if blocks * groups == 1 and flops >= WORTH_SHARING:
        # One image of 24x24: a single task would leave all threads but one without work. Two tasks
        # look up and read the same tiles, which takes a tenth of what they do.
        some_panels = min(some_panels, blocks_of(len(panels), FEWEST_TASKS))
        some = min(some, blocks_of(C, FEWEST_TASKS))
    parts = blocks_of(len(panels), some_panels)
    c_rows = int(panels[:some_panels, 2].sum())
    u_step = c_rows * channels * pieces + lanes
    u_part = u_points * u_step
    c_step = c_rows * v_row + lanes
    c_size = c_points * c_step
    size = Fields(form).size
    fewest = min(blocks_of(FEW_TASKS, groups * parts), MOST_SPAN // (v_block * itemsize))
    fewest = max(fewest, blocks_of(FEWEST_TASKS, groups * parts))
    span = fewest * max(1, SPAN // (v_block * itemsize * fewest))
    span = even(blocks, min(blocks, span))
    depth = even(channels * pieces, DEPTH)
    return Winograd(
        form=form,
        panels=panels,
        places=np.where(places < 0, -1, places * lanes),
        image=np.array((C, H, W, K, P, Q, *before, tile_rows, tile_columns)),
        weights=np.array(
            (channels, lanes, u_step, u_part, *steps, filter_places.size, some_panels, parts)
        ),
        input=np.array(
            (C, m, lanes, size, tiles, block, some, v_row, v_step, v_block, pieces, across_filter,
             channels, form.step, form.n)
        ),
        product=np.array(
            (channels * pieces, u_step, u_part, rows, some_panels, depth, lanes * unit.vectors,
             unit.rows, c_step, c_size)
        ),
        blocks=blocks,
        span=span,
        input_parts=blocks_of(C, some),
        parts=groups * parts,
        some_panels=some_panels,
        u_part=u_part,
        u_round=min(groups * parts, max(1, ROUND // (u_part * itemsize))),
        v_size=span * v_block,
        peaks=span * blocks_of(C, some) * lanes,
        scratch=max(
            c_size * itemsize + block * size * 8,
            (min(lanes, channels) * filter_places.size + lanes) * lanes * itemsize,
        ),
        flops=flops,
    )  # fmt: skip


def block_of(form: Form, channels: int) -> int:
    """Bytes of a block of tiles in one row of M, for so many channels, pieces counted."""
    whole = 2 * form.points[0] * channels * form.block <= MOST_SPAN
    return form.block if whole else form.block // 2
