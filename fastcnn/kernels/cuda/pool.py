"""Max pooling with its mask, and its gradient from the mask alone: the CPU's, bit for bit.

    forward    Y[p, q] = max over (r, s) of X[p*stride - padding + r*dilation, ...]
               M[p, q] = r*S + s of the maximum: the position in the window, not in the image
    gradient   dX[h, w] = sum of dY[p, q] over the windows whose M names (h, w), in row-major order
    with ReLU  the same of relu(X); dX is with respect to X

One thread per output pixel forward. Backward, where windows overlap, one per input pixel: it looks
at the windows in which its pixel lies, so that no two threads add to one number and the order is
the CPU's. Where they do not, one per tile of stride[0] x stride[1] input pixels, which holds one
window at the most: it reads one dY and one M and writes the whole tile.

       a tile of a 2 x 2 window at stride 2        M = 2        dY . .        0  0
                                                                . .   ->    dY  0

Entries of a mask that name no cell match no pixel: they give nothing, as on the CPU, but no error,
since counting them would make the caller wait for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.geometry import Pool2dGeometry
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import element, launch_elements, over, quotient, reciprocal, rest
from fastcnn.kernels.cuda.target import Program, cell, helper, kernel, real

# Settled with the program: whether relu(x) is pooled; rows and columns of a window (of a tile) that
# is small enough to be unrolled, so that its loads are all under way together. 0: as the launch
# says.
RELU = False
ROWS = COLUMNS = 0
_MOST_UNROLLED = 16

_GEOMETRY = (
    "int32 H, int32 W, int32 R, int32 S, int32 P, int32 Q, "
    "int32 sh, int32 sw, int32 dh, int32 dw, int32 top, int32 left"
)
# Of a grid of `across` columns: the plane that thread i of a launch works in, and where in it. A
# launch takes fewer than 2^31 threads, so that `quotient` divides exactly.
_PLACES = "int32 n, int64 first, int32 area, uint32 area_m, int32 area_s, int32 across, uint32 across_m, int32 across_s"  # noqa: E501
_MOST_THREADS = 2**31 - 2**16


@kernel(f"real* x, real* y, cell* mask, uint8* passes, {_PLACES}, {_GEOMETRY}")
def _forward(x, y, mask, passes, n, first, area, area_m, area_s, across, across_m, across_s, H, W, R, S, P, Q, sh, sw, dh, dw, top, left):  # fmt: skip  # noqa: E501
    """The rule is PyTorch's: a cell wins if it is greater than the best so far or NaN.

    So the first maximum wins, the last NaN wins, padding never does, and a window of -inf has its
    first cell.
    """
    i = element()
    if i >= n:
        return
    plane = quotient(i, area_m, area_s)
    pixel = np.int32(i - plane * area)
    p = quotient(pixel, across_m, across_s)
    h0, w0 = p * sh - top, (pixel - p * across) * sw - left
    image = (first + plane) * H * W
    rows, columns = (ROWS, COLUMNS) if ROWS > 0 else (R, S)
    best, where, chosen, inside = real(-np.inf), np.int32(0), real(0), False
    for r in range(rows):
        h = h0 + r * dh
        for s in range(columns):
            w = w0 + s * dw
            if h >= 0 and h < H and w >= 0 and w < W:
                seen = x[image + h * W + w]
                v = seen
                if RELU:
                    v = real(0) if v < real(0) else v
                if v > best or v != v or not inside:
                    best, where, chosen, inside = v, np.int32(r * columns + s), seen, True
    at = (first + plane) * area + pixel
    y[at] = best
    mask[at] = cell(where)
    if RELU:
        passes[at] = np.uint8(0) if chosen < real(0) else np.uint8(1)


@helper
def _earliest(reach, window, step):
    """The first window that ends at a cell or beyond: ceil((reach - (window - 1)) / step), or 0."""
    start = reach - (window - 1)
    return over(start + step - 1, step) if start > 0 else np.int32(0)


@kernel(f"real* dy, cell* mask, uint8* passes, real* dx, {_PLACES}, {_GEOMETRY}")
def _overlapping(dy, mask, passes, dx, n, first, area, area_m, area_s, across, across_m, across_s, H, W, R, S, P, Q, sh, sw, dh, dw, top, left):  # fmt: skip  # noqa: E501
    i = element()
    if i >= n:
        return
    plane = quotient(i, area_m, area_s)
    pixel = np.int32(i - plane * area)
    h = quotient(pixel, across_m, across_s)
    row, column = h + top, pixel - h * across + left
    windows = (first + plane) * P * Q
    total = real(0)
    q0, q1 = _earliest(column, dw * (S - 1) + 1, sw), min(Q, over(column, sw) + 1)
    for p in range(_earliest(row, dh * (R - 1) + 1, sh), min(P, over(row, sh) + 1)):
        r = row - p * sh
        if rest(r, dh) == 0:
            for q in range(q0, q1):
                s = column - q * sw
                if rest(s, dw) == 0:
                    window = windows + p * Q + q
                    if mask[window] == over(r, dh) * S + over(s, dw):
                        if RELU:
                            if passes[window] != 0:
                                total += dy[window]
                        else:
                            total += dy[window]
    dx[(first + plane) * area + pixel] = total


@kernel(f"real* dy, cell* mask, uint8* passes, real* dx, {_PLACES}, {_GEOMETRY}")
def _apart(dy, mask, passes, dx, n, first, area, area_m, area_s, across, across_m, across_s, H, W, R, S, P, Q, sh, sw, dh, dw, top, left):  # fmt: skip  # noqa: E501
    i = element()
    if i >= n:
        return
    plane = quotient(i, area_m, area_s)
    tile = np.int32(i - plane * area)
    p = quotient(tile, across_m, across_s)
    q = tile - p * across
    v, code = real(0), np.int32(-1)
    if p < P and q < Q:
        window = ((first + plane) * P + p) * Q + q
        v, code = dy[window], np.int32(mask[window])
        if RELU:
            code = code if passes[window] != 0 else np.int32(-1)
    image = (first + plane) * H * W
    h0, w0 = p * sh - top, q * sw - left
    rows, columns = (ROWS, COLUMNS) if ROWS > 0 else (sh, sw)
    for r in range(rows):
        h = h0 + r
        for s in range(columns):
            w = w0 + s
            if h >= 0 and h < H and w >= 0 and w < W:
                # a tile wider than its window holds cells that no entry names
                named = r < R and s < S and code == r * S + s
                # 0 + v, as a sum has it: of -0 too
                dx[image + h * W + w] = real(0) + v if named else real(0)


@kernel(f"cell* mask, uint8* drawn, {_PLACES}, {_GEOMETRY}")
def _drawn(mask, drawn, n, first, area, area_m, area_s, across, across_m, across_s, H, W, R, S, P, Q, sh, sw, dh, dw, top, left):  # fmt: skip  # noqa: E501
    """1 where an input element was some window's maximum, else 0."""
    i = element()
    if i >= n:
        return
    plane = quotient(i, area_m, area_s)
    pixel = np.int32(i - plane * area)
    h = quotient(pixel, across_m, across_s)
    row, column = h + top, pixel - h * across + left
    windows = (first + plane) * P * Q
    found = np.uint8(0)
    q0, q1 = _earliest(column, dw * (S - 1) + 1, sw), min(Q, over(column, sw) + 1)
    for p in range(_earliest(row, dh * (R - 1) + 1, sh), min(P, over(row, sh) + 1)):
        r = row - p * sh
        for q in range(q0, q1):
            s = column - q * sw
            named = mask[windows + p * Q + q] == over(r, dh) * S + over(s, dw)
            if named and rest(r, dh) == 0 and rest(s, dw) == 0:
                found = np.uint8(1)
    drawn[(first + plane) * area + pixel] = found


@kernel(f"cell* mask, int64* indices, {_PLACES}, {_GEOMETRY}")
def _indices(mask, indices, n, first, area, area_m, area_s, across, across_m, across_s, H, W, R, S, P, Q, sh, sw, dh, dw, top, left):  # fmt: skip  # noqa: E501
    """h*W + w of each maximum within its plane."""
    i = element()
    if i >= n:
        return
    plane = quotient(i, area_m, area_s)
    pixel = np.int32(i - plane * area)
    p = quotient(pixel, across_m, across_s)
    at = (first + plane) * area + pixel
    code = np.int32(mask[at])
    r = over(code, S)
    h, w = p * sh - top + r * dh, (pixel - p * across) * sw - left + (code - r * S) * dw
    indices[at] = np.int64(h) * W + w


def _launch(program: Program, g: Pool2dGeometry, down: int, across: int, *arrays: Any) -> None:
    """Launch one thread for each place of a grid of down x across in every plane."""
    area = down * across
    planes, share = g.N * g.C, max(1, _MOST_THREADS // area)
    geometry = (g.H, g.W, g.R, g.S, g.P, g.Q, *g.stride, *g.dilation, g.padding[0], g.padding[2])
    stream = next(a for a in arrays if a is not None).stream
    for first in range(0, planes, share):
        n = min(share, planes - first) * area
        places = n, first, area, *reciprocal(area), across, *reciprocal(across)
        launch_elements(program, stream, n, *arrays, *places, *geometry)


def _unrolled(rows: int, columns: int) -> dict[str, int]:
    if rows * columns > _MOST_UNROLLED:
        return {"ROWS": 0, "COLUMNS": 0}
    return {"ROWS": rows, "COLUMNS": columns}


def _max_pool(g: Pool2dGeometry, relu: bool, *arrays: DeviceArray | None) -> None:
    assert arrays[0] is not None
    types = {"real": arrays[0].dtype.name, "cell": g.mask_dtype}
    program = _forward.of(**types, RELU=relu, **_unrolled(g.R, g.S))
    _launch(program, g, g.P, g.Q, *arrays)


def _max_pool_grad(g: Pool2dGeometry, relu: bool, *arrays: DeviceArray | None) -> None:
    assert arrays[0] is not None
    types = {"real": arrays[0].dtype.name, "cell": g.mask_dtype}
    tall, wide = g.window
    if g.dilation == (1, 1) and tall <= g.stride[0] and wide <= g.stride[1]:
        tiles = -(-(g.H + g.padding[0]) // g.stride[0]), -(-(g.W + g.padding[2]) // g.stride[1])
        _launch(_apart.of(**types, RELU=relu, **_unrolled(*g.stride)), g, *tiles, *arrays)
    else:
        _launch(_overlapping.of(**types, RELU=relu), g, g.H, g.W, *arrays)


def max_pool2d(geometry: Pool2dGeometry, x: DeviceArray, y: DeviceArray, mask: DeviceArray) -> None:
    """y and mask, written whole; x (N, C, H, W), y and mask (N, C, P, Q)."""
    _max_pool(geometry, False, x, y, mask, None)


def max_pool2d_grad(
    geometry: Pool2dGeometry, dy: DeviceArray, mask: DeviceArray, dx: DeviceArray
) -> None:
    """dx, written whole."""
    _max_pool_grad(geometry, False, dy, mask, None, dx)


def relu_max_pool2d(
    geometry: Pool2dGeometry,
    x: DeviceArray,
    y: DeviceArray,
    mask: DeviceArray,
    passes: DeviceArray,
) -> None:
    """As `max_pool2d` of relu(x); passes, written whole, y's shape."""
    _max_pool(geometry, True, x, y, mask, passes)


def relu_max_pool2d_grad(
    geometry: Pool2dGeometry,
    dy: DeviceArray,
    mask: DeviceArray,
    passes: DeviceArray,
    dx: DeviceArray,
) -> None:
    """As `max_pool2d_grad`, but with respect to the x of `relu_max_pool2d`."""
    _max_pool_grad(geometry, True, dy, mask, passes, dx)


def mask_to_input(geometry: Pool2dGeometry, mask: DeviceArray, drawn: DeviceArray) -> None:
    """drawn (N, C, H, W), uint8, written whole."""
    program = _drawn.of(cell=geometry.mask_dtype)
    _launch(program, geometry, geometry.H, geometry.W, mask, drawn)


def mask_to_indices(geometry: Pool2dGeometry, mask: DeviceArray, indices: DeviceArray) -> None:
    """indices, mask's shape, int64, written whole."""
    program = _indices.of(cell=geometry.mask_dtype)
    _launch(program, geometry, geometry.P, geometry.Q, mask, indices)
