"""The product on register tiles that a convolution is, and its tables.

    C[row, pixel] = sum over taps of A[row, tap] * B[tap, pixel]

Rows are filters or channels; B[tap, pixel] is the source element that a tap multiplies for a pixel
of a grid, and never stands in memory whole. A task owns some rows and some blocks of pixels:

    for each block of TILES register tiles of pixels
        for each chunk of about DEPTH taps: some channels, all positions of the kernel
            B's chunk from the source into tiles              stays in L2
            for each panel of rows, for each tile of pixels   the panel of A stays in L1
                C[panel, tile] += A[panel, chunk] B[chunk, tile]
        add the bias, put C's pixels to where they belong

Every element is added up by one task in the order of the chunks: bits do not depend on threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels.cpu.columns import rectify
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.microkernel import cover, short_product, tall_product
from fastcnn.kernels.cpu.pixel_tiles import add_bias, cut, fill, most_pieces, store
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.units import VectorUnit, known_unit

# Taps of a chunk: a panel of A takes 14 KB and a tile of B 32 KB, which fit into a 48 KB L1
# together; 384 was no faster.
DEPTH = 256
# Tiles of a block, which share each panel of A read from L2 or beyond: 4 were 10 % slower with 512
# filters. B's chunk takes 256 KB.
TILES = 8
# Rows of a task at the most: C takes 512 KB beside B. 256 cost up to 10 %, for B is made twice.
ROWS = 512
# Rows of a task at the least, where tasks are few: B is made anew for each block of rows, which
# takes about as long as the product of 8.
FEWEST_ROWS = 64
# Tasks that keep a few threads evenly busy, and the most there are but for many groups.
FEW_TASKS, TASKS = 8, 32
# Channels of a chunk at the least, where there are as many: they share the mask of a piece.
LEAST_CHANNELS = 16
# Rows per group that fill enough of a register tile.
LEAST_ROWS = 4
NO_UNIT = "no vector unit that is known here, or nothing is compiled"


@kernel
def _pack_chunk(task, w, taps, panels, packed, sizes):
    """One panel of A as packed[tap][row], taps in the order of the chunks, zeros for rows beyond.

    taps[t, 2] is the place of position t in the kernel's plane.
    """
    channels, padded_rows, some_channels, some_positions = sizes[0], sizes[1], sizes[2], sizes[3]
    row_step, channel_step, group_step = sizes[4], sizes[5], sizes[6]
    group, panel = divmod(task, panels.shape[0])
    row, valid, height, padded = (
        panels[panel, 0], panels[panel, 1], panels[panel, 2], panels[panel, 3],
    )  # fmt: skip
    positions, zero = taps.shape[0], w.dtype.type(0)
    o = (group * padded_rows + padded) * channels * positions
    for c0 in range(0, channels, some_channels):
        count = min(channels - c0, some_channels)
        for t0 in range(0, positions, some_positions):
            for t in range(t0, min(positions, t0 + some_positions)):
                first = group * group_step + row * row_step + c0 * channel_step + taps[t, 2]
                for m in range(height):
                    column = packed[o + m :]
                    if m < valid:
                        weights = w[first + m * row_step :]
                        for c in range(count):
                            column[c * height] = weights[c * channel_step]
                    else:
                        for c in range(count):
                            column[c * height] = zero
                o += count * height


@kernel
def _multiply(c, b, depth, tiles, columns, packed, a0, height, tall, c0, accumulate):
    """A panel of A times the tiles of B's chunk."""
    for tile in range(tiles):
        at_b, at_c = tile * depth * columns, c0 + tile * height * columns
        if height == tall:
            tall_product(1, depth, packed, a0, b, at_b, columns, 0, c, at_c, accumulate)
        else:
            short_product(1, depth, packed, a0, b, at_b, columns, 0, c, at_c, accumulate)


@kernel
def _product_chunk(task, source, packed, taps, panels, bias, relu, out, source_sizes, out_sizes, g):
    """Some blocks of pixels and some panels of one group."""
    channels, rows, padded_rows, pixels, grid_h, grid_w = g[0], g[1], g[2], g[3], g[4], g[5]
    some_channels, some_positions, some_panels = g[6], g[7], g[8]
    lanes, columns, tall, block, span, spans = g[9], g[10], g[11], g[12], g[13], g[14]
    positions = taps.shape[0]
    panel_blocks = (panels.shape[0] + some_panels - 1) // some_panels
    rest, part = divmod(task, spans)
    group, panel_block = divmod(rest, panel_blocks)
    first, last = panel_block * some_panels, min(panels.shape[0], (panel_block + 1) * some_panels)
    b = np.empty(g[15], source.dtype)
    c = np.empty(g[16], source.dtype)
    pieces = np.empty((g[17], 6), np.int64)
    starts = np.empty(block // columns + 1, np.int64)
    for j0 in range(part * span, min(pixels, (part + 1) * span), block):
        n = min(block, pixels - j0)
        tiles = cut(pieces, starts, j0, n, grid_h, grid_w, columns, lanes)
        done = 0
        for c0 in range(0, channels, some_channels):
            c1 = min(channels, c0 + some_channels)
            for t0 in range(0, positions, some_positions):
                t1 = min(positions, t0 + some_positions)
                depth = (c1 - c0) * (t1 - t0)
                base = group * channels
                fill(
                    b, depth, pieces, starts[tiles], source, source_sizes, taps, t0, t1, base + c0,
                    base + c1, columns, lanes,
                )  # fmt: skip
                for p in range(first, last):
                    height, row = panels[p, 2], panels[p, 3]
                    at_a = (group * padded_rows + row) * channels * positions + done * height
                    at_c = (row - panels[first, 3]) * block
                    _multiply(
                        c, b, depth, tiles, columns, packed, at_a, height, tall, at_c, done > 0
                    )
                done += depth
        for p in range(first, last):
            k, valid = group * rows + panels[p, 0], panels[p, 1]
            for tile in range(tiles):
                o = (panels[p, 3] - panels[first, 3]) * block + tile * panels[p, 2] * columns
                p0, p1 = starts[tile], starts[tile + 1]
                if bias.size > 0:
                    per_pixel = bias.size > out_sizes[0]
                    add_bias(
                        c, o, valid, columns, bias, k, pieces, p0, p1, grid_h, grid_w, lanes,
                        per_pixel,
                    )  # fmt: skip
                if relu:
                    rectify(c[o:], valid * columns)
                store(c, o, valid, columns, out, out_sizes, k, pieces, p0, p1, lanes)


@dataclass(frozen=True)
class Product:
    """Tables of one product; the arrays are what the kernels above take by these names."""

    taps: np.ndarray
    panels: np.ndarray  # (first row, rows, rows with padding, first row with padding) of each
    pack_sizes: np.ndarray
    source_sizes: np.ndarray
    out_sizes: np.ndarray
    sizes: np.ndarray
    groups: int
    packed: int  # elements of A
    tasks: int
    scratch: int  # bytes that a task allocates
    flops: int


def panels_of(rows: int, unit: VectorUnit) -> np.ndarray:
    tall, short = cover(rows)
    heights = np.array([unit.rows] * tall + [unit.short_rows] * short)
    starts = np.cumsum(heights) - heights
    return np.stack([starts, np.minimum(heights, rows - starts), heights, starts], axis=1)


def tabulate(
    rows: int,
    channels: int,
    groups: int,
    taps: np.ndarray,
    steps: tuple[int, int, int],
    source: tuple[int, ...],
    grid: tuple[int, int, int],
    out: tuple[int, ...],
    itemsize: int,
) -> Product:
    """Tables of a product with `rows` rows and `channels` channels of the source in each group.

    steps are those of a row, a channel and a group in w; grid is (images, rows, columns).
    """
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    columns = lanes * unit.vectors
    positions, pixels = len(taps), grid[0] * grid[1] * grid[2]
    some_channels, some_positions = chunk_of(channels, positions, DEPTH)
    panels = panels_of(rows, unit)
    padded = int(panels[:, 2].sum())
    block = columns * min(TILES, blocks_of(pixels, columns))
    blocks = blocks_of(pixels, block)
    panel_blocks = max(
        blocks_of(padded, ROWS), min(padded // FEWEST_ROWS, FEW_TASKS // (blocks * groups))
    )
    some_panels = even(len(panels), blocks_of(len(panels), panel_blocks))
    panel_blocks = blocks_of(len(panels), some_panels)
    span = block * blocks_of(blocks, max(1, TASKS // (panel_blocks * groups)))
    spans = blocks_of(pixels, span)
    b_size = block * some_positions * some_channels
    c_size = block * int(panels[:some_panels, 2].sum())
    pieces = most_pieces(block, lanes)
    sizes = (
        *(channels, rows, padded, pixels, *grid[1:], some_channels, some_positions, some_panels),
        *(lanes, columns, unit.rows, block, span, spans, b_size, c_size, pieces),
    )
    return Product(
        taps=taps,
        panels=panels,
        pack_sizes=np.array((channels, padded, some_channels, some_positions, *steps)),
        source_sizes=np.array(source),
        out_sizes=np.array(out),
        sizes=np.array(sizes),
        groups=groups,
        packed=groups * padded * channels * positions,
        tasks=groups * panel_blocks * spans,
        scratch=(b_size + c_size) * itemsize + pieces * 48,
        flops=2 * groups * rows * pixels * channels * positions,
    )


def blocks_of(n: int, size: int) -> int:
    """How many blocks of a size hold n."""
    return -(-n // size)


def chunk_of(channels: int, positions: int, taps: int) -> tuple[int, int]:
    """Channels and positions of a chunk of about so many taps.

    All positions if there is room for them with LEAST_CHANNELS channels, so that what they read is
    still in L1; chunks are of equal size, rather than full ones and a rest.
    """
    some_channels = even(channels, max(LEAST_CHANNELS, taps // positions))
    return some_channels, even(positions, max(1, taps // some_channels))


def even(n: int, most: int) -> int:
    """The size of as few blocks of n as `most` allows, all but the last equal."""
    return blocks_of(n, blocks_of(n, most))


def pack(product: Product, w: np.ndarray, packed: np.ndarray) -> None:
    """Put w in the order in which the product reads it: `product.packed` elements."""
    p = product
    launch(
        _pack_chunk, p.groups * len(p.panels), packed.nbytes,
        w.reshape(-1), p.taps, p.panels, packed, p.pack_sizes,
    )  # fmt: skip


def run(
    product: Product,
    source: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    relu: bool,
    out: np.ndarray,
) -> None:
    """Multiply; `packed` is from `pack`."""
    p = product
    launch(
        _product_chunk, p.tasks, p.flops,
        source.reshape(-1), packed, p.taps, p.panels, bias, relu, out.reshape(-1),
        p.source_sizes, p.out_sizes, p.sizes,
    )  # fmt: skip
