"""Rank agreement of distances and gains, against other implementations, planted truth and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.taco.transfer import agreement as a

TASKS = 12


def planted(seed: int, *, weight: float, tasks: int = TASKS) -> tuple[np.ndarray, np.ndarray]:
    """A distance between random points, and gains that fall with it by `weight`, with noise of the pair, of
    the source and (much) of the target."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((tasks, 4))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    noise = rng.standard_normal((tasks, tasks)) + rng.standard_normal((tasks, 1))
    gain = -weight * distance + (1 - weight) * noise + 20 * rng.standard_normal((1, tasks))
    return distance, gain


def same(tasks: int = TASKS) -> np.ndarray:
    category = np.arange(tasks) % 3
    return (category[:, None] == category[None]).astype(float)


def test_without_ties_the_correlation_is_the_mean_of_scipys_over_targets():
    distance, gain = planted(1, weight=0.4)
    rows = [np.arange(TASKS) != target for target in range(TASKS)]
    theirs = [scipy.stats.spearmanr(-distance[row, t], gain[row, t])[0] for t, row in enumerate(rows)]
    assert a.correlation(-distance, gain) == pytest.approx(np.mean(theirs))
    assert a.by_target(-distance, gain) == pytest.approx(theirs)


def test_the_pooled_correlation_is_scipys_over_all_ordered_pairs():
    distance, gain = planted(2, weight=0.4)
    away = ~np.eye(TASKS, dtype=bool)
    theirs = scipy.stats.spearmanr(-distance[away], gain[away])[0]
    assert a.pooled(-distance, gain) == pytest.approx(theirs)


@given(st.lists(st.lists(st.integers(0, 3), min_size=5, max_size=5), min_size=5, max_size=5))
def test_ranks_are_scipys_of_the_other_sources_with_ties_shared(values):
    matrix = np.asarray(values, dtype=float)
    ranks = a.within_ranks(matrix)
    for target in range(5):
        others = np.arange(5) != target
        expected = scipy.stats.rankdata(matrix[others, target])
        assert ranks[others, target] == pytest.approx(expected - expected.mean())
        assert ranks[target, target] == 0


@given(st.integers(0, 50))
def test_neither_the_ease_of_a_target_nor_any_rising_scale_of_gains_changes_the_correlation(seed):
    distance, gain = planted(seed, weight=0.3)
    offsets = np.random.default_rng(seed).normal(size=(1, TASKS))
    changed = np.exp(gain / 30) * np.exp(offsets) + offsets
    assert a.correlation(-distance, changed) == pytest.approx(a.correlation(-distance, gain))


def test_distances_that_determine_gains_agree_fully_and_the_interval_leaves_out_zero():
    distance, gain = planted(3, weight=1.0)
    found = a.agreement(distance, gain, same(), permutations=500)
    assert (found.value, found.low, found.high) == pytest.approx((1, 1, 1))
    assert found.p == pytest.approx(1 / 501)
    noisy = a.agreement(*planted(3, weight=0.8), same(), permutations=500)
    assert 0.4 < noisy.low < noisy.value < noisy.high <= 1


def test_the_jackknife_of_a_mean_is_the_t_interval_of_the_mean():
    values = np.random.default_rng(4).normal(size=9)
    without = [np.delete(values, k).mean() for k in range(9)]
    found = a.jackknife(values.mean(), without)
    low, high = scipy.stats.t.interval(0.95, 8, values.mean(), scipy.stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_permutation_p_is_the_share_of_all_orders_of_few_tasks():
    distance, gain = planted(5, weight=0.4, tasks=5)
    observed = a.correlation(-distance, gain)
    orders = [np.ix_(o, o) for o in itertools.permutations(range(5))]
    exact = np.mean([abs(a.correlation(-distance[o], gain)) >= abs(observed) - 1e-9 for o in orders])
    found = a.permutation_p(observed, distance, gain, same(5), permutations=4000)
    assert found == pytest.approx(exact, abs=4 * np.sqrt(exact / 4000))


def test_what_a_category_explains_is_not_counted_again_given_the_category():
    """The distance is the category and noise; gains follow the category alone."""
    rng = np.random.default_rng(6)
    noise = rng.random((TASKS, TASKS))
    distance = 3 * (1 - same()) + noise + noise.T
    gain = 5 * same() + rng.standard_normal((TASKS, TASKS))
    assert a.correlation(-distance, gain) > 0.5
    given_category = a.agreement(
        distance, gain, same(), statistic=a.partial, groups=np.arange(TASKS) % 3, permutations=500
    )
    assert given_category.low < 0 < given_category.high
    assert given_category.p > 0.05


def test_the_partial_correlation_is_that_of_the_residuals_of_a_regression():
    distance, gain = planted(7, weight=0.5)
    third, ranks = a.within_ranks(same()), [a.within_ranks(m) for m in (-distance, gain)]
    left = [
        rank.ravel() - third.ravel() * np.linalg.lstsq(third.reshape(-1, 1), rank.ravel())[0]
        for rank in ranks
    ]
    assert a.partial(-distance, gain, same()) == pytest.approx(np.corrcoef(*left)[0, 1])


def test_a_distance_differs_from_a_worse_one_and_not_from_itself():
    distance, gain = planted(8, weight=0.8)
    worse, _ = planted(9, weight=0.8)
    assert a.difference(distance, distance, gain) == a.Estimate(0.0, 0.0, 0.0, TASKS)
    assert a.difference(distance, worse, gain).low > 0


def test_random_distances_agree_by_nothing_on_average():
    found = a.random_agreement(planted(1, weight=0.5)[1], draws=300)
    assert found.value == pytest.approx(0, abs=0.02)
    assert -0.5 < found.low < -0.05
    assert 0.05 < found.high < 0.5


def test_reliability_is_one_without_noise_and_rises_with_seeds():
    rng = np.random.default_rng(10)
    _, truth = planted(10, weight=1.0)
    noisy = truth + rng.standard_normal((8, TASKS, TASKS))
    assert a.reliability(np.stack([truth, truth])) == pytest.approx(1)
    assert a.reliability(truth[None]) is None
    assert a.reliability(noisy[:2]) < a.reliability(noisy) < 1
    reliable, with_truth = [], []
    for _ in range(60):
        noisy = truth + rng.standard_normal((3, TASKS, TASKS))
        reliable.append(a.reliability(noisy))
        with_truth.append(a.correlation(noisy.mean(axis=0), truth))
    assert np.sqrt(np.mean(reliable)) == pytest.approx(np.mean(with_truth), abs=0.04)


def test_too_few_tasks_and_values_that_are_not_finite_are_refused():
    with pytest.raises(UserError, match="3 tasks are too few"):
        a.agreement(np.ones((3, 3)), np.ones((3, 3)), np.ones((3, 3)))
    distance, gain = planted(1, weight=0.5)
    gain[1, 2] = np.nan
    with pytest.raises(UserError, match="finite"):
        a.agreement(distance, gain, same())


@pytest.mark.slow
def test_the_interval_covers_zero_at_its_rate_and_the_test_holds_its_level_where_nothing_is_to_be_found():
    """400 made studies of random distances: 5 % may miss; the jackknife is known to be too wide rather than
    too narrow. Bounds are four standard errors."""
    missed, rejected, studies = 0, 0, 400
    for seed in range(studies):
        found = a.agreement(
            planted(seed, weight=0.5)[0],
            planted(10_000 + seed, weight=0.5)[1],
            same(),
            permutations=199,
            seed=seed,
        )
        missed += not found.low <= 0 <= found.high
        rejected += found.p <= 0.05
    error = np.sqrt(0.05 * 0.95 / studies)
    assert missed / studies <= 0.05 + 4 * error
    assert abs(rejected / studies - 0.05) <= 4 * error


@pytest.mark.slow
def test_the_interval_covers_the_truth_where_distance_half_explains_gain():
    """The truth: the correlation over many tasks of the same kind. Bounds are four standard errors."""
    truth = np.mean([a.correlation(-d, g) for d, g in (planted(k, weight=0.5, tasks=60) for k in range(40))])
    studies = 300
    covered = 0
    for seed in range(studies):
        distance, gain = planted(50_000 + seed, weight=0.5)
        keep = a._left_out(TASKS)
        found = a.jackknife(
            a.correlation(-distance, gain), [a.correlation(-distance[k], gain[k]) for k in keep]
        )
        covered += found.low <= truth <= found.high
    assert covered / studies >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / studies)
