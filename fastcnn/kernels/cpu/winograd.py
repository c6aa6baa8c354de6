"""Convolution of stride 1, and its input gradient, by Winograd's F(4x4, 3x3).

    forward       Y[k] = A^T [sum over c of (G W[k, c] G^T) * (B^T X[c] B)] A   for 4 x 4 pixels
    input grad    the same on dY, with rotated and transposed filters and the full padding

It multiplies 36 times for 16 results, where the direct form multiplies 144 times; larger filters
are cut into pieces of 3 x 3 (winograd_pieces.py). Its rounding errors are those of the transformed
numbers, spread over a tile: they are small against the tile's largest numbers, and so against the
result in norm, but not against each of its elements. One huge number, or one that is not finite,
would spoil a whole tile: inputs are looked at by their transform (winograd_limits.py), and so are
results, for weights can be anything. What comes out finite was so all the way, since neither sums
nor products make an infinity or a NaN finite again. A call that finds anything else is computed
once more, by implicit GEMM, and says so.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.microkernel import padded
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.tiled_product import LEAST_ROWS, NO_UNIT
from fastcnn.kernels.cpu.units import VectorUnit, known_unit, vector_unit
from fastcnn.kernels.cpu.winograd_calls import AGAIN as AGAIN
from fastcnn.kernels.cpu.winograd_calls import forward, input_grad, transformed
from fastcnn.kernels.cpu.winograd_forms import F43, TAPS, Form
from fastcnn.kernels.cpu.winograd_pieces import pieces_of
from fastcnn.kernels.cpu.winograd_sizes import Winograd, block_of, tabulate
from fastcnn.kernels.cpu.winograd_tiles import STRIPS

# Errors grow with the square root of the channels; 2500 reach 1e-5 (docs/performance.md).
MOST_CHANNELS = 2048


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    unit = vector_unit()
    if unit is None:
        return NO_UNIT
    reason = too_short(unit, itemsize)
    if reason:
        return reason
    if min(g.R, g.S) < TAPS or g.stride != (1, 1) or g.dilation != (1, 1):
        return f"it takes {TAPS} x {TAPS} filters and larger ones, stride 1, dilation 1 alone"
    channels = pieces_of(g.R, g.S) * (g.C if operation == "conv2d" else g.K) // g.groups
    if channels > MOST_CHANNELS:
        return (
            f"with {channels} channels to a sum, each piece of a filter counted, its error could "
            f"pass 1e-5: {MOST_CHANNELS} at most"
        )
    return too_few(operation, g, itemsize, F43)


def too_short(unit: VectorUnit, itemsize: int) -> str | None:
    """Why a unit's vectors cannot hold a strip of tiles; None if they can."""
    if unit.lanes(itemsize) < STRIPS:
        return f"a vector of {unit.name} holds {unit.lanes(itemsize)} numbers, {STRIPS} are needed"
    return None


def too_few(operation: str, g: Conv2dGeometry, itemsize: int, form: Form) -> str | None:
    """Why tiles of a form, or rows of a group, are too few for vectors; None if they are not."""
    per = known_unit().lanes(itemsize) // STRIPS
    columns = blocks_of(g.Q if operation == "conv2d" else g.W, form.m)
    if columns < per - 1 and 2 * columns != per:
        return f"{columns} tiles in a row are too few to fill a vector from two rows"
    rows = (g.K if operation == "conv2d" else g.C) // g.groups
    if g.groups > 1 and rows < LEAST_ROWS:
        what = "filters" if operation == "conv2d" else "channels"
        return f"{rows} {what} per group fill too little of a register tile: {LEAST_ROWS} needed"
    return None


@lru_cache(maxsize=256)
def _tables(operation: str, g: Conv2dGeometry, itemsize: int) -> Winograd:
    channels, filters, plane = g.C // g.groups, g.K // g.groups, g.R * g.S
    group, places = filters * channels * plane, np.arange(plane).reshape(g.R, g.S)
    if operation == "conv2d":
        (top, _, left, _), source, result = g.padding, g.input_shape, g.output_shape
        steps = (channels * plane, plane, group)
    else:
        (top, _, left, _), source, result = g.full_padding, g.output_shape, g.input_shape
        steps, places = (plane, channels * plane, group), places[::-1, ::-1]  # rotated
    return tabulate(F43, source, result[1:], (top, left), g.groups, steps, places, itemsize)


def pack(operation: str, geometry: Conv2dGeometry, w: np.ndarray) -> np.ndarray:
    """w transformed for `operation`, "conv2d" or "conv2d_input_grad".

    The result serves every call with this w on this geometry; the number of images may differ.
    """
    return transformed(_tables(operation, geometry, w.itemsize), w)


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: np.ndarray | None = None,
    relu: bool = False,
) -> str | None:
    """y = conv(x, w) + b, or relu(conv(x, w) + b), written whole; shapes as in
    `fastcnn.functional.conv2d`, batched. `packed` is from `pack`, where that has been kept.

    Returns a remark if the result had to be computed in another way.
    """
    return forward(_tables, geometry, x, w, b, y, packed, relu)


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: np.ndarray | None = None,
) -> str | None:
    """dx, written whole, from dy (N, K, P, Q) and w; `packed` and what it returns as above."""
    return input_grad(_tables, geometry, dy, w, dx, packed)


# Measured on one core of a Zen 5 machine, float32, over 820 layers of the suites and random ones,
# of which nine of ten take 0.9 to 1.2 times what they say together. FLOP/s of the products, and
# seconds of a point of a register tile of them; tiles of one channel transformed per second, tiles
# of one filter transformed back and stored; filters of one channel transformed per second (of
# larger ones in pieces); seconds of the smallest call.
PRODUCT_FLOPS = 250e9
POINT = 38e-9
INPUT_TILES = 160e6
OUTPUT_TILES = 600e6
WEIGHTS = 110e6
# How much longer products take where blocks are halved, for U and V pass the last cache.
HALVED = 1.85
CALL = 7e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: tiles transformed, multiplied, transformed back; weights transformed."""
    channels, rows, (P, Q) = g.C, g.K, (g.P, g.Q)
    if operation == "conv2d_input_grad":
        channels, rows, P, Q = g.K, g.C, g.H, g.W
    tiles = g.N * blocks_of(P, F43.m) * blocks_of(Q, F43.m)
    lanes = known_unit().lanes(itemsize)
    columns = lanes * blocks_of(tiles, lanes)
    pieces = pieces_of(g.R, g.S)
    points = len(F43.table)
    whole = padded(rows // g.groups) * g.groups
    product = 2 * points * columns * whole * pieces * (channels // g.groups) / PRODUCT_FLOPS
    transforms = columns * (channels * pieces / INPUT_TILES + rows / OUTPUT_TILES)
    weights = g.K * (g.C // g.groups) * pieces / WEIGHTS
    if block_of(F43, channels * pieces) < F43.block:
        product *= HALVED
    unit = known_unit()
    begun = points * blocks_of(columns, lanes * unit.vectors) * blocks_of(whole, unit.rows) * POINT
    return CALL + begun + itemsize / 4 * (product + transforms + weights)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: the products of a block of tiles with some
    filters, and the block's table; or some filters' taps, as they are transformed.

    The transformed tiles and weights come on top: tiles of a block for each thread or, shared by
    all, of a span: SPAN, or up to MOST_SPAN if that gives few tasks, but one block at the least;
    weights are shared, four times w for 3x3, up to nine times for larger filters (4x4).
    """
    if not g.N:
        return 0
    return _tables(operation, g, itemsize).scratch
