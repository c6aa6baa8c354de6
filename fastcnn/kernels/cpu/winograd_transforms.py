"""Winograd's matrices, exact, and straight-line code that multiplies by them.

A correlation of n = m + r - 1 numbers d with r numbers g gives m numbers with n products (Winograd
1980; for convolution layers Lavin and Gray 2016):

    y = A^T [(G g) * (B^T d)]                      F(m, r)
    Y = A^T [(G g G^T) * (B^T d B)] A              F(m x m, r x r): n*n products for m*m results

The product of two polynomials is found from its values at n - 1 points and its leading coefficient
("the value at infinity"); the correlation is the transpose of that product. With the points a_i,

    A^T[j, i] = a_i^j                              j < m;   A^T[m-1, n-1] = 1
    G[i, j]   = a_i^j / prod over l != i of (a_i - a_l)     G[n-1, r-1] = 1
    B^T[i, :] = coefficients of prod over l != i of (x - a_l), lowest first
    B^T[n-1]  = coefficients of prod over all l of (x - a_l)

B^T follows from the points alone: F(4, 3) and F(3, 4) share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import combinations
from typing import Any

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]

# In pairs of opposite sign, which halves the work: the rows of a pair share their even and their
# odd part. Small integers and their inverses keep the numbers that are multiplied near each other.
POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "2", "-2", "1/2", "-1/2"))


@dataclass(frozen=True)
class Transforms:
    """The matrices of F(m, r): A^T (m, n), G (n, r), B^T (n, n)."""

    at: Matrix
    g: Matrix
    bt: Matrix


def _times(p: Sequence[Fraction], root: Fraction) -> list[Fraction]:
    """Coefficients of p(x) * (x - root)."""
    shifted = [Fraction(0), *p]
    return [high - root * low for high, low in zip(shifted, [*p, Fraction(0)], strict=True)]


@cache
def transforms(m: int, r: int) -> Transforms:
    """The matrices of F(m, r), for m + r - 2 points at the most as many as POINTS has."""
    n = m + r - 1
    points = POINTS[: n - 1]
    at = [[a**j for a in points] + [Fraction(j == m - 1)] for j in range(m)]
    g, bt = [], []
    for a in points:
        polynomial, scale = [Fraction(1)], Fraction(1)
        for b in points:
            if b != a:
                polynomial, scale = _times(polynomial, b), scale * (a - b)
        g.append([a**j / scale for j in range(r)])
        bt.append([*polynomial, Fraction(0)])
    everything = [Fraction(1)]
    for a in points:
        everything = _times(everything, a)
    g.append([Fraction(j == r - 1) for j in range(r)])
    bt.append(everything)
    return Transforms(*(tuple(map(tuple, matrix)) for matrix in (at, g, bt)))


class Vectors:
    """Arithmetic on vectors that an Emitter writes; `multiply` takes any with these methods."""

    def __init__(self, emit: Any) -> None:
        self._emit = emit

    def add(self, a: Any, b: Any) -> Any:
        return self._emit.builder.fadd(a, b)

    def sub(self, a: Any, b: Any) -> Any:
        return self._emit.builder.fsub(a, b)

    def scale(self, factor: Fraction, a: Any) -> Any:
        return self._emit.builder.fmul(self._emit.constant(float(factor)), a)

    def fma(self, factor: Fraction, a: Any, b: Any) -> Any:
        """factor * a + b in one rounding."""
        return self._emit.fma(self._emit.constant(float(factor)), a, b)


def _mirrored(p: Sequence[Fraction], q: Sequence[Fraction]) -> bool:
    """Whether p and q are equal but for signs, some of them equal and some opposite."""
    same = any(a == b != 0 for a, b in zip(p, q, strict=True))
    opposite = any(a == -b != 0 for a, b in zip(p, q, strict=True))
    return same and opposite and all(abs(a) == abs(b) for a, b in zip(p, q, strict=True))


def _pairs(rows: Sequence[Sequence[Fraction]]) -> list[tuple[int, int]]:
    """Pairs of mirrored rows, no row in two of them."""
    found: list[tuple[int, int]] = []
    for i, j in combinations(range(len(rows)), 2):
        if not any({i, j} & {*pair} for pair in found) and _mirrored(rows[i], rows[j]):
            found.append((i, j))
    return found


def _sum(row: Sequence[Fraction], values: Sequence[Any], ops: Any) -> Any:
    """The sum of row[i] * values[i], from a term without a factor if there is one."""
    terms = [(factor, value) for factor, value in zip(row, values, strict=True) if factor]
    terms.sort(key=lambda term: (term[0] != 1, term[0] != -1))  # 1 first, then -1
    (first, total), *rest = terms
    if first != 1:
        if first == -1 and rest:  # x - y, never -y + x
            (factor, other), *rest = rest
            return _add_terms(rest, ops.sub(ops.scale(factor, other), total), ops)
        total = ops.scale(first, total)
    return _add_terms(rest, total, ops)


def _add_terms(terms: Sequence[tuple[Fraction, Any]], total: Any, ops: Any) -> Any:
    for factor, value in terms:
        if factor == 1:
            total = ops.add(total, value)
        elif factor == -1:
            total = ops.sub(total, value)
        else:
            total = ops.fma(factor, value, total)
    return total


def _rows(matrix: Sequence[Sequence[Fraction]], values: Sequence[Any], ops: Any) -> list[Any]:
    """matrix times values; mirrored rows as e + f*o and e - f*o, e and o computed once."""
    results: list[Any] = [None] * len(matrix)
    for i, j in _pairs(matrix):
        same = [(a + b) / 2 for a, b in zip(matrix[i], matrix[j], strict=True)]
        opposite = [(a - b) / 2 for a, b in zip(matrix[i], matrix[j], strict=True)]
        factor = min((a for a in opposite if a), key=abs)
        even = _sum(same, values, ops)
        odd = _sum([a / factor for a in opposite], values, ops)
        results[i] = _add_terms([(factor, odd)], even, ops)
        results[j] = _add_terms([(-factor, odd)], even, ops)
    for i, row in enumerate(matrix):
        if results[i] is None:
            results[i] = _sum(row, values, ops)
    return results


def multiply(matrix: Matrix, values: Sequence[Any], ops: Any) -> list[Any]:
    """matrix times the values, in few operations of `ops`.

    Values that meet mirrored columns are replaced by their sum and difference, each of which meets
    the rows of one sign alone.
    """
    columns, inputs = [list(c) for c in zip(*matrix, strict=True)], list(values)
    for i, j in _pairs(columns) if len(columns) > len(matrix) else []:
        same = [(a + b) / 2 for a, b in zip(columns[i], columns[j], strict=True)]
        opposite = [(a - b) / 2 for a, b in zip(columns[i], columns[j], strict=True)]
        a, b = inputs[i], inputs[j]
        columns[i], columns[j] = same, opposite
        inputs[i], inputs[j] = ops.add(a, b), ops.sub(a, b)
    return _rows(list(zip(*columns, strict=True)), inputs, ops)


def multiply_tile(matrix: Matrix, tile: Sequence[Sequence[Any]], ops: Any) -> list[list[Any]]:
    """matrix @ tile @ matrix^T, for a tile given as rows of values."""
    down = [multiply(matrix, column, ops) for column in zip(*tile, strict=True)]
    return [multiply(matrix, row, ops) for row in zip(*down, strict=True)]
