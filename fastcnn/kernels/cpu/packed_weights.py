"""Weights in the order in which a product on register tiles reads them.

Of each panel of rows, chunk by chunk, packed[position][channel][row], with zeros for the rows that
a panel is filled up with.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import Product
from fastcnn.kernels.cpu.threads import launch

# Channels of which a row's weights are read in one go, where they follow each other: a cache line
# or more. What is written meanwhile, 8 KB for 3x3, stays in L1. Reading all channels of a position
# first, for each row, took two to three times as long.
TOGETHER = 16


@kernel
def _pack_chunk(task, w, taps, panels, packed, parts):
    """One panel. taps[t, 2] is the place of position t in the kernel's plane."""
    part = 0
    while task >= parts[part].groups * panels.shape[0]:
        task -= parts[part].groups * panels.shape[0]
        part += 1
    s = parts[part]
    group, panel = divmod(task, panels.shape[0])
    row, valid, height, padded = (
        panels[panel, 0], panels[panel, 1], panels[panel, 2], panels[panel, 3],
    )  # fmt: skip
    together = TOGETHER if s.channel_step < s.row_step else 1
    o = s.packed + (group * s.padded_rows + padded) * s.channels * s.positions
    for c0 in range(0, s.channels, s.some_channels):
        count = min(s.channels - c0, s.some_channels)
        for t0 in range(0, s.positions, s.some_positions):
            places = taps[s.first_tap + t0 : s.first_tap + min(s.positions, t0 + s.some_positions)]
            start = group * s.group_step + row * s.row_step + c0 * s.channel_step
            position_step = count * height
            for b0 in range(0, count, together):
                b1 = min(count, b0 + together)
                for m in range(valid):
                    for c in range(b0, b1):
                        weights = w[start + m * s.row_step + c * s.channel_step :]
                        column = packed[o + c * height + m :]
                        for t in range(places.shape[0]):
                            column[t * position_step] = weights[places[t, 2]]
            chunk = packed[o : o + places.shape[0] * position_step]
            for m in range(valid, height):
                for tap in range(places.shape[0] * count):
                    chunk[tap * height + m] = w.dtype.type(0)
            o += places.shape[0] * position_step


def pack(product: Product, w: np.ndarray) -> np.ndarray:
    """w in the order in which the product reads it."""
    p = product
    packed = np.empty(p.packed, w.dtype)
    launch(
        _pack_chunk, len(p.parts) * int(p.parts[0]["groups"]) * len(p.panels), packed.nbytes,
        w.reshape(-1), p.taps, p.panels, packed, p.parts,
    )  # fmt: skip
    return packed
