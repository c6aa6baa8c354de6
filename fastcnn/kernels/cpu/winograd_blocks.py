"""Winograd's algorithm over blocks of tiles.

    weights    U = G g G^T of every filter and channel
    for each block of tiles (of all images, numbered row by row)
        input      V = B^T d B of every channel and tile of the block
        product    for some filters: M[i, j] = U[i, j] V[i, j] for all (i, j), which stays in L2, or
                   as the form has it (winograd_forms.py); then Y = A^T M A, to the result

Where there are several blocks for each thread a task is a block, from its input to its results, and
threads wait for each other once. Where there are fewer, they share the channels of the input and
the filters of the product of a span of blocks, and of a round of U, one after the other.

Of larger filters each piece (winograd_pieces.py) of each channel is one more channel to add up:
[group][piece][channel] in U and V.

Every element is computed by one task, in one order: bits do not depend on threads.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.rooms import claim, flags, give_back, rooms
from fastcnn.kernels.cpu.threads import launch, sharers, zeros
from fastcnn.kernels.cpu.winograd_forms import TAPS
from fastcnn.kernels.cpu.winograd_limits import results_stand
from fastcnn.kernels.cpu.winograd_product import (
    across,
    short_narrow,
    short_wide,
    tall_narrow,
    tall_wide,
    transform_weights,
)
from fastcnn.kernels.cpu.winograd_sizes import Winograd
from fastcnn.kernels.cpu.winograd_tiles import STRIPS, transform_input, transform_output
from fastcnn.memory import SCRATCH

# Blocks for each thread from which on a task is a whole block: with fewer, threads would wait for
# the last one.
OWN_BLOCKS = 3
# Copies of V of a single block, whose filters two threads share: each makes its own. Where cores
# share no cache a line takes 170 ns from one to the other, and half of V cost more than all
# products: 64->32x26x26 403 us, 240 with copies (180 and 172 where cores are neighbours). With more
# blocks copies lose where cores are neighbours: 256x14x14, 8 images, 4.02 to 4.54 ms, and gain only
# where they are not (5.66 to 4.90).
COPIES = 2
# Channels by which weights are fetched before they are read.
AHEAD = 8


@kernel
def _bits(first, last):
    return ((1 << last) - 1) & ~((1 << first) - 1) if last > first else 0


@kernel
def _tabulate(table, g, first_tile, tiles, image, down, right_by):
    """Entries for a block's tiles, in the order of winograd_tiles.Fields; returns their number.

    The source is read so many rows further down and columns further right.
    """
    channels, H, W, filters, P, Q, top, left, rows, columns = (
        image[0], image[1], image[2], image[3], image[4], image[5], image[6], image[7], image[8],
        image[9],
    )  # fmt: skip
    m, lanes, size, step, n = g[1], g[2], g[3], g[13], g[14]
    per = lanes // STRIPS
    reads = 6 * STRIPS + 2
    writes = reads + 4 * n * STRIPS
    found = (tiles + lanes - 1) // lanes
    for group in range(found):
        entry = table[group * size : (group + 1) * size]
        split = 0
        for strip in range(STRIPS):
            tile, end, done = group * lanes + strip * per, tiles, 0
            for piece in range(2):
                number, rest = divmod(first_tile + tile + done, rows * columns)
                row, column = divmod(rest, columns)
                count = max(0, min(per - done, columns - column, end - tile - done))
                split |= piece == 1 and count > 0
                # tiles of the piece, and the row and column of lane 0 if its row went on
                last = done + count
                h, w = row * step - top + down, (column - done) * step - left + right_by
                at = 2 * strip + piece
                pixel = row * m * Q + (column - done) * m
                # An empty piece reads nothing, but not far away: of a page that is not there, even
                # a load that is masked off altogether takes some 300 cycles.
                source, result = (number * channels * H + h) * W + w, number * filters * P * Q
                entry[at] = source if count > 0 else entry[0]
                entry[2 * STRIPS + at] = result + pixel if count > 0 else entry[2 * STRIPS]
                entry[4 * STRIPS + at] = pixel if count > 0 else entry[4 * STRIPS]
                for i in range(n):
                    for right in range(2):
                        place = reads + ((i * STRIPS + strip) * 2 + piece) * 2 + right
                        x = w + right * step
                        bits = _bits(max(done * step, -x), min(last * step, W - x))
                        entry[place] = bits if 0 <= h + i < H else 0
                for i in range(m):
                    bits = _bits(done * m, min(last * m, Q - (column - done) * m))
                    place = writes + (i * STRIPS + strip) * 2 + piece
                    entry[place] = bits if row * m + i < P else 0
                done += count
        entry[6 * STRIPS] = _bits(0, min(lanes, tiles - group * lanes))
        entry[6 * STRIPS + 1] = split
    return found


@kernel
def _weights_chunk(task, form, first_part, w, u, panels, places, g):
    """One panel of a part, which is some panels of one group."""
    channels, lanes, u_step, u_part = g[0], g[1], g[2], g[3]
    row_step, channel_step, group_step, plane = g[4], g[5], g[6], g[7]
    some_panels, parts = g[8], g[9]
    pieces = places.shape[0]
    number, panel = divmod(task, some_panels)
    group, part = divmod(first_part + number, parts)
    p = part * some_panels + panel
    if p < panels.shape[0]:
        row, valid, height = panels[p, 0], panels[p, 1], panels[p, 2]
        start = number * u_part + (panels[p, 3] - panels[part * some_panels, 3]) * channels * pieces
        # channels whose taps lie side by side are turned over together
        some = min(lanes, channels) if channel_step == plane else 1
        taps = np.empty((some * plane + lanes) * lanes, w.dtype)
        for m in range(0, height, lanes):
            at = group * group_step + (row + m) * row_step
            filters, width = min(lanes, max(0, valid - m)), min(lanes, height - m)
            for c0 in range(0, channels, some):
                count = min(some, channels - c0)
                for t in range(0, plane * count, lanes):
                    across(
                        w, at + c0 * channel_step + t, row_step, filters,
                        min(lanes, plane * count - t), AHEAD * channel_step, taps, t * lanes,
                    )  # fmt: skip
                for c in range(count):
                    for piece in range(pieces):
                        transform_weights(
                            form, taps, plane * c * lanes, places, piece * places.shape[1],
                            u, start + (piece * channels + c0 + c) * height + m, u_step, width,
                        )  # fmt: skip


@kernel
def _input_chunk(task, form, first_block, blocks, x, v, v_size, peaks, image, g):
    """Some channels of one block, of one copy of V; lanes of `peaks` are raised to the largest
    |number|."""
    channels, lanes, size, tiles, block = g[0], g[2], g[3], g[4], g[5]
    some, v_row, v_step, v_block = g[6], g[7], g[8], g[9]
    pieces, across_filter, of_group = g[10], g[11], g[12]
    plane, W = image[1] * image[2], image[2]
    parts = (channels + some - 1) // some
    number, part = divmod(task, parts)
    copy, number = divmod(number, blocks)
    start = (first_block + number) * block
    table = np.empty(block * size, np.int64)
    count = min(block, tiles - start)
    for piece in range(pieces):
        down, right = divmod(piece, across_filter)
        groups = _tabulate(table, g, start, count, image, down * TAPS, right * TAPS)
        for c in range(part * some, min(channels, (part + 1) * some)):
            of, rest = divmod(c, of_group)
            row = (of * pieces + piece) * of_group + rest
            for group in range(groups):
                o = copy * v_size + number * v_block + row * v_row + group * lanes
                transform_input(
                    form, x, c * plane, W, plane, table, group * size, v, o, v_step, peaks,
                    task * lanes,
                )  # fmt: skip


@kernel
def _multiply(height, tall, wide, depth, u, a0, v, b0, next_b, step, c, c0, accumulate):
    if height == tall:
        if wide:
            tall_wide(depth, u, a0, v, b0, next_b, step, c, c0, step, accumulate)
        else:
            tall_narrow(depth, u, a0, v, b0, next_b, step, c, c0, step, accumulate)
    elif wide:
        short_wide(depth, u, a0, v, b0, next_b, step, c, c0, step, accumulate)
    else:
        short_narrow(depth, u, a0, v, b0, next_b, step, c, c0, step, accumulate)


@kernel
def _product_chunk(
    task, form, products, first_block, blocks, first_part, u, v, v_size, panels, bias, y, zero,
    least, finite, image, g, h,
):  # fmt: skip
    """Some panels of one group and one block; finite[task] is not finite if a result is not.

    Copies of V are v_size elements apart, and the tasks are divided among them.

    No result is below `least`; `zero` is 0 in the type of the arrays.
    """
    lanes, size, tiles, block = g[2], g[3], g[4], g[5]
    v_row, v_step, v_block = g[7], g[8], g[9]
    channels, u_step, u_part, rows = h[0], h[1], h[2], h[3]
    some_panels, depth, wide, tall, c_step = h[4], h[5], h[6], h[7], h[8]
    parts = (panels.shape[0] + some_panels - 1) // some_panels
    # blocks one after the other, which share the weights
    rest, number = divmod(task, blocks)
    start_u = rest * u_part
    group, part = divmod(first_part + rest, parts)
    first, last = part * some_panels, min(panels.shape[0], (part + 1) * some_panels)
    start = (first_block + number) * block
    count = min(block, tiles - start)
    copies = v.size // v_size
    copy = task * copies // finite.size * v_size
    c = np.empty(h[9], u.dtype)
    for number_of_product in range(products.shape[0]):
        point, in_weights, sums_point, begun, next_point = (
            products[number_of_product, 0], products[number_of_product, 1],
            products[number_of_product, 2], products[number_of_product, 3],
            products[number_of_product, 4],
        )  # fmt: skip
        for c0 in range(0, channels, depth):
            some = min(depth, channels - c0)
            in_v = copy + number * v_block + point * v_step + (group * channels + c0) * v_row
            # where the next channels' V begins: this point's, or the next product's
            after = in_v + some * v_row
            if c0 + some == channels:
                after = in_v - c0 * v_row + (next_point - point) * v_step
            j = 0
            while j < count:
                whole = count - j > lanes
                following = j + (wide if whole else lanes)
                there = in_v + following if following < count else after
                for p in range(first, last):
                    height, row = panels[p, 2], panels[p, 3] - panels[first, 3]
                    in_u = start_u + in_weights * u_step + row * channels + c0 * height
                    in_c = sums_point * c_step + row * v_row + j
                    # each panel fetches one line of a row of the tile of V that comes next
                    line = there + (p - first) % (wide // lanes) * lanes
                    _multiply(
                        height, tall, whole, some, u, in_u, v, in_v + j, line, v_row, c, in_c,
                        begun > 0 or c0 > 0,
                    )  # fmt: skip
                j = following
    table = np.empty(block * size, np.int64)
    entries = _tabulate(table, g, start, count, image, 0, 0)
    sums = np.zeros(lanes, u.dtype)
    plane = image[4] * image[5]
    per_pixel = bias.size > image[3]
    for p in range(first, last):
        for row in range(panels[p, 1]):
            k = group * rows + panels[p, 0] + row
            in_c = (panels[p, 3] - panels[first, 3] + row) * v_row
            b = zero
            if bias.size > 0 and not per_pixel:
                b += bias[k]
            for entry in range(entries):
                transform_output(
                    form, c, in_c + entry * lanes, c_step, table, entry * size, y, k * plane,
                    image[5], bias, k * plane, per_pixel, b, least, sums,
                )  # fmt: skip
    for i in range(1, lanes):
        sums[0] += sums[i]
    finite[task] = sums[0]


@kernel
def _block_chunk(
    task, form, products, x, u, v, taken, panels, bias, y, zero, least, peaks, finite, image, g, h
):
    """All channels, then all filters of one block, whose V stays in a room of the thread's own."""
    lanes, v_block = g[2], g[9]
    inputs = (g[0] + g[6] - 1) // g[6]
    parts = finite.size // (peaks.size // (inputs * lanes))
    room = claim(taken)
    own = v[room * v_block : (room + 1) * v_block]
    for part in range(inputs):
        _input_chunk(
            part, form, task, 1, x, own, own.size, peaks[task * inputs * lanes :], image, g
        )
    for part in range(parts):
        _product_chunk(
            part, form, products, task, 1, 0, u, own, own.size, panels, bias, y, zero, least,
            finite[task * parts : (task + 1) * parts], image, g, h,
        )  # fmt: skip
    give_back(taken, room)


def pack(p: Winograd, w: np.ndarray, u: np.ndarray, first: int, count: int) -> None:
    """Fill U of `count` parts, count * p.u_part elements, in the order in which it is read."""
    launch(
        _weights_chunk, count * p.some_panels, u.nbytes,
        p.form.tag, first, w.reshape(-1), u, p.panels, p.places, p.weights,
    )  # fmt: skip


def run(
    p: Winograd,
    x: np.ndarray,
    w: np.ndarray,
    packed: np.ndarray | None,
    bias: np.ndarray,
    relu: bool,
    y: np.ndarray,
) -> bool:
    """Write the result; False if it must be computed directly, since an input is not finite or too
    large (winograd_limits.py) or a result is not finite.

    `packed` is U of all parts, if that has been kept; else it is made from w.
    """
    zero, least = x.dtype.type(0), x.dtype.type(0 if relu else -np.inf)
    if p.blocks >= OWN_BLOCKS * sharers(p.blocks, p.flops):
        return _by_blocks(p, x, w, packed, bias, zero, least, y)
    copies = min(COPIES, sharers(p.parts, p.flops)) if p.blocks == 1 else 1
    sums, peaks = np.empty(p.span * p.parts, x.dtype), zeros(copies * p.peaks, x.dtype)
    whole = p.span < p.blocks  # several spans need U again and again
    some = p.parts if whole or packed is not None else p.u_round
    v = SCRATCH.empty((copies * p.v_size,), x.dtype)
    u = SCRATCH.empty((0 if packed is not None else some * p.u_part,), w.dtype)
    for first in range(0, p.blocks, p.span):
        blocks = min(p.span, p.blocks - first)
        launch(
            _input_chunk, copies * blocks * p.input_parts, p.flops,
            p.form.tag, first, blocks, x.reshape(-1), v, p.v_size, peaks, p.image, p.input,
        )  # fmt: skip
        for part in range(0, p.parts, some):
            parts = min(some, p.parts - part)
            if packed is None and first == 0:
                pack(p, w, u, part, parts)
            launch(
                _product_chunk, blocks * parts, p.flops,
                p.form.tag, p.form.table, first, blocks, part, u if packed is None else packed, v,
                p.v_size, p.panels, bias, y.reshape(-1), zero, least,
                sums[part * blocks : (part + parts) * blocks], p.image, p.input, p.product,
            )  # fmt: skip
        if not results_stand(peaks, sums[: p.parts * blocks]):
            return False
    return True


def _by_blocks(
    p: Winograd,
    x: np.ndarray,
    w: np.ndarray,
    packed: np.ndarray | None,
    bias: np.ndarray,
    zero: np.generic,
    least: np.generic,
    y: np.ndarray,
) -> bool:
    """As `run`, with a task for each block; the same bits."""
    u = packed
    if u is None:
        u = SCRATCH.empty((p.parts * p.u_part,), w.dtype)
        pack(p, w, u, 0, p.parts)
    sums = np.empty(p.blocks * p.parts, x.dtype)
    peaks = zeros(p.blocks * (p.peaks // p.span), x.dtype)
    taken = flags(p.blocks, p.flops)
    v = SCRATCH.empty((rooms(taken) * (p.v_size // p.span),), x.dtype)
    launch(
        _block_chunk, p.blocks, p.flops,
        p.form.tag, p.form.table, x.reshape(-1), u, v, taken, p.panels, bias, y.reshape(-1),
        zero, least, peaks, sums, p.image, p.input, p.product,
    )  # fmt: skip
    return results_stand(peaks, sums)
