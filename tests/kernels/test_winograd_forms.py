"""The forms of Winograd's algorithms: their identities, in exact arithmetic."""

from itertools import product

import numpy as np
import pytest

from fastcnn.kernels.cpu.winograd_forms import F43, STRIDED, STRIDED_GRAD, TAPS


def _forward(stride):
    """Whether result p of a correlation with this stride takes pixel i times tap r."""
    return lambda p, i, r: i == stride * p + r


def _gradient(p, i, r):
    """Whether dX[p] takes dY[i] times tap r: padded pixel p + 1 is 2*i + r."""
    return p + 1 == 2 * i + r


FORMS = [
    pytest.param(F43, _forward(1), 6, id="F(4, 3)"),
    pytest.param(STRIDED, _forward(2), 5, id="stride 2"),
    pytest.param(STRIDED_GRAD, _gradient, 5, id="gradient of it"),
]


@pytest.mark.parametrize(("form", "meets", "products"), FORMS)
def test_the_identity_in_one_dimension(form, meets, products):
    """For each pixel and each tap alone: the form is bilinear."""
    at, g, bt = (np.array(matrix) for matrix in (form.at, form.g, form.bt))
    assert len(form.products) == products
    for i, r in product(range(form.n), range(TAPS)):
        sums = np.zeros(at.shape[1], object)
        for v, u, m in form.products:
            sums[m] += bt[v, i] * g[u, r]
        assert (at @ sums == [meets(p, i, r) for p in range(form.m)]).all()


@pytest.mark.parametrize(("form", "meets", "products"), FORMS)
def test_the_table_of_both_axes(form, meets, products):
    """Every pair of products once; those of a sum follow each other, and all but the first are
    added to it; the next V is that of the next row."""
    rows = form.table
    sides = len(form.bt), len(form.g), len(form.at[0])
    want = {
        tuple(i * side + j for i, j, side in zip(down, across, sides, strict=True))
        for down, across in product(form.products, repeat=2)
    }
    assert {tuple(row[:3]) for row in rows.tolist()} == want
    assert len(rows) == products**2
    assert np.array_equal(rows[1:, 3], np.diff(rows[:, 2]) == 0)
    assert rows[0, 3] == 0
    assert np.array_equal(rows[:-1, 4], rows[1:, 0])
    assert np.array_equal(np.unique(rows[:, 2]), np.arange(form.points[2]))
