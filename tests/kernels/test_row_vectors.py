"""Rows on vectors: every length round a vector's, and nothing beside the row read or written."""

import numpy as np
import pytest

from fastcnn.kernels.cpu.jit import config, exact
from fastcnn.kernels.cpu.row_vectors import LANES, exponentials, highest, multiply

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="NumPy's slices serve")


@exact
def of_row(x, i, n, y, found):
    found[0] = highest(x, i, n)
    found[1] = exponentials(x, i, n, x.dtype.type(found[0]), y)
    multiply(y, i, n, x.dtype.type(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, LANES - 1, LANES, LANES + 1, 2 * LANES, 112, 1000])
def test_rows_between_others(n, dtype):
    rng = np.random.default_rng(n)
    x = np.full(n + 7, np.nan, dtype)
    x[3 : 3 + n] = 5 * rng.standard_normal(n)
    y, found = np.full(n + 7, 7, dtype), np.empty(2)
    of_row(x, 3, n, y, found)
    row = x[3 : 3 + n].astype("float64")
    assert found[0] == row.max()
    expected, eps = np.exp(row - row.max()), np.finfo(dtype).eps
    np.testing.assert_allclose(found[1], expected.sum(), rtol=4 * eps)
    # the difference is rounded before it is raised
    np.testing.assert_allclose(y[3 : 3 + n], 2 * expected, rtol=(4 + np.ptp(row)) * eps)
    np.testing.assert_array_equal(y[[0, 1, 2, *range(3 + n, n + 7)]], 7)


@pytest.mark.parametrize("place", [0, LANES - 1, LANES, 40])
def test_nan_is_not_the_highest(place):
    x, found = np.linspace(-3, 4, 41).astype("float32"), np.empty(2)
    others = np.delete(x, place)
    x[place] = np.nan
    of_row(x, 0, 41, np.empty_like(x), found)
    assert found[0] == others.max()
    assert np.isnan(found[1])


def test_what_is_nothing_beside_the_highest():
    x = np.full(50, -np.inf, "float32")
    x[49] = 3
    y, found = np.empty_like(x), np.empty(2)
    of_row(x, 0, 50, y, found)
    np.testing.assert_array_equal(y, [0] * 49 + [2])
    assert found[1] == 1
