"""Max pooling and its gradient on vectors, for windows that overlap or reach into padding.

    forward    m[h, q] = max over s of X[h, q*sw - left + s]       once per row of X
               Y[p, q] = max over r of m[p*sh - top + r, q]
    gradient   dX[i*sh - top + c, j*sw - left + d] =
                   sum over t, u of dY[i-t, j-u] where M[i-t, j-u] = (c + sh*t)*S + d + sw*u
    with ReLU  Y = max relu(X), and dX is the gradient with respect to X: see pool_planes.py

Rows of m are kept until no window needs them, so X is read once and in order: whole windows taken
straight from X took five times as long in float64 beyond the caches. The gradient is gathered, not
scattered: every element is written once, with its windows added in row-major order. It works on
copies of a few rows of dY and M, in which what lies beside the output is there, and names no cell;
in these a row follows the other without a gap, so that vectors run over the ends of rows.

Strict comparisons and additions: results are those of pool.py, bit for bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.geometry import Pool2dGeometry
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.pool_planes import (
    COPY_BYTES,
    DEAD,
    NO_PASSES,
    ROWS_AHEAD,
    allowed_codes,
    cannot_serve,
    count_strays,
    numbers,
    run,
    run_grad,
    tasks,
)
from fastcnn.kernels.cpu.vectors import (
    above,
    add,
    beats,
    copy_row,
    equal,
    load,
    load_step,
    prefetch_to_read,
    prefetch_to_write,
    select,
    splat,
    store,
    store_pairs,
    widest,
)

# Elements of dX that the gradient does at a time: with the rows of dY and M that they need, they
# stay in a first-level cache of 32 KB in float64 too, where 2048 took three times as long.
_STRIP = 1024
# Lanes of the gradient, whose vectors need not end with a row.
_LANES = 16
# A code above every window's.
_NOWHERE = 255


@lru_cache(maxsize=64)
def _max_chunk(lanes: int, R: int, S: int, sh: int, sw: int, padded: bool, relu: bool) -> Any:
    """Compile for a window; `padded` if some windows begin left or end right of the image."""
    span = lanes * sw  # elements of a row that a block of vectors needs

    @exact
    def max_windows(task, x, y, mask, passes, starts, g):
        H, W, P, Q, top, left = g[2], g[3], g[4], g[5], g[10], g[11]
        lowest, zero = splat(x.dtype.type(-np.inf), lanes), splat(x.dtype.type(0), lanes)
        dead, none, one = splat(DEAD, lanes), splat(np.int32(0), lanes), splat(np.int32(1), lanes)
        values, codes = np.empty(R * Q, x.dtype), np.empty(R * Q, np.uint8)
        # A row is copied one row before it is needed: reading what was just written waits for it.
        length = max(left + W, (Q - 1) * sw + S)
        lines = np.empty(2 * length if padded else 0, x.dtype)
        lines[:] = -np.inf
        source = lines if padded else x
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            done = copied = 0
            for p in range(P):
                first, last = max(p * sh - top, 0), min(p * sh - top + R, H)
                for h in range(max(done, first), last):
                    row, kept = (plane * H + h) * W, h % R * Q
                    soon = row + ROWS_AHEAD * W
                    if padded:
                        while copied < min(h + 2, H):
                            from_ = (plane * H + copied) * W
                            copy_row(x, from_, lines, copied % 2 * length + left, W, lanes)
                            copied += 1
                        row = h % 2 * length
                    for block in range(0, Q, lanes):
                        q = min(block, Q - lanes)
                        prefetch_to_read(x, soon + q * sw, span)
                        start = load(starts, q, lanes)
                        best, where, first_cell = lowest, start, lowest
                        for s in range(S):
                            v = load_step(source, row + q * sw + s, sw, lanes)
                            wins = beats(v, best)
                            best = select(wins, v, best)
                            where = select(wins, splat(np.int32(s), lanes), where)
                            if relu and (padded or s == 0):
                                here = equal(start, splat(np.int32(s), lanes))
                                first_cell = select(here, v, first_cell)
                        if relu:
                            negative, wins = beats(zero, first_cell), beats(best, zero)
                            best = select(wins, best, select(negative, zero, first_cell))
                            code = select(negative, add(start, dead), start)
                            where = select(wins, where, code)
                        store(values, kept + q, best)
                        store(codes, kept + q, where)
                done = last
                for block in range(0, Q, lanes):
                    q = min(block, Q - lanes)
                    offset = (first - p * sh + top) * S
                    kept = first % R * Q + q
                    best = load(values, kept, lanes)
                    where = add(load(codes, kept, lanes), splat(np.int32(offset), lanes))
                    for h in range(first + 1, last):
                        offset += S
                        kept = h % R * Q + q
                        v = load(values, kept, lanes)
                        wins = beats(v, best)
                        best = select(wins, v, best)
                        here = add(load(codes, kept, lanes), splat(np.int32(offset), lanes))
                        where = select(wins, here, where)
                    if relu:
                        lost = above(where, splat(np.int32(DEAD - 1), lanes))
                        store(passes, (plane * P + p) * Q + q, select(lost, none, one))
                        where = select(lost, add(where, splat(np.int32(-DEAD), lanes)), where)
                    store(y, (plane * P + p) * Q + q, best)
                    store(mask, (plane * P + p) * Q + q, where)

    return max_windows


@lru_cache(maxsize=64)
def _max_grad_chunk(few: int, R: int, S: int, sh: int, sw: int, relu: bool) -> Any:
    """Compile for a window; `few` lanes fit a row of outputs and of inputs."""
    up, across = (R - 1) // sh, (S - 1) // sw  # further windows that hold a cell
    span = _LANES * sh * sw  # elements of dX that a block of vectors makes

    @exact
    def max_windows_grad(task, dy, mask, passes, dx, allowed, strays, g):
        H, W, P, Q, top, left = g[2], g[3], g[4], g[5], g[10], g[11]
        rows = (H + top + sh - 1) // sh  # values of i
        width = across + max(Q, (W + left + sw - 1) // sw)  # values of j, and what lies left of 0
        strip = min(rows, max(1, _STRIP // (width * sh * sw)))
        size = strip * width + _LANES
        values = np.zeros(size + (up + 1) * width, dy.dtype)
        codes = np.empty(size + (up + 1) * width, np.uint8)
        codes[:] = _NOWHERE
        lines = np.empty(sh * sw * size, dy.dtype)
        zero = splat(dy.dtype.type(0), _LANES)
        none, nowhere = splat(np.int32(0), few), splat(np.int32(_NOWHERE), few)
        strays[task] = 0
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            strays[task] += count_strays(mask, plane * P * Q, allowed)
            for i0 in range(0, rows, strip):
                i1 = min(i0 + strip, rows)
                for p in range(i0 - up, i1):
                    to = (p - i0 + up) * width + across
                    if 0 <= p < P:
                        copy_row(dy, (plane * P + p) * Q, values, to, Q, few)
                        copy_row(mask, (plane * P + p) * Q, codes, to, Q, few)
                        if relu:
                            for block in range(0, Q, few):
                                q = min(block, Q - few)
                                code = load(mask, (plane * P + p) * Q + q, few)
                                kept = load(passes, (plane * P + p) * Q + q, few)
                                code = select(equal(kept, none), nowhere, code)
                                store(codes, to + q, code)
                    else:
                        codes[to : to + Q] = _NOWHERE
                soon = (plane * H + i0 * sh - top) * W
                for j in range(0, (i1 - i0) * width, _LANES):
                    prefetch_to_write(dx, soon + j * sh * sw, span)
                    for c in range(sh):
                        even = odd = zero
                        for i in range(up + 1):
                            r = c + sh * (up - i)
                            for s in range(S - 1, -1, -1):
                                at = j + i * width + across - s // sw
                                code = splat(np.int32(r * S + s), _LANES)
                                hit = equal(load(codes, at, _LANES), code)
                                v = select(hit, load(values, at, _LANES), zero)
                                if r < R and s % sw == 0:
                                    even = add(even, v)
                                if r < R and s % sw == 1:
                                    odd = add(odd, v)
                        if sw == 1:
                            store(lines, c * size + j, even)
                        else:
                            store_pairs(lines, 2 * (c * size + j), even, odd)
                for i in range(i0, i1):
                    for c in range(sh):
                        h, line = i * sh - top + c, c * size + (i - i0) * width
                        if 0 <= h < H:
                            copy_row(lines, line * sw + left, dx, (plane * H + h) * W, W, few)

    return max_windows_grad


def refusal(operation: str, g: Pool2dGeometry, itemsize: int) -> str | None:
    """Why these kernels cannot serve a geometry, or None."""
    return cannot_serve(g)


# Measured on one core with AVX-512: a tap of a vector's lane, and what a row costs however short.
_TAP_SECONDS, _ROW_SECONDS = 0.1e-9, 2e-9


def cost(operation: str, g: Pool2dGeometry, itemsize: int) -> float:
    """Seconds: memory, taps of windows, and rows."""
    taps, rows = g.P * g.Q * g.R * g.S, g.H + 2 * g.P
    return g.bytes(itemsize) / COPY_BYTES + g.N * g.C * (taps * _TAP_SECONDS + rows * _ROW_SECONDS)


def _reaches_out(g: Pool2dGeometry) -> bool:
    """Whether some windows begin left or end right of the image."""
    return g.padding[2] > 0 or (g.Q - 1) * g.stride[1] + g.S > g.W


def workspace(operation: str, g: Pool2dGeometry, itemsize: int) -> int:
    """Bytes of scratch memory that a thread needs."""
    (sh, sw), (top, _, left, _) = g.stride, g.padding
    if not operation.endswith("_grad"):
        lines = 2 * max(left + g.W, (g.Q - 1) * sw + g.S) if _reaches_out(g) else 0
        return g.R * g.Q * (itemsize + 1) + lines * itemsize
    width = (g.S - 1) // sw + max(g.Q, -(-(g.W + left) // sw))
    size = min(-(-(g.H + top) // sh), max(1, _STRIP // (width * sh * sw))) * width + _LANES
    kept = size + ((g.R - 1) // sh + 1) * width
    return kept * (itemsize + 1) + sh * sw * size * itemsize


@lru_cache(maxsize=256)
def _forward(g: Pool2dGeometry, relu: bool) -> tuple[Any, ...]:
    chunk = _max_chunk(widest(min(g.Q, g.W)), g.R, g.S, *g.stride, _reaches_out(g), relu)
    # First column of each window that lies inside: it stays chosen if all are -inf.
    starts = np.maximum(g.padding[2] - np.arange(g.Q) * g.stride[1], 0).astype(np.int32)
    return chunk, tasks(g), starts, numbers(g)


@lru_cache(maxsize=256)
def _gradient(g: Pool2dGeometry, relu: bool) -> tuple[Any, ...]:
    chunk = _max_grad_chunk(widest(min(g.Q, g.W)), g.R, g.S, *g.stride, relu)
    return chunk, tasks(g), allowed_codes(g), numbers(g)


def max_pool2d(geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """y and mask, written whole; x (N, C, H, W), y and mask (N, C, P, Q)."""
    run(_forward(geometry, False), geometry, x, y, mask, NO_PASSES)


def max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, dx: np.ndarray
) -> int:
    """dx, written whole; returns how many mask entries name no cell of the input."""
    return run_grad(_gradient(geometry, False), geometry, dy, mask, NO_PASSES, dx)


def relu_max_pool2d(
    geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray, passes: np.ndarray
) -> None:
    """As `max_pool2d` of relu(x); passes, written whole, y's shape."""
    run(_forward(geometry, True), geometry, x, y, mask, passes)


def relu_max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, passes: np.ndarray, dx: np.ndarray
) -> int:
    """As `max_pool2d_grad`, but with respect to the x of `relu_max_pool2d`."""
    return run_grad(_gradient(geometry, True), geometry, dy, mask, passes, dx)
