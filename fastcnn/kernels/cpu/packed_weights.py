"""Weights in the order in which a product on register tiles reads them.

Of each panel of rows, chunk by chunk, packed[position][channel][row], with zeros for the rows that
a panel is filled up with.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import put, turn
from fastcnn.kernels.cpu.planes import IN_BLOCKS
from fastcnn.kernels.cpu.product_tables import Product, blocks_of
from fastcnn.kernels.cpu.threads import launch
from fastcnn.memory import SCRATCH

# Bytes from which on the C library may give memory back after each call.
LARGE = 1 << 20


@kernel
def _pack_chunk(task, w, taps, panels, packed, parts):
    """A panel's weights where those of w's channels follow each other, else those of a chunk of
    channels for all panels: so that w is read in long runs. For all parts at once, of which each
    has positions of its own; taps[t, 2] is the place of position t in the kernel's plane.

    What follows each other in w, the plane of a channel or of all channels of the chunk, is turned
    by whole vectors for all rows of the panel. Element by element it took 5 to 10 times as long.
    """
    s = parts[0]
    plane, channels, some_channels = min(s.row_step, s.channel_step), s.channels, s.some_channels
    if s.channel_step == plane:
        group, p0 = divmod(task, panels.shape[0])
        p1, first, last, together = p0 + 1, 0, channels, some_channels
    else:
        group, chunk = divmod(task, (channels + some_channels - 1) // some_channels)
        p0, p1, first, together = 0, panels.shape[0], chunk * some_channels, 1
        last = min(channels, first + some_channels)
    places = np.empty(together * plane + s.lanes, np.int64)
    for p in range(p0, p1):
        for c0 in range(first, last, some_channels):
            _pack(
                w, taps, packed, parts, places, plane, together, group, panels[p, 0], panels[p, 1],
                panels[p, 2], panels[p, 3], c0, min(channels - c0, some_channels),
            )  # fmt: skip


@kernel
def _pack(
    w, taps, packed, parts, places, plane, together, group, row, valid, height, padded, c0, count
):
    """One panel and one chunk of `count` channels; `together` channels follow each other in w."""
    s = parts[0]
    places[:] = -1
    for part in range(parts.shape[0]):
        n = parts[part].positions
        o = parts[part].packed + (group * s.padded_rows + padded) * s.channels * n + c0 * n * height
        for t in range(n):
            place = taps[parts[part].first_tap + t, 2]
            for c in range(min(together, count)):
                places[c * plane + place] = o + (t * count + c) * height
        for tap in range(count * n if valid < height else 0):
            for m in range(valid, height):
                packed[o + tap * height + m] = w.dtype.type(0)
    start = group * s.group_step + row * s.row_step + c0 * s.channel_step
    for m in range(0, valid, s.lanes):
        rows = min(s.lanes, valid - m)
        if plane == 1 and together == 1:  # rows follow each other, and nothing needs turning
            o, step = start + m * s.row_step, s.channel_step
            put(count, w, o, step, packed, places[0] + m, height, 1, 0, rows)
        else:
            for c in range(0, count, together):
                length = min(together, count - c) * plane
                for e in range(0, length, s.lanes):
                    turn(
                        rows, min(s.lanes, length - e), w,
                        start + c * s.channel_step + m * s.row_step + e, s.row_step, packed,
                        c * height + m, places, e,
                    )  # fmt: skip


def pack(product: Product, w: np.ndarray, kept: bool = True) -> np.ndarray:
    """w in the order in which the product reads it, which may be its own; if it is not `kept`
    beyond a call, in memory that is used again where it is large. New pages took 0.5 ms of the 14
    of 512x512 filters."""
    p, s = product, product.parts[0]
    if s["mode"] == IN_BLOCKS:  # a panel is copied where it is multiplied
        return w.reshape(-1)
    follow = s["channel_step"] <= s["row_step"]
    blocks = len(p.panels) if follow else blocks_of(int(s["channels"]), int(s["some_channels"]))
    large = not kept and p.packed * w.itemsize >= LARGE
    packed = SCRATCH.empty((p.packed,), w.dtype) if large else np.empty(p.packed, w.dtype)
    launch(
        _pack_chunk, int(s["groups"]) * blocks, packed.nbytes,
        w.reshape(-1), p.taps, p.panels, packed, p.parts,
    )  # fmt: skip
    return packed
