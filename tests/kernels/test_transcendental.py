"""exp, tanh, logarithms and rows as the kernels compute them, against NumPy in a wider type."""

import numpy as np
import pytest

from fastcnn.kernels.cpu import rows, transcendental
from fastcnn.kernels.cpu.jit import exact

INF, NAN = np.inf, np.nan
DTYPES = [np.float32, np.float64]


@exact
def _exp_below_zero(x, y):
    for i in range(len(x)):
        y[i] = transcendental.exp_below_zero(x[i])


@exact
def _tanh(x, y):
    for i in range(len(x)):
        y[i] = transcendental.tanh(x[i])


@exact
def _log(x, y):
    for i in range(len(x)):
        y[i] = transcendental.log(x[i])


@exact
def _log1p(x, y):
    for i in range(len(x)):
        y[i] = transcendental.log1p(x[i])


@exact
def _highest(row, y):
    y[0] = rows.highest(row)


@exact
def _sums(row, y):
    y[0], y[1] = rows.add_up(row), rows.add_products(row, row)


def computed(function, x):
    y = np.full_like(x, NAN)
    function(x, y)
    return y


def units(y, x, wide):
    """Distance from the true value in units in its last place."""
    true = wide(x.astype(np.longdouble))
    return np.max(np.abs(y - true) / np.spacing(np.abs(true.astype(x.dtype))))


def grid(dtype, low, high):
    """20,001 numbers, of a length that leaves a remainder to every vector."""
    return np.linspace(low, high, 20_001).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
class TestAccuracy:
    def test_exp(self, dtype):
        lowest = np.log(np.finfo(dtype).tiny)
        for low in (lowest, -20, -1, -1e-3, -1e-9):
            x = grid(dtype, low, 0)
            assert units(computed(_exp_below_zero, x), x, np.exp) <= 1.5

    def test_exp_where_it_underflows_gradually(self, dtype):
        info = np.finfo(dtype)
        x = grid(dtype, np.log(info.tiny) + np.log(info.eps) - 2, np.log(info.tiny))
        y = computed(_exp_below_zero, x)
        assert y[0] == 0
        assert units(y, x, np.exp) <= 1.5

    def test_tanh(self, dtype):
        for high in (1e-30, 1e-3, 0.3, 1, 5, 30):
            x = grid(dtype, -high, high)
            x = x[x != 0]
            y = computed(_tanh, x)
            assert units(y, x, np.tanh) <= 2.6
            assert np.abs(y).max() <= 1

    def test_log(self, dtype):
        info = np.finfo(dtype)
        for low, high in ((info.tiny, 1), (0.5, 2), (0.999, 0.99999), (1, 1e30)):
            x = grid(dtype, low, high)
            x = x[x != 1]
            assert units(computed(_log, x), x, np.log) <= 1.5
        x = grid(dtype, info.smallest_subnormal, info.tiny)[1:]
        assert units(computed(_log, x), x, np.log) <= 1.5

    def test_log1p(self, dtype):
        near_minus_one = np.nextafter(dtype(-1), dtype(0))
        for low, high in ((near_minus_one, -0.5), (-0.5, -1e-9), (1e-30, 1e-6), (1e-6, 1), (1, 9)):
            x = grid(dtype, low, high)
            assert units(computed(_log1p, x), x, np.log1p) <= 1.5


@pytest.mark.parametrize("dtype", DTYPES)
class TestEdges:
    def test_exp(self, dtype):
        x = np.array([0, -0.0, -1e-40, -1e5, -INF, NAN], dtype)
        np.testing.assert_array_equal(computed(_exp_below_zero, x), [1, 1, 1, 0, 0, NAN])

    def test_tanh(self, dtype):
        tiny = np.finfo(dtype).smallest_subnormal
        x = np.array([0, -0.0, tiny, -tiny, 50, -50, INF, -INF, NAN], dtype)
        y = computed(_tanh, x)
        np.testing.assert_array_equal(y, [0, 0, tiny, -tiny, 1, -1, 1, -1, NAN])
        assert list(np.signbit(y[:2])) == [False, True]

    def test_log(self, dtype):
        x = np.array([0, -0.0, 1, -1, INF, -INF, NAN], dtype)
        np.testing.assert_array_equal(computed(_log, x), [-INF, -INF, 0, NAN, INF, NAN, NAN])

    def test_log1p(self, dtype):
        tiny = np.finfo(dtype).smallest_subnormal
        x = np.array([0, tiny, -tiny, -1, -2, INF, -INF, NAN], dtype)
        expected = [0, tiny, -tiny, -INF, NAN, INF, NAN, NAN]
        np.testing.assert_array_equal(computed(_log1p, x), expected)


@pytest.mark.parametrize("dtype", DTYPES)
class TestRows:
    @pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 100])
    def test_against_numpy(self, dtype, length):
        rng = np.random.default_rng(length)
        y = np.empty(2, dtype)
        for shift in (0, -9, 9):
            row = (rng.integers(-4, 4, length) + shift).astype(dtype)
            _highest(row, y)
            assert y[0] == row.max()
            _sums(row, y)
            assert y[0] == row.sum()
            assert y[1] == (row * row).sum()

    def test_highest_of_extremes(self, dtype):
        y = np.empty(1, dtype)
        for row, expected in (
            ([-INF, -INF], -INF),
            ([-INF, -3, -2.5], -2.5),
            ([1, INF, 2], INF),
            ([-1e-40, 0.0], 0),
        ):
            _highest(np.array(row, dtype), y)
            assert y[0] == expected

    def test_highest_of_a_row_with_nan_is_nan_or_the_highest_of_the_others(self, dtype):
        y = np.empty(1, dtype)
        for nan in (NAN, -NAN):
            _highest(np.array([1, nan, 3, 2], dtype), y)
            assert y[0] == 3 or np.isnan(y[0])


def test_sums_are_in_float64():
    row = np.full(100_000, 0.1, np.float32)
    row[0] = 1e8
    y = np.empty(2, np.float64)
    _sums(row, y)
    assert y[0] == pytest.approx(1e8 + 99_999 * np.float64(np.float32(0.1)), rel=1e-11)
