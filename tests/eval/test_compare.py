"""Gains by both definitions, and seeds as replicates."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from data_recipes.store import read_mixture
from eval.answers import known
from eval.compare import compare, difference_of, gains, replicates
from eval.scores import score
from tests.eval.test_scores import right


@pytest.fixture
def truths(mixture_dir):
    return known(read_mixture(mixture_dir).of_split("test"))


def test_gains_by_both_definitions(truths):
    good, bad = score(right(truths, 0.9)), score(right(truths, 0.4, seed=1))
    of_averages, average = gains(good, bad)
    assert (of_averages.name, average.name) == ("gain_of_averages", "average_of_gains")
    assert of_averages.value == pytest.approx(100 * (good.average.value / bad.average.value - 1))
    relative = [good.tasks[task].value / bad.tasks[task].value - 1 for task in good.tasks]
    assert average.value == pytest.approx(100 * np.mean(relative))
    for gain in (of_averages, average):
        assert gain.ci_low < gain.value < gain.ci_high
    assert all(gain[1:] == (0, 0, 0) for gain in gains(good, good))


def test_a_gain_over_nothing_is_not_a_number(truths):
    some, none = score(right(truths, 0.5)), score(right(truths, 0.0))
    assert all(math.isnan(value) for gain in gains(some, none) for value in gain[1:])


def test_one_seed_has_the_interval_of_its_patients():
    samples = np.random.default_rng(0).normal(60, 2, size=2000)
    one = replicates([60.0], [samples], 200)
    assert one.sd is None
    assert (one.ci_low, one.ci_high) == pytest.approx((56, 64), abs=0.3)


def test_seeds_without_patient_noise_have_students_interval():
    values = [60.0, 62.0, 67.0]
    found = replicates(values, [np.full(200_000, value) for value in values], 10_000)
    error = np.std(values, ddof=1) / np.sqrt(3)
    expected = scipy_stats.t.interval(0.95, 2, np.mean(values), error)
    assert (found.value, found.sd) == (pytest.approx(63), pytest.approx(np.std(values, ddof=1)))
    assert (found.ci_low, found.ci_high) == pytest.approx(expected, abs=0.5)


def test_groups_of_seeds_differ_when_all_their_seeds_do():
    rng = np.random.default_rng(1)
    shared = rng.normal(0, 1, size=4000)  # what the patients do to all runs alike
    one = replicates([70.0, 70.5, 69.5], [shared + v for v in (70.0, 70.5, 69.5)], 300, seed=1)
    other = replicates([60.0, 60.5, 59.5], [shared + v for v in (60.0, 60.5, 59.5)], 300, seed=2)
    found = difference_of(one, other, "rec")
    assert found.value == pytest.approx(10)
    assert found.ci_low > 5
    assert found.p < 0.05
    assert difference_of(one, replace(one, samples=one.samples), "rec").p == 1


def test_the_test_of_two_runs_is_that_of_their_patients(truths):
    """Against all 2^6 exchanges of six patients, for a metric that is no mean."""
    first, second = score(right(truths, 0.8)), score(right(truths, 0.5, seed=1))
    line = next(line for line in compare(first, second) if line.task == "severity")
    mine, theirs = first.tasks["severity"], second.tasks["severity"]
    exchanged = []
    for bits in range(2**6):
        swap = np.array([bits >> i & 1 for i in range(6)], dtype=bool)[:, None]
        one = mine.metric.finish(np.where(swap, theirs.sums, mine.sums).sum(0))
        other = mine.metric.finish(np.where(swap, mine.sums, theirs.sums).sum(0))
        exchanged.append(float(one - other))
    exact = np.mean(np.abs(exchanged) >= abs(line.value) - 1e-9)
    assert line.p == pytest.approx(exact, abs=0.03)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("own", "other"), [(0.0, 0.0), (0.1, 0.1), (0.5, 0.5), (0.5, 0.05)])
def test_intervals_over_seeds_hold_the_true_difference_at_least_as_often_as_they_say(seeds, own, other):
    # Points of patients: an arm's own, a seed's, and those of a run on a patient, which is the largest part.
    rng = np.random.default_rng(0)
    held, trials, patients = 0, 300, 60
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=300) / patients
    for _ in range(trials):
        groups = []
        for number, spread in enumerate((own, other)):
            arm = 0.5 * rng.normal(size=patients)
            runs = arm + spread * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, patients))
            groups.append(replicates(runs.mean(1), list(runs @ weights.T), patients, seed=number))
        found = difference_of(*groups, "made")
        held += found.ci_low <= 0 <= found.ci_high
    assert held / trials >= 0.95
