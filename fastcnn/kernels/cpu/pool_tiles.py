"""Max pooling and its gradient on vectors, for windows that lie side by side inside the image.

    forward    Y[p, q] = max over (r, s) of X[p*sh + r, q*sw + s], M[p, q] = r*S + s
    gradient   dX[p*sh + r, q*sw + s] = dY[p, q] where M[p, q] = r*S + s, else 0

That is the 2x2 window with stride 2 above all. A row of outputs is done in blocks of vectors, the
last of which overlaps the one before: doing an output twice is harmless, and no row has a remainder
that is done one by one. Every element of dX is written, in order, so nothing is cleared before.

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
    ROWS_AHEAD,
    allowed_codes,
    cannot_serve,
    count_strays,
    numbers,
    tasks,
)
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.vectors import (
    add,
    beats,
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


@lru_cache(maxsize=64)
def _max_chunk(lanes: int, R: int, S: int, sh: int, sw: int) -> Any:
    """Compile for a window, its strides and the lanes that a row of outputs fills."""

    span = lanes * sw

    @exact
    def max_tiles(task, x, y, mask, g):
        H, W, P, Q = g[2], g[3], g[4], g[5]
        lowest, first = splat(x.dtype.type(-np.inf), lanes), splat(np.int32(0), lanes)
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            for p in range(P):
                for block in range(0, Q, lanes):
                    q = min(block, Q - lanes)
                    best, where = lowest, first
                    for r in range(R):
                        row = (plane * H + p * sh + r) * W
                        prefetch_to_read(x, row + ROWS_AHEAD * W + q * sw, span)
                        for s in range(S):
                            v = load_step(x, row + q * sw + s, sw, lanes)
                            wins = beats(v, best)
                            best = select(wins, v, best)
                            where = select(wins, splat(np.int32(r * S + s), lanes), where)
                    store(y, (plane * P + p) * Q + q, best)
                    store(mask, (plane * P + p) * Q + q, where)

    return max_tiles


@lru_cache(maxsize=64)
def _max_grad_chunk(lanes: int, R: int, S: int, sh: int, sw: int) -> Any:
    """Compile for a window, its strides and the lanes that a row of outputs fills."""

    span = lanes * sw

    @exact
    def max_tiles_grad(task, dy, mask, dx, allowed, strays, g):
        H, W, P, Q = g[2], g[3], g[4], g[5]
        zero = splat(dy.dtype.type(0), lanes)
        for plane in range(task * g[0], min((task + 1) * g[0], g[1])):
            strays[plane] = count_strays(mask, plane * P * Q, allowed)
            for p in range(P):
                for r in range(sh):
                    row = (plane * H + p * sh + r) * W
                    for block in range(0, Q, lanes):
                        q = min(block, Q - lanes)
                        prefetch_to_write(dx, row + ROWS_AHEAD * W + q * sw, span)
                        code = load(mask, (plane * P + p) * Q + q, lanes)
                        # -0 becomes 0, as it does where it is added to a cleared array
                        v = add(load(dy, (plane * P + p) * Q + q, lanes), zero)
                        even = odd = zero
                        if r < R:
                            even = select(equal(code, splat(np.int32(r * S), lanes)), v, zero)
                        if r < R and S == 2:
                            odd = select(equal(code, splat(np.int32(r * S + 1), lanes)), v, zero)
                        if sw == 1:
                            store(dx, row + q, even)
                        else:
                            store_pairs(dx, row + 2 * q, even, odd)
                    for w in range(sw * Q, W):
                        dx[row + w] = 0
            for i in range((plane * H + P * sh) * W, (plane + 1) * H * W):
                dx[i] = 0

    return max_tiles_grad


def refusal(operation: str, g: Pool2dGeometry, itemsize: int) -> str | None:
    """Why these kernels cannot serve a geometry, or None."""
    (sh, sw), (top, _, left, _) = g.stride, g.padding
    reason = cannot_serve(g)
    if reason is None and max(g.R - sh, g.S - sw) > 0:
        reason = "windows overlap"
    if reason is None and (top or left or g.P * sh > g.H or g.Q * sw > g.W):
        reason = "windows reach into padding or over the end"
    return reason


def cost(operation: str, g: Pool2dGeometry, itemsize: int) -> float:
    """Seconds: those of moving the arrays through memory once."""
    return g.bytes(itemsize) / COPY_BYTES


def workspace(operation: str, g: Pool2dGeometry, itemsize: int) -> int:
    """No scratch memory."""
    return 0


@lru_cache(maxsize=256)
def _forward(g: Pool2dGeometry) -> tuple[Any, ...]:
    return _max_chunk(widest(g.Q), g.R, g.S, *g.stride), tasks(g), numbers(g)


@lru_cache(maxsize=256)
def _gradient(g: Pool2dGeometry) -> tuple[Any, ...]:
    chunk = _max_grad_chunk(widest(g.Q), g.R, g.S, *g.stride)
    return chunk, tasks(g), allowed_codes(g), numbers(g)


def max_pool2d(geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """y and mask, written whole; x (N, C, H, W), y and mask (N, C, P, Q)."""
    chunk, count, shape = _forward(geometry)
    work = geometry.bytes(x.itemsize)
    launch(chunk, count, work, x.reshape(-1), y.reshape(-1), mask.reshape(-1), shape)


def max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, dx: np.ndarray
) -> int:
    """dx, written whole; returns how many mask entries name no cell of the input."""
    chunk, count, allowed, shape = _gradient(geometry)
    strays = np.zeros(geometry.N * geometry.C, np.int64)
    launch(
        chunk, count, geometry.bytes(dy.itemsize),
        dy.reshape(-1), mask.reshape(-1), dx.reshape(-1), allowed, strays, shape,
    )  # fmt: skip
    return int(strays.sum())
