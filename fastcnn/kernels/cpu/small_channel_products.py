"""The weight gradient's register tile for few channels: inner products along rows of pixels.

`products(rows, whole, rest, x, x0, taps, t0, dy, dy0, planes, k0, places, c, c0)`: for F filters
and J taps,

    c[c0 + m*J + j] += sum over i < rows, l < whole*lanes + rest of
        dy[dy0 + planes[k0 + m] + places[i, 1] + l] * x[x0 + taps[t0 + j] + places[i, 0] + l]

with rest < lanes; nothing else is read.

- Arrays are flat, of one type, float32 or float64; those of offsets are int64. All is counted in
  elements, nothing need be aligned beyond its elements.
- c is whole vectors, to whose rest zeros are added.
- Each lane is added up in the order of the rows, then the lanes by halves.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, flat_floats, flat_integers
from fastcnn.kernels.cpu.units import known_unit

# Filters and taps of a tile of inner products: as few pointers (10 and two offsets) as general
# registers hold. 8 x 3 has one more, and its rows that are shorter than a vector ran at 0.55 of
# this; 3 x 8 spilled and ran at a third.
PRODUCTS = {"AVX-512": (4, 6), "AVX2": (4, 2), "NEON": (6, 3), "generic": (3, 2)}


def emit_products(emit, shape, rows, whole, rest, table, xs, dys, c):
    """Emit `products`; xs and dys are pointers with their offsets added."""
    builder, (filters, taps) = emit.builder, shape
    zero, lanes = emit.index(0), emit.index(emit.lanes)
    mask = emit.between(zero, rest)
    any_whole, any_rest = (builder.icmp_signed(">", n, zero) for n in (whole, rest))

    def masked(place):
        return emit.masked_load(place, mask, emit.zero())

    def add(load, pointers, totals):
        xs, dys = pointers
        columns = [load(x) for x in xs]
        totals = list(totals)
        for m, dy in enumerate(dys):
            factor = load(dy)
            for j in range(taps):
                totals[m * taps + j] = emit.fma(factor, columns[j], totals[m * taps + j])
        return totals

    with emit.loop(rows, [emit.zero()] * (filters * taps)) as outer:
        entry = builder.shl(outer.number, emit.index(1))
        offsets = emit.integers(table, entry, 2)
        row = [[emit.at(p, o) for p in ps] for ps, o in zip((xs, dys), offsets, strict=True)]

        def at(number):
            place = builder.mul(number, lanes)
            return [[emit.at(p, place) for p in ps] for ps in row]

        with emit.where(any_whole, outer.values) as branch:
            with emit.loop(whole, outer.values) as loop:
                loop.next = add(emit.load, at(loop.number), loop.values)
            branch.next = loop.next
        totals = branch.next
        with emit.where(any_rest, totals) as branch:
            branch.next = add(masked, at(whole), totals)
        totals = outer.next = branch.next
    for i in range(0, filters * taps, emit.lanes):
        place = emit.at(c, emit.index(i))
        emit.store(emit.add(emit.load(place), emit.sums(totals[i : i + emit.lanes])), place)


def _products_typer(
    typingctx, rows, whole, rest, x, x0, taps, t0, dy, dy0, planes, k0, places, c, c0
):  # fmt: skip
    """The intrinsic of this file's text."""
    if not (flat_floats(x, dy, c) and flat_integers(taps, planes, places)):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, x.dtype)
        rows, whole, rest, xv, x0, tv, t0, dyv, dy0, pv, k0, rv, cv, c0 = arguments
        shape = filters, columns = PRODUCTS[known_unit().name]
        source, factor = emit.at(emit.data(x, xv), x0), emit.at(emit.data(dy, dyv), dy0)
        xs = [emit.at(source, o) for o in emit.integers(emit.data(taps, tv), t0, columns)]
        dys = [emit.at(factor, o) for o in emit.integers(emit.data(planes, pv), k0, filters)]
        table, target = emit.data(places, rv), emit.at(emit.data(c, cv), c0)
        emit_products(emit, shape, rows, whole, rest, table, xs, dys, target)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, i, i, x, i, taps, i, dy, i, planes, i, places, c, i), codegen


products: Any = intrinsic(_products_typer)
