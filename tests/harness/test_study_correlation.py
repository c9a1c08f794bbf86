"""Correlations over runs and within arms, held to scipy and to written-out formulas."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.study.correlation import correlation


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    arms = [f"arm{number % 3}" for number in range(18)]
    x = rng.normal(size=18)
    return x, 0.8 * x + rng.normal(size=18), arms


def test_pearsons_correlation_and_interval_are_those_of_scipy(points):
    x, y, _ = points
    arms = range(18)
    found = correlation(x, y, arms, method="pearson", within=False)
    expected = scipy.stats.pearsonr(x, y)
    ends = expected.confidence_interval()
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.statistic, ends.low, ends.high), abs=1e-6
    )
    assert (found.n, found.arms) == (18, 18)


def test_over_arms_the_points_are_their_means_whatever_the_number_of_seeds(points):
    x, y, _ = points
    arms = [number % 6 for number in range(15)]
    means = [[values[start:15:6].mean() for start in range(6)] for values in (x, y)]
    found = correlation(x[:15], y[:15], arms, method="pearson", within=False)
    expected = scipy.stats.pearsonr(*means)
    assert (found.value, found.high) == pytest.approx(
        (expected.statistic, expected.confidence_interval().high), abs=1e-6
    )
    assert (found.n, found.arms) == (15, 6)


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0])
def test_arms_that_differ_by_chance_alone_show_a_correlation_in_about_one_case_of_twenty(method, spread):
    rng = np.random.default_rng(3)
    arms = np.repeat(np.arange(11), 5)
    wrong = 0
    for _ in range(600):
        x, y = rng.normal(size=(2, 11))[:, arms] + spread * rng.normal(size=(2, 55))
        found = correlation(x, y, arms, method=method, within=False)
        wrong += found.low > 0 or found.high < 0
    assert 0.02 < wrong / 600 < 0.08  # 35 % at spread 0.3 were every run a point


def test_spearmans_correlation_is_scipys_and_its_interval_bonett_and_wrights(points):
    x, y, _ = points
    found = correlation(x, y, range(18), method="spearman", within=False)
    r = scipy.stats.spearmanr(x, y).statistic
    error = np.sqrt((1 + r**2 / 2) / 15)
    assert found.value == pytest.approx(r)
    assert (found.low, found.high) == pytest.approx(
        (np.tanh(np.arctanh(r) - 1.959964 * error), np.tanh(np.arctanh(r) + 1.959964 * error))
    )


def test_within_arms_it_is_the_partial_correlation_given_the_arm(points):
    x, y, arms = points
    design = np.array([[arm == name for name in sorted(set(arms))] for arm in arms], dtype=float)
    rest = [values - design @ np.linalg.lstsq(design, values, rcond=None)[0] for values in (x, y)]
    r = np.corrcoef(*rest)[0, 1]
    found = correlation(x, y, arms, method="pearson", within=True)
    assert found.value == pytest.approx(r)
    assert found.high == pytest.approx(np.tanh(np.arctanh(r) + 1.959964 / np.sqrt(18 - 2 - 3)))


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3), st.sampled_from(["pearson", "spearman"]))
def test_moving_whole_arms_changes_nothing_within_arms(shifts, method):
    rng = np.random.default_rng(1)
    arms = [number % 3 for number in range(15)]
    x, y = rng.normal(size=(2, 15))
    moved = x + np.array([shifts[arm] for arm in arms])
    one, other = (correlation(values, y, arms, method=method, within=True) for values in (x, moved))
    assert other.value == pytest.approx(one.value, abs=1e-6)


def test_a_difference_between_arms_alone_is_no_correlation_within_them():
    rng = np.random.default_rng(2)
    arms = [number // 4 for number in range(20)]
    x = np.array(arms) * 10 + rng.normal(size=20)
    y = np.array(arms) * 10 + rng.normal(size=20)
    assert correlation(x, y, arms, method="pearson", within=False).low > 0.9
    within = correlation(x, y, arms, method="pearson", within=True)
    assert within.low < 0 < within.high


@pytest.mark.parametrize("method", ["pearson", "spearman"])
def test_too_few_runs_and_constant_numbers_have_no_interval(method):
    few = correlation([1, 2, 3], [1, 3, 2], "abc", method=method, within=False)
    assert few.value is not None
    assert few.low is None
    assert correlation([1.0] * 9, list(range(9)), range(9), method=method, within=False).value is None
    seeds = correlation(list(range(9)), [0, 2, 1] * 3, "aaabbbccc", method=method, within=False)
    assert seeds.low is None  # nine runs, yet three arms
    alone = correlation([1, 2, 3, 4], [1, 3, 2, 4], "abcd", method=method, within=True)
    assert (alone.n, alone.value) == (0, None)
    line = correlation(list(range(9)), list(range(9)), range(9), method=method, within=False)
    assert (line.value, line.low) == (pytest.approx(1.0), None)
