"""Max pooling with its mask, for every geometry, and its gradient from the mask alone.

    forward    Y[p, q] = max over (r, s) of X[p*stride - padding + r*dilation, …]
               M[p, q] = r*S + s of the maximum: the position in the window, not in the image
    gradient   dX[the cell that M names] += dY[p, q]        windows in row-major order
    with ReLU  the same of relu(X); dX is with respect to X, so that only what relu lets pass counts

One chunk is one plane (an image's channel), so overlapping windows add up without a race. Strict
arithmetic: comparisons decide here, and NaN must compare as IEEE says.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import Pool2dGeometry
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.pool_planes import NO_PASSES
from fastcnn.kernels.cpu.threads import launch


@exact
def _split(row, phases, step, width):
    """Sort a row by column modulo the stride: phases[f*width + i] = row[i*step + f].

    A tap's elements for neighbouring outputs are then neighbours. Comparing every second element
    in place took three times as long: LLVM gathers them one by one.
    """
    if step == 2:
        even, odd = phases, phases[width:]
        for i in range(len(row) // 2):
            even[i], odd[i] = row[2 * i], row[2 * i + 1]
        if len(row) % 2 == 1:
            even[len(row) // 2] = row[len(row) - 1]
    else:
        for f in range(min(step, len(row))):
            for i in range((len(row) - f + step - 1) // step):
                phases[f * width + i] = row[i * step + f]


@exact
def _challenge(best, where, row, code, n):
    """Let row[q] take best[q] and put `code` into where[q], where it wins."""
    for q in range(n):
        v, b = row[q], best[q]
        wins = (v > b) | (v != v)
        best[q] = v if wins else b
        where[q] = code if wins else where[q]


@exact
def _max_chunk(plane, x, y, mask, passes, starts, spans, g):
    """All windows of one plane: each tap (r, s) in turn over a whole output row.

    The rule is PyTorch's: a cell wins if it is greater than the best so far or NaN. So the first
    maximum wins, the last NaN wins, padding never does, and a window of -inf has its first cell.
    If `passes` has room, relu(x) is pooled, and it becomes 0 where a maximum's x is negative.
    """
    H, W, P, Q, R, S = g[0], g[1], g[2], g[3], g[4], g[5]
    sh, sw, dh, top, dw, left = g[6], g[7], g[8], g[9], g[10], g[11]
    relu = len(passes) > 0
    image = x[plane * H * W :]
    # Positions are as wide as float32 until a row is done: selecting bytes by a comparison of
    # floats took four times as long.
    where = np.empty(Q, np.int32)
    width = (W + sw - 1) // sw
    phases, zero = np.empty(min(sw, W) * width, x.dtype), x.dtype.type(0)
    for p in range(P):
        best = y[(plane * P + p) * Q : (plane * P + p + 1) * Q]
        h0 = p * sh - top
        r0 = max(0, (dh - 1 - h0) // dh)  # first tap that lies inside
        best[:] = -np.inf
        for q in range(Q):
            where[q] = r0 * S + starts[q]
        for r in range(r0, R):
            h = h0 + r * dh
            if h >= H:
                break
            line = image[h * W : (h + 1) * W]
            if sw > 1 or relu:
                _split(line, phases, sw, width)
                line = phases
            if relu:
                for i in range(len(line)):
                    line[i] = zero if line[i] < zero else line[i]
            for s in range(S):
                first, last = spans[s, 0], spans[s, 1]
                b, m = best[first:last], where[first:last]
                code = np.int32(r * S + s)
                _challenge(b, m, line[spans[s, 2] :], code, last - first)
        positions = mask[(plane * P + p) * Q : (plane * P + p + 1) * Q]
        for q in range(Q):
            positions[q] = where[q]
        if relu:
            for q in range(Q):
                h, w = h0 + where[q] // S * dh, q * sw - left + where[q] % S * dw
                passes[(plane * P + p) * Q + q] = not image[h * W + w] < zero


@exact
def _max_grad_chunk(plane, dy, mask, passes, taps, dx, bad, g):
    """All windows of one plane; bad[plane] counts mask entries that name no cell of the input.

    If `passes` is not empty, windows where it is 0 give nothing.
    """
    H, W, P, Q, sh, sw, top, left = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    image = dx[plane * H * W : (plane + 1) * H * W]
    image[:] = 0
    bad[plane] = 0
    dys, codes = dy[plane * P * Q :], mask[plane * P * Q :]
    count = len(taps)
    for p in range(P):
        for q in range(Q):
            code = np.int64(codes[p * Q + q])
            if 0 <= code < count:
                h, w = p * sh - top + taps[code, 0], q * sw - left + taps[code, 1]
                if 0 <= h < H and 0 <= w < W:
                    if len(passes) == 0 or passes[(plane * P + p) * Q + q] != 0:
                        image[h * W + w] += dys[p * Q + q]
                    continue
            bad[plane] += 1


@lru_cache(maxsize=256)
def _forward_tables(g: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tables that save a division per output, and the geometry's numbers.

    For each output column the first tap s inside the input; for each tap s the first output column
    that it can serve, and the one after the last.
    """
    outside = np.maximum(g.padding[2] - np.arange(g.Q) * g.stride[1], 0)
    starts = (-(-outside // g.dilation[1])).astype(np.int32)
    column = np.arange(g.S) * g.dilation[1] - g.padding[2]  # that tap s reads for output 0
    ends = np.stack([-column, g.W - column], axis=1)
    spans = np.clip(-(-ends // g.stride[1]), 0, g.Q)
    # and where that column stands in a row sorted by `_split`
    column = column + spans[:, 0] * g.stride[1]
    places = column % g.stride[1] * -(-g.W // g.stride[1]) + column // g.stride[1]
    spans = np.column_stack([spans, places])
    rows, columns = (g.dilation[0], g.padding[0]), (g.dilation[1], g.padding[2])
    shape = (g.H, g.W, g.P, g.Q, g.R, g.S, *g.stride, *rows, *columns)
    return starts, spans, np.array(shape)


@lru_cache(maxsize=256)
def _gradient_tables(g: Pool2dGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Offset (row, column) of each position in the window, and the geometry's numbers."""
    taps = np.stack(np.divmod(np.arange(g.R * g.S), g.S), axis=1) * g.dilation
    return taps, np.array((g.H, g.W, g.P, g.Q, *g.stride, g.padding[0], g.padding[2]))


def _run(
    g: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray, passes: np.ndarray
) -> None:
    starts, spans, shape = _forward_tables(g)
    launch(
        _max_chunk, g.N * g.C, g.bytes(x.itemsize),
        x.reshape(-1), y.reshape(-1), mask.reshape(-1), passes.reshape(-1), starts, spans, shape,
    )  # fmt: skip


def _run_grad(
    g: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, passes: np.ndarray, dx: np.ndarray
) -> int:
    taps, shape = _gradient_tables(g)
    planes = g.N * g.C
    bad = np.empty(planes, np.int64)
    launch(
        _max_grad_chunk, planes, g.bytes(dy.itemsize),
        dy.reshape(-1), mask.reshape(-1), passes.reshape(-1), taps, dx.reshape(-1), bad, shape,
        tells=True,
    )  # fmt: skip
    return int(bad.sum())


def max_pool2d(geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """y and mask, written whole; x (N, C, H, W), y and mask (N, C, P, Q)."""
    _run(geometry, x, y, mask, NO_PASSES)


def max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, dx: np.ndarray
) -> int:
    """dx, written whole; returns how many mask entries name no cell of the input.

    Those are left out, so nothing is written outside dx whatever the mask holds.
    """
    return _run_grad(geometry, dy, mask, NO_PASSES, dx)


def relu_max_pool2d(
    geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray, passes: np.ndarray
) -> None:
    """As `max_pool2d` of relu(x); passes, written whole, y's shape."""
    _run(geometry, x, y, mask, passes)


def relu_max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, passes: np.ndarray, dx: np.ndarray
) -> int:
    """As `max_pool2d_grad`, but with respect to the x of `relu_max_pool2d`."""
    return _run_grad(geometry, dy, mask, passes, dx)


def workspace(operation: str, g: Pool2dGeometry, itemsize: int) -> int:
    """Bytes that one thread of `max_pool2d` allocates: a row of positions and one sorted row."""
    stride = g.stride[1]
    return 4 * g.Q + itemsize * min(stride, g.W) * -(-g.W // stride)
