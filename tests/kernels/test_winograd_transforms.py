"""Winograd's matrices and the code that multiplies by them, in exact arithmetic."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from fastcnn.kernels.cpu.winograd_transforms import multiply, multiply_tile, transforms

SIZES = [(2, 3), (4, 3), (6, 3), (3, 4), (3, 2), (2, 2), (1, 3), (4, 5)]


class Counted:
    """Exact arithmetic that counts its operations."""

    def __init__(self):
        self.operations = 0

    def _count(self, result):
        self.operations += 1
        return result

    def add(self, a, b):
        return self._count(a + b)

    def sub(self, a, b):
        return self._count(a - b)

    def scale(self, factor, a):
        return self._count(factor * a)

    def fma(self, factor, a, b):
        return self._count(factor * a + b)


def numbers(rng, *shape):
    return np.vectorize(Fraction)(rng.integers(-50, 51, shape).astype(object))


@pytest.mark.parametrize(("m", "r"), SIZES)
def test_the_identity_in_one_dimension(m, r):
    """A^T [(G g) * (B^T d)] is the correlation, without any error."""
    t, n = transforms(m, r), m + r - 1
    at, g, bt = (np.array(matrix) for matrix in (t.at, t.g, t.bt))
    assert (at.shape, g.shape, bt.shape) == ((m, n), (n, r), (n, n))
    # each unit vector: the identity is bilinear
    for i, j in product(range(n), range(r)):
        d, taps = np.eye(n, dtype=int)[i], np.eye(r, dtype=int)[j]
        expected = [sum(d[p + q] * taps[q] for q in range(r)) for p in range(m)]
        assert (at @ ((g @ taps) * (bt @ d)) == expected).all()


@pytest.mark.parametrize(("m", "r"), [(2, 3), (4, 3), (6, 3), (3, 4)])
def test_the_code_in_two_dimensions(m, r):
    t, n = transforms(m, r), m + r - 1
    rng, ops = np.random.default_rng(m * 10 + r), Counted()
    d, taps = numbers(rng, n, n), numbers(rng, r, r)
    u, v = (np.array(multiply_tile(a, b, ops)) for a, b in ((t.g, taps), (t.bt, d)))
    y = np.array(multiply_tile(t.at, u * v, ops))
    windows = np.lib.stride_tricks.sliding_window_view(d, (r, r))
    assert (y == (windows * taps).sum(axis=(2, 3))).all()


@pytest.mark.parametrize(
    ("m", "r", "fewest"), [(2, 3, [4, 5, 4]), (4, 3, [10, 9, 12]), (3, 4, [9, 11, 12])]
)
def test_subexpressions_are_shared(m, r, fewest):
    """Operations of A^T, G and B^T: fewer than there are entries other than 0."""
    t = transforms(m, r)
    found = []
    for matrix in (t.at, t.g, t.bt):
        ops = Counted()
        values = numbers(np.random.default_rng(1), len(matrix[0]))
        assert (np.array(matrix) @ values == multiply(matrix, values, ops)).all()
        found.append(ops.operations)
    assert found == fewest


def test_f43_and_f34_share_the_transform_of_images():
    assert transforms(4, 3).bt == transforms(3, 4).bt
