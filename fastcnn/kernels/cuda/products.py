"""Convolutions by products on tiles: tables, packed weights, grids and launches, for any kernels.

`TileProducts` is one way to multiply, with all three operations; implicit_gemm.py and each file of
tensor cores has one.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import Context
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil, prod
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import packing, product_tables, target
from fastcnn.kernels.cuda.arrays import DeviceArray, to_device
from fastcnn.kernels.cuda.finishing import BIAS, BIAS_PER_PIXEL, QUADS, RELU
from fastcnn.kernels.cuda.product_tables import EACH, Chunks, Columns
from fastcnn.kernels.cuda.target import Kernel

# Grids are made for a large GPU, whatever is there, so that sums and results do not depend on it.
MULTIPROCESSORS = 132
# Bytes per second of its memory, seconds of a launch.
MEMORY, LAUNCH = 3e12, 4e-6
# Rows of a group at the least: a tile's 64 are worth their while from here on.
LEAST_ROWS = 8
# Blocks along z are numbered in 16 bits.
MOST_GROUPS = 65535
# Pixels that a span of the weight gradient sums at the least, and bytes that all spans' sums take
# at the most.
SPAN, SPANS_BYTES = 512, 64 << 20


@dataclass(frozen=True)
class _Placed:
    """A product's tables on a device, for a stream."""

    taps: DeviceArray
    order: DeviceArray
    pixels: DeviceArray


# Geometries whose tables are kept: a few networks', and no more than some hundred MB.
_KEPT = 128


@lru_cache(maxsize=_KEPT)
def _parts(operation: str, g: Conv2dGeometry, chunks: Chunks) -> tuple[Columns, ...]:
    if operation == "conv2d":
        return (product_tables.forward(g, chunks),)
    return tuple(product_tables.input_grad(g, chunks))


def _upload(tables: Iterable[np.ndarray], stream: int) -> list[DeviceArray]:
    """Tables on the device, to be kept: allocated aside of whatever reuses memory around us."""
    target.expect_not_recording("making tables")  # which a fresh context would not know of
    return [Context().run(to_device, np.ascontiguousarray(t).reshape(-1), stream) for t in tables]


@lru_cache(maxsize=_KEPT)
def _placed(
    operation: str, g: Conv2dGeometry, chunks: Chunks, by_depth: bool, device: int, stream: int
) -> list[_Placed]:
    made = []
    for part in _parts(operation, g, chunks):
        order = np.ascontiguousarray(part.taps[:, 3]) if by_depth else part.order
        made.append(_Placed(*_upload((part.taps, order, part.pixels), stream)))
    return made


@lru_cache(maxsize=_KEPT)
def _placed_dots(
    g: Conv2dGeometry, columns: int, chunks: Chunks, device: int, stream: int
) -> list[DeviceArray]:
    tables = product_tables.weight_grad(g, columns, chunks)
    return _upload((tables.taps, tables.pixels), stream)


def _device() -> int:
    return 0 if target.simulated() else int(target.current_device())


@dataclass(frozen=True)
class TileProducts:
    """One way to multiply tiles.

    Attributes
    ----------
    columns, dots : dict
        Kernels for weights times pixels, and for the weight gradient's sums, by their tiles, the
        largest first; kernels of one dictionary differ in nothing else.
    rate : float
        FLOP/s expected of a large GPU at whole tiles.
    by_depth, rounded : bool
        How weights are packed: all rows of a depth side by side; rounded to TF32.
    chunks : Chunks
        How channels are read.
    constants : dict
        What the kernels' other names stand for.
    """

    columns: dict[Any, Kernel]
    dots: dict[Any, Kernel]
    rate: float
    by_depth: bool = False
    rounded: bool = False
    chunks: Chunks = EACH
    constants: dict[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> int:
        """Numbers of depth of a stage."""
        words = product_tables.DEPTH
        return (
            words if self.chunks is EACH else words // product_tables.CHUNK_WORDS * self.chunks.size
        )

    def tile(self, kernels: dict[Any, Kernel], rows: int, columns: int, groups: int) -> Any:
        """The tile that is done first, if each takes time by its size and blocks go in waves."""
        return min(kernels, key=lambda tile: time_in_waves(tile, rows, columns, groups))

    # The operations.

    def conv2d(
        self,
        geometry: Conv2dGeometry,
        x: DeviceArray,
        w: DeviceArray,
        b: DeviceArray | None,
        y: DeviceArray,
        relu: bool = False,
    ) -> None:
        """y, written whole; b (K,), (K, P, Q) or None. With relu, relu(y)."""
        mode = (RELU if relu else 0) | (0 if b is None else BIAS if b.ndim == 1 else BIAS_PER_PIXEL)
        row_step = prod(geometry.weight_shape[1:])
        self._weights_times("conv2d", geometry, x, w, b, y, row_step, mode)

    def conv2d_input_grad(
        self, geometry: Conv2dGeometry, dy: DeviceArray, w: DeviceArray, dx: DeviceArray
    ) -> None:
        """dx, written whole."""
        row_step = geometry.R * geometry.S
        self._weights_times("conv2d_input_grad", geometry, dy, w, None, dx, row_step, 0)

    def _weights_times(
        self,
        operation: str,
        g: Conv2dGeometry,
        source: DeviceArray,
        w: DeviceArray,
        b: DeviceArray | None,
        out: DeviceArray,
        row_step: int,
        mode: int,
    ) -> None:
        if not out.size:
            return
        group_step = prod(g.weight_shape) // g.groups
        tables = _placed(operation, g, self.chunks, self.by_depth, _device(), source.stream)
        read = self._read(source, g.groups)
        for part, placed in zip(_parts(operation, g, self.chunks), tables, strict=True):
            a = self._packed(w, placed.order, g.groups, part, row_step, group_step)
            pixels, plane = source.shape[0] * part.plane, prod(out.shape[2:])
            quads = part.dense and plane % 4 == 0 and out.pointer % 16 == 0
            quads &= not mode & BIAS_PER_PIXEL
            channels, height, width = part.source
            tile = self.tile(self.columns, part.rows, pixels, g.groups)
            down, across = ceil(part.rows / tile.rows), ceil(pixels / tile.columns)
            settled = {**tile.constants, **self.constants, "ROUNDED": self.rounded}
            program = self.columns[tile].of(**settled)
            program.launch(
                source.stream, (down * across, 1, g.groups), tile.threads,
                a, read, b, out, placed.taps, placed.pixels,
                part.rows, down, part.depth, pixels, part.plane, height, width,
                g.groups * channels * height * width, channels * height * width,
                g.groups * part.rows * plane, plane, mode | (QUADS if quads else 0),
            )  # fmt: skip

    def _read(self, images: DeviceArray, groups: int) -> DeviceArray:
        """Images as the kernels read them."""
        return images

    def _packed(
        self, w: DeviceArray, order: DeviceArray, groups: int, part: Columns,
        row_step: int, group_step: int,
    ) -> DeviceArray:  # fmt: skip
        """A: weights in the order in which kernels read them."""
        elements = groups * part.rows * part.depth
        a = w.empty((elements,), np.float32)
        packing.pack.of(ROUND=self.rounded, BY_DEPTH=self.by_depth).launch(
            w.stream, (ceil(elements / packing.THREADS),), packing.THREADS,
            w, a, order, part.rows, part.depth, elements, row_step, group_step,
        )  # fmt: skip
        return a

    def conv2d_weight_grad(
        self, geometry: Conv2dGeometry, x: DeviceArray, dy: DeviceArray, dw: DeviceArray
    ) -> None:
        """dw, written whole."""
        g, rows, taps = geometry, geometry.K // geometry.groups, prod(geometry.weight_shape[1:])
        columns = self._dot_columns(g)
        tile = self.tile(self.dots, rows, columns, g.groups)
        spans, span = self._spans(g)
        tables = _placed_dots(g, tile.columns, self.chunks, _device(), x.stream)
        parts = dw if spans == 1 else x.empty((spans * dw.size,), np.float32)
        down, across = ceil(rows / tile.rows), ceil(columns / tile.columns)
        program = self.dots[tile].of(**tile.constants, **self.constants, ROUNDED=False)
        x_group = self.chunks.of(g.C // g.groups) * g.H * g.W
        dy_group = self.chunks.of(rows) * g.P * g.Q
        program.launch(
            x.stream, (down * across, 1, g.groups * spans), tile.threads,
            self._read(dy, g.groups), self._read(x, g.groups), parts, *tables,
            rows, down, taps, g.P * g.Q, g.N * g.P * g.Q, spans, span, g.H, g.W,
            g.groups * dy_group, g.groups * x_group, x_group, *self._more(g),
        )  # fmt: skip
        if spans > 1:
            packing.add_spans.of().launch(
                x.stream, (ceil(dw.size / packing.THREADS),), packing.THREADS,
                parts, dw, spans, dw.size,
            )  # fmt: skip

    def _more(self, g: Conv2dGeometry) -> tuple[int, ...]:
        """What the weight gradient's kernels take besides."""
        return ()

    def _dot_columns(self, g: Conv2dGeometry) -> int:
        """Columns of the weight gradient: taps, all channels of chunks included."""
        return self.chunks.size * self.chunks.of(g.C // g.groups) * g.R * g.S

    def _spans(self, g: Conv2dGeometry) -> tuple[int, int]:
        """How many spans the weight gradient's pixels are divided into, and how long they are."""
        rows, taps, pixels = g.K // g.groups, prod(g.weight_shape[1:]), g.N * g.P * g.Q
        columns = self._dot_columns(g)
        tile = self.tile(self.dots, rows, columns, g.groups)
        blocks = ceil(rows / tile.rows) * ceil(columns / tile.columns) * g.groups
        # Two waves: the last one's gaps are then less than the half of it.
        wanted = ceil(2 * MULTIPROCESSORS * tile.resident / blocks)
        most = min(pixels // SPAN, MOST_GROUPS // g.groups, SPANS_BYTES // (4 * rows * taps))
        spans = max(1, min(wanted, most))
        span = self.stage * ceil(pixels / spans / self.stage)
        return max(1, ceil(pixels / max(span, 1))), span

    # What selection asks.

    def refusal(self, operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
        """Why it cannot serve a geometry; None if it can."""
        if itemsize != 4:
            return "it multiplies float32"
        rows = (g.C if operation == "conv2d_input_grad" else g.K) // g.groups
        if rows < LEAST_ROWS:
            return f"{rows} rows fill too little of a tile: {LEAST_ROWS} needed"
        if g.groups > MOST_GROUPS:
            return f"{g.groups} groups: a grid has {MOST_GROUPS} at the most"
        return product_tables.refusal(g)

    def cost(self, operation: str, g: Conv2dGeometry, itemsize: int) -> float:
        """Seconds on a large GPU: waves of whole tiles or memory, whichever is longer; launches."""
        if operation == "conv2d_weight_grad":
            spans, _ = self._spans(g)
            rows, columns = g.K // g.groups, self._dot_columns(g)
            best = min(time_in_waves(t, rows, columns, g.groups * spans) for t in self.dots)
            flops = 2 * best * g.N * g.P * g.Q / spans
            moved, launches = 8 * spans * prod(g.weight_shape), 1 if spans == 1 else 2
        else:
            flops, moved, launches = 0.0, 8 * prod(g.weight_shape), 0
            for part in _parts(operation, g, self.chunks):
                pixels = g.N * part.plane
                best = min(time_in_waves(t, part.rows, pixels, g.groups) for t in self.columns)
                flops += 2 * best * part.depth * self.chunks.size
                launches += 2
        return max(flops / self.rate, (g.bytes(4) + moved) / MEMORY) + launches * LAUNCH

    def workspace(self, operation: str, g: Conv2dGeometry, itemsize: int) -> int:
        """Bytes beside the arrays: packed weights, or the spans' sums."""
        if operation == "conv2d_weight_grad":
            spans, _ = self._spans(g)
            return 4 * spans * prod(g.weight_shape) if spans > 1 else 0
        return max(4 * g.groups * p.rows * p.depth for p in _parts(operation, g, self.chunks))


def time_in_waves(tile: Any, rows: int, columns: int, groups: int) -> float:
    """Cells of the result that the GPU could do in the time that whole waves of tiles take.

    A tile's time goes with its area and the numbers it reads for it, which weigh as much as a
    twentieth of the area of a tile of 128 x 128.
    """
    blocks = ceil(rows / tile.rows) * ceil(columns / tile.columns) * groups
    slots = MULTIPROCESSORS * tile.resident
    effort = tile.rows * tile.columns + 3.2 * (tile.rows + tile.columns)
    return ceil(blocks / slots) * slots * effort
