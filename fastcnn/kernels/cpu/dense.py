"""The dense layer: matrix products in which every row that is read or written is contiguous.

    forward        Y[n, o] = b[o] + <X[n], W[o]>                 dot products of rows
    input grad     dX[n] = sum over o of dY[n, o] * W[o]         sums of rows
    weight grad    dW[o] = sum over n of dY[n, o] * X[n]         sums of rows, in the order of n

Both kernels are blocked so that what is read again stays in L1 or L2. Inner loops index slices from
0 on: Numba wraps an index whose sign it cannot see, and that keeps LLVM from vectorising.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import launch

# A task of the forward pass: 32 images by 32 outputs, in depths of 512 features: 32 rows of W take
# 64 KB of L2 in float32, 4 rows of X 8 KB of L1. The same sizes serve the sums of rows: 64 terms of
# 256 columns take 64 KB, 4 rows of the result 4 KB.
ROWS = 32
DEPTH = 512
TERMS = 64
COLUMNS = 256
# Rows that one pass of an inner loop works on. 4 by 2 dot products leave room in 16 vector
# registers; 4 by 4 were 30 % faster with the 32 of AVX-512 but spill elsewhere.
UNROLL = 4


@kernel
def _eight_dots(x, w, y, ldx, ldw, ldy, depth):
    """y[f, u] += <x[f], w[u]> for f = 0 … 3 and u = 0, 1; ld… is the distance between rows."""
    zero = y.dtype.type(0)
    a0, a1, b0, b1, c0, c1, d0, d1 = zero, zero, zero, zero, zero, zero, zero, zero
    xa, xb, xc, xd = x, x[ldx:], x[2 * ldx :], x[3 * ldx :]
    w0, w1 = w, w[ldw:]
    for i in range(depth):
        u, v = w0[i], w1[i]
        a0 += xa[i] * u
        a1 += xa[i] * v
        b0 += xb[i] * u
        b1 += xb[i] * v
        c0 += xc[i] * u
        c1 += xc[i] * v
        d0 += xd[i] * u
        d1 += xd[i] * v
    y[0] += a0
    y[1] += a1
    y[ldy] += b0
    y[ldy + 1] += b1
    y[2 * ldy] += c0
    y[2 * ldy + 1] += c1
    y[3 * ldy] += d0
    y[3 * ldy + 1] += d1


@kernel
def _one_dot(x, w, depth):
    total = x.dtype.type(0)
    for i in range(depth):
        total += x[i] * w[i]
    return total


@kernel
def _dots_chunk(task, x, w, b, y, N, I, O):
    """Some images by some outputs of Y = X W^T + b."""
    blocks = (O + ROWS - 1) // ROWS
    n0, o0 = task // blocks * ROWS, task % blocks * ROWS
    n1, o1 = min(n0 + ROWS, N), min(o0 + ROWS, O)
    step = 1 if b.size > 1 else 0
    for n in range(n0, n1):
        for o in range(o0, o1):
            y[n * O + o] = b[o * step] if b.size > 0 else y.dtype.type(0)
    for i0 in range(0, I, DEPTH):
        depth = min(DEPTH, I - i0)
        for n in range(n0, n1, UNROLL):
            rows = min(UNROLL, n1 - n)
            o = o0
            if rows == UNROLL:
                while o + 2 <= o1:
                    _eight_dots(x[n * I + i0 :], w[o * I + i0 :], y[n * O + o :], I, I, O, depth)
                    o += 2
            for f in range(n, n + rows):
                for u in range(o, o1):
                    y[f * O + u] += _one_dot(x[f * I + i0 :], w[u * I + i0 :], depth)


@kernel
def _four_sums(out, a, a_row, a_term, b, ld, width):
    """out[f] += sum over t of a[f, t] * b[t] for f, t = 0 … 3; rows of out and b are `ld` apart."""
    p0, p1, p2, p3 = a[0], a[a_term], a[2 * a_term], a[3 * a_term]
    q = a[a_row:]
    q0, q1, q2, q3 = q[0], q[a_term], q[2 * a_term], q[3 * a_term]
    r = a[2 * a_row :]
    r0, r1, r2, r3 = r[0], r[a_term], r[2 * a_term], r[3 * a_term]
    s = a[3 * a_row :]
    s0, s1, s2, s3 = s[0], s[a_term], s[2 * a_term], s[3 * a_term]
    b0, b1, b2, b3 = b, b[ld:], b[2 * ld :], b[3 * ld :]
    o0, o1, o2, o3 = out, out[ld:], out[2 * ld :], out[3 * ld :]
    for j in range(width):
        u0, u1, u2, u3 = b0[j], b1[j], b2[j], b3[j]
        o0[j] += p0 * u0 + p1 * u1 + p2 * u2 + p3 * u3
        o1[j] += q0 * u0 + q1 * u1 + q2 * u2 + q3 * u3
        o2[j] += r0 * u0 + r1 * u1 + r2 * u2 + r3 * u3
        o3[j] += s0 * u0 + s1 * u1 + s2 * u2 + s3 * u3


@kernel
def _one_sum(out, factor, b, width):
    for j in range(width):
        out[j] += factor * b[j]


@kernel
def _sums_chunk(task, a, b, out, rows, terms, width, a_row, a_term):
    """Some rows and columns of out = A B; A's element (r, t) is a[r*a_row + t*a_term].

    out is (rows, width), A (rows, terms), B (terms, width).
    """
    blocks = (width + COLUMNS - 1) // COLUMNS
    r0, j0 = task // blocks * ROWS, task % blocks * COLUMNS
    r1, n = min(r0 + ROWS, rows), min(COLUMNS, width - j0)
    for r in range(r0, r1):
        out[r * width + j0 : r * width + j0 + n] = out.dtype.type(0)
    for t0 in range(0, terms, TERMS):
        t1 = min(t0 + TERMS, terms)
        for r in range(r0, r1, UNROLL):
            count = min(UNROLL, r1 - r)
            t = t0
            if count == UNROLL:
                while t + UNROLL <= t1:
                    factors = a[r * a_row + t * a_term :]
                    o, source = out[r * width + j0 :], b[t * width + j0 :]
                    _four_sums(o, factors, a_row, a_term, source, width, n)
                    t += UNROLL
            for f in range(r, r + count):
                for u in range(t, t1):
                    factor = a[f * a_row + u * a_term]
                    _one_sum(out[f * width + j0 :], factor, b[u * width + j0 :], n)


def _tasks(rows: int, columns: int, block: int) -> int:
    return -(-rows // ROWS) * -(-columns // block)


def dense(
    geometry: DenseGeometry, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray
) -> None:
    """y = x w^T + b, written whole; (N, I) by (O, I) to (N, O). One b serves all outputs too."""
    g = geometry
    launch(
        _dots_chunk, _tasks(g.N, g.O, ROWS), g.flops,
        x.reshape(-1), w.reshape(-1), np.empty(0, x.dtype) if b is None else b, y.reshape(-1),
        g.N, g.I, g.O,
    )  # fmt: skip


def dense_input_grad(
    geometry: DenseGeometry, dy: np.ndarray, w: np.ndarray, dx: np.ndarray
) -> None:
    """dx = dy w, written whole; (N, O) by (O, I) to (N, I)."""
    g = geometry
    launch(
        _sums_chunk, _tasks(g.N, g.I, COLUMNS), g.flops,
        dy.reshape(-1), w.reshape(-1), dx.reshape(-1), g.N, g.O, g.I, g.O, 1,
    )  # fmt: skip


def dense_weight_grad(
    geometry: DenseGeometry, x: np.ndarray, dy: np.ndarray, dw: np.ndarray
) -> None:
    """dw = dy^T x, written whole; (N, O) by (N, I) to (O, I)."""
    g = geometry
    launch(
        _sums_chunk, _tasks(g.O, g.I, COLUMNS), g.flops,
        dy.reshape(-1), x.reshape(-1), dw.reshape(-1), g.O, g.N, g.I, 1, g.O,
    )  # fmt: skip
