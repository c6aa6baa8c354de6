"""Fourier transforms of 16 x 16 real numbers in vector registers.

A real sequence of n has a spectrum X[0 … n-1] with X[n-k] = conj(X[k]): it is written as its real
parts 0 … n/2 and its imaginary parts 1 … n/2-1, n numbers. Lanes are sequences by themselves.

A square is a vector per row. It is transformed down its columns, turned over, and transformed
again; what its rows and columns give together is put in order as complex numbers, sixteen to a
*pair* of vectors, real parts and imaginary parts:

    pair v, v = 1 … 7    F(0 … 7, v), F(8, v), F(1 … 7, -v)
    pair 0               F(1 … 7, 0) and F(1 … 7, 8) in lanes 1 … 7 and 9 … 15; lane 0 holds F(0, 0)
                         and F(8, 0), lane 8 F(0, 8) and F(8, 8), which are real, as if they were
                         real and imaginary part of one number

All else is the conjugate of one of these. The four real ones are multiplied each by itself.
"""

from __future__ import annotations

from math import cos, pi, sin, tan

SIZE = 16
HALF = SIZE // 2
PAIRS = SIZE // 2
# Elements of a transformed square, and of a pair.
SQUARE, PAIR = SIZE * SIZE, 2 * SIZE


def _plus(emit, a, b):
    return a if b is None else b if a is None else emit.add(a, b)


def _minus(emit, a, b):
    if b is None:
        return a
    return emit.builder.fneg(b) if a is None else emit.builder.fsub(a, b)


def spectrum(emit, xs):
    """(real parts, imaginary parts) 0 … n/2 of n vectors; None among them is zero.

    The imaginary parts at both ends are zero, and None.
    """
    n, half = len(xs), len(xs) // 2
    if n == 2:
        return [_plus(emit, *xs), _minus(emit, *xs)], [None, None]
    (er, ei), (odd, oi) = spectrum(emit, xs[::2]), spectrum(emit, xs[1::2])
    re, im = [None] * (half + 1), [None] * (half + 1)
    re[0], re[half] = _plus(emit, er[0], odd[0]), _minus(emit, er[0], odd[0])
    for k in range(1, half // 2):
        angle = 2 * pi * k / n
        c, t, minus_t = cos(angle), emit.constant(tan(angle)), emit.constant(-tan(angle))
        u, v = emit.fma(t, oi[k], odd[k]), emit.fma(minus_t, odd[k], oi[k])
        re[k], re[half - k] = (emit.fma(emit.constant(f), u, er[k]) for f in (c, -c))
        im[k] = emit.fma(emit.constant(c), v, ei[k])
        im[half - k] = emit.fma(emit.constant(c), v, emit.builder.fneg(ei[k]))
    re[half // 2], im[half // 2] = er[half // 2], emit.builder.fneg(odd[half // 2])
    return re, im


def sequence(emit, re, im):
    """n times the vectors whose spectrum this is."""
    half = len(re) - 1
    n, builder = 2 * half, emit.builder
    if n == 2:
        return [emit.add(*re), builder.fsub(*re)]
    er, ei, odd, oi = ([None] * (half // 2 + 1) for _ in range(4))
    er[0], odd[0] = emit.add(re[0], re[half]), builder.fsub(re[0], re[half])
    for k in range(1, half // 2):
        angle = 2 * pi * k / n
        c, s, minus_s = (emit.constant(f) for f in (cos(angle), sin(angle), -sin(angle)))
        er[k], ei[k] = emit.add(re[k], re[half - k]), builder.fsub(im[k], im[half - k])
        dr, di = builder.fsub(re[k], re[half - k]), emit.add(im[k], im[half - k])
        odd[k] = emit.fma(minus_s, di, builder.fmul(c, dr))
        oi[k] = emit.fma(s, dr, builder.fmul(c, di))
    middle = half // 2
    er[middle] = emit.add(re[middle], re[middle])
    odd[middle] = builder.fmul(emit.constant(-2.0), im[middle])
    xs = [None] * n
    xs[::2], xs[1::2] = sequence(emit, er, ei), sequence(emit, odd, oi)
    return xs


# Lanes of two vectors, of which the second's count from SIZE on.
_LOW, _HIGH = list(range(HALF)), list(range(HALF, SIZE))
_OTHER_LOW, _OTHER_HIGH = ([SIZE + lane for lane in lanes] for lanes in (_LOW, _HIGH))
_SWAPPED = _HIGH + _LOW
# Signs of F(u, v) = (RR - II) + i (IR + RI): no number of lane 0 or 8 has a second part.
_SIGNS = [0.0] + [-1.0] * (HALF - 1) + [0.0] + [1.0] * (HALF - 1)


def _ends(emit):
    """Mask of lanes 0 and 8."""
    return emit.mask(emit.index(1 | 1 << HALF))


def _signs(emit, factor):
    return emit.vector([factor * sign for sign in _SIGNS])


def forward(emit, rows):
    """The pairs (re, im) of a square's rows; rows that are None, and as many last columns, are
    zeros."""
    builder = emit.builder
    re, im = spectrum(emit, rows)
    columns = emit.transposed([*re[:HALF], re[HALF], *im[1:HALF]])
    given = [c if row is not None else None for c, row in zip(columns, rows, strict=True)]
    re, im = spectrum(emit, given)
    first, last = re[0], re[HALF]
    pairs = [
        (emit.pick(first, last, _LOW + _OTHER_LOW), emit.pick(first, last, _HIGH + _OTHER_HIGH))
    ]
    for real, imaginary in zip(re[1:HALF], im[1:HALF], strict=True):
        swapped = emit.pick(imaginary, imaginary, _SWAPPED)
        above = emit.fma(_signs(emit, 1.0), swapped, real)  # F(u, v)
        below = emit.fma(_signs(emit, -1.0), swapped, real)  # F(u, -v)
        reals = emit.pick(above, below, [*_LOW, HALF, *_OTHER_LOW[1:]])
        imaginaries = emit.pick(above, below, [*_HIGH, *_OTHER_HIGH])
        pairs.append((reals, builder.select(_ends(emit), imaginary, imaginaries)))
    return pairs


# What `backward` gives is as many times too large.
SCALE = 2 * SQUARE


def backward(emit, pairs):
    """SCALE times the rows of the square whose pairs these are."""
    (first, second), builder = pairs[0], emit.builder
    low = emit.pick(first, second, _LOW + _OTHER_LOW)
    high = emit.pick(first, second, _HIGH + _OTHER_HIGH)
    re, im = [emit.add(low, low)], [None]
    for reals, imaginaries in pairs[1:]:
        above = emit.pick(reals, imaginaries, [*_LOW, HALF, *_OTHER_LOW[1:]])
        below = emit.pick(reals, imaginaries, [0, *_HIGH[1:], HALF, *_OTHER_HIGH[1:]])
        re.append(emit.add(above, below))
        apart = builder.fsub(above, below)
        swapped = emit.pick(apart, apart, _SWAPPED)
        twice = emit.add(imaginaries, imaginaries)
        ends = builder.select(_ends(emit), twice, emit.zero())
        im.append(emit.fma(_signs(emit, -1.0), swapped, ends))
    re.append(emit.add(high, high))
    turned = emit.transposed(sequence(emit, re, [*im, None]))
    return sequence(emit, turned[: HALF + 1], [None, *turned[HALF + 1 :], None])
