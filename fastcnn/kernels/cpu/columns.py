"""Columns: what each tap of a convolution reads for a block of pixels, as contiguous rows.

Row t of `columns` holds, for each of up to BLOCK pixels, the source element that tap t multiplies,
zero where it falls into padding. Stride, dilation and padding live here only.

Inner loops index slices from 0 on: Numba wraps an index whose sign it cannot see, as Python does,
and the select that this takes keeps LLVM from vectorising (a factor of three to five here).
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.jit import exact, kernel

# A row of 128 float32 is 8 cache lines: long enough for the vector loops, and the rows of a few
# hundred taps stay in L2.
BLOCK = 128


@kernel
def fill_columns(columns, source, base, H, W, taps, t0, count, sh, sw, width, j0, n):
    """Fill `count` rows of columns from tap `t0` on, for `n` pixels from pixel `j0` on.

    taps[t] = (channel, row offset, column offset); a pixel (i, j) of a grid `width` wide reads
    source row i*sh + row offset and column j*sw + column offset.
    """
    zero = columns.dtype.type(0)
    for t in range(count):
        c, dr, ds = taps[t0 + t, 0], taps[t0 + t, 1], taps[t0 + t, 2]
        out = t * BLOCK
        done = 0
        while done < n:
            i = (j0 + done) // width
            j = (j0 + done) - i * width
            run = min(width - j, n - done)
            h = i * sh + dr
            w = j * sw + ds
            o = out + done
            if h < 0 or h >= H:
                columns[o : o + run] = zero
            else:
                # first and last pixel of the run whose source column lies inside
                first = min(run, max(0, (sw - 1 - w) // sw))
                last = max(first, min(run, (W - w + sw - 1) // sw))
                columns[o : o + first] = zero
                columns[o + last : o + run] = zero
                inside = source[base + (c * H + h) * W + w + first * sw :]
                target = columns[o + first : o + last]
                if sw == 1:
                    for q in range(last - first):
                        target[q] = inside[q]
                else:
                    for q in range(last - first):
                        target[q] = inside[q * sw]
            done += run


@kernel
def load_rows(acc, rows, out, base, plane, row_step, step, width, j0, n):
    """acc[f, :] = out[base + f*plane] at `n` grid pixels from `j0` on; rows and columns stepped."""
    for f in range(rows):
        done = 0
        while done < n:
            i = (j0 + done) // width
            j = (j0 + done) - i * width
            run = min(width - j, n - done)
            a, o = acc[f * BLOCK + done :], out[base + f * plane + i * row_step + j * step :]
            if step == 1:
                for q in range(run):
                    a[q] = o[q]
            else:
                for q in range(run):
                    a[q] = o[q * step]
            done += run


@kernel
def store_rows(acc, rows, out, base, plane, row_step, step, width, j0, n):
    """The reverse of `load_rows`."""
    for f in range(rows):
        done = 0
        while done < n:
            i = (j0 + done) // width
            j = (j0 + done) - i * width
            run = min(width - j, n - done)
            a, o = acc[f * BLOCK + done :], out[base + f * plane + i * row_step + j * step :]
            if step == 1:
                for q in range(run):
                    o[q] = a[q]
            else:
                for q in range(run):
                    o[q * step] = a[q]
            done += run


@exact
def rectify(row, n):
    """row[j] = 0 where it is below 0, for j < n: bit for bit what `activation.relu` makes of it."""
    zero = row.dtype.type(0)
    for j in range(n):
        row[j] = zero if row[j] < zero else row[j]


def tap_table(channels: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(channels * len(rows) * len(cols), 3) table of channel, row offset, column offset."""
    c, r, s = np.meshgrid(np.arange(channels), rows, cols, indexing="ij")
    return np.stack([c.ravel(), r.ravel(), s.ravel()], axis=1).astype(np.int64)
