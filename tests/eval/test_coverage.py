"""What intervals and tests promise, on simulated runs whose truth is known: 1,000 trials each.

A patient has six entries of mostly one grade, and answers that are right or wrong together: the chance that
an answer is right is drawn once a patient. The true values follow from the expected confusion matrix.
"""

from functools import partial

import numpy as np
import pytest

from eval.stats import interval, p_value, patient_sums, resampled_sums, swapped_sums
from eval.tasks import severity

TRIALS, PATIENTS, EACH = 1000, 120, 6
GRADES = np.array([0.4, 0.3, 0.2, 0.1])
ABILITY = (2.0, 1.0)  # of the Beta distribution
RIGHT, UNREAD = 2 / 3, 0.1  # mean of that, and the share of wrong answers that cannot be read
METRICS = {
    "macro_f1": partial(severity.macro_f1, range(4)),
    "accuracy": severity.accuracy,
    "quadratic_kappa": severity.quadratic_kappa,
    "ordinal_mae": severity.ordinal_mae,
}

pytestmark = pytest.mark.slow


def true_values():
    wrong = (1 - RIGHT) * np.array([*[(1 - UNREAD) / 3] * 4, UNREAD])
    expected = np.tile(wrong, (4, 1))
    expected[range(4), range(4)] = RIGHT
    return {name: float(finish((GRADES[:, None] * expected).ravel())) for name, finish in METRICS.items()}


def truths(rng):
    grades = rng.choice(4, p=GRADES, size=PATIENTS).repeat(EACH)
    other = rng.random(len(grades)) < 0.3
    grades[other] = rng.choice(4, p=GRADES, size=int(other.sum()))
    return grades


def rows(rng, truth, ability):
    """A run's rows (entries, 20) of the confusion matrix."""
    wrong = rng.random(len(truth)) >= ability.repeat(EACH)
    predicted = np.where(wrong, (truth + rng.integers(1, 4, len(truth))) % 4, truth)
    predicted[wrong & (rng.random(len(truth)) < UNREAD)] = 4
    found = np.zeros((len(truth), 20))
    found[np.arange(len(truth)), truth * 5 + predicted] = 1
    return found


def by_patient(found):
    return patient_sums(found, np.arange(PATIENTS).repeat(EACH), PATIENTS)


@pytest.fixture(scope="module")
def coverage():
    """{metric: [by patients, by entries]}: the share of trials whose interval holds the truth."""
    rng, true = np.random.default_rng(0), true_values()
    held = {name: np.zeros(2) for name in METRICS}
    for trial in range(TRIALS):
        found = rows(rng, truths(rng), rng.beta(*ABILITY, PATIENTS))
        for way, sums in enumerate((by_patient(found), found)):
            drawn = resampled_sums(sums, resamples=1000, seed=trial)
            for name, finish in METRICS.items():
                low, high = interval(finish(drawn), len(sums))
                held[name][way] += low <= true[name] <= high
    return {name: counts / TRIALS for name, counts in held.items()}


def test_intervals_hold_the_truth_as_often_as_they_say(coverage):
    assert all(0.93 <= patients <= 0.97 for patients, _ in coverage.values()), coverage


def test_a_bootstrap_by_entry_does_not(coverage):
    assert all(entries < 0.9 for _, entries in coverage.values()), coverage


def test_the_paired_test_is_wrong_once_in_twenty_without_a_difference():
    rng = np.random.default_rng(1)
    rejected = dict.fromkeys(METRICS, 0)
    for trial in range(TRIALS):
        truth, ability = truths(rng), rng.beta(*ABILITY, PATIENTS)
        sums = [by_patient(rows(rng, truth, ability)) for _ in range(2)]
        swapped = swapped_sums(*sums, resamples=500, seed=trial)
        for name, finish in METRICS.items():
            observed = float(finish(sums[0].sum(0)) - finish(sums[1].sum(0)))
            rejected[name] += p_value(observed, finish(swapped[0]) - finish(swapped[1])) <= 0.05
    rates = {name: count / TRIALS for name, count in rejected.items()}
    assert all(0.035 <= rate <= 0.065 for rate in rates.values()), rates


def test_the_paired_test_sees_a_difference_that_is_there():
    rng = np.random.default_rng(2)
    seen = 0
    for trial in range(100):
        truth, ability = truths(rng), rng.beta(*ABILITY, PATIENTS)
        sums = [by_patient(rows(rng, truth, value)) for value in (ability, ability * 0.85)]
        swapped = swapped_sums(*sums, resamples=500, seed=trial)
        observed = float(severity.accuracy(sums[0].sum(0)) - severity.accuracy(sums[1].sum(0)))
        seen += p_value(observed, severity.accuracy(swapped[0]) - severity.accuracy(swapped[1])) <= 0.05
    assert seen > 80
