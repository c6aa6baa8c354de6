"""Direct convolution and its gradients, for every geometry: no shared memory, no transformation.

    forward        Y[n,k,p,q] = b + sum over c, r, s of X[n,c,h,w] W[k,c,r,s],  h = p*stride - top
                                                                                    + r*dilation
    input grad     dX[n,c,h,w] = sum over k and those r, s for which h + top - r*dilation = p*stride
    weight grad    dW[k,c,r,s] = sum over n, p, q of X[n,c,h,w] dY[n,k,p,q]

Forward and input gradient: one thread per pixel and FILTERS filters (or channels), so that each
element of X (dY) that it reads serves FILTERS multiply-adds; neighbouring threads read neighbouring
pixels, and all of them the same weights. The gradients are gathered, never scattered: no two
threads add to one number.

    block (i, j, n)    thread t -> pixel i*THREADS + t
                       filters  j*FILTERS .. j*FILTERS + FILTERS - 1 of one group

Weight gradient: one block per weight's (k, c) and per share of the output rows; its threads take
output pixels in turn, and their sums fold in a fixed order; shares are added up in order after.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.arrays import DeviceArray
from fastcnn.kernels.cuda.indices import (
    MOST_BLOCKS,
    add_up,
    element,
    launch_elements,
    over,
    rest,
    threads,
)
from fastcnn.kernels.cuda.indices import THREADS as BLOCK
from fastcnn.kernels.cuda.target import cuda, kernel, real

# Filters per thread: with 8, the addresses of the weights take the registers of a second block.
FILTERS = 4
# Threads of a block that adds up one weight.
SUMMING = 128
# Blocks that the weight gradient is split into at the least: several for each multiprocessor of a
# large GPU. From the geometry alone, so that results do not depend on the device.
FULL = 1024
_SIMULATED_FULL = 20

# Settled with the program.
RELU = False
THREADS = SUMMING

_GEOMETRY = (
    "int32 N, int32 C, int32 H, int32 W, int32 K, int32 R, int32 S, int32 P, int32 Q, "
    "int32 sh, int32 sw, int32 dh, int32 dw, int32 top, int32 left, int32 groups"
)


# Two blocks per multiprocessor: without the bound one architecture takes more registers.
@kernel(
    f"real* x, real* w, real* b, real* y, int64 b_filter, int64 b_pixel, {_GEOMETRY}",
    threads=BLOCK, blocks_per_sm=2,
)  # fmt: skip
def _forward(x, w, b, y, b_filter, b_pixel, N, C, H, W, K, R, S, P, Q, sh, sw, dh, dw, top, left, groups):  # fmt: skip  # noqa: E501
    pixel = element()
    if pixel >= P * Q:
        return
    channels, filters = over(C, groups), over(K, groups)
    blocks = over(filters + FILTERS - 1, FILTERS)
    sums = cuda.local.array(FILTERS, real)
    h0, w0 = over(pixel, Q) * sh - top, rest(pixel, Q) * sw - left
    n = cuda.blockIdx.z
    while n < N:
        j = cuda.blockIdx.y
        while j < groups * blocks:
            group, first = over(j, blocks), rest(j, blocks) * FILTERS
            count = min(FILTERS, filters - first)
            for f in range(FILTERS):
                sums[f] = real(0)
            for c in range(channels):
                plane = (np.int64(n) * C + group * channels + c) * H
                for r in range(R):
                    h = h0 + r * dh
                    if h >= 0 and h < H:
                        for s in range(S):
                            column = w0 + s * dw
                            if column >= 0 and column < W:
                                v = x[(plane + h) * W + column]
                                tap = c * R * S + r * S + s
                                for f in range(FILTERS):
                                    # the last filter again beyond the last: read, not stored
                                    k = group * filters + first + min(f, count - 1)
                                    sums[f] += v * w[np.int64(k) * channels * R * S + tap]
            for f in range(FILTERS):
                if f < count:
                    k = group * filters + first + f
                    value = sums[f]
                    if b_filter > 0:
                        value += b[k * b_filter + pixel * b_pixel]
                    if RELU:
                        value = real(0) if value < real(0) else value
                    y[(np.int64(n) * K + k) * P * Q + pixel] = value
            j += cuda.gridDim.y
        n += cuda.gridDim.z


@kernel(f"real* dy, real* w, real* dx, {_GEOMETRY}", threads=BLOCK, blocks_per_sm=2)
def _input_grad(dy, w, dx, N, C, H, W, K, R, S, P, Q, sh, sw, dh, dw, top, left, groups):
    pixel = element()
    if pixel >= H * W:
        return
    channels, filters = over(C, groups), over(K, groups)
    blocks = over(channels + FILTERS - 1, FILTERS)
    sums = cuda.local.array(FILTERS, real)
    row, column = over(pixel, W) + top, rest(pixel, W) + left
    n = cuda.blockIdx.z
    while n < N:
        j = cuda.blockIdx.y
        while j < groups * blocks:
            group, first = over(j, blocks), rest(j, blocks) * FILTERS
            count = min(FILTERS, channels - first)
            for f in range(FILTERS):
                sums[f] = real(0)
            for r in range(R):
                down = row - r * dh
                p = over(down, sh)
                if down >= 0 and rest(down, sh) == 0 and p < P:
                    for s in range(S):
                        right = column - s * dw
                        q = over(right, sw)
                        if right >= 0 and rest(right, sw) == 0 and q < Q:
                            for k in range(group * filters, (group + 1) * filters):
                                v = dy[((np.int64(n) * K + k) * P + p) * Q + q]
                                for f in range(FILTERS):
                                    c = np.int64(k) * channels + first + min(f, count - 1)
                                    sums[f] += v * w[(c * R + r) * S + s]
            for f in range(FILTERS):
                if f < count:
                    c = group * channels + first + f
                    dx[(np.int64(n) * C + c) * H * W + pixel] = sums[f]
            j += cuda.gridDim.y
        n += cuda.gridDim.z


@kernel(f"real* x, real* dy, real* shares, int32 count, {_GEOMETRY}")
def _weight_grad(x, dy, shares, count, N, C, H, W, K, R, S, P, Q, sh, sw, dh, dw, top, left, groups):  # fmt: skip  # noqa: E501
    """shares[i] is a whole dW: the sum over output rows i, i + count, ... of all images."""
    partial = cuda.shared.array(THREADS, real)
    t = cuda.threadIdx.x
    channels, filters = over(C, groups), over(K, groups)
    k, c = over(cuda.blockIdx.x, channels), rest(cuda.blockIdx.x, channels)
    channel = over(k, filters) * channels + c
    for tap in range(R * S):
        r, s = over(tap, S), rest(tap, S)
        total = real(0)
        row = cuda.blockIdx.y
        while row < N * P:
            n, p = over(row, P), rest(row, P)
            h = p * sh - top + r * dh
            if h >= 0 and h < H:
                line = ((np.int64(n) * C + channel) * H + h) * W
                q = t
                while q < Q:
                    column = q * sw - left + s * dw
                    if column >= 0 and column < W:
                        total += x[line + column] * dy[((np.int64(n) * K + k) * P + p) * Q + q]
                    q += THREADS
            row += count
        partial[t] = total
        add_up(partial, t, THREADS)
        if t == 0:
            weight = np.int64(cuda.blockIdx.x) * R * S + tap
            shares[np.int64(cuda.blockIdx.y) * K * channels * R * S + weight] = partial[0]
        cuda.syncthreads()


@kernel("real* shares, real* dw, int32 count, int64 n")
def _add_shares(shares, dw, count, n):
    i = element()
    if i < n:
        total = real(0)
        for share in range(count):
            total += shares[share * n + i]
        dw[i] = total


def _numbers(g: Conv2dGeometry) -> tuple[int, ...]:
    """The kernels' view of a geometry; ValueError for one that their 32-bit numbers cannot hold."""
    if max(g.H * g.W, g.P * g.Q, g.N * g.P, g.K * g.C * g.R * g.S) >= 2**31:
        raise ValueError(f"an image or a weight of more than 2**31 elements: {g}")
    shape = g.N, g.C, g.H, g.W, g.K, g.R, g.S, g.P, g.Q
    return (*shape, *g.stride, *g.dilation, g.padding[0], g.padding[2], g.groups)


def _grid(pixels: int, per_group: int, g: Conv2dGeometry) -> tuple[int, int, int]:
    blocks = g.groups * -(-per_group // FILTERS)
    return -(-pixels // threads()), min(blocks, MOST_BLOCKS), min(g.N, MOST_BLOCKS)


def conv2d(
    geometry: Conv2dGeometry,
    x: DeviceArray,
    w: DeviceArray,
    b: DeviceArray | None,
    y: DeviceArray,
    relu: bool = False,
) -> None:
    """y, written whole; b (K,), (K, P, Q) or None. With relu, relu(y)."""
    g = geometry
    step = (0, 0) if b is None else (1, 0) if b.ndim == 1 else (g.P * g.Q, 1)
    grid = _grid(g.P * g.Q, g.K // g.groups, g)
    program = _forward.of(real=x.dtype.name, RELU=relu)
    program.launch(x.stream, grid, threads(), x, w, b, y, *step, *_numbers(g))


def conv2d_input_grad(
    geometry: Conv2dGeometry, dy: DeviceArray, w: DeviceArray, dx: DeviceArray
) -> None:
    """dx, written whole."""
    g = geometry
    grid = _grid(g.H * g.W, g.C // g.groups, g)
    _input_grad.of(real=dy.dtype.name).launch(dy.stream, grid, threads(), dy, w, dx, *_numbers(g))


def _shares(g: Conv2dGeometry) -> int:
    """How many parts the output rows of all images are added up in."""
    weights = g.K * (g.C // g.groups)
    full = _SIMULATED_FULL if target.simulated() else FULL
    return max(1, min(-(-full // weights), g.N * g.P, MOST_BLOCKS))


def conv2d_weight_grad(
    geometry: Conv2dGeometry, x: DeviceArray, dy: DeviceArray, dw: DeviceArray
) -> None:
    """dw, written whole."""
    g, name = geometry, x.dtype.name
    count, block = _shares(g), threads(SUMMING)
    shares = dw if count == 1 else x.empty((count, *g.weight_shape), x.dtype)
    grid = g.K * (g.C // g.groups), count
    program = _weight_grad.of(real=name, THREADS=block)
    program.launch(x.stream, grid, block, x, dy, shares, count, *_numbers(g))
    if count > 1:
        launch_elements(_add_shares.of(real=name), x.stream, dw.size, shares, dw, count, dw.size)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes beside the arrays: the weight gradient's shares."""
    if operation != "conv2d_weight_grad" or _shares(g) == 1:
        return 0
    return itemsize * _shares(g) * g.K * (g.C // g.groups) * g.R * g.S
