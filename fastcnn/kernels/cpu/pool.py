"""Max pooling with its mask, for every geometry, and its gradient from the mask alone.

    forward    Y[p, q] = max over (r, s) of X[p*stride - padding + r*dilation, …]
               M[p, q] = r*S + s of the maximum: the position in the window, not in the image
    gradient   dX[the cell that M names] += dY[p, q]        windows in row-major order

One chunk is one plane (an image's channel), so overlapping windows add up without a race. Strict
arithmetic: comparisons decide here, and NaN must compare as IEEE says.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Pool2dGeometry
from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.threads import launch


@exact
def _max_chunk(plane, x, y, mask, g):
    """All windows of one plane: each tap (r, s) in turn over a whole output row.

    The rule is PyTorch's: a cell wins if it is greater than the best so far or NaN. So the first
    maximum wins, the last NaN wins, padding never does, and a window of -inf has its first cell.
    """
    H, W, P, Q, R, S = g[0], g[1], g[2], g[3], g[4], g[5]
    sh, sw, dh, dw, top, left = g[6], g[7], g[8], g[9], g[10], g[11]
    image = x[plane * H * W :]
    for p in range(P):
        best = y[(plane * P + p) * Q : (plane * P + p + 1) * Q]
        where = mask[(plane * P + p) * Q : (plane * P + p + 1) * Q]
        h0 = p * sh - top
        r0 = max(0, (dh - 1 - h0) // dh)  # first tap that lies inside
        for q in range(Q):
            best[q] = -np.inf
            where[q] = r0 * S + max(0, (dw - 1 - (q * sw - left)) // dw)
        for r in range(r0, R):
            h = h0 + r * dh
            if h >= H:
                break
            for s in range(S):
                # outputs q whose source column q*sw + w lies inside
                w = s * dw - left
                first = min(Q, max(0, (sw - 1 - w) // sw))
                last = max(first, min(Q, (W - w + sw - 1) // sw))
                code = r * S + s
                row = image[h * W + w + first * sw :]
                b, m = best[first:last], where[first:last]
                if sw == 2:  # a constant stride lets LLVM load pairs
                    for q in range(last - first):
                        v = row[2 * q]
                        wins = (v > b[q]) | (v != v)
                        b[q] = v if wins else b[q]
                        m[q] = code if wins else m[q]
                else:
                    for q in range(last - first):
                        v = row[q * sw]
                        wins = (v > b[q]) | (v != v)
                        b[q] = v if wins else b[q]
                        m[q] = code if wins else m[q]


@exact
def _max_grad_chunk(plane, dy, mask, taps, dx, bad, g):
    """All windows of one plane; bad[plane] counts mask entries that name no cell of the input."""
    H, W, P, Q, sh, sw, top, left = g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]
    image = dx[plane * H * W : (plane + 1) * H * W]
    image[:] = 0
    dys, codes = dy[plane * P * Q :], mask[plane * P * Q :]
    count = len(taps)
    for p in range(P):
        for q in range(Q):
            code = np.int64(codes[p * Q + q])
            if 0 <= code < count:
                h, w = p * sh - top + taps[code, 0], q * sw - left + taps[code, 1]
                if 0 <= h < H and 0 <= w < W:
                    image[h * W + w] += dys[p * Q + q]
                    continue
            bad[plane] += 1


def max_pool2d(geometry: Pool2dGeometry, x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> None:
    """y and mask, written whole; x (N, C, H, W), y and mask (N, C, P, Q)."""
    g = geometry
    shape = (g.H, g.W, g.P, g.Q, g.R, g.S, *g.stride, *g.dilation, g.padding[0], g.padding[2])
    launch(
        _max_chunk, g.N * g.C, g.bytes(x.itemsize),
        x.reshape(-1), y.reshape(-1), mask.reshape(-1), np.array(shape),
    )  # fmt: skip


def max_pool2d_grad(
    geometry: Pool2dGeometry, dy: np.ndarray, mask: np.ndarray, dx: np.ndarray
) -> int:
    """dx, written whole; returns how many mask entries name no cell of the input.

    Those are left out, so nothing is written outside dx whatever the mask holds.
    """
    g = geometry
    (dh, dw), planes = g.dilation, g.N * g.C
    taps = np.stack(np.divmod(np.arange(g.R * g.S), g.S), axis=1) * (dh, dw)
    shape = (g.H, g.W, g.P, g.Q, *g.stride, g.padding[0], g.padding[2])
    bad = np.zeros(planes, np.int64)
    launch(
        _max_grad_chunk, planes, g.bytes(dy.itemsize),
        dy.reshape(-1), mask.reshape(-1), taps, dx.reshape(-1), bad, np.array(shape),
    )  # fmt: skip
    return int(bad.sum())
