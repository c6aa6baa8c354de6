"""Tables that turn convolutions into products: where taps and pixels are found in memory.

A row of a table is four int32: offset in the source (elements), row and column in the image,
and the offset of the weight (taps) or of the result (pixels). A pixel's row and a tap's, added, say
where a number is read and whether it lies in the image: no kernel divides in its inner loop.

Kernels of halves read channels in chunks (half_products.py): tables then are those of a geometry
whose channels are chunks, and weights are put in the order of the chunks' channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda.tiles import DEPTH, FAR, depth_order

# Offsets are int32, and sums of two coordinates must not overflow.
MOST_ELEMENTS, LONGEST = 2**31 - 1, FAR // 4
# Words of a chunk, of which a stage's rows of DEPTH words hold four.
CHUNK_WORDS = 4


@dataclass(frozen=True)
class Columns:
    """A product of weights with pixels.

    Attributes
    ----------
    taps : ndarray, (depth, 4)
        Places of the source and of w (from a row's first weight), in order; padded with FAR.
    order : ndarray, (depth,) or (depth * chunk,)
        Offset of the weight that stands at each place of a row of A; -1 for padding.
    pixels : ndarray, (plane, 4)
        Places of the source and of the result, of one image.
    rows : int
        Rows of A of a group.
    source : tuple of int
        Channels or chunks of a group, height and width of the source.
    dense : bool
        Whether the pixels are the result's, in order.
    """

    taps: np.ndarray
    order: np.ndarray
    pixels: np.ndarray
    rows: int
    source: tuple[int, int, int]
    dense: bool

    @property
    def plane(self) -> int:
        return len(self.pixels)

    @property
    def depth(self) -> int:
        return len(self.taps)


def _padded(taps: np.ndarray, multiple: int) -> np.ndarray:
    """Taps up to a multiple: those added lie outside of every image, and have no weight."""
    missing = -len(taps) % multiple
    return np.concatenate([taps, np.tile([0, FAR, FAR, -1], (missing, 1))])


def _table(*columns: np.ndarray) -> np.ndarray:
    """Rows of a table from its columns, which broadcast."""
    return np.stack(np.broadcast_arrays(*columns), axis=-1).reshape(-1, 4)


@dataclass(frozen=True)
class Chunks:
    """How channels that are summed over are read: `size` neighbours at a time."""

    size: int = 1

    def of(self, channels: int) -> int:
        """Chunks that hold so many channels."""
        return ceil(channels / self.size)

    def inputs(self, g: Conv2dGeometry) -> Conv2dGeometry:
        """The geometry whose input channels are chunks."""
        return replace(g, C=g.groups * self.of(g.C // g.groups))

    def outputs(self, g: Conv2dGeometry) -> Conv2dGeometry:
        """The geometry whose filters are chunks."""
        return replace(g, K=g.groups * self.of(g.K // g.groups))

    def weights(self, taps: np.ndarray, channels: int, step: int) -> np.ndarray:
        """Offsets of the weights of taps' channels, which are `step` apart; -1 where none are."""
        chunk, rest = np.divmod(taps[:, 3:], step)
        channel = self.size * chunk + np.arange(self.size)
        none = (channel >= channels) | (taps[:, 3:] < 0)
        return np.where(none, -1, channel * step + rest)


EACH = Chunks()


def _weights_times(
    taps: np.ndarray,
    pixels: np.ndarray,
    rows: int,
    source: tuple[int, int, int],
    dense: bool,
    chunks: Chunks,
    channels: int,
    step: int,
) -> Columns:
    if chunks is EACH:
        taps = _padded(taps, DEPTH)
        order = taps[depth_order(len(taps)), 3]
    else:
        taps = _padded(taps, DEPTH // CHUNK_WORDS)
        order = chunks.weights(taps, channels, step).reshape(-1)
    taps, order, pixels = (np.ascontiguousarray(a, np.int32) for a in (taps, order, pixels))
    return Columns(taps, order, pixels, rows, source, dense)


def forward_taps(g: Conv2dGeometry) -> np.ndarray:
    """Channels, kernel rows and columns of a group, in the order of the weights."""
    c, r, s = np.ogrid[: g.C // g.groups, : g.R, : g.S]
    row, column = r * g.dilation[0], s * g.dilation[1]
    return _table(c * g.H * g.W + row * g.W + column, row, column, (c * g.R + r) * g.S + s)


def forward_pixels(g: Conv2dGeometry) -> np.ndarray:
    """Output pixels: where their windows start."""
    p, q = np.ogrid[: g.P, : g.Q]
    row, column = p * g.stride[0] - g.padding[0], q * g.stride[1] - g.padding[2]
    return _table(row * g.W + column, row, column, p * g.Q + q)


def forward(g: Conv2dGeometry, chunks: Chunks = EACH) -> Columns:
    """Filters times windows."""
    channels = g.C // g.groups
    taps = forward_taps(chunks.inputs(g))
    source = (chunks.of(channels), g.H, g.W)
    return _weights_times(
        taps, forward_pixels(g), g.K // g.groups, source, True, chunks, channels, g.R * g.S
    )


def input_grad(g: Conv2dGeometry, chunks: Chunks = EACH) -> list[Columns]:
    """Rotated filters times dY, for each residue of the input's pixels by the stride.

    Row h of X took part in output row p through kernel row r where h + top = p stride + r dilation.
    For rows h = a + stride i these are the r for which stride divides a + top - r dilation, and p
    is i plus the quotient. Where there is no such r the gradient is 0, an empty sum.
    """
    parts = []
    filters, step = g.K // g.groups, prod(g.weight_shape[1:])
    for a in range(min(g.stride[0], g.H)):
        for b in range(min(g.stride[1], g.W)):
            r, p = _reached(a + g.padding[0], g.R, g.stride[0], g.dilation[0])
            s, q = _reached(b + g.padding[2], g.S, g.stride[1], g.dilation[1])
            k = np.arange(chunks.of(filters))[:, None, None]
            r, p, s, q = r[:, None], p[:, None], s[None, :], q[None, :]
            weight = k * step + r * g.S + s
            taps = _table((k * g.P + p) * g.Q + q, p + 0 * k, q + 0 * k, weight)
            i, j = np.ogrid[: -(-(g.H - a) // g.stride[0]), : -(-(g.W - b) // g.stride[1])]
            h, w = a + g.stride[0] * i, b + g.stride[1] * j
            pixels = _table(i * g.Q + j, i, j, h * g.W + w)
            source = (chunks.of(filters), g.P, g.Q)
            dense, rows = g.stride == (1, 1), g.C // g.groups
            parts.append(_weights_times(taps, pixels, rows, source, dense, chunks, filters, step))
    return parts


def _reached(start: int, taps: int, stride: int, dilation: int) -> tuple[np.ndarray, np.ndarray]:
    """Taps through which an input row meets output rows, and how far those are off."""
    away = start - dilation * np.arange(taps)
    met = np.flatnonzero(away % stride == 0)
    return met, away[met] // stride


@dataclass(frozen=True)
class Dots:
    """The sums of the weight gradient: taps, padded to whole tiles, and pixels of one image."""

    taps: np.ndarray
    pixels: np.ndarray
    columns: int


def weight_grad(g: Conv2dGeometry, tile_columns: int, chunks: Chunks = EACH) -> Dots:
    """dY times windows. A chunk's place is its first channel's, FAR where there is none."""
    taps = forward_taps(chunks.inputs(g))
    padded = _padded(taps, tile_columns // chunks.size)
    if chunks is not EACH:
        place = chunks.weights(padded, g.C // g.groups, g.R * g.S)[:, 0]
        padded[:, 3] = np.where(place < 0, FAR, place)
    padded = np.ascontiguousarray(padded, np.int32)
    return Dots(padded, np.ascontiguousarray(forward_pixels(g), np.int32), len(taps))


def refusal(g: Conv2dGeometry) -> str | None:
    """Why offsets of a convolution do not fit into a table; None if they do."""
    sizes = prod(g.input_shape), prod(g.output_shape), prod(g.weight_shape)
    # Windows start before an image and end behind it: offsets that are not read, and must not
    # overflow. Rows of tables are four numbers.
    reach = (g.H + sum(g.padding[:2])) * (g.W + sum(g.padding[2:])) + g.W * g.window[0]
    rows = 4 * max(g.H * g.W, g.P * g.Q, *(prod(g.weight_shape) // n for n in (g.K, g.C)))
    longest = max(g.H, g.W, *g.window, *g.padding)
    if max(max(sizes) + reach, rows) > MOST_ELEMENTS or longest > LONGEST:
        return "its offsets do not fit into 32 bits"
    return None
