"""Convolution of stride 1 and its gradients by Fourier transforms of 16 x 16 squares.

A product of two spectra is the spectrum of a circular convolution, with the conjugate of one of
them of a circular correlation. Of a correlation of 16 x 16 pixels with an R x S filter the first
17-R rows and 17-S columns have not gone round the square's end:

    forward        Y[k] = sum over c of X[c] * conj(W[k, c]), squares of X at steps of 17-R, 17-S
    input grad     dX[c] = sum over k of dY[k] * W[k, c]; of squares of dY, the last 17-R rows; or
                   all rows, where dY with zeros behind it fits into a square
    weight grad    dW[k, c] = sum over images and squares of X[c] * conj(dY[k]), the first R rows

A result takes 256/((17-R)(17-S)) complex products, two multiply-adds to one number, with a channel:
5x5 3.6 multiply-adds in the place of 25, 7x7 5.1 in the place of 49, 11x11 14 in the place of 121.
Pixels beyond an image's edge are multiplied, too, and squares are transformed.

Errors are those of transformed numbers: small in norm, not against each element; inputs and results
are looked at as Winograd's are (winograd.py).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu import gemm_weight_grad, implicit_gemm
from fastcnn.kernels.cpu.fourier_blocks import Fourier, Side, plan, run
from fastcnn.kernels.cpu.fourier_transforms import SIZE
from fastcnn.kernels.cpu.pixel_bias import afterwards, at_once
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

AGAIN = "inputs or results are not finite, or too large: computed again by implicit GEMM"


def windows(
    shape: tuple[int, int, int, int],
    starts: tuple[np.ndarray, np.ndarray],
    most: tuple[int, int],
    exist: tuple[int, int] | None = None,
) -> np.ndarray:
    """Squares of the images of a shape: place; rows and columns, at most so many, that exist: all
    of the image's, unless it is said how many."""
    N, C, H, W = shape
    tiles = np.empty((N, len(starts[0]), len(starts[1]), 5), np.int64)
    rows, columns = starts[0][:, np.newaxis], starts[1]
    tiles[..., 0] = np.arange(N)[:, np.newaxis, np.newaxis] * (C * H * W) + rows * W + columns
    for axis, (start, size) in enumerate(zip((rows, columns), exist or (H, W), strict=True)):
        tiles[..., 1 + 2 * axis] = np.maximum(0, -start)
        tiles[..., 2 + 2 * axis] = np.minimum(most[axis], size - start)
    return tiles.reshape(-1, 5)


def _filters(rows: int, row_step: int, column_step: int, g: Conv2dGeometry) -> Side:
    """A side of filters, whose next row and next term are so many elements further on."""
    return Side(rows, np.array([row_step, column_step, 0, 0, g.S]), np.array([[0, 0, g.R, 0, g.S]]))


def steps(size: int, taps: int) -> np.ndarray:
    """Where the squares of so many results begin."""
    step = SIZE + 1 - taps
    return np.arange(blocks_of(size, step)) * step


@lru_cache(maxsize=256)
def _forward(g: Conv2dGeometry, itemsize: int) -> Fourier:
    (top, _, left, _), plane = g.padding, g.R * g.S
    down, across = steps(g.P, g.R), steps(g.Q, g.S)
    read = windows(g.input_shape, (down - top, across - left), (SIZE, SIZE))
    written = windows(g.output_shape, (down, across), (SIZE + 1 - g.R, SIZE + 1 - g.S))
    return plan(
        _filters(g.K, g.C * plane, plane, g),
        Side(len(read), np.array([0, g.H * g.W, 1, 0, g.W]), read),
        Side(len(read), np.array([g.P * g.Q, 0, 0, 1, g.Q]), written),
        g.C, True, itemsize,
    )  # fmt: skip


def _reach(size: int, taps: int, before: int, result: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Along one axis of an input gradient: where squares of dY and those of dX begin, and the first
    row that counts."""
    if size <= SIZE + 1 - taps:
        return np.array([0]), np.array([-before]), 0
    starts = steps(result, taps)
    return starts + before - (taps - 1), starts - (taps - 1), taps - 1


@lru_cache(maxsize=256)
def _input_grad(g: Conv2dGeometry, itemsize: int) -> Fourier:
    (top, _, left, _), plane = g.padding, g.R * g.S
    down, to_down, first_row = _reach(g.P, g.R, top, g.H)
    across, to_across, first_column = _reach(g.Q, g.S, left, g.W)
    read = windows(g.output_shape, (down, across), (SIZE, SIZE))
    written = windows(g.input_shape, (to_down, to_across), (SIZE, SIZE))
    written[:, 1] = np.maximum(written[:, 1], first_row)
    written[:, 3] = np.maximum(written[:, 3], first_column)
    return plan(
        _filters(g.C, plane, g.C * plane, g),
        Side(len(read), np.array([0, g.P * g.Q, 1, 0, g.Q]), read),
        Side(len(read), np.array([g.H * g.W, 0, 0, 1, g.W]), written),
        g.K, False, itemsize,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _weight_grad(g: Conv2dGeometry, itemsize: int) -> Fourier:
    (top, _, left, _), plane = g.padding, g.R * g.S
    down, across = steps(g.P, g.R), steps(g.Q, g.S)
    read = windows(g.input_shape, (down - top, across - left), (SIZE, SIZE))
    factor = windows(g.output_shape, (down, across), (SIZE + 1 - g.R, SIZE + 1 - g.S))
    return plan(
        Side(g.K, np.array([g.P * g.Q, 0, 0, 1, g.Q]), factor),
        Side(g.C, np.array([g.H * g.W, 0, 0, 1, g.W]), read),
        Side(g.C, np.array([g.C * plane, plane, 0, 0, g.S]), np.array([[0, 0, g.R, 0, g.S]])),
        len(read), True, itemsize,
    )  # fmt: skip


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: None = None,
    relu: bool = False,
) -> str | None:
    """y = conv(x, w) + b, or relu(conv(x, w) + b), written whole; shapes as in
    `fastcnn.functional.conv2d`, batched. `packed` is there for the sake of a common signature.

    Returns a remark if the result had to be computed in another way.
    """
    if not y.size:
        return None
    if not x.size or not w.size:
        implicit_gemm.conv2d(geometry, x, w, b, y, relu=relu)
        return None
    bias, lowest = at_once(geometry, b, y, relu)
    if not run(_forward(geometry, x.itemsize), w, x, bias, lowest, y):
        implicit_gemm.conv2d(geometry, x, w, b, y, relu=relu)
        return AGAIN
    afterwards(geometry, b, y, relu)
    return None


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: None = None,
) -> str | None:
    """dx, written whole, from dy (N, K, P, Q) and w; `packed` and what it returns as above."""
    if not dx.size:
        return None
    if not dy.size:
        dx.fill(0)
        return None
    none, lowest = np.empty(0, dy.dtype), dy.dtype.type(-np.inf)
    if run(_input_grad(geometry, dy.itemsize), w, dy, none, lowest, dx):
        return None
    implicit_gemm.conv2d_input_grad(geometry, dy, w, dx)
    return AGAIN


def conv2d_weight_grad(
    geometry: Conv2dGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> str | None:
    """dw, written whole, from x (N, C, H, W) and dy (N, K, P, Q); what it returns as above."""
    if not dw.size:
        return None
    if not x.size or not dy.size:
        dw.fill(0)
        return None
    none, lowest = np.empty(0, dy.dtype), dy.dtype.type(-np.inf)
    if run(_weight_grad(geometry, x.itemsize), dy, x, none, lowest, dw):
        return None
    gemm_weight_grad.conv2d_weight_grad(geometry, x, dy, dw)
    return AGAIN


# Taps along an axis at the most: of a square, a quarter of the results is left.
MOST_TAPS = 12


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    if g.stride != (1, 1) or g.dilation != (1, 1) or g.groups != 1:
        return "it takes stride 1, dilation 1 and one group"
    if max(g.R, g.S) > MOST_TAPS:
        return f"filters of {g.R} x {g.S} leave too little of a square: {MOST_TAPS} at the most"
    return too_much(workspace(operation, g, itemsize))


# A block's sums are as long as the far side, of a thousand channels in float64 6.8 MB; 2 MB and
# more leave L2, and there is no layer of that kind where anything is won.
MOST_SCRATCH = 4 << 20


def too_much(scratch: int) -> str | None:
    """Why so many bytes for a thread's block cannot be served; None if they can."""
    if scratch <= MOST_SCRATCH:
        return None
    return f"a block would take {scratch} bytes for each thread: {MOST_SCRATCH} at the most"


_PLANS = {
    "conv2d": _forward,
    "conv2d_input_grad": _input_grad,
    "conv2d_weight_grad": _weight_grad,
}

# Measured on one core of a Zen 5 machine, float32, over some 450 layers and each operation: complex
# products and squares transformed per second; seconds of the smallest call. Bytes of the far side's
# spectra read per second where they are more than half of L2; of arrays, but for what L2 holds.
# Nine of ten layers take 0.9 to 1.2 times what they say together. Seconds that a square of a weight
# gradient waits for its rows, which lie apart, where arrays are beyond L2 (3 MB) or L3.
PRODUCTS = 26e9
SQUARES = 16.5e6
CALL = 8e-6
STREAMED, HALF_OF_L2 = 0.5e12, 512 << 10
MOVED, IN_L2 = 45e9, 2 << 20
WAITS = ((32 << 20, 170e-9), (3 << 20, 50e-9), (0, 0.0))


def _empty(g: Conv2dGeometry) -> bool:
    return not g.N * g.C * g.H * g.W * g.K * g.P * g.Q


def seconds(f: Fourier, itemsize: int) -> float:
    """Of spectra multiplied and squares transformed, on one core."""
    # vectors shorter than 16 lanes: as many more, which their registers do not hold
    lanes = known_unit().lanes(itemsize)
    slower = 1.0 if lanes == SIZE else 1.5 * SIZE / lanes
    streamed = f.far_bytes(itemsize) * blocks_of(f.near.rows, f.some_rows)
    if f.far_bytes(itemsize) <= HALF_OF_L2:
        streamed = 0
    return slower * (f.products / PRODUCTS + f.squares / SQUARES) + streamed / STREAMED


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: spectra multiplied, squares transformed, arrays read and written."""
    if _empty(g):
        return CALL
    f, size = _PLANS[operation](g, itemsize), g.bytes(itemsize)
    if operation == "conv2d_weight_grad":
        moved = f.squares * next(wait for least, wait in WAITS if size >= least)
    else:
        moved = max(0, size - IN_L2) / MOVED
    return CALL + moved + seconds(f, itemsize)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: panels of a block, and its sums.

    The spectra of the far side are shared by all threads and not counted.
    """
    return 0 if _empty(g) else _PLANS[operation](g, itemsize).scratch(itemsize)
