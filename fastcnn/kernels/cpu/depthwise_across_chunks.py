"""What a task of depthwise_across.py does, compiled for one kernel: vectors of planes, one by one.

for each vector of planes of the task's filters, for each image
    planes_in      the source's planes, one to a lane, with padding around them
    product        every tap of every pixel, in registers            (planes_across.py)
    planes_out     the result's planes, each where it belongs
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.planes_across import across_dots, across_product, planes_in, planes_out
from fastcnn.memory import LINE_BYTES


@kernel
def _to_line(scratch):
    """The element of a scratch array with which a cache line begins."""
    return -(scratch.ctypes.data // scratch.itemsize) % (LINE_BYTES // scratch.itemsize)


@lru_cache(maxsize=64)
def product_chunk(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, transposed: bool, residues: int,
    across: int, lanes: int,
) -> Any:  # fmt: skip
    """Compile the forward pass or the input gradient for a kernel, its strides and dilations."""
    cells = R * S

    @kernel
    def depthwise_across(task, source, w, bias, out, floor, into, back, taps, g):
        images, filters, some, pixels, out_pixels = g[0], g[1], g[2], g[3], g[4]
        grid_rows, grid_columns, pitch, out_pitch, spans = g[5], g[6], g[7], g[8], g[9]
        scratch = np.zeros(g[12], source.dtype)
        xs = _to_line(scratch)
        ys = xs + g[10]
        ws = ys + g[11]
        per_pixel = bias.size > filters
        lowest = source.dtype.type(-np.inf) if per_pixel else floor
        block, span = divmod(task, spans)
        n0, n1 = span * images // spans, (span + 1) * images // spans
        for k in range(block * some, min(filters, (block + 1) * some), lanes):
            # A kernel's cells are planes like any other. Put in order by a loop, element by
            # element, they would make the loads of whole vectors wait for each of them.
            planes_in(w, k * cells, cells, cells, 0, taps, scratch, ws, lanes)
            for n in range(n0, n1):
                first = n * filters + k
                ahead = filters if n + 1 < n1 else lanes - (n - n0) * filters
                planes_in(
                    source, first * pixels, pixels, pixels, ahead * pixels, into, scratch, xs, lanes
                )
                across_product(
                    scratch, xs, ws, ys, bias, k, bias.size > 0 and not per_pixel, lowest,
                    grid_rows, grid_columns, pitch, out_pitch,
                    R, S, sh, sw, dh, dw, transposed, residues, across, lanes,
                )  # fmt: skip
                planes_out(
                    scratch, ys, back, out, first * out_pixels, out_pixels, out_pixels, lanes
                )
                if per_pixel:
                    there = bias[k * out_pixels :]
                    here = out[first * out_pixels :]
                    for j in range(lanes * out_pixels):
                        z = here[j] + there[j]
                        here[j] = floor if z < floor else z

    return depthwise_across


@lru_cache(maxsize=64)
def weight_grad_chunk(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, across: int, lanes: int, with_bias: bool
) -> Any:
    """Compile the weight gradient for a kernel, its strides and dilations."""
    cells, with_sum = R * S, int(with_bias)

    @kernel
    def depthwise_across_sums(task, x, dy, parts, dy_sums, into, back, taps, g):
        images, filters, some, pixels, P, Q = g[0], g[1], g[2], g[3], g[4], g[5]
        pitch, spans = g[6], g[7]
        scratch = np.zeros(g[10], x.dtype)
        xs = _to_line(scratch)
        dys = xs + g[8]
        sums = dys + g[9]
        block, span = divmod(task, spans)
        n0, n1 = span * images // spans, (span + 1) * images // spans
        for k in range(block * some, min(filters, (block + 1) * some), lanes):
            scratch[sums : sums + cells * lanes] = 0
            at = span * filters + k
            dy_sums[at : at + with_sum * lanes] = 0
            for n in range(n0, n1):
                first = n * filters + k
                # the next image's, or the next planes of the first image
                ahead = filters if n + 1 < n1 else lanes - (n - n0) * filters
                planes_in(
                    x, first * pixels, pixels, pixels, ahead * pixels, into, scratch, xs, lanes
                )
                planes_in(dy, first * P * Q, P * Q, P * Q, ahead * P * Q, back, scratch, dys, lanes)
                across_dots(
                    scratch, xs, dys, sums, dy_sums, at, P, Q, pitch,
                    R, S, sh, sw, dh, dw, across, with_sum, lanes,
                )  # fmt: skip
            planes_out(scratch, sums, taps, parts, at * cells, cells, cells, lanes)

    return depthwise_across_sums
