"""Max pooling and its gradient on vectors, for windows that lie side by side.

    forward    Y[p, q] = max over (r, s) of X[p*sh + r, q*sw + s], M[p, q] = r*S + s
    gradient   dX[p*sh + r, q*sw + s] = dY[p, q] where M[p, q] = r*S + s, else 0
    with ReLU  Y = max relu(X), and dX is the gradient with respect to X: see pool_planes.py

That is the 2x2 window with stride 2 above all. A row of outputs is done in blocks of vectors, the
last of which overlaps the one before: doing an output twice is harmless, and no row has a remainder
that is done one by one. Every element of dX is written, in order, so nothing is cleared before.
The last window of a row and of a column may hang over the end (ceil_mode): it has fewer cells, and
the one of a row is done by itself.

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
    add,
    beats,
    equal,
    load,
    load_step,
    prefetch_stream,
    prefetch_to_write,
    select,
    splat,
    store,
    store_pairs,
    widest,
)


@exact
def _last_window(x, at, W, rows, columns, S, relu):
    """Maximum and code of a window of which `rows` x `columns` cells lie in the image."""
    best, where = x.dtype.type(-np.inf), np.int32(0)
    if relu:
        negative = x[at] < x.dtype.type(0)
        best = x.dtype.type(0) if negative else x[at]
        where = DEAD if negative else where
    for r in range(rows):
        for s in range(columns):
            v = x[at + r * W + s]
            if v > best or v != v:
                best, where = v, np.int32(r * S + s)
    return best, where


@lru_cache(maxsize=64)
def _max_chunk(lanes: int, R: int, S: int, sh: int, sw: int, relu: bool) -> Any:
    """Compile for a window, its strides and the lanes that a row of outputs fills."""

    span = lanes * sw

    @exact
    def max_tiles(task, x, y, mask, passes, g):
        H, W, P, Q = g[2], g[3], g[4], g[5]
        whole = min(Q, W // sw)
        lowest, first = splat(x.dtype.type(-np.inf), lanes), splat(np.int32(0), lanes)
        zero, one = splat(x.dtype.type(0), lanes), splat(np.int32(1), lanes)
        dead = splat(DEAD, lanes)
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            for p in range(P):
                rows = min(R, H - p * sh)
                for block in range(0, whole, lanes):
                    q = min(block, whole - lanes)
                    best, where = lowest, first
                    if relu:
                        v = load_step(x, (plane * H + p * sh) * W + q * sw, sw, lanes)
                        negative = beats(zero, v)
                        best, where = select(negative, zero, v), select(negative, dead, first)
                    for r in range(R):
                        row = (plane * H + p * sh + r) * W
                        prefetch_stream(x, row + q * sw, ROWS_AHEAD * W, span)
                        if r < rows:
                            for s in range(S):
                                v = load_step(x, row + q * sw + s, sw, lanes)
                                wins = beats(v, best)
                                best = select(wins, v, best)
                                where = select(wins, splat(np.int32(r * S + s), lanes), where)
                    if relu:
                        none = equal(where, dead)
                        store(passes, (plane * P + p) * Q + q, select(none, first, one))
                        where = select(none, first, where)
                    store(y, (plane * P + p) * Q + q, best)
                    store(mask, (plane * P + p) * Q + q, where)
                if whole < Q:
                    at, to = (plane * H + p * sh) * W + whole * sw, (plane * P + p) * Q + whole
                    value, code = _last_window(x, at, W, rows, W - whole * sw, S, relu)
                    if relu:
                        passes[to] = code != DEAD
                        code = np.int32(0) if code == DEAD else code
                    y[to], mask[to] = value, code

    return max_tiles


@lru_cache(maxsize=64)
def _max_grad_chunk(lanes: int, R: int, S: int, sh: int, sw: int, relu: bool) -> Any:
    """Compile for a window, its strides and the lanes that a row of outputs fills."""

    span = lanes * sw

    @exact
    def max_tiles_grad(task, dy, mask, passes, dx, allowed, strays, g):
        H, W, P, Q = g[2], g[3], g[4], g[5]
        whole = min(Q, W // sw)
        zero = splat(dy.dtype.type(0), lanes)
        none, dead = splat(np.int32(0), lanes), splat(DEAD, lanes)
        strays[task] = 0
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            strays[task] += count_strays(mask, plane * P * Q, allowed)
            for p in range(P):
                rows, row, out = min(sh, H - p * sh), (plane * H + p * sh) * W, (plane * P + p) * Q
                for block in range(0, whole, lanes):
                    q = min(block, whole - lanes)
                    code = load(mask, out + q, lanes)
                    if relu:
                        kept = load(passes, out + q, lanes)
                        code = select(equal(kept, none), dead, code)
                    # -0 becomes 0, as it does where it is added to a cleared array
                    v = add(load(dy, out + q, lanes), zero)
                    for r in range(sh):
                        if r < rows:
                            to = row + r * W + sw * q
                            prefetch_to_write(dx, to + ROWS_AHEAD * W, span)
                            even = odd = zero
                            if r < R:
                                even = select(equal(code, splat(np.int32(r * S), lanes)), v, zero)
                            if r < R and S == 2:
                                odd = select(
                                    equal(code, splat(np.int32(r * S + 1), lanes)), v, zero
                                )
                            if sw == 1:
                                store(dx, to, even)
                            else:
                                store_pairs(dx, to, even, odd)
                if sw * whole < W:
                    for r in range(rows):
                        for w in range(sw * whole, W):
                            dx[row + r * W + w] = 0
                if whole < Q:
                    row_of, s = divmod(np.int64(mask[out + whole]), S)
                    kept = not relu or passes[out + whole] != 0
                    if kept and row_of < min(R, rows) and s < W - sw * whole:
                        dx[row + row_of * W + sw * whole + s] += dy[out + whole]
            for i in range((plane * H + P * sh) * W, (plane + 1) * H * W):
                dx[i] = 0

    return max_tiles_grad


def refusal(operation: str, g: Pool2dGeometry, itemsize: int) -> str | None:
    """Why these kernels cannot serve a geometry, or None."""
    (sh, sw), (top, _, left, _) = g.stride, g.padding
    reason = cannot_serve(g)
    if reason is None and max(g.R - sh, g.S - sw) > 0:
        reason = "windows overlap"
    if reason is None and (top or left):
        reason = "windows reach into padding"
    if reason is None and _whole(g) < 2:
        reason = "rows of one whole window fill no vector"
    return reason


def _whole(g: Pool2dGeometry) -> int:
    """Windows of a row that lie inside the image; there is one more at the most."""
    return min(g.Q, g.W // g.stride[1])


def cost(operation: str, g: Pool2dGeometry, itemsize: int) -> float:
    """Seconds: those of moving the arrays through memory once."""
    return g.bytes(itemsize) / COPY_BYTES


def workspace(operation: str, g: Pool2dGeometry, itemsize: int) -> int:
    """No scratch memory."""
    return 0


@lru_cache(maxsize=256)
def _forward(g: Pool2dGeometry, relu: bool) -> tuple[Any, ...]:
    return _max_chunk(widest(_whole(g)), g.R, g.S, *g.stride, relu), tasks(g), numbers(g)


@lru_cache(maxsize=256)
def _gradient(g: Pool2dGeometry, relu: bool) -> tuple[Any, ...]:
    chunk = _max_grad_chunk(widest(_whole(g)), g.R, g.S, *g.stride, relu)
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
