"""Medians, intervals and ratios, on samples made up for the purpose."""

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn.benchmark.statistics import interval, paired_ratio
from fastcnn.benchmark.summary import geometric_mean

TIMES = st.lists(st.floats(1e-6, 10.0), min_size=1, max_size=40)


@given(TIMES, st.floats(0.1, 10))
@settings(deadline=None, max_examples=100)
def test_the_interval_holds_the_median_and_scales_with_the_unit(times, factor):
    found, scaled = interval(times), interval([factor * t for t in times])
    assert min(times) <= found.low <= found.median <= found.high <= max(times)
    assert scaled.spread == pytest.approx(found.spread, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (5, 1), (8, 1), (9, 2), (20, 6), (24, 7)])
def test_the_ranks_are_those_of_the_binomial_table(n, rank):
    found = interval(list(range(n)))
    assert (found.low, found.high) == (rank - 1, n - rank)
    # from the definition: at least 95 % inside, where n allows; one rank further in, less
    inside = sum(comb(n, k) for k in range(rank, n - rank + 1)) / 2**n
    further = sum(comb(n, k) for k in range(rank + 1, n - rank)) / 2**n
    assert further < 0.95
    assert inside >= 0.95 or rank == 1


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(4000, 12))
    holds = [(i := interval(row.tolist())).low <= np.log(2) <= i.high for row in samples]
    assert np.mean(holds) > 0.94


def test_more_rounds_narrow_the_interval():
    rng = np.random.default_rng(1)
    times = (1 + 0.1 * rng.standard_normal(400)).tolist()
    assert interval(times).spread < interval(times[:20]).spread / 2


def noisy(seed, level, n=8):
    return (level * (1 + 0.04 * np.random.default_rng(seed).random(n))).tolist()


def test_twenty_percent_is_seen_through_four_percent_of_noise():
    assert paired_ratio(noisy(0, 1.0), noisy(1, 1.2)).verdict == "faster"
    assert paired_ratio(noisy(0, 1.2), noisy(1, 1.0)).verdict == "slower"


def test_equal_sides_are_noise():
    assert paired_ratio(noisy(0, 1.0), noisy(1, 1.0)).verdict == "noise"
    assert paired_ratio([1.0] * 8, [1.02] * 8).verdict == "noise"


def test_drift_that_hits_both_sides_cancels_in_pairs():
    drift = np.linspace(1, 3, 8)
    ratio = paired_ratio(drift.tolist(), (1.2 * drift).tolist())
    assert ratio.verdict == "faster"
    assert ratio.median == pytest.approx(1.2)
    assert ratio.high - ratio.low < 1e-9
    assert ratio.rounds == 8


def test_geometric_mean():
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
