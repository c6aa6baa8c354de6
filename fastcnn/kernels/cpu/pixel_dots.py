"""The register tile whose vectors lie along pixels, both sides packed.

With M, J = unit.dots and COLUMNS = vectors * lanes,

    c[m*J + j] += sum over o < rounds, l < COLUMNS of
                  a[o*a_jump + m*COLUMNS + l] * b[o*b_jump + j*COLUMNS + l]      m < M, j < J

- rounds is at least 1; arrays are flat and of one type, float32 or float64, with an offset each, in
  elements; nothing need be aligned beyond its elements.
- Each lane is added up in the order of o, then the lanes by halves.
- C is packed, M*J elements, rounded up to whole vectors, to whose rest zeros are added.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import emitter, flat_floats
from fastcnn.kernels.cpu.units import known_unit


def emit_dots(emit, tile, vectors, sizes, pointers):
    """Emit `dots`; tile is (M, J), sizes are (rounds, a_jump, b_jump)."""
    builder = emit.builder
    rounds, a_jump, b_jump = sizes
    a, b, c = pointers
    rows, columns = tile
    length = vectors * emit.lanes
    with emit.loop(rounds, [emit.zero()] * (rows * columns)) as loop:
        in_a = emit.at(a, builder.mul(loop.number, a_jump))
        in_b = emit.at(b, builder.mul(loop.number, b_jump))
        totals = list(loop.values)
        for v in range(vectors):
            place = [emit.index(i * length + v * emit.lanes) for i in range(max(rows, columns))]
            bs = [emit.load(emit.at(in_b, place[j])) for j in range(columns)]
            for m in range(rows):
                factor = emit.load(emit.at(in_a, place[m]))
                for j in range(columns):
                    totals[m * columns + j] = emit.fma(factor, bs[j], totals[m * columns + j])
        loop.next = totals
    for i in range(0, rows * columns, emit.lanes):
        place = emit.at(c, emit.index(i))
        emit.store(emit.add(emit.load(place), emit.sums(loop.next[i : i + emit.lanes])), place)


def _dots_typer(typingctx, rounds, a, a0, a_jump, b, b0, b_jump, c, c0):
    if not flat_floats(a, b, c):
        return None

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, a.dtype)
        rounds, av, a0, a_jump, bv, b0, b_jump, cv, c0 = arguments
        pointers = [
            emit.at(emit.data(kind, value), offset)
            for kind, value, offset in ((a, av, a0), (b, bv, b0), (c, cv, c0))
        ]
        unit = known_unit()
        emit_dots(emit, unit.dots, unit.vectors, (rounds, a_jump, b_jump), pointers)
        return context.get_dummy_value()

    i = types.intp
    return types.void(i, a, i, i, b, i, i, c, i), codegen


dots: Any = intrinsic(_dots_typer)
