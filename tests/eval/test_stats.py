"""Bootstrap against the analytic answer, exchanged pairs against scipy, Holm by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from eval.stats import (
    bootstrap_p,
    holm,
    interval,
    p_value,
    patient_sums,
    resampled_sums,
    swapped_sums,
)


def test_bootstrap_of_a_mean_matches_the_analytic_interval():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, size=400)
    sums = np.stack([values, np.ones(400)], axis=1)
    drawn = resampled_sums(sums, resamples=4000)
    means = drawn[:, 0] / drawn[:, 1]
    error = values.std() / np.sqrt(400)
    assert means.mean() == pytest.approx(values.mean(), abs=0.1)
    assert means.std() == pytest.approx(error, rel=0.05)
    low, high = interval(means, 400)
    assert (low, high) == pytest.approx(scipy_stats.norm.interval(0.95, values.mean(), error), abs=0.15)


def test_patients_are_resampled_not_entries():
    """Ten equal entries a patient: the interval must be as wide as with one entry a patient."""
    values = np.random.default_rng(1).integers(0, 2, size=60).astype(float)
    rows = np.repeat(np.stack([values, np.ones(60)], axis=1), 10, axis=0)
    clustered = resampled_sums(patient_sums(rows, np.repeat(np.arange(60), 10), 60))
    by_entry = resampled_sums(rows)
    width = np.std(clustered[:, 0] / clustered[:, 1])
    assert width == pytest.approx(values.std() / np.sqrt(60), rel=0.1)
    assert np.std(by_entry[:, 0] / by_entry[:, 1]) < 0.4 * width


def test_every_resample_has_as_many_patients_and_seeds_fix_it():
    sums = np.ones((7, 1))
    drawn = resampled_sums(sums, resamples=1203)
    assert drawn.shape == (1203, 1)
    assert (drawn == 7).all()
    sums = np.random.default_rng(0).random((7, 2))
    np.testing.assert_array_equal(resampled_sums(sums), resampled_sums(sums))
    assert not np.array_equal(resampled_sums(sums), resampled_sums(sums, seed=1))


def test_patient_sums_by_hand():
    rows = np.array([[1.0, 2], [3, 4], [5, 6]])
    np.testing.assert_array_equal(patient_sums(rows, np.array([1, 0, 1]), 3), [[3, 4], [6, 8], [0, 0]])


def test_interval_leaves_out_resamples_with_nothing_to_judge():
    assert interval(np.array([np.nan, 1.0, 1.0]), 9) == (1.0, 1.0)


def test_few_patients_have_the_interval_of_students_t():
    """On normal samples as wide as the bootstrap makes them, which divides by n and not by n - 1."""
    values = np.random.default_rng(3).normal(size=8)
    spread = values.std() / np.sqrt(8)
    samples = scipy_stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000, values.mean(), spread)
    error = values.std(ddof=1) / np.sqrt(8)
    expected = scipy_stats.t.interval(0.95, 7, values.mean(), error)
    assert interval(samples, 8) == pytest.approx(expected, abs=1e-3)


def test_bootstrap_p_by_hand():
    assert bootstrap_p(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert bootstrap_p(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(10 / 100)
    assert bootstrap_p(np.zeros(99)) == 1


def test_exchanged_sums_are_those_of_exchanged_patients():
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 2)), rng.random((3, 2))
    one, other = swapped_sums(first, second, resamples=300)
    possible = set()
    for mask in itertools.product([False, True], repeat=3):
        swap = np.array(mask)[:, None]
        possible.add(tuple(np.where(swap, second, first).sum(0).round(9)))
    assert {tuple(row) for row in one.round(9)} == possible
    np.testing.assert_allclose(one + other, np.broadcast_to(first.sum(0) + second.sum(0), one.shape))


def test_p_value_is_scipys_permutation_test():
    rng = np.random.default_rng(4)
    differences = rng.normal(0.4, 1, size=30)
    first, second = differences[:, None], np.zeros((30, 1))
    one, other = swapped_sums(first, second, resamples=20_000)
    mine = p_value(differences.sum(), (one - other)[:, 0])
    expected = scipy_stats.permutation_test(
        (differences, np.zeros(30)),
        lambda x, y, axis: np.sum(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        rng=0,
    )
    assert mine == pytest.approx(expected.pvalue, abs=0.01)
    assert p_value(0.0, np.array([0.0, 1.0, -1.0])) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_and_keeps_order(p):
    adjusted = holm(p)
    assert all(a >= b for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
