"""Inner products of one plane with another that is shifted by each tap of a small kernel.

    sums[tap] = sum over (i, j) of x[row(i, tap), column(j, tap)] * dy[i, j]

with zeros where x ends. The sums are vectors that stay in registers over all planes of a call, and
whose lanes are added up at the end. So does, if wanted, the sum of dy: a band's rows are added up
by pairs, all else in float64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.plane_rows import (
    AHEAD_BYTES,
    SourceRow,
    begin,
    lies_inside,
    literals,
    prefetch_rows,
    rows_of_band,
    rows_served,
)
from fastcnn.kernels.cpu.simd import prefetch_line
from fastcnn.kernels.cpu.stencil import SHORT, Stencil, forward_axis


def _ahead(emit, place, plane, far, hops):
    """How many elements ahead of one at `place` of a plane to fetch.

    The plane itself and those that are read after it, counted as one behind the other: `far` behind
    place in one that begins hops[0] elements from this one, or in the next after that, hops[1].
    """
    builder = emit.builder
    ends = builder.icmp_signed(">=", builder.add(place, far), plane)
    here, there = (builder.add(hop, far) for hop in hops)
    return builder.select(ends, builder.sub(there, plane), here)


def _hops(emit, number, images, jumps, planes, steps):
    """From plane `number` of a channel, how far away the one begins that is read `jumps` later,
    and the next: in X and in dY.

    Images are `steps` apart; behind the last one comes the next channel of the first.
    """
    builder, hops = emit.builder, []
    for more in (0, 1):
        later = builder.add(number, builder.add(jumps, emit.index(more)))
        channels, image = builder.sdiv(later, images), builder.srem(later, images)
        images_on = builder.sub(image, number)
        hops.append([
            builder.add(builder.mul(images_on, step), builder.mul(channels, plane))
            for plane, step in zip(planes, steps, strict=True)
        ])  # fmt: skip
    return list(zip(*hops, strict=True))


def _loaded(emit, dy_rows, j, count, whole, ahead):
    """Vectors of dY from column j on, of `count` lanes if not whole; what is `ahead` of them is
    fetched."""
    vectors = []
    for row in dy_rows:
        place = emit.at(row, j)
        prefetch_line(emit.builder, emit.at(place, ahead), write=False, from_memory=True)
        if whole:
            vectors.append(emit.load(place))
        else:
            mask = emit.between(emit.index(0), count)
            vectors.append(emit.masked_load(place, mask, emit.zero()))
    return vectors


def _added(emit, stencil, from_x, x_rows, factors, totals):
    """Totals of the taps with the products of one vector of each row of the band."""
    totals, uses = list(totals), rows_served(stencil)
    for u in x_rows:
        vectors = from_x.load(x_rows[u]) if u in uses else {}
        for _, offset, s in stencil.columns.terms:
            for b, _, r in uses.get(u, []):
                t = r * stencil.width + s
                totals[t] = emit.fma(vectors[offset], factors[b], totals[t])
    return totals


def emit_plane_dots(emit, stencil, kernel_rows, narrow, with_sum, sizes, pointers):
    """Emit `plane_dots`.

    sizes are (images, x_step, dy_step, first, end, H, W, top, left, Q); pointers are (x, dy,
    zeros, sums, dy_sum).
    """
    builder, wide = emit.builder, emit.widened()
    images, x_step, dy_step, first, end, H, W, top, left, Q = sizes
    x, dy, zeros, sums, dy_sum = pointers
    columns, lanes = stencil.columns, emit.index(emit.lanes)
    taps = kernel_rows * stencil.width
    planes = x_plane, dy_plane = builder.mul(H, W), builder.mul(end, Q)
    far = emit.index((AHEAD_BYTES if narrow else 2 * AHEAD_BYTES) // emit.element_bytes)
    # Whole planes of X and a rest: a plane of 14x14 is done before what is fetched as shortly ahead
    # as that has come. 0 planes where X has none.
    some = builder.select(builder.icmp_signed(">", x_plane, emit.index(0)), x_plane, far)
    jumps, rest_of_far = builder.sdiv(far, some), builder.srem(far, some)
    fars = rest_of_far, emit.minimum(rest_of_far, dy_plane)

    def block(part, j, x_rows, dy_rows, totals, whole, ahead):
        column = builder.add(builder.mul(j, emit.index(columns.step)), left)
        count = builder.sub(Q, j)
        from_x = SourceRow(emit, part, column, whole, W, count)
        prefetch_rows(emit, part, x_rows, column, ahead[0])
        factors = _loaded(emit, dy_rows, j, count, whole, ahead[1])
        added = _added(emit, part, from_x, x_rows, factors, totals)
        if with_sum:
            added[taps] = wide.add(added[taps], emit.widen(emit.by_pairs(factors)))
        return added

    def bands(part, start, count, x_image, dy_image, totals, hops):
        """`count` bands of rows from `start` on, at least one."""
        with emit.loop(count, totals) as band:
            i = builder.add(start, builder.mul(band.number, emit.index(part.band)))
            x_rows = rows_of_band(emit, part, i, (H, W, top), (x_image, zeros))
            numbers = [builder.add(i, emit.index(b)) for b in range(part.band)]
            dy_rows = [emit.at(dy_image, builder.mul(n, Q)) for n in numbers]
            place = builder.add(builder.mul(i, emit.index(part.rows.step)), top)
            places = builder.mul(place, W), builder.mul(i, Q)
            ahead = [_ahead(emit, *at) for at in zip(places, planes, fars, hops, strict=True)]
            if narrow:
                band.next = block(part, emit.index(0), x_rows, dy_rows, band.values, False, ahead)
            else:
                blocks = builder.sdiv(builder.add(Q, emit.index(emit.lanes - 1)), lanes)
                with emit.loop(blocks, band.values) as across:
                    j = builder.mul(across.number, lanes)
                    fits = builder.icmp_signed("<=", builder.add(j, lanes), Q)
                    inside = builder.and_(fits, lies_inside(emit, part, j, left, W))
                    with emit.where(inside, across.values) as branch:
                        branch.next = block(part, j, x_rows, dy_rows, across.values, True, ahead)
                    values = branch.next
                    with emit.where(builder.not_(inside), values) as branch:
                        branch.next = block(part, j, x_rows, dy_rows, values, False, ahead)
                    across.next = branch.next
                band.next = across.next
        return band.next

    rows = builder.sub(end, first)
    whole_bands = builder.sdiv(rows, emit.index(stencil.band))
    done = builder.mul(whole_bands, emit.index(stencil.band))
    single = replace(stencil, band=1)
    start = [emit.zero()] * taps + [wide.zero()] * with_sum
    with emit.loop(images, start) as image:
        x_image = emit.at(x, builder.mul(image.number, x_step))
        dy_image = emit.at(dy, builder.mul(image.number, dy_step))
        hops = _hops(emit, image.number, images, jumps, planes, (x_step, dy_step))
        # Not one band that overlaps: rows must be added once, and none that is not there may be
        # multiplied by a zero, for it could be infinite.
        totals = image.values
        has_bands = builder.icmp_signed(">", whole_bands, emit.index(0))
        with emit.where(has_bands, totals) as branch:
            branch.next = bands(stencil, first, whole_bands, x_image, dy_image, totals, hops)
        totals, rest = branch.next, builder.sub(rows, done)
        if stencil.band > 1:
            with emit.where(builder.icmp_signed(">", rest, emit.index(0)), totals) as branch:
                start = builder.add(first, done)
                branch.next = bands(single, start, rest, x_image, dy_image, totals, hops)
            totals = branch.next
        image.next = totals
    for t in range(0, taps, emit.lanes):
        some = image.next[t : min(taps, t + emit.lanes)]
        emit.store(emit.sums(some), emit.at(sums, emit.index(t)))
    if with_sum:
        builder.store(wide.total(image.next[taps]), dy_sum)


def _plane_dots_typer(
    typingctx, x, x0, x_step, dy, dy0, dy_step, zeros, sums, dy_sums, at,
    images, first, end, H, W, top, left, Q,
    kernel_rows, S, sh, sw, dh, dw, band, narrow, with_sum, lanes,
):  # fmt: skip
    """The intrinsic of this file's text.

    plane_dots(x, x0, x_step, dy, dy0, dy_step, zeros, sums, dy_sums, at, images, first, end, H, W,
    top, left, Q, <constants>): sums[r*S + s] = the products of the rows first … end-1 of dY, over
    the images in order, at least one, of which each has its planes `x_step` and `dy_step` further
    on. sums has whole vectors. The float64 dy_sums[at] = the sum of those rows, if `with_sum`.
    """

    def codegen(context, builder, signature, arguments):
        emit = begin(context, builder, x, lanes)
        xv, x0, x_step, dyv, dy0, dy_step, zv, sv, tv, at, images, *sizes = arguments[:18]
        rows, S_, sh_, sw_, dh_, dw_, together = literals(kernel_rows, S, sh, sw, dh, dw, band)
        axes = forward_axis(rows, sh_, dh_), forward_axis(S_, sw_, dw_)
        stencil = Stencil(*axes, S_, together, narrow.literal_value == SHORT)
        pointers = [
            emit.at(emit.data(x, xv), x0), emit.at(emit.data(dy, dyv), dy0),
            emit.data(zeros, zv), emit.data(sums, sv),
            emit.widened().at(emit.data(dy_sums, tv), at),
        ]  # fmt: skip
        sizes, (with_sum_,) = (images, x_step, dy_step, *sizes), literals(with_sum)
        emit_plane_dots(emit, stencil, rows, narrow.literal_value, with_sum_, sizes, pointers)
        return context.get_dummy_value()

    i = types.intp
    constants = (kernel_rows, S, sh, sw, dh, dw, band, narrow, with_sum, lanes)
    return types.void(
        x, i, i, dy, i, i, zeros, sums, dy_sums, i, i, i, i, i, i, i, i, i, *constants
    ), codegen


plane_dots: Any = intrinsic(prefer_literal=True)(_plane_dots_typer)
