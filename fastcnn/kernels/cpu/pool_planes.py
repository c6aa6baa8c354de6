"""What the vector kernels of pooling share: a task's planes, refusals, bad masks, ReLU.

ReLU and pooling in one pass: z goes in, y = max relu(z) comes out. If a cell of the window is above
zero (or NaN), the maximum of z is that of relu(z), and where it is. If none is, all of relu(z) is
zero and the first cell wins; if its z is negative, relu lets no gradient pass. So the first cell's
relu(z) starts as the best, with a code of its own for a negative z; nothing but a number above zero
replaces it, for which relu need not be taken. `passes` is 0 where that code is left, else 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.geometry import Pool2dGeometry
from fastcnn.kernels.cpu.jit import config, exact
from fastcnn.kernels.cpu.threads import launch

# Elements of the input per task: small planes share one, because a task costs 10 ns and the
# scratch memory of one more.
_ELEMENTS = 8192

# How far ahead of its use a row is prefetched. The processor's own prefetching came too late for
# several rows in step: float64 beyond the caches took 10 ms, with 4 rows 2.7, 2 rows 3.7 to 7.7.
ROWS_AHEAD = 4

# Bytes per second that one core moves from memory to memory; only ratios of costs matter.
COPY_BYTES = 8e9

# Cells that a window may have, so that a bit of an int32 is left that stands for none.
MOST_CELLS = 31
_NO_CODE = np.int32(MOST_CELLS)

# Added to the code of a maximum that is negative before ReLU; above every window's codes.
DEAD = np.int32(128)
# In place of `passes` where there is no ReLU.
NO_PASSES = np.empty(0, np.uint8)


def planes_per_task(g: Pool2dGeometry) -> int:
    """How many planes one task does."""
    return max(1, _ELEMENTS // (g.H * g.W))


def tasks(g: Pool2dGeometry) -> int:
    """How many tasks all planes make."""
    return -(-g.N * g.C // planes_per_task(g))


def numbers(g: Pool2dGeometry) -> np.ndarray:
    """The geometry for compiled code: planes per task, planes, H W P Q, R S, strides, top, left."""
    sides = g.padding[0], g.padding[2]
    shape = (g.N * g.C, g.H, g.W, g.P, g.Q, g.R, g.S, *g.stride, *sides)
    return np.array((planes_per_task(g), *shape))


def allowed_codes(g: Pool2dGeometry) -> np.ndarray:
    """For each window of a plane a bit per code, int32: set if that cell lies in the input."""

    def inside(outputs, stride, before, kernel, length):
        cells = np.arange(outputs)[:, np.newaxis] * stride - before + np.arange(kernel)
        return (cells >= 0) & (cells < length)

    rows = inside(g.P, g.stride[0], g.padding[0], g.R, g.H)
    columns = inside(g.Q, g.stride[1], g.padding[2], g.S, g.W)
    cells = rows[:, np.newaxis, :, np.newaxis] & columns[:, np.newaxis, :]
    bits = np.left_shift(1, np.arange(g.R * g.S, dtype=np.int32)).reshape(g.R, g.S)
    return np.where(cells, bits, 0).sum(axis=(2, 3), dtype=np.int32).reshape(-1)


def cannot_serve(g: Pool2dGeometry) -> str | None:
    """Why no vector kernel of pooling can serve a geometry, or None."""
    if config.DISABLE_JIT:
        return "vectors need the compiler, which NUMBA_DISABLE_JIT turns off"
    if g.R != g.S or g.stride[0] != g.stride[1]:
        # Each window is compiled by itself: the rare ones are not worth the second.
        return f"the window, {g.R} x {g.S}, or its stride, {g.stride}, is not square"
    if g.stride[1] > 2:
        return f"stride {g.stride[1]} is above 2"
    if g.dilation != (1, 1):
        return "the window is dilated"
    if g.R * g.S > MOST_CELLS:
        return f"the window has {g.R * g.S} cells, above {MOST_CELLS}"
    if min(g.Q, g.W) < 2:
        return "rows of one element fill no vector"
    return None


@exact
def count_strays(mask, start, allowed):
    """How many codes of the plane that begins at mask[start] name no cell of the input.

    Where codes of windows at the border were divided instead of looked up, the whole gradient of
    a 3x3 window with stride 1 took 2.8 times as long on planes of 14x14.
    """
    codes = mask[start:]
    strays = np.int32(0)
    for i in range(len(allowed)):
        code = min(np.int32(codes[i]), _NO_CODE)
        strays += np.int32(1) - ((allowed[i] >> code) & np.int32(1))
    return strays


def run(
    prepared: tuple[Any, ...], g: Pool2dGeometry,
    x: np.ndarray, y: np.ndarray, mask: np.ndarray, passes: np.ndarray,
) -> None:  # fmt: skip
    """Launch a forward chunk; `prepared` holds it, how many tasks, and its tables."""
    chunk, count, *tables = prepared
    launch(
        chunk, count, g.bytes(x.itemsize),
        x.reshape(-1), y.reshape(-1), mask.reshape(-1), passes.reshape(-1), *tables,
    )  # fmt: skip


def run_grad(
    prepared: tuple[Any, ...], g: Pool2dGeometry,
    dy: np.ndarray, mask: np.ndarray, passes: np.ndarray, dx: np.ndarray,
) -> int:  # fmt: skip
    """Launch a gradient's chunk; returns how many mask entries name no cell of the input."""
    chunk, count, allowed, shape = prepared
    strays = np.empty(count, np.int64)
    launch(
        chunk, count, g.bytes(dy.itemsize),
        dy.reshape(-1), mask.reshape(-1), passes.reshape(-1), dx.reshape(-1),
        allowed, strays, shape, tells=True,
    )  # fmt: skip
    # of one task without a sum, which takes a tenth of a small call
    return int(strays[0]) if count == 1 else int(strays.sum())
