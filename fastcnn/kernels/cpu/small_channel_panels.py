"""Panels of weights, tables of pixels: what the register tiles for few channels are given."""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.small_channel_tiles import (
    TILES,
    cover,
    flat_tile,
    middle_tile,
    narrow_tile,
    wide_tile,
)
from fastcnn.kernels.cpu.units import known_unit


@kernel
def pack_panels(a, w, w0, row_step, places, bias, b0, tiles):
    """Panels as the tiles take them: their rows' bias, then [depth][row]; rows beyond are zeros.

    Row m's factors are w[w0 + m*row_step + places[k]], its bias is bias[b0 + m], if there is one.
    tiles[i] = (number, first row, rows, height, place in a).
    """
    zero = w.dtype.type(0)
    for i in range(tiles.shape[0]):
        first, valid, height, o = tiles[i, 1], tiles[i, 2], tiles[i, 3], tiles[i, 4]
        for m in range(height):
            inside = m < valid
            a[o + m] = bias[b0 + first + m] if inside and bias.size > 0 else zero
            column, row = a[o + height + m :], w[w0 + (first + m) * row_step if inside else 0 :]
            for k in range(places.shape[0]):
                column[k * height] = row[places[k]] if inside else zero


@kernel
def tile_product(
    number, depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest, past, ahead
):
    """One of the four tiles, by its number."""
    if number == 0:
        wide_tile(
            depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest, past, ahead
        )
    elif number == 1:
        middle_tile(
            depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest, past, ahead
        )
    elif number == 2:
        narrow_tile(
            depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest, past, ahead
        )
    else:
        flat_tile(
            depth, a, a0, x, x0, taps, vectors, v0, y, y0, plane, valid, lanes, lowest, past, ahead
        )


def panels_of(rows: int, depth: int) -> tuple[np.ndarray, int]:
    """The tiles that `pack_panels` takes for some rows, and the elements of all panels."""
    table, first, place = [], 0, 0
    for number in cover(rows, depth):
        height = TILES[known_unit().name][number][0]
        table.append((number, first, min(height, rows - first), height, place))
        first, place = first + height, place + height * (depth + 1)
    return np.array(table), place


def widths() -> np.ndarray:
    """Vectors of each tile."""
    return np.array([vectors for _, vectors in TILES[known_unit().name]])


def vectors_of(pairs: np.ndarray, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Where vectors are read and belong, and where those of the first n*`each` pairs begin.

    Those are as many as a tile has at the least: the last may come again.
    """
    most, several = int(widths().max()), len(pairs) // each
    bases, tables, length = np.zeros(several + 1, np.int64), [pairs], len(pairs)
    for n in range(1, several + 1):
        if n * each < most:
            bases[n] = length
            tables += [pairs[: n * each], np.repeat(pairs[n * each - 1 :][:1], most, axis=0)]
            length += n * each + most
    return np.concatenate(tables), bases
