"""Sizes of the blocks that a product on register tiles works in, and its tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcnn.kernels.cpu.block_tiles import line, most_channels
from fastcnn.kernels.cpu.microkernel import cover
from fastcnn.kernels.cpu.pixel_tiles import most_pieces
from fastcnn.kernels.cpu.planes import IN_BLOCKS, IN_PLACE, IN_PLANES, MOST_RESIDUES, PACKED
from fastcnn.kernels.cpu.units import VectorUnit, known_unit
from fastcnn.memory import LINE_BYTES

# Taps of a chunk. A tile of B and a panel of A of 256 taps fit into a 48 KB L1 together; but each
# chunk reads C again and writes it, beyond L2, which costs more than B and A out of L2: with 1024
# taps 10 to 15 % less time on all layers that have as many, with 2048 no less.
DEPTH = 1024
# Tiles of a block: A's chunk is fetched from beyond L2 once for all of them, and the rows that
# neighbouring pixels share are laid out once. Blocks are smaller where they are few.
TILES, FEWEST_TILES = 32, 8
# Rows of a task at the most: A's chunk takes 512 KB of L2.
ROWS = 512
# Rows of a task at the least, where tasks are few: B is made anew for each block of rows, which
# takes a tenth of the time of their product. 64 rows took up to 1.5 times as long.
FEWEST_ROWS = 256
# Tasks that keep a few threads evenly busy, and the most there are but for many groups.
FEW_TASKS, TASKS = 8, 32
# Channels of a chunk at the least, where there are as many: they share the mask of a row.
LEAST_CHANNELS = 16
# A product of a single tap (block_product.py): bytes of a block of B, which stays in L2; beside its
# sums, where there are several chunks of channels, unless B is put together piece by piece, which
# is worth doing as seldom as can be (1024->2048x14x14, stride 2: 8 % of the whole).
BLOCK_BYTES = {False: 460 * 1024, True: 384 * 1024}
# Bytes of the panels of A that are copied together, where rows follow each other in w: four of 512
# channels. Where w's rows are a multiple of 4 KB apart, a panel of each falls on one set of L1: 14
# cycles of this machine a row, 4.5 with four panels. Eight took 3 to 6 % more of the whole product.
PANELS_BYTES = 118 * 1024
# Panels of a task at the least, where tasks are few.
LEAST_PANELS = 8
# What copying a tile of B takes, in panels multiplied by it: straight from the source, and put
# together piece by piece.
COPIED_PANELS = {True: 0.5, False: 1.0}
# Channels of the source a multiple of this apart, give or take a line, fall on the same few sets of
# a cache: a tile of B, which takes a line or two from each, would not stay in L1.
ALIAS_BYTES = 4096

# What the kernel knows of a part of a product: whole numbers by these names.
_FIELDS = (
    # tasks; the part's share of the arrays that all parts have in common
    "tasks", "first_tap", "positions", "first_corner", "corners", "packed",
    # the product: sizes of a group, the pixels' grid, w's steps
    "groups", "rows", "padded_rows", "channels", "pixels", "grid_h", "grid_w",
    "row_step", "channel_step", "group_step",
    # how it is cut
    "some_channels", "some_positions", "some_panels", "block", "span", "spans",
    "lanes", "columns", "tall", "picks", "masks",
    # the result: its channels, whether its rows take tiles as they are, and aligned
    "out_channels", "dense", "aligned", "in_turn", "together", "clear",
    # where B is found (planes.py)
    "mode", "pitch", "image_step", "plane", "step", "extra_rows", "row", "col", "end", "tile",
    "line", "a_panels", "a_step",
    # elements of scratch memory: a panel of A, planes, a packed tile of B, C; pieces
    "a", "laid", "b", "c", "pieces",
)  # fmt: skip
PART = np.dtype([(name, np.int64) for name in _FIELDS])


@dataclass(frozen=True)
class InTurn:
    """That a part's columns take every so many of the result's, and how these are stored whole.

    Attributes
    ----------
    together : int
        Parts, this one and those behind it, whose columns are stored in turn by one task; 0 for
        those behind it. A column of which there is no part is zeros.
    clear : int
        Rows below each of the part's that are zeros.
    reach : ndarray
        The taps of all these parts, for which planes are laid out once.
    """

    together: int
    clear: int
    reach: np.ndarray


@dataclass(frozen=True)
class Part:
    """A product on one grid of pixels.

    Attributes
    ----------
    taps : ndarray, (positions, 3)
        Row and column offset in the source, and place in the kernel's plane.
    offsets : ndarray, (positions,)
        The same in elements of what tiles of B are read from.
    corners : ndarray, (planes, 2)
        Residues of rows and columns that planes are laid out of.
    source, out : tuple
        Sizes as `pixel_tiles.fill` and `pixel_tiles.store` take them.
    numbers : dict
        The fields of PART.
    """

    taps: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    source: tuple[int, ...]
    out: tuple[int, ...]
    numbers: dict[str, int]


@dataclass(frozen=True)
class Product:
    """Products with the same rows of A on the same arrays; what the kernel takes by these names."""

    taps: np.ndarray
    offsets: np.ndarray
    corners: np.ndarray
    panels: np.ndarray  # (first row, rows, rows with padding, first row with padding) of each
    source_sizes: np.ndarray
    out_sizes: np.ndarray
    parts: np.ndarray  # of type PART
    order: np.ndarray  # part, and task of the part, of each task
    packed: int  # elements of A
    tasks: int
    scratch: int  # bytes that a task allocates
    flops: int


def panels_of(rows: int, unit: VectorUnit) -> np.ndarray:
    """Panels of rows: first row, rows, rows with padding, first row with padding of each."""
    tall, short = cover(rows)
    heights = np.array([unit.rows] * tall + [unit.short_rows] * short)
    starts = np.cumsum(heights) - heights
    return np.stack([starts, np.minimum(heights, rows - starts), heights, starts], axis=1)


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


def _halved(n: int, most: int) -> int:
    """As `even`, but where blocks are few an even number of them, if half as large ones allow:
    seven tasks are four on one of two threads."""
    size = even(n, most)
    if blocks_of(n, size) % 2 and 1 < blocks_of(n, size) < 2 * FEW_TASKS:
        smaller = range(size, size // 2, -1)
        return next((some for some in smaller if blocks_of(n, some) % 2 == 0), size)
    return size


def shares(
    tiles: int, most: int, panels: int, groups: int, panel_blocks: int, straight: bool
) -> tuple[int, int, int]:
    """Tiles of a block, at most `most`; panels of a task; blocks of a task.

    Those of which two threads and eight have the least idle time: threads take an equal number of
    tasks, one after the other. Copying B is counted, for each block of panels does it anew.
    """
    found = []
    for parts in (panel_blocks, 2 * panel_blocks, 4 * panel_blocks):
        some_panels = even(panels, blocks_of(panels, parts))
        of_panels = np.minimum(some_panels, panels - np.arange(0, panels, some_panels))
        if parts > panel_blocks and some_panels < LEAST_PANELS:
            break
        for size in range(most, most // 2, -1):
            some_blocks = blocks_of(tiles, size * max(1, TASKS // (len(of_panels) * groups)))
            of_tiles = np.minimum(span := size * some_blocks, tiles - np.arange(0, tiles, span))
            tasks = np.tile(np.outer(of_panels + COPIED_PANELS[straight], of_tiles).ravel(), groups)
            time = sum(
                threads * max(share.sum() for share in np.array_split(tasks, threads))
                for threads in (2, 8)
            )
            found.append((time, -size, some_panels, some_blocks))
    _, size, some_panels, some_blocks = min(found)
    return -size, some_panels, some_blocks


def _even_shares(
    tiles: int, most: int, panels: int, groups: int, rows: int
) -> tuple[int, int, int]:
    """As `shares`, for several taps, whose product takes so long that copying B does not count:
    blocks as large as keep a few threads busy, and panels divided where blocks are too few."""
    size = _halved(tiles, min(most, max(FEWEST_TILES, blocks_of(tiles, FEW_TASKS))))
    blocks = blocks_of(tiles, size)
    panel_blocks = max(
        blocks_of(rows, ROWS), min(rows // FEWEST_ROWS, FEW_TASKS // (blocks * groups))
    )
    some_panels = even(panels, blocks_of(panels, panel_blocks))
    panel_blocks = blocks_of(panels, some_panels)
    return size, some_panels, blocks_of(blocks, max(1, TASKS // (panel_blocks * groups)))


def _in_place(taps: np.ndarray, source: tuple[int, ...], grid: tuple[int, int, int]) -> bool:
    """Whether every tap of every pixel lies in the source, pixels beside each other."""
    _, H, W, sh, sw = source
    if (sh, sw) != (1, 1):
        return False
    rows, cols = taps[:, 0], taps[:, 1]
    inside = rows.min() >= 0 and rows.max() + grid[1] <= H
    return bool(inside and cols.min() >= 0 and cols.max() + grid[2] <= W)


def _places(
    taps: np.ndarray,
    reach: np.ndarray,
    source: tuple[int, ...],
    grid: tuple[int, int, int],
    block: int,
    lanes: int,
    itemsize: int,
) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    """Where B is found: the numbers that say so, the taps' offsets, the planes' residues.

    All taps of `reach`, these among them, find it there.
    """
    C, H, W, sh, sw = source
    images, grid_h, grid_w = grid
    rows, cols = taps[:, 0], taps[:, 1]
    beside_a_multiple = (H * W * itemsize + LINE_BYTES) % ALIAS_BYTES
    if _in_place(reach, source, grid) and beside_a_multiple > 2 * LINE_BYTES:
        offsets = rows * W + cols
        furthest = int((reach[:, 0] * W + reach[:, 1]).max())
        end = images * C * H * W - (C - 1) * H * W - furthest
        numbers = {"mode": IN_PLACE, "pitch": W, "image_step": C * H * W, "step": H * W, "end": end}
        return numbers, offsets, np.zeros((0, 2), np.int64)
    if len(reach) == 1:  # nothing that taps could share
        return {"mode": PACKED}, np.zeros(1, np.int64), np.zeros((0, 2), np.int64)
    row, col = int(reach[:, 0].min()), int(reach[:, 1].min())
    pitch = grid_w + (int(reach[:, 1].max()) - col) // sw
    extra_rows = (int(reach[:, 0].max()) - row) // sh
    (row_shift, a), (col_shift, b) = np.divmod(rows - row, sh), np.divmod(cols - col, sw)
    residues = np.unique((reach[:, 1] - col) % sw)
    if 1 < len(residues) <= sw <= MOST_RESIDUES:
        residues = np.arange(sw)  # a row is taken apart at once
    of_rows = np.unique((reach[:, 0] - row) % sh)
    corners = np.stack(np.meshgrid(of_rows, residues, indexing="ij"), axis=-1).reshape(-1, 2)
    plane_of = np.searchsorted(of_rows, a) * len(residues) + np.searchsorted(residues, b)
    several = min(images, (block + 2 * grid_h * grid_w - 2) // (grid_h * grid_w))
    most_rows = min(images * grid_h, (block + 2 * grid_w - 2) // grid_w) + several * extra_rows
    plane = most_rows * pitch + lanes
    # whole vectors, and an odd number of them, which go to all sets of a cache in turn
    step = lanes * (blocks_of(len(corners) * plane, lanes) | 1)
    offsets = plane_of * plane + row_shift * pitch + col_shift
    numbers = {
        "mode": IN_PLANES, "pitch": pitch, "plane": plane, "step": step, "extra_rows": extra_rows,
        "row": row, "col": col, "end": np.iinfo(np.int64).max,
    }  # fmt: skip
    return numbers, offsets, corners


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
    most_positions: int,
    in_turn: InTurn | None = None,
) -> Part:
    """A product with `rows` rows and `channels` channels of the source in each group.

    steps are those of a row, a channel and a group in w; grid is (images, rows, columns); source
    and out as in `Part`; most_positions are those of the part that has the most, for all parts of
    a product must have chunks of as many channels.
    """
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    columns = lanes * unit.vectors
    reach = taps if in_turn is None else in_turn.reach
    positions, pixels = len(taps), grid[0] * grid[1] * grid[2]
    in_blocks = min(steps[:2]) == 1 and (in_turn is None or len(reach) == 1)
    most = most_channels(itemsize) if in_blocks else DEPTH
    some_channels, _ = chunk_of(channels, most_positions, most)
    some_positions = even(positions, max(1, DEPTH // some_channels))
    panels = panels_of(rows, unit)
    padded = int(panels[:, 2].sum())
    plane_bytes = grid[1] * grid[2] * itemsize
    dense = out[1:] == (*grid[1:], 0, 0, 1, 1) and plane_bytes % ALIAS_BYTES != 0
    aligned = dense and plane_bytes % unit.bytes == 0
    places = pixels + (lanes - 1) * aligned
    tiles = blocks_of(places, columns)
    if in_blocks:
        straight = not taps.any() and source[1:] == (*grid[1:], 1, 1)
        beside_sums = straight and channels > some_channels
        most = BLOCK_BYTES[beside_sums] // (some_channels * columns * itemsize)
        some_tiles, some_panels, some_blocks = shares(
            tiles, max(1, min(TILES, most)), len(panels), groups, blocks_of(padded, ROWS), straight
        )
    else:
        # C of all parts that are stored in turn must fit into L2
        most = TILES if in_turn is None else TILES // out[6]
        some_tiles, some_panels, some_blocks = _even_shares(
            tiles, most, len(panels), groups, padded
        )
    block = columns * some_tiles
    span = block * some_blocks
    panel_blocks = blocks_of(len(panels), some_panels)
    spans = blocks_of(places, span)
    a_panels = a_step = 0
    if in_blocks:
        # an odd number of vectors from tile to tile, which go to all sets of a cache in turn
        tile = some_channels * columns + lanes
        numbers = {"mode": IN_BLOCKS, "tile": tile, "step": straight * source[1] * source[2]}
        offsets, corners = np.zeros(1, np.int64), np.zeros((0, 2), np.int64)
        of_b, of_c = some_tiles * tile, columns * unit.rows
        if some_channels < channels:
            of_c = block * int(panels[:some_panels, 2].sum())
        a_panels, a_step = 1, unit.rows * line(unit, itemsize)
        if steps[1] != 1:
            a_step = unit.rows * some_channels + lanes
            a_panels = even(some_panels, max(1, PANELS_BYTES // (a_step * itemsize)))
    else:
        numbers, offsets, corners = _places(taps, reach, source, grid, block, lanes, itemsize)
        of_b = some_channels * some_positions * columns
        of_c = block * int(panels[:some_panels, 2].sum())
    laid = some_channels * numbers.get("step", 0) if numbers["mode"] == IN_PLANES else 0
    numbers |= {
        "tasks": 0 if in_turn and not in_turn.together else groups * panel_blocks * spans,
        "positions": positions, "corners": len(corners),
        "groups": groups, "rows": rows, "padded_rows": padded, "channels": channels,
        "pixels": pixels, "grid_h": grid[1], "grid_w": grid[2],
        "row_step": steps[0], "channel_step": steps[1], "group_step": steps[2],
        "some_channels": some_channels, "some_positions": some_positions,
        "some_panels": some_panels, "block": block, "span": span, "spans": spans,
        "lanes": lanes, "columns": columns, "tall": unit.rows, "picks": unit.picks,
        "masks": unit.mask_registers,
        "out_channels": out[0], "dense": dense, "aligned": aligned,
        "in_turn": in_turn is not None, "together": in_turn.together if in_turn else 1,
        "clear": in_turn.clear if in_turn else 0, "laid": laid,
        "line": line(unit, itemsize), "a_panels": a_panels, "a_step": a_step,
        "a": a_panels * a_step, "b": laid + of_b, "c": of_c, "pieces": most_pieces(block, lanes),
    }  # fmt: skip
    return Part(taps, offsets, corners, source, out, numbers)


def combine(found: list[Part], itemsize: int) -> Product:
    """One product of parts with the same rows and groups."""
    parts = np.zeros(len(found), PART)
    first_tap, first_corner, packed, flops, scratch = 0, 0, 0, 0, 0
    of_b = max(part.numbers["b"] for part in found)
    for entry, part in zip(parts, found, strict=True):
        n = part.numbers
        for name, number in n.items():
            entry[name] = number
        entry["first_tap"], entry["first_corner"] = first_tap, first_corner
        entry["packed"] = packed
        first_tap += n["positions"]
        first_corner += n["corners"]
        depth = n["groups"] * n["channels"] * n["positions"]
        packed += depth * n["padded_rows"]
        flops += 2 * depth * n["rows"] * n["pixels"]
        elements = n["a"] + of_b + n["together"] * n["c"] + n["lanes"] + n["padded_rows"]
        scratch = max(scratch, elements * itemsize + n["pieces"] * 56)
    # Tasks of several parts at the same pixels follow each other: they write to the same lines.
    share = [(t / n["tasks"], i, t) for i, n in enumerate(parts) for t in range(n["tasks"])]
    return Product(
        taps=np.concatenate([part.taps for part in found]),
        offsets=np.concatenate([part.offsets for part in found]),
        corners=np.concatenate([part.corners for part in found]),
        panels=panels_of(found[0].numbers["rows"], known_unit()),
        source_sizes=np.array([part.source for part in found]),
        out_sizes=np.array([part.out for part in found]),
        parts=parts,
        order=np.array([(i, t) for _, i, t in sorted(share)]),
        packed=packed,
        tasks=int(parts["tasks"].sum()),
        scratch=scratch,
        flops=flops,
    )
