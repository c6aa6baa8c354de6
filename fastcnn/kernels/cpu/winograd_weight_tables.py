"""How winograd_weight_grad.py cuts its work: parts, chunks of tiles, blocks of M."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.microkernel import cover, padded
from fastcnn.kernels.cpu.product_tables import blocks_of, even
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.kernels.cpu.winograd_pieces import pieces_of

POINTS = 36
# Filters, and panels of channels, of a block of M: V's panel stays in L1, Y's block in L2. Two
# panels took as long, but 2.5 times as long to fold, and 5 to 10 % longer where M is not kept.
FILTERS = 128
PANELS = 1
# Channels and filters of a part: M takes 38 MB in float32.
PART = 512
# Bytes of V and Y of a chunk at the least: they stay in the last cache. 1 MB, most of it in L2, was
# 15 % slower, 14 MB 20 %. As many as M has, if that is more, for M is read and written with each
# chunk: 256x56x56 took 31 ms with 14 MB and 41 ms with 4 while others used the cache too.
CHUNK = 4 << 20
# Where there are blocks enough to keep a few threads evenly busy, and V and Y of all tiles are not
# many times M nor larger than the last cache, all tiles are one chunk and M is never stored but
# folded block by block: 10.7 ms instead of 13.6 for 256 to 512 channels, 28x28, and 10.7 instead of
# 12.5 for 384 to 256, 13x13.
FEW_BLOCKS, SHARE, WHOLE = 16, 2.25, 32 << 20
# Spans of a chunk's rows of tiles that are transformed by tasks of their own.
SPANS = 4
# Elements between what would otherwise lie a power of two apart, in the same few cache sets:
# folding M took 119 ns instead of 32 for 16 channels.
LINE = 16


@dataclass(frozen=True)
class Tables:
    """What follows from a geometry; `sizes` are the kernels' g."""

    sizes: np.ndarray
    # c0, c1, k0, k1; tall and short tiles of each block of filters; blocks of M
    parts: list[tuple[np.ndarray, np.ndarray, int]]
    columns: int  # tiles in a row
    rows: int  # of tiles, of all images
    some_rows: int  # of a chunk
    span: int
    ends: tuple[int, int]  # of V and Y
    m_size: int  # 0 where M is not kept
    scratch: int  # bytes that a task allocates
    shared: int  # bytes of V, Y and M


def _apart(n: int) -> int:
    """At least n, an odd multiple of LINE: steps of that many elements take all cache sets."""
    return LINE * (blocks_of(n, LINE) | 1)


@lru_cache(maxsize=256)
def tabulate(g: Conv2dGeometry, itemsize: int) -> Tables:
    unit = known_unit()
    lanes = unit.lanes(itemsize)
    columns = lanes * unit.vectors
    top, _, left, _ = g.padding
    tile_rows, tile_columns = blocks_of(g.P, 4), blocks_of(g.Q, 4)
    of_piece = lanes * blocks_of(g.C, lanes)
    channels = of_piece * pieces_of(g.R, g.S)
    some_c = lanes * even(channels // lanes, PART // lanes)
    some_k = lanes * even(blocks_of(g.K, lanes), PART // lanes)
    filters = min(FILTERS, some_k)
    panels = min(PANELS, blocks_of(some_c, columns))
    wide_c = columns * blocks_of(some_c, columns)
    wide_k = filters * blocks_of(some_k, filters)
    blocks = blocks_of(some_c, panels * columns) * blocks_of(some_k, filters)
    m_step = _apart(padded(filters) * panels * columns)
    # V and Y of one row of tiles; of all; M
    row_bytes = POINTS * itemsize * tile_columns * (wide_c + wide_k)
    rows = g.N * tile_rows
    m_bytes = blocks * POINTS * m_step * itemsize
    alone = blocks >= FEW_BLOCKS and rows * row_bytes <= min(WHOLE, SHARE * m_bytes)
    most = rows if alone else max(1, min(WHOLE, max(CHUNK, m_bytes)) // row_bytes)
    some_rows = even(rows, most)
    tiles = some_rows * tile_columns
    v_step, y_step = _apart(tiles * wide_c), _apart(tiles * wide_k)
    strip = lanes * _apart(max(6 * g.W, 4 * g.Q))
    span = blocks_of(some_rows, SPANS)
    parts = []
    for c0 in range(0, channels, some_c):
        for k0 in range(0, g.K, some_k):
            part = (c0, min(channels, c0 + some_c), k0, min(g.K, k0 + some_k))
            heights = [cover(min(filters, part[3] - k)) for k in range(k0, part[3], filters)]
            count = blocks_of(part[1] - c0, panels * columns) * len(heights)
            parts.append((np.array(part), np.array(heights), count))
    sizes = (
        *(g.C, g.H, g.W, g.K, g.P, g.Q, top, left, tile_rows, tile_columns, lanes, columns),
        *(filters, span, tiles, v_step, y_step, strip),
        *(unit.rows, unit.short_rows, m_step, panels),
        *(of_piece, blocks_of(g.S, 3), g.R, g.S),
    )
    # behind the last filter, a register tile reads on
    v_size, y_size = POINTS * v_step, POINTS * y_step + LINE * blocks_of(unit.rows, LINE)
    m_size = 0 if alone else blocks * POINTS * m_step
    return Tables(
        sizes=np.array(sizes),
        parts=parts,
        columns=tile_columns,
        rows=rows,
        some_rows=some_rows,
        span=span,
        ends=(v_size, v_size + y_size),
        m_size=m_size,
        scratch=itemsize * (max(strip, POINTS * m_step + LINE) + 9 * lanes),
        shared=itemsize * (v_size + y_size + m_size),
    )
