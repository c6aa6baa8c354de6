"""The weight gradient as a product on register tiles whose depth is pixels.

    dW[k, c, t] = sum over pixels (n, p, q) of dY[k, pixel] * X[c, t, pixel]        t = (r, s)

X[c, t, pixel] is the source element that tap t multiplies for a pixel, as in the forward pass. A
tile's rows are filters, its lanes channels: dY's pixels are copied as they are, one beside the
other, and X is turned so that a pixel's channels are one vector. A tap is then an offset into X,
as in planes.py, whatever the stride.

    task: some panels of filters, some vectors of channels and taps, some of the pixels
        for each block of pixels: some rows, or a part of one
            dY's pixels to A, one row for each filter
            X's rows, residue by residue of the stride, into planes [row][column][channel]
            for each pair of vectors (channels, tap)            its part of X stays in L1
                for each panel of filters                       A streams out of L2
                    C[filters, vectors] += sums over the block's pixels

A 1x1 kernel's factors may change places: the one that is turned should meet the more rows. Pixels
are divided among tasks only where filters and taps give too few; the parts are then added in order.
How they are divided depends on the geometry alone, and so do the bits.
"""

from __future__ import annotations

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.fetching import NEVER, halvings, next_block
from fastcnn.kernels.cpu.gemm_weight_tables import FIELDS, Tables, tabulate
from fastcnn.kernels.cpu.jit import inner, kernel
from fastcnn.kernels.cpu.masked_moves import put, turn
from fastcnn.kernels.cpu.microkernel import padded
from fastcnn.kernels.cpu.pixel_sums import (
    lay_rows,
    lay_rows_adding,
    lay_turned,
    lay_turned_adding,
    lay_turned_second,
    lay_turned_stepped,
    short_sums,
    tall_sums,
)
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.sums import add_spans, nothing, sum_rows, sums_for
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import LEAST_ROWS, NO_UNIT
from fastcnn.kernels.cpu.units import vector_unit


@inner
def _lay_near(a, near, s, o, i0, i1, q0, depth, rows, totals, t0):
    """A: pixels q0 … q0+depth-1 of rows i0 … i1-1 of the grid, over all images, of `rows` channels
    from channel o on; where there are totals, their sums to those from t0 on."""
    i = i0
    while i < i1:
        image, p = divmod(i, s.grid_h)
        count = min(i1 - i, s.grid_h - p)
        at, plane = (image * s.near_channels + o) * s.grid_h + p, s.grid_h * s.grid_w
        several, pixels = (1, count * depth) if depth == s.grid_w else (count, depth)
        for n in range(several):
            first, to = (at + n) * s.grid_w + q0, (i - i0 + n) * depth
            if totals.size > 0:
                lay_rows_adding(rows, pixels, near, first, plane, a, to, s.line, totals, t0)
            else:
                lay_rows(rows, pixels, near, first, plane, a, to, s.line)
        i += count


@inner
def _lay_far(b, far, corners, s, group, g0, g1, i0, i1, q0, depth, onward, totals, t0):
    """The planes of vectors g0 … g1-1 of the group's channels, as rows i0 … i1-1 of the grid read
    them. The next vector's channels are fetched meanwhile, after the last those of the next block,
    which begins `onward` elements further on. Where there are totals, the channels' sums go to
    those from t0 on: of a source without padding or stride."""
    size = s.H * s.W
    for g in range(g0, g1):
        channel, count = group * s.channels + g * s.lanes, min(s.lanes, s.channels - g * s.lanes)
        ahead = s.lanes * size if g < g1 - 1 else onward - (g1 - 1 - g0) * s.lanes * size
        for n in range(s.corners):
            target, i = ((g - g0) * s.corners + n) * s.plane, i0
            while i < i1:
                image, p = divmod(i, s.grid_h)
                several = min(i1 - i, s.grid_h - p)
                for r in range(several + s.extra_rows):
                    h = (p + r) * s.sh + s.row + corners[n, 0]
                    o = (image * s.far_channels + channel) * size + h * s.W
                    for j in range(0, depth + s.extra_cols, s.lanes):
                        w = (q0 + j) * s.sw + s.col + corners[n, 1]
                        first = min(s.lanes, max(0, (s.sw - 1 - w) // s.sw))
                        last = max(first, min(s.lanes, (s.W - w + s.sw - 1) // s.sw))
                        if h < 0 or h >= s.H:
                            first, last = 0, 0
                        at = target + j * s.lanes
                        if totals.size > 0:
                            lay_turned_adding(
                                count, far, o + w, size, ahead, b, at, first, min(last, depth - j),
                                totals, t0 + channel,
                            )  # fmt: skip
                        elif s.sw == 1:
                            lay_turned(
                                count, far, o + w, size, s.sw, ahead, b, at, first, last
                            )  # fmt: skip
                        elif s.sw == 2:
                            lay_turned_second(
                                count, far, o + w, size, s.sw, ahead, b, at, first, last
                            )  # fmt: skip
                        else:
                            lay_turned_stepped(
                                count, far, o + w, size, s.sw, ahead, b, at, first, last
                            )  # fmt: skip
                    target += s.pitch * s.lanes
                i += several


@kernel
def _reached(taps, t, u0, u1, p, s):
    """Rows u0 … u1-1 of those from row p of an image on, without those at both ends that read
    nothing but padding for tap t."""
    while u0 < u1 and (p + u0) * s.sh + taps[t, 1] < 0:
        u0 += 1
    while u0 < u1 and (p + u1 - 1) * s.sh + taps[t, 1] >= s.H:
        u1 -= 1
    return u0, u1


@kernel
def _store(c, out, o, s, group, m0, m1, g0, g1, t0, t1, size):
    """C to a part of dW; a vector's rows are `size` elements of C."""
    places = np.empty(s.lanes, np.int64)
    for j in range(s.lanes):
        places[j] = j * (s.rows if s.flipped else s.positions)
    if s.flipped:
        for g in range(g0, g1):
            to = o + (group * s.channels + g * s.lanes) * s.rows + m0
            for m in range(0, m1 - m0, s.lanes):
                turn(
                    min(s.lanes, m1 - m0 - m), min(s.lanes, s.channels - g * s.lanes),
                    c, (g - g0) * size + m * s.lanes, s.lanes, out, to + m, places, 0,
                )  # fmt: skip
        return
    last = min(s.lanes, s.channels - (g1 - 1) * s.lanes)
    for m in range(m1 - m0):
        to = o + ((group * s.rows + m0 + m) * s.channels + g0 * s.lanes) * s.positions + t0
        at = m * s.lanes
        if s.positions == 1:
            whole = g1 - g0 if last == s.lanes else g1 - g0 - 1
            if whole > 0:
                put(whole, c, at, size, out, to, s.lanes, 1, 0, s.lanes)
            if whole < g1 - g0:
                put(1, c, at + whole * size, size, out, to + whole * s.lanes, 0, 1, 0, last)
            continue
        for g in range(g1 - g0):
            for t in range(0, t1 - t0, s.lanes):
                turn(
                    min(s.lanes, t1 - t0 - t), s.lanes if g < g1 - g0 - 1 else last,
                    c, at + (g * (t1 - t0) + t) * size, size, out, to + t, places, 0,
                )  # fmt: skip
            to += s.lanes * s.positions


@inner
def _add_block(
    block, near, far, taps, corners, panels, s, a, b, c, places, firsts, ends, group, p0, p1, g0,
    g1, t0, t1, count, near_sums, far_sums, first_total,
):  # fmt: skip
    """Add a block of pixels to C; the names are those of `_sums_chunk`."""
    m0, m1, whole = panels[p0, 0], panels[p1 - 1, 0] + panels[p1 - 1, 1], firsts.size
    row_block, segment = divmod(block, s.segments)
    q0, i0 = segment * s.segment, row_block * s.some_rows
    depth, i1 = min(s.segment, s.grid_w - q0), min(s.images * s.grid_h, i0 + s.some_rows)
    near_total, far_total = first_total + group * s.rows + m0, first_total
    _lay_near(
        a, near, s, group * s.rows + m0, i0, i1, q0, depth, m1 - m0, near_sums, near_total
    )  # fmt: skip
    image, p = divmod(i0, s.grid_h)
    next_rows, next_segment = divmod(block + 1, s.segments)
    next_image, next_p = divmod(next_rows * s.some_rows, s.grid_h)
    onward = (next_image - image) * s.far_channels * s.H * s.W
    onward += (next_p - p) * s.sh * s.W + (next_segment - segment) * s.segment * s.sw
    _lay_far(
        b, far, corners, s, group, g0, g1, i0, i1, q0, depth, onward, far_sums, far_total
    )  # fmt: skip
    for i in range(i0, i1):
        above = i - i0 + (i // s.grid_h - image) * s.extra_rows
        places[i - i0] = above * s.pitch * s.lanes
    of_near, of_far = next_block(s, group, m0, m1, g0, g1, block + 1, near.itemsize)
    product, tall = 0, 0
    for panel in range(p0, p1):
        tall += panels[panel, 2] == s.tall
    products = max(1, whole // s.vectors * tall)
    fetched = (of_near[3] + of_far[3] + products - 1) // products
    f_shift = halvings((i1 - i0) * depth // fetched) if block + 1 < s.blocks else NEVER
    for n in range(0, whole, s.vectors):
        u0, u1 = 0, i1 - i0
        if p + u1 <= s.grid_h:
            least, most = u1, u0
            for v in range(n, n + s.vectors):
                low, high = _reached(taps, t0 + min(v, count - 1) % (t1 - t0), u0, u1, p, s)
                if low < high:
                    least, most = min(least, low), max(most, high)
            u0, u1 = least, most
        if u0 >= u1:
            continue
        for panel in range(p0, p1):
            at = (panels[panel, 0] - m0) * s.line + u0 * depth
            at_c = (panels[panel, 0] - m0) * s.lanes
            (r0, f_step, f_bits, _), f_pair = of_near, product * fetched
            in_far = f_pair >= of_near[3]
            if in_far:
                (r0, f_step, f_bits, _), f_pair = of_far, f_pair - of_near[3]
            if panels[panel, 2] == s.tall:
                tall_sums(
                    u1 - u0, depth, s.lanes, a, at, b, 0, places, u0, firsts, n, c, at_c, ends,
                    n, near, far, in_far, r0, f_step, f_bits, f_pair, f_shift,
                )  # fmt: skip
                product += 1
            else:
                short_sums(
                    u1 - u0, depth, s.lanes, a, at, b, 0, places, u0, firsts, n, c, at_c, ends,
                    n, near, far, in_far, r0, f_step, f_bits, f_pair, f_shift,
                )  # fmt: skip


@kernel
def _sums_chunk(task, near, far, taps, corners, panels, parts, dy_sums, table):
    """Some filters, channels and taps of one group over a span of pixels, to their part; the sums
    of dy's rows, where there is room for them, by the first that read them."""
    s = table[0]
    rest, part = divmod(task, s.spans)
    rest, position_block = divmod(rest, (s.positions + s.some_positions - 1) // s.some_positions)
    rest, channel_block = divmod(
        rest, (s.vectors_of_channels + s.some_channels - 1) // s.some_channels
    )
    group, panel_block = divmod(rest, (panels.shape[0] + s.some_panels - 1) // s.some_panels)
    p0, g0, t0 = (
        panel_block * s.some_panels, channel_block * s.some_channels,
        position_block * s.some_positions,
    )  # fmt: skip
    p1 = min(panels.shape[0], p0 + s.some_panels)
    g1 = min(s.vectors_of_channels, g0 + s.some_channels)
    t1 = min(s.positions, t0 + s.some_positions)
    m0, m1 = panels[p0, 0], panels[p1 - 1, 0] + panels[p1 - 1, 1]
    # an odd number of lines for each vector of C, which go to all sets of a cache in turn
    size = ((panels[p1 - 1, 0] + panels[p1 - 1, 2] - m0) | 1) * s.lanes
    # zeros: the last panel multiplies rows that no filter fills
    a, c = np.zeros(s.a, near.dtype), np.zeros(s.c, near.dtype)
    b = np.empty(s.b, near.dtype)
    places = np.empty(s.some_rows, np.int64)
    count = (g1 - g0) * (t1 - t0)
    whole = (count + s.vectors - 1) // s.vectors * s.vectors
    firsts, ends = np.empty(whole, np.int64), np.empty(whole, np.int64)
    for n in range(whole):
        g, t = divmod(min(n, count - 1), t1 - t0)
        firsts[n], ends[n] = g * s.corners * s.plane + taps[t0 + t, 0], n * size
    first_total = part * (dy_sums.size // s.spans)
    near_sums, far_sums = dy_sums[:0], dy_sums[:0]
    if dy_sums.size > 0 and s.flipped and p0 == 0:
        far_sums, o = dy_sums, first_total + group * s.channels
        dy_sums[o + g0 * s.lanes : o + min(s.channels, g1 * s.lanes)] = 0
    elif dy_sums.size > 0 and not s.flipped and g0 == 0 and t0 == 0:
        near_sums, o = dy_sums, first_total + group * s.rows
        dy_sums[o + m0 : o + m1] = 0
    for block in range(part * s.span, min(s.blocks, (part + 1) * s.span)):
        _add_block(
            block, near, far, taps, corners, panels, s, a, b, c, places, firsts, ends, group, p0,
            p1, g0, g1, t0, t1, count, near_sums, far_sums, first_total,
        )  # fmt: skip
    _store(c, parts, part * (parts.shape[0] // s.spans), s, group, m0, m1, g0, g1, t0, t1, size)


def conv2d_weight_grad(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    dy: np.ndarray,
    dw: np.ndarray,
    db: np.ndarray | None = None,
) -> None:
    """dw and db, written whole, from x (N, C, H, W) and dy (N, K, P, Q)."""
    if not dy.size:
        nothing(dw, db)
        return
    s = tabulate(geometry, x.itemsize)
    parts = np.empty((s.spans, dw.size), dw.dtype) if s.spans > 1 else dw.reshape(1, -1)
    near, far = (x, dy) if s.flipped else (dy, x)
    sums = sums_for(db, s.spans)
    launch(
        _sums_chunk, s.tasks, geometry.flops,
        near.reshape(-1), far.reshape(-1), s.taps, s.corners, s.panels, parts.reshape(-1), sums,
        s.table,
    )  # fmt: skip
    if s.spans > 1:
        sum_rows(s.spans, dw.size, parts, dw)
    add_spans(s.spans, sums, db)


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    filters = g.K // g.groups
    if g.groups > 1 and filters < LEAST_ROWS:
        return (
            f"{filters} filters per group fill too little of a register tile: {LEAST_ROWS} needed"
        )
    return None


# Measured on one core of a Zen 5 machine, float32, least squares of relative errors over 36 layers:
# FLOP/s of whole tiles; elements of dY copied, of X turned, and of dW stored per second; seconds of
# the smallest call. Layers took 0.84 to 1.37 times what they say together, but for two 0.89 to 1.2,
# before STORED and CALL were fitted again on small layers and Zen 4 (docs/performance.md).
TILE_FLOPS = 222e9
COPIED = 7.5e9
TURNED = 4.8e9
STORED = 5e9
CALL = 4.5e-6


def _work(s: Tables) -> tuple[float, float, float, float]:
    """FLOPs of whole tiles, elements of dY copied, of X turned, of dW and its parts stored."""
    n = {name: int(number) for name, number in zip(FIELDS, s.table[0].item(), strict=True)}
    pixels, lanes = n["images"] * n["grid_h"] * n["grid_w"], n["lanes"]
    groups = n["near_channels"] // n["rows"]
    some_vectors = n["vectors"] * blocks_of(n["some_channels"] * n["some_positions"], n["vectors"])
    of_channels = blocks_of(n["vectors_of_channels"], n["some_channels"])
    of_positions = blocks_of(n["positions"], n["some_positions"])
    multiplied = 2 * pixels * padded(n["rows"]) * of_channels * of_positions * some_vectors * lanes
    copied = pixels * n["rows"] * of_channels * of_positions
    laid = lanes * blocks_of(n["segment"] + n["extra_cols"], lanes)
    laid *= n["corners"] * n["blocks"] * (n["some_rows"] + n["extra_rows"])
    turned = laid * n["vectors_of_channels"] * lanes * of_positions
    turned *= blocks_of(len(s.panels), n["some_panels"])
    stored = n["rows"] * n["channels"] * n["positions"] * (1 if s.spans == 1 else s.spans + 1)
    return groups * multiplied, groups * copied, groups * turned, groups * stored


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, dY copied, X turned, sums stored."""
    if not g.N:
        return CALL
    rates = TILE_FLOPS, COPIED, TURNED, STORED
    work = zip(_work(tabulate(g, itemsize)), rates, strict=True)
    return CALL + itemsize / 4 * sum(amount / rate for amount, rate in work)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: A, planes of X, sums.

    Parts of dW, where pixels are divided among tasks, are shared by all threads and not counted.
    """
    return tabulate(g, itemsize).scratch if g.N else 0
