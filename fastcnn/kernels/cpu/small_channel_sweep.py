"""Convolution of groups of few channels: all taps of an output in registers.

    y[k, p, q] = max(lowest, b[k] + sum over taps t = (c, s, r) of w[k, t] * x[t at (p, q)])

Such a group reads little and writes much: 9 to 363 taps, 4 to 96 outputs for each of them. So
nothing is packed but w, and nothing stands between the registers and y:

    task: some blocks, each of some rows of one image's group, or of several images'
        the rows of x that the block reads, padded       L1 or L2 (small_channel_rows.py)
        for each panel of filters
            for each tile of pixels: all taps, then bias and ReLU, then y       no C in between
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.small_channel_panels import (
    pack_panels,
    panels_of,
    tile_product,
    vectors_of,
    widths,
)
from fastcnn.kernels.cpu.small_channel_rows import (
    Copy,
    Sweep,
    copied_vectors,
    copy_of,
    copy_rows,
    copy_size,
    read_by_tile,
    vector_starts,
)
from fastcnn.kernels.cpu.small_channel_tiles import TILES, cover, fence, tile_cycles
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from fastcnn.kernels.cpu.units import known_unit

# Bytes of the copied rows of a block: beside y and the weights in a 1 MB L2.
BLOCK_BYTES = 400 << 10
# Images of a block at the most, where they are small.
IMAGES = 8
# Bytes of y from which on it passes the caches: as many as the last one holds, so that none of it
# would be found there, while its lines would be read before they are written.
PAST_BYTES = 32 << 20
# Blocks that keep a few threads evenly busy, and tasks at the most; each packs the weights of the
# groups that it works on for itself, which takes 1 % of ResNet's first layer.
FEW_BLOCKS, TASKS = 8, 16


@kernel
def _sweep_chunk(
    task, x, w, bias, y, lowest, columns, residues, copy, taps, places, vectors, bases, tiles,
    widths, g,
):  # fmt: skip
    """Some blocks of y."""
    N, groups, K, P, Q, plane, stride, top = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    images, batches, rows, blocks, units, span = g[8], g[9], g[10], g[11], g[12], g[13]
    overlap, copied, row_step, group_step = g[14], g[15], g[16], g[17]
    depth, packed, past = taps.shape[0], -1, y.nbytes >= PAST_BYTES
    a = np.empty(g[18], x.dtype)
    xs = np.empty(images * copied + g[19], x.dtype)
    for unit in range(task * span, min(units, (task + 1) * span)):
        rest, block = divmod(unit, blocks)
        group, batch = divmod(rest, batches)
        if group != packed:
            pack_panels(a, w, group * group_step, row_step, places, bias, group * K, tiles)
            packed = group
        first, p0 = batch * images, block * rows
        some, n = min(images, N - first), min(rows, P - p0)
        for i in range(some):
            image = (first + i) * groups + group
            copy_rows(
                xs, i * copied, x, image, p0 * stride - top, (n - 1) * stride + overlap, columns,
                residues, copy,
            )  # fmt: skip
        # vectors of an image, lanes that count, where the tables of one image and more begin
        kind = 0 if n == rows else 1
        each, count, base = g[20 + 3 * kind], g[21 + 3 * kind], g[22 + 3 * kind]
        v0, length = bases[base + some], some * each
        for i in range(tiles.shape[0]):
            number, k, valid, at_a = tiles[i, 0], tiles[i, 1], tiles[i, 2], tiles[i, 4]
            width, y0 = widths[number], ((first * groups + group) * K + k) * plane + p0 * Q
            last = max(0, length - width)
            for v in range(0, length, width):
                tile_product(
                    number, depth, a, at_a, xs, 0, taps, vectors, v0 + min(v, last), y, y0, plane,
                    valid, count, lowest, past, None,
                )  # fmt: skip
    if past:
        fence()


# Bytes that the taps of a tile read at the most so that, beside a panel, they stay in a 48 KB L1
# for the next tile.
NEAR_BYTES = 36 << 10
# Cycles, measured on a Zen 5 core: of a vector copied, at strides 1, 2 and 4, and gathered at
# others; of a vector of y, which goes to memory in the end.
STORED = 3.0
COPIED, GATHERED = {1: 2.5, 2: 4.0, 4: 7.0}, 20.0
# Seconds of a cycle: a clock of 3.6 GHz, less what is not counted here.
CYCLE = 1 / 3.5e9
# And beyond the cycles of vectors, fitted to 890 layers of the suites and random ones, of which
# nine of ten take 0.8 to 1.4 times as long as all says together: seconds of the smallest call, of a
# block, of a tile, of a row that is copied (longer where it is taken apart); weights packed per
# second, by each task.
CALL = 2.7e-6
BLOCK, TILE = 0.2e-6, 9.5e-9
ROW, ROW_APART = 3.6e-9, 6.1e-9
PACKED = 2.7e9
# Bytes that single taps (1 x 1) read and write per second at the most, but for what L2 holds.
MOVED, IN_L2 = 13e9, 2 << 20


def work_of(sweep: Sweep) -> int:
    """FLOPs, as a launch counts them."""
    taps = sweep.C * sweep.R * sweep.S
    return 2 * sweep.N * sweep.groups * sweep.K * sweep.P * sweep.Q * taps


def copying(sweep: Sweep) -> float:
    """Cycles of a vector of the copy."""
    return COPIED.get(sweep.stride[1], GATHERED)


@dataclass(frozen=True)
class Cut:
    """How a sweep is cut: whether rows are joined, rows and images of a block; its cycles."""

    joined: bool
    rows: int
    images: int
    cycles: float


def per_image(sweep: Sweep, rows: int, lanes: int, joined: bool) -> int:
    """Vectors of some rows of outputs."""
    return blocks_of(rows * sweep.Q, lanes) if joined else rows * blocks_of(sweep.Q, lanes)


def forms_of(sweep: Sweep, lanes: int) -> tuple[bool, ...]:
    """Whether to join rows: it is of no use where those of outputs are whole vectors."""
    return (False, True) if sweep.Q % lanes else (False,)


def _cycles(sweep: Sweep, rows: int, images: int, itemsize: int, joined: bool) -> float:
    """Cycles of a block: tiles multiplied, y stored, x copied."""
    lanes = known_unit().lanes(itemsize)
    vectors, tiles = images * per_image(sweep, rows, lanes, joined), TILES[known_unit().name]
    depth = sweep.C * sweep.R * sweep.S
    found = cover(sweep.K, depth)
    total = 0.0
    for number in set(found):
        width = tiles[number][1]
        near = read_by_tile(sweep, rows, width, lanes, joined) * itemsize <= NEAR_BYTES
        cycles = blocks_of(vectors, width) * tile_cycles(number, depth, near)
        total += found.count(number) * cycles
    total += vectors * sweep.K * STORED
    return total + images * copied_vectors(sweep, rows, lanes, joined) * copying(sweep)


@lru_cache(maxsize=256)
def cut_of(sweep: Sweep, itemsize: int) -> Cut:
    """The cheapest way to cut a sweep."""
    lanes = known_unit().lanes(itemsize)
    found = []
    parts = max(1, sweep.N * sweep.groups)
    most_rows = blocks_of(sweep.P, blocks_of(FEW_BLOCKS, parts))
    for joined in forms_of(sweep, lanes):
        for rows in sorted({even(sweep.P, n) for n in range(1, most_rows + 1)}):
            size = itemsize * copy_size(sweep, rows, lanes, joined)
            if rows > 1 and size > BLOCK_BYTES:
                break
            several = min(IMAGES, BLOCK_BYTES // size, parts // FEW_BLOCKS, sweep.N)
            for images in range(1, max(1, several if rows == sweep.P else 1) + 1):
                whole, rest = divmod(sweep.P, rows)
                of_block = _cycles(sweep, rows, images, itemsize, joined) * whole
                if rest:
                    of_block += _cycles(sweep, rest, images, itemsize, joined)
                found.append((of_block / images * parts, joined, rows, images))
    cycles, joined, rows, images = min(found)
    return Cut(joined, rows, images, cycles)


def seconds(sweep: Sweep, itemsize: int) -> float:
    """Of one core: whole tiles multiplied, y stored, x copied, weights packed."""
    if not sweep.N * sweep.K * sweep.P * sweep.Q:
        return CALL
    cut, taps, parts = cut_of(sweep, itemsize), sweep.C * sweep.R * sweep.S, sweep.N * sweep.groups
    bands = blocks_of(sweep.P, cut.rows)
    blocks = blocks_of(sweep.N, cut.images) * sweep.groups * bands
    rows = parts * bands * sweep.C * ((cut.rows - 1) * sweep.stride[0] + sweep.overlap)
    vectors = cut.images * per_image(sweep, cut.rows, known_unit().lanes(itemsize), cut.joined)
    widths = [TILES[known_unit().name][number][1] for number in cover(sweep.K, taps)]
    tiles = blocks * sum(blocks_of(vectors, width) for width in widths)
    shared = work_of(sweep) >= WORTH_SHARING
    weights = (min(TASKS, blocks) if shared else 1) * sweep.K * taps
    row = ROW if sweep.stride == (1, 1) else ROW_APART
    begun = CALL + blocks * BLOCK + tiles * TILE + rows * row + weights / PACKED
    moved = itemsize * parts * (sweep.C * sweep.H * sweep.W + sweep.K * sweep.P * sweep.Q)
    waiting = (moved - IN_L2) / MOVED if sweep.R * sweep.S == 1 else 0.0
    return max(begun + cut.cycles * CYCLE, waiting)


def least_size(sweep: Sweep, itemsize: int) -> int:
    """Bytes of the copy of what one row of outputs reads."""
    return itemsize * copy_size(sweep, 1, known_unit().lanes(itemsize), False)


@dataclass(frozen=True)
class Tables:
    """What a sweep's kernel takes by these names."""

    copy: Copy
    places: np.ndarray
    vectors: np.ndarray
    bases: np.ndarray
    tiles: np.ndarray
    widths: np.ndarray
    sizes: np.ndarray
    tasks: int
    work: int
    scratch: int  # bytes that a task allocates


def pixels_of(sweep: Sweep, copy: Copy, rows: int, lanes: int, joined: bool) -> np.ndarray:
    """(where it is read, where it belongs) of each vector of some rows of outputs."""
    if joined:
        starts = vector_starts(rows * sweep.Q, lanes)
        return np.stack([starts, starts], axis=-1)
    starts, row = vector_starts(sweep.Q, lanes), np.arange(rows)[:, np.newaxis]
    pairs = np.stack([row * copy.pitch + starts, row * sweep.Q + starts], axis=-1)
    return pairs.reshape(-1, 2)


def tabulate(sweep: Sweep, places: np.ndarray, row_step: int, itemsize: int) -> Tables:
    """Tables of a sweep whose weight of tap t and row k is group*K*C*R*S + k*row_step + places[t]
    elements on in w."""
    lanes, cut = known_unit().lanes(itemsize), cut_of(sweep, itemsize)
    copy, plane = copy_of(sweep, cut.rows, itemsize, cut.joined), sweep.P * sweep.Q
    batches, blocks = blocks_of(sweep.N, cut.images), blocks_of(sweep.P, cut.rows)
    units, work = sweep.groups * batches * blocks, work_of(sweep)
    span = blocks_of(units, TASKS if work >= WORTH_SHARING else 1)
    tiles, packed = panels_of(sweep.K, len(copy.taps))
    kinds: list[int] = []
    vectors: list[np.ndarray] = []
    bases: list[np.ndarray] = []
    length = 0
    steps = np.arange(cut.images)[:, np.newaxis, np.newaxis]
    steps = steps * np.array((copy.size, sweep.groups * sweep.K * plane))
    for rows in (cut.rows, sweep.P % cut.rows or cut.rows):
        pixels = pixels_of(sweep, copy, rows, lanes, cut.joined)
        table, starts = vectors_of((pixels + steps).reshape(-1, 2), len(pixels))
        across = rows * sweep.Q if cut.joined else sweep.Q
        kinds += [len(pixels), min(across, lanes), sum(len(b) for b in bases)]
        vectors.append(table)
        bases.append(starts + length)
        length += len(table)
    sizes = (
        *(sweep.N, sweep.groups, sweep.K, sweep.P, sweep.Q, plane, sweep.stride[0], sweep.top),
        *(cut.images, batches, cut.rows, blocks, units, span, sweep.overlap, copy.size),
        *(row_step, sweep.K * len(copy.taps), packed, lanes, *kinds),
    )
    scratch = itemsize * (packed + cut.images * copy.size + lanes)
    return Tables(
        copy, places[copy.order], np.concatenate(vectors), np.concatenate(bases), tiles, widths(),
        np.array(sizes), blocks_of(units, span), work, scratch,
    )  # fmt: skip


def run(
    t: Tables, x: np.ndarray, w: np.ndarray, bias: np.ndarray, y: np.ndarray, lowest: np.generic
) -> None:
    """y, written whole."""
    launch(
        _sweep_chunk, t.tasks, t.work,
        x.reshape(-1), w.reshape(-1), bias, y.reshape(-1), lowest,
        t.copy.columns, t.copy.residues, t.copy.sizes, t.copy.taps, t.places, t.vectors, t.bases,
        t.tiles, t.widths, t.sizes,
    )  # fmt: skip
