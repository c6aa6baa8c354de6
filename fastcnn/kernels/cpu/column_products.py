"""Products over columns (columns.py) in plain loops, which LLVM turns into vector code."""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.columns import BLOCK, fill_columns, load_rows, rectify, store_rows
from fastcnn.kernels.cpu.jit import kernel

# Rows of columns at a time: 256 KB of float32, which stay in L2.
DEPTH = 512
# Filters, and taps, that one pass over the columns serves: 4 x 4 multiply-adds for 12 vector
# accesses. DEPTH must be a multiple of it.
UNROLL = 4


@kernel
def _four_filters(acc, weights, w0, ldw, columns, count, n):
    """acc[f, :] += sum over `count` taps of weights[w0 + f*ldw + t] * columns[t, :], f = 0 … 3."""
    for t in range(0, count, UNROLL):
        a0, a1, a2, a3 = (
            weights[w0 + t],
            weights[w0 + t + 1],
            weights[w0 + t + 2],
            weights[w0 + t + 3],
        )
        v = w0 + ldw + t
        b0, b1, b2, b3 = weights[v], weights[v + 1], weights[v + 2], weights[v + 3]
        v += ldw
        c0, c1, c2, c3 = weights[v], weights[v + 1], weights[v + 2], weights[v + 3]
        v += ldw
        d0, d1, d2, d3 = weights[v], weights[v + 1], weights[v + 2], weights[v + 3]
        x = columns[t * BLOCK :]
        for j in range(n):
            x0, x1, x2, x3 = x[j], x[BLOCK + j], x[2 * BLOCK + j], x[3 * BLOCK + j]
            acc[j] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
            acc[BLOCK + j] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
            acc[2 * BLOCK + j] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
            acc[3 * BLOCK + j] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@kernel
def _one_filter(acc, weights, w0, columns, count, n):
    """acc[0, :] += sum over `count` taps of weights[w0 + t] * columns[t, :]."""
    for t in range(0, count, UNROLL):
        a0, a1, a2, a3 = (
            weights[w0 + t],
            weights[w0 + t + 1],
            weights[w0 + t + 2],
            weights[w0 + t + 3],
        )
        x = columns[t * BLOCK :]
        for j in range(n):
            acc[j] += a0 * x[j] + a1 * x[BLOCK + j] + a2 * x[2 * BLOCK + j] + a3 * x[3 * BLOCK + j]


@kernel
def product_chunk(task, source, weights, taps, bias, relu, out, g):
    """One block of grid pixels of one image and group, all filters.

    Grid pixel (i, j) reads the source at (i*sh, j*sw) plus a tap's offsets and is written to
    (oh + i*osh, ow + j*osw) of the output.
    """
    C, H, W, sh, sw = g[0], g[1], g[2], g[3], g[4]
    groups, filters, T, depth = g[5], g[6], g[7], g[8]
    gh, gw, OH, OW, oh, ow, osh, osw = g[9], g[10], g[11], g[12], g[13], g[14], g[15], g[16]
    blocks = (gh * gw + BLOCK - 1) // BLOCK
    image, rest = task // (groups * blocks), task % (groups * blocks)
    group, j0 = rest // blocks, rest % blocks * BLOCK
    n = min(BLOCK, gh * gw - j0)
    columns = np.empty(min(depth, DEPTH) * BLOCK, source.dtype)
    acc = np.empty(UNROLL * BLOCK, source.dtype)
    zero = source.dtype.type(0)
    base = (image * C + group * (C // groups)) * H * W
    for t0 in range(0, depth, DEPTH):
        deep = min(DEPTH, depth - t0)
        real = max(0, min(deep, T - t0))
        fill_columns(columns, source, base, H, W, taps, t0, real, sh, sw, gw, j0, n)
        for o in range(real * BLOCK, deep * BLOCK):
            columns[o] = zero
        for k in range(0, filters, UNROLL):
            rows = min(UNROLL, filters - k)
            first = group * filters + k
            o = ((image * groups * filters + first) * OH + oh) * OW + ow
            if t0 > 0:
                load_rows(acc, rows, out, o, OH * OW, osh * OW, osw, gw, j0, n)
            elif bias.size > groups * filters:
                # one bias per output pixel; only the forward pass has it, on a dense grid
                load_rows(acc, rows, bias, first * gh * gw, gh * gw, gw, 1, gw, j0, n)
            else:
                for f in range(rows):
                    value = bias[first + f] if bias.size > 0 else zero
                    for q in range(n):
                        acc[f * BLOCK + q] = value
            if rows == UNROLL:
                _four_filters(acc, weights, first * depth + t0, depth, columns, deep, n)
            else:
                for f in range(rows):
                    # one filter works on row 0 of what it is given
                    _one_filter(
                        acc[f * BLOCK :], weights, (first + f) * depth + t0, columns, deep, n
                    )
            if relu and t0 + deep == depth:
                for f in range(rows):
                    rectify(acc[f * BLOCK :], n)
            store_rows(acc, rows, out, o, OH * OW, osh * OW, osw, gw, j0, n)


@kernel
def _four_dots(dw, o, ld, dy, y0, plane, columns, t, n):
    """dw[f, t : t+2] += <dy of filter f, columns[t : t+2]>, f = 0 … 3."""
    zero = dw.dtype.type(0)
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    columns = columns[t * BLOCK :]
    dya, dyb = dy[y0:], dy[y0 + plane :]
    dyc, dyd = dy[y0 + 2 * plane :], dy[y0 + 3 * plane :]
    for j in range(n):
        x0, x1 = columns[j], columns[BLOCK + j]
        ya, yb, yc, yd = dya[j], dyb[j], dyc[j], dyd[j]
        a0 += ya * x0
        a1 += ya * x1
        b0 += yb * x0
        b1 += yb * x1
        c0 += yc * x0
        c1 += yc * x1
        d0 += yd * x0
        d1 += yd * x1
    dw[o] += a0
    dw[o + 1] += a1
    dw[o + ld] += b0
    dw[o + ld + 1] += b1
    dw[o + 2 * ld] += c0
    dw[o + 2 * ld + 1] += c1
    dw[o + 3 * ld] += d0
    dw[o + 3 * ld + 1] += d1


@kernel
def _one_dot(dw, o, dy, y0, columns, t, n):
    """dw[o] += <dy, columns[t]>."""
    total = dw.dtype.type(0)
    dy, columns = dy[y0:], columns[t * BLOCK :]
    for j in range(n):
        total += dy[j] * columns[j]
    dw[o] += total


@kernel
def weight_grad_chunk(task, x, dy, taps, dw, g):
    """Some taps of some filters of one group, over all images and pixels in order."""
    N, C, H, W, P, Q, sh, sw = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    groups, filters, T, tap_block, filter_block = g[8], g[9], g[10], g[11], g[12]
    tap_blocks = (T + tap_block - 1) // tap_block
    slices = (filters + filter_block - 1) // filter_block
    group, rest = task // (tap_blocks * slices), task % (tap_blocks * slices)
    t0, k0 = rest // slices * tap_block, rest % slices * filter_block
    count, k1 = min(tap_block, T - t0), min(k0 + filter_block, filters)
    first = group * filters
    for k in range(first + k0, first + k1):
        for t in range(t0, t0 + count):
            dw[k * T + t] = dw.dtype.type(0)
    columns = np.empty(count * BLOCK, x.dtype)
    for image in range(N):
        base = (image * C + group * (C // groups)) * H * W
        for j0 in range(0, P * Q, BLOCK):
            n = min(BLOCK, P * Q - j0)
            fill_columns(columns, x, base, H, W, taps, t0, count, sh, sw, Q, j0, n)
            k = first + k0
            while k < first + k1:
                y0 = (image * groups * filters + k) * P * Q + j0
                fours = k + UNROLL <= first + k1
                t = 0
                if fours:
                    while t + 2 <= count:
                        _four_dots(dw, k * T + t0 + t, T, dy, y0, P * Q, columns, t, n)
                        t += 2
                for f in range(UNROLL if fours else 1):
                    for u in range(t, count):
                        _one_dot(dw, (k + f) * T + t0 + u, dy, y0 + f * P * Q, columns, u, n)
                k += UNROLL if fours else 1
