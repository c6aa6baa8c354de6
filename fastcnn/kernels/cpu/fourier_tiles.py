"""Squares of images transformed to spectra, spectra multiplied, and transformed back.

Spectra stand in *panels*: for three rows of a product (filters, squares of images), each pair of
vectors (fourier_transforms.py) of all terms of its sums,

    panel[pair][term][row][re, im]

so that a tile of 3 x 3 results reads both its panels in order, once for nine complex products. Its
lanes are places of the spectrum: nothing is broadcast, and nothing is added up across lanes.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.fourier_transforms import (
    HALF,
    PAIR,
    PAIRS,
    SCALE,
    SIZE,
    SQUARE,
    backward,
    forward,
)
from fastcnn.kernels.cpu.simd import Emitter, llvm_type, prefetch_line

# Rows of a panel: 9 complex sums take 18 vectors, their factors 12; 32 registers hold all of them.
ROWS = 3
# Elements of a panel's term.
TERM = ROWS * PAIR
# Terms ahead of the one that is multiplied that are fetched into L1.
AHEAD = 4


def emitter(context, builder, dtype):
    """Vectors of 16 lanes, which LLVM splits where the processor's are shorter."""
    return Emitter(context, builder, llvm_type(dtype), SIZE)


def _row_masks(emit, top, bottom, first, last):
    """Of each row of a square the lanes that count."""
    builder, lanes = emit.builder, emit.between(first, last)
    masks = []
    for row in range(SIZE):
        below = builder.icmp_signed("<=", top, emit.index(row))
        inside = builder.and_(below, builder.icmp_signed(">", bottom, emit.index(row)))
        masks.append(builder.select(inside, lanes, emit.none()))
    return masks


def _spectrum(rows):
    """Make the intrinsic that transforms a square whose first `rows` rows and columns count.

    `f(source, s0, ahead, pitch, top, bottom, first, last, target, t0, step, peaks)`: lanes first …
    last-1 of rows top … bottom-1, row r at source[s0 + r*pitch], the rest zeros and not read; pair
    v goes to target[t0 + v*step]. Lane by lane, peaks is raised to the largest number met. What
    lies `ahead` elements behind each row is fetched into the cache meanwhile.
    """

    def typer(
        typingctx, source, s0, ahead, pitch, top, bottom, first, last, target, t0, step, peaks
    ):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, source.dtype)
            sv, s0, ahead, pitch, top, bottom, first, last, tv, t0, step, pv = arguments
            s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
            masks = _row_masks(emit, top, bottom, first, last)[:rows]
            square, most = [], None
            for row, mask in enumerate(masks):
                place = emit.at(s, builder.mul(pitch, emit.index(row)))
                square.append(emit.masked_load(place, mask, emit.zero()))
                prefetch_line(builder, emit.at(place, ahead), write=False)
                size = emit.magnitude(square[-1])
                most = size if most is None else emit.larger(most, size)
            peak = emit.data(peaks, pv)
            most = emit.larger(most, emit.magnitude(emit.load(peak)))
            emit.store(builder.bitcast(most, emit.vector), peak)
            for pair, parts in enumerate(forward(emit, square + [None] * (SIZE - rows))):
                place = emit.at(t, builder.mul(step, emit.index(pair)))
                for i, part in enumerate(parts):
                    emit.store(part, emit.at(place, emit.index(i * SIZE)))
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, i, i, i, i, i, target, i, i, peaks), codegen

    return intrinsic(typer)


# Of a whole square, and of one that is zeros beyond half of its rows and columns: filters.
spectrum: Any = _spectrum(SIZE)
spectrum_of_half: Any = _spectrum(HALF)


def _square_typer(
    typingctx, source, s0, bias, lowest, target, t0, ahead, pitch, top, bottom, first, last, sums
):
    """The intrinsic that transforms a spectrum back.

    `square(source, s0, bias, lowest, target, t0, ahead, pitch, top, bottom, first, last, sums)`:
    max(result + bias, lowest), NaN staying, from the spectrum at source[s0], its pairs one behind
    the other; lanes first … last-1 of rows top … bottom-1 go to target[t0 + r*pitch], nothing else
    is written. All results without bias are added to sums, which is finite if they are. What lies
    `ahead` elements behind each row is fetched to be written.
    """

    def codegen(context, builder, signature, arguments):
        emit = emitter(context, builder, source.dtype)
        sv, s0, bias, lowest, tv, t0, ahead, pitch, top, bottom, first, last, nv = arguments
        s, t = emit.at(emit.data(source, sv), s0), emit.at(emit.data(target, tv), t0)
        onward = emit.at(t, ahead)
        for number in range(SIZE):
            row = emit.at(onward, builder.mul(pitch, emit.index(number)))
            for lane in (0, SIZE - 1):
                prefetch_line(builder, emit.at(row, emit.index(lane)), write=True)
        halves = [emit.load(emit.at(s, emit.index(i * SIZE))) for i in range(2 * PAIRS)]
        rows = backward(emit, list(zip(halves[::2], halves[1::2], strict=True)))
        total = rows[0]
        for row in rows[1:]:
            total = emit.add(total, row)
        place = emit.data(sums, nv)
        emit.store(emit.add(emit.load(place), total), place)
        scale, bias, least = emit.constant(1 / SCALE), emit.splat(bias), emit.splat(lowest)
        masks = _row_masks(emit, top, bottom, first, last)
        for number, (row, mask) in enumerate(zip(rows, masks, strict=True)):
            row = emit.at_least(emit.fma(scale, row, bias), least)
            emit.masked_store(row, emit.at(t, builder.mul(pitch, emit.index(number))), mask)
        return context.get_dummy_value()

    i, element = types.intp, source.dtype
    signature = types.void(source, i, element, element, target, i, i, i, i, i, i, i, sums)
    return signature, codegen


square: Any = intrinsic(_square_typer)


def emit_multiply(emit, depth, a, b, c, start, turned, real):
    """Emit c = start + sum of products of two panels' terms; see `_multiply`."""
    builder = emit.builder
    ends = emit.mask(emit.index(1 | 1 << HALF))
    with emit.loop(depth, start) as loop:
        step = builder.mul(loop.number, emit.index(TERM))
        halves = []
        for panel in (a, b):
            term = emit.at(panel, step)
            for i in range(2 * ROWS):
                prefetch_line(builder, emit.at(term, emit.index(AHEAD * TERM + i * SIZE)), False)
            halves.append([emit.load(emit.at(term, emit.index(i * SIZE))) for i in range(2 * ROWS)])
        sums = list(loop.values)
        for row in range(ROWS):
            ar, ai = halves[0][2 * row : 2 * row + 2]
            of_imaginary = ar
            if real:  # lanes of two real numbers: each by itself
                of_imaginary = builder.select(ends, ai, ar)
                ai = builder.select(ends, emit.zero(), ai)
            minus = builder.fneg(ai)
            for column in range(ROWS):
                br, bi = halves[1][2 * column : 2 * column + 2]
                at = 2 * (ROWS * row + column)
                sums[at] = emit.fma(ar, br, sums[at])
                sums[at] = emit.fma(ai if turned else minus, bi, sums[at])
                sums[at + 1] = emit.fma(of_imaginary, bi, sums[at + 1])
                sums[at + 1] = emit.fma(minus if turned else ai, br, sums[at + 1])
        loop.next = sums
    for i, total in enumerate(loop.next):
        emit.store(total, emit.at(c, emit.index(i // 2 * SQUARE + i % 2 * SIZE)))


def _multiply(turned):
    """Make the intrinsic that multiplies panels.

    `f(depth, a, a0, b, b0, c, c0, accumulate, real)`: for rows i of A and j of B

        c[(i*ROWS + j)*SQUARE] = (the same if accumulate else 0) + sum over t of A[t, i] B[t, j]

    of one pair, with the conjugate of A if `turned`; `real` says that it is pair 0.
    """

    def typer(typingctx, depth, a, a0, b, b0, c, c0, accumulate, real):
        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            depth, av, a0, bv, b0, cv, c0, accumulate, real = arguments
            at_a, at_b = emit.at(emit.data(a, av), a0), emit.at(emit.data(b, bv), b0)
            at_c = emit.at(emit.data(c, cv), c0)
            start, every = [], emit.below(emit.index(SIZE))
            for i in range(2 * ROWS * ROWS):
                offset = emit.index(i // 2 * SQUARE + i % 2 * SIZE)
                mask = builder.select(accumulate, every, emit.none())
                start.append(emit.masked_load(emit.at(at_c, offset), mask, emit.zero()))
            with builder.if_else(real) as (is_so, is_not):
                with is_so:
                    emit_multiply(emit, depth, at_a, at_b, at_c, start, turned, True)
                with is_not:
                    emit_multiply(emit, depth, at_a, at_b, at_c, start, turned, False)
            return context.get_dummy_value()

        i, yes = types.intp, types.boolean
        return types.void(i, a, i, b, i, c, i, yes, yes), codegen

    return intrinsic(typer)


multiply: Any = _multiply(False)
multiply_turned: Any = _multiply(True)
