"""exp, tanh and logarithms without branches, so that LLVM makes vectors of loops that call them.

    e^x        = 2^k e^r                  k = round(x / log 2), r = x - k log 2, |r| <= log(2) / 2
    e^r - 1    = r + r^2 E(r)             E a polynomial
    tanh |x|   = -m / (2 + m)             m = e^(-2|x|) - 1 = 2^k (e^r - 1) + (2^k - 1)
    log x      = k log 2 + log(1 + f)     x = 2^k (1 + f), 1 + f from sqrt(1/2) to sqrt(2)
    log(1+f)   = f - f^2/2 + s (f^2/2 + s^2 L(s^2))      s = f / (2 + f), L a polynomial
    log1p x    = log w + (x - (w - 1)) / w               w = 1 + x, rounded

For np.exp and the like Numba calls the C library, one element after the other: tanh of 6.4 million
float32 took 106 ms where copying them takes 1. Each function below asks NumPy, which says what it
computes and serves where Numba is turned off; what is compiled in its place is within 1.5 units in
the last place, tanh within 2.6. NaN and infinities come out as NumPy's do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.jit import helper, in_place_of


class _Format(NamedTuple):
    """A type of float, and what the formulas need in it."""

    number: Any  # the type, and integers of its size
    bits: Any
    mantissa: int  # its bits
    smallest: float  # normal number
    root_half: int  # bits of sqrt(1/2)
    lowest: float  # e^x is 0 below
    high: float  # log 2 in two parts; k * high is exact
    low: float
    # Polynomials through Chebyshev nodes, constant term first. Relative errors: of e^r - 1 2e-8
    # and 5e-19, of log(1+f) 3e-9 and 5e-18.
    exp: tuple[float, ...]
    log: tuple[float, ...]


_FORMATS = {
    types.float32: _Format(
        np.float32, np.int32, 23, 2.0**-126, 0x3F3504F3, -104.0,
        0.693359375, -2.12194440054690583e-4,
        (0.5, 0.166665769896987757, 0.0416665546172045742, 0.00836317905272257737,
         0.00139261835877134945),
        (0.666666850954290687, 0.399887577166048470, 0.295809859299744222),
    ),
    types.float64: _Format(
        np.float64, np.int64, 52, 2.0**-1022, 0x3FE6A09E667F3BCD, -746.0,
        6.93147180369123816490e-01, 1.90821492927058770002e-10,
        (0.5, 0.16666666666666671, 0.0416666666666666698, 0.00833333333332613513,
         0.00138888888888837483, 0.000198412698748206253, 2.48015873255477412e-05,
         2.75572554002064244e-06, 2.75572736431102953e-07, 2.51052170047207452e-08,
         2.09146869680868772e-09),
        (0.666666666666666971, 0.399999999998988905, 0.285714286262538376,
         0.222222110893794962, 0.181828924325368712, 0.153316117220550079,
         0.146178071534173250),
    ),
}  # fmt: skip
_OTHER = {
    types.float32: types.int32, types.int32: types.float32,
    types.float64: types.int64, types.int64: types.float64,
}  # fmt: skip


def _recast_typer(typingctx, value):
    """recast(value): the bits of a float as an integer of its size, or the other way round."""
    target = _OTHER[value]

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(target))

    return target(value), codegen


recast: Any = intrinsic(_recast_typer)


def exp_below_zero(x: Any) -> Any:
    """e^x for x <= 0; gradual underflow included."""
    return np.exp(x)


def tanh(x: Any) -> Any:
    """Hyperbolic tangent."""
    return np.tanh(x)


def log(x: Any) -> Any:
    """Natural logarithm; -inf at 0, NaN below."""
    return np.log(x)


def log1p(x: Any) -> Any:
    """log(1 + x), without cancellation for small x."""
    return np.log1p(x)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate what makes a body for a format: the body serves compiled calls of `function`."""

    def register(make: Callable[[_Format], Callable[..., Any]]) -> Callable[..., Any]:
        bodies = {kind: make(numbers) for kind, numbers in _FORMATS.items()}
        in_place_of(function)(lambda x: bodies.get(x))
        return make

    return register


def _polynomial(f: _Format, coefficients: tuple[float, ...]) -> Any:
    terms = tuple(map(f.number, reversed(coefficients)))

    def body(x):
        total = terms[0]
        for i in range(1, len(terms)):
            total = total * x + terms[i]
        return total

    return helper(body)


def _exp_in_parts(f: _Format) -> Any:
    """k and e^r - 1 of an x from `lowest` to 0; 2^k."""
    # Added to a number, it leaves the nearest integer in the lowest bits of the sum.
    shift = f.number(1.5 * 2.0**f.mantissa)
    shift_bits, integer, mantissa = shift.view(f.bits), f.bits, f.mantissa
    per_log2, high, low = f.number(1 / np.log(2)), f.number(f.high), f.number(f.low)
    one_bits = f.number(1).view(f.bits)
    polynomial = _polynomial(f, f.exp)

    def parts(x):
        shifted = x * per_log2 + shift
        k = shifted - shift
        r = (x - k * high) - k * low
        return integer(recast(shifted) - shift_bits), r + r * r * polynomial(r)

    def power_of_two(k):
        return recast(integer(integer(k << mantissa) + one_bits))

    return helper(parts), helper(power_of_two)


@_compiled(exp_below_zero)
def _(f: _Format) -> Callable[..., Any]:
    parts, power_of_two = _exp_in_parts(f)
    one, lowest, integer = f.number(1), f.number(f.lowest), f.bits

    def body(x):
        k, rest = parts(lowest if x < lowest else x)
        # In two steps: 2^k itself may be no normal number.
        half = integer(k >> 1)
        return (one + rest) * power_of_two(half) * power_of_two(integer(k - half))

    return body


def emit_exp_below_zero(emit: Any, x: Any) -> Any:
    """`exp_below_zero` of vectors, by an Emitter of simd.py."""
    builder = emit.builder
    f = _FORMATS[types.float32 if emit.element_bytes == 4 else types.float64]
    shift = f.number(1.5 * 2.0**f.mantissa)
    whole = emit.magnitude(x).type

    def number(value):
        return emit.constant(float(value))

    def integer(value):
        return whole([int(value)] * emit.lanes)

    def power_of_two(k):
        bits = builder.add(builder.shl(k, integer(f.mantissa)), integer(f.number(1).view(f.bits)))
        return builder.bitcast(bits, emit.vector)

    x = builder.select(builder.fcmp_ordered("<", x, number(f.lowest)), number(f.lowest), x)
    shifted = emit.fma(x, number(f.number(1 / np.log(2))), number(shift))
    k = builder.fsub(shifted, number(shift))
    r = emit.fma(k, number(-f.low), emit.fma(k, number(-f.high), x))
    total = number(f.exp[-1])
    for term in reversed(f.exp[:-1]):
        total = emit.fma(total, r, number(term))
    rest = emit.fma(builder.fmul(r, r), total, r)
    k = builder.sub(builder.bitcast(shifted, whole), integer(shift.view(f.bits)))
    half = builder.ashr(k, integer(1))
    scaled = builder.fmul(emit.add(number(1), rest), power_of_two(half))
    return builder.fmul(scaled, power_of_two(builder.sub(k, half)))


@_compiled(tanh)
def _(f: _Format) -> Callable[..., Any]:
    parts, power_of_two = _exp_in_parts(f)
    zero, one, two = f.number(0), f.number(1), f.number(2)
    far = f.number(-40)  # e^-40 is nothing beside 1

    def body(x):
        argument = -two * abs(x)
        k, rest = parts(far if argument < far else argument)
        scale = power_of_two(k)
        m = scale * rest + (scale - one)
        size = -m / (two + m)
        signed = -size if x < zero else size
        return x if x == zero else signed  # -0 stays -0

    return body


def _logarithm(f: _Format) -> Any:
    zero, half, one, two = f.number(0), f.number(0.5), f.number(1), f.number(2)
    infinity, nan = f.number(np.inf), f.number(np.nan)
    smallest, scale, steps = f.number(f.smallest), f.number(2.0**f.mantissa), f.bits(f.mantissa)
    root_half, integer, number, mantissa = f.bits(f.root_half), f.bits, f.number, f.mantissa
    high, low, none = f.number(f.high), f.number(f.low), f.bits(0)
    polynomial = _polynomial(f, f.log)

    def body(x):
        tiny = x < smallest
        bits = recast(x * scale if tiny else x)
        power = integer(integer(bits - root_half) >> mantissa)
        y = recast(integer(bits - integer(power << mantissa))) - one
        k = number(integer(power - (steps if tiny else none)))
        s = y / (two + y)
        z, square = s * s, half * y * y
        result = k * high - ((square - (s * (square + z * polynomial(z)) + k * low)) - y)
        result = result if x < infinity else x
        result = -infinity if x == zero else result
        return nan if x < zero else result

    return helper(body)


@_compiled(log)
def _(f: _Format) -> Callable[..., Any]:
    logarithm = _logarithm(f)
    return lambda x: logarithm(x)


@_compiled(log1p)
def _(f: _Format) -> Callable[..., Any]:
    logarithm = _logarithm(f)
    one, zero, infinity = f.number(1), f.number(0), f.number(np.inf)

    def body(x):
        w = one + x
        lost = (x - (w - one)) / w
        return logarithm(w) + (lost if -one < x < infinity else zero)

    return body
