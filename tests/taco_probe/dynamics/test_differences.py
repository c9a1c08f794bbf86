"""Differences between groups of runs: jackknife by loops, Welch's test by scipy, coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from data_recipes.errors import UserError
from taco_probe.dynamics.differences import Replicate, benjamini_hochberg, difference, mean, replicate


def traces(kernel):
    return (float(kernel.trace()), float(kernel.sum()))


def flat(*values):
    """Runs of one quantity that no patient changes."""
    return [Replicate(np.array([value]), np.full((5, 1), value)) for value in values]


def test_a_replicate_leaves_out_all_entries_of_a_patient():
    kernel = torch.arange(25.0).view(5, 5)
    found = replicate(kernel, ["a", "b", "a", "c", "b"], traces)
    assert found.values.tolist() == [60.0, 300.0]
    kept = {"a": [1, 3, 4], "b": [0, 2, 3], "c": [0, 1, 2, 4]}
    for row, rows in zip(found.without, kept.values(), strict=True):
        cut = kernel.numpy()[np.ix_(rows, rows)]
        assert row.tolist() == [np.trace(cut), cut.sum()]
    with pytest.raises(UserError, match="2 patients at least"):
        replicate(kernel, ["a"] * 5, traces)


def test_with_one_run_each_the_error_is_the_paired_jackknife_over_patients():
    rng = np.random.default_rng(0)
    first, second = (Replicate(rng.normal(size=1), rng.normal(size=(7, 1))) for _ in range(2))
    found = difference([first], [second], 0)
    left = [float(a[0] - b[0]) for a, b in zip(first.without, second.without, strict=True)]
    middle = sum(left) / 7
    error = math.sqrt(6 / 7 * sum((one - middle) ** 2 for one in left))
    assert found.value == pytest.approx(float(first.values[0] - second.values[0]))
    assert found.patients_error == pytest.approx(error)
    assert (found.seeds_error, found.seeds_varied) == (None, False)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 6) * error)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.value) / error, 6))


def test_where_patients_change_nothing_it_is_welchs_test_over_seeds():
    first, second = (1.0, 1.4, 0.9, 1.6), (0.2, 0.9, 0.4)
    found = difference(flat(*first), flat(*second), 0)
    oracle = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval()))
    assert found.patients_error == 0
    alone = mean(flat(*first), 0)
    assert (alone.low, alone.high) == pytest.approx(
        stats.t.interval(0.95, 3, np.mean(first), stats.sem(first))
    )


def test_patients_and_seeds_add_up_with_the_freedom_of_satterthwaite():
    rng = np.random.default_rng(1)
    groups = [
        [Replicate(rng.normal(size=1), rng.normal(size=(9, 1))) for _ in range(runs)] for runs in (3, 4)
    ]
    found = difference(*groups, 0)
    means = [sum(run.without[:, 0] for run in runs) / len(runs) for runs in groups]
    left = means[0] - means[1]
    parts = [8 / 9 * sum((left - left.mean()) ** 2)]
    parts += [np.var([run.values[0] for run in runs], ddof=1) / len(runs) for runs in groups]
    freedom = sum(parts) ** 2 / sum(part**2 / f for part, f in zip(parts, (8, 2, 3), strict=True))
    assert found.patients_error == pytest.approx(math.sqrt(parts[0]))
    assert found.seeds_error == pytest.approx(math.sqrt(parts[1] + parts[2]))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(sum(parts)))


def test_one_run_in_either_group_means_that_seeds_were_not_varied():
    assert not difference(flat(1.0, 2.0), flat(1.0), 0).seeds_varied
    assert difference(flat(1.0, 2.0), flat(1.0, 1.5), 0).seeds_varied


def test_nothing_that_varies_is_an_interval_of_no_width():
    same = difference(flat(1.0), flat(1.0), 0)
    assert (same.low, same.high, same.p) == (0, 0, 1)
    other = difference(flat(2.0), flat(1.0), 0)
    assert (other.low, other.high, other.p) == (1, 1, 0)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Run r measures the mean over patients of (truth + patient + seed): both sources of chance matter."""
    rng = np.random.default_rng(2)
    draws, patients, seeds = 1500, 20, 4
    held = 0
    for _ in range(draws):
        groups = []
        for truth in (0.5, 0.0):
            of_patients = rng.normal(size=patients)
            runs = []
            for _ in range(seeds):
                each = truth + of_patients + 0.5 * rng.normal()
                runs.append(
                    Replicate(each.mean(keepdims=True), ((each.sum() - each) / (patients - 1))[:, None])
                )
            groups.append(runs)
        found = difference(*groups, 0)
        held += found.low <= 0.5 <= found.high
    assert 0.93 <= held / draws <= 0.985


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.5]
    assert benjamini_hochberg(p) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert benjamini_hochberg([]) == []
