"""Explained variance, against least squares on dummy variables, and its test against its level."""

from __future__ import annotations

import numpy as np
import pytest

from taco_probe.taco.analysis.variance import summarised, variance
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.analysis.planted import planted

LACKING = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (2, 0)]


def explained(embeddings: Embeddings, *factors: str) -> float:
    """R2 of a linear model on dummy variables."""
    dummies = [embeddings.rows[factors[0]].to_dummies()] if factors else []
    dummies += [embeddings.rows[name].to_dummies() for name in factors[1:]]
    design = np.concatenate([np.ones((len(embeddings.vectors), 1)), *(one.to_numpy() for one in dummies)], 1)
    target = embeddings.unit.astype(float)
    fitted = design @ np.linalg.lstsq(design, target, rcond=None)[0]
    spread = target - target.mean(axis=0)
    return float(((fitted - target.mean(axis=0)) ** 2).sum() / (spread**2).sum())


def test_shares_are_those_of_least_squares_though_cells_are_unequal_and_empty() -> None:
    embeddings = planted(task=1, dataset=2, category=1, lacking=LACKING)
    found = variance(embeddings, permutations=0)
    both = explained(embeddings, "task", "dataset")
    expected = {
        "task": both - explained(embeddings, "dataset"),
        "dataset": both - explained(embeddings, "task"),
        "category": explained(embeddings, "category", "dataset") - explained(embeddings, "dataset"),
    }
    for name, value in expected.items():
        assert found.factors[name].value == pytest.approx(value, abs=1e-5)
        assert found.factors[name].alone == pytest.approx(explained(embeddings, name), abs=1e-5)
        assert found.factors[name].p is None
    assert found.residual == pytest.approx(1 - both, abs=1e-5)
    parts = found.factors["task"].value, found.factors["dataset"].value, found.shared, found.residual
    assert sum(parts) == pytest.approx(1)


def test_a_factor_that_acts_is_found_and_one_that_does_not_stays_at_its_null() -> None:
    by_task = variance(planted(task=2), permutations=99).factors
    assert by_task["task"].p == pytest.approx(0.01)
    assert by_task["dataset"].p is not None
    assert by_task["dataset"].p > 0.01
    assert by_task["dataset"].value == pytest.approx(by_task["dataset"].null, abs=0.02)
    by_dataset = variance(planted(dataset=2), permutations=99).factors
    assert by_dataset["dataset"].p == pytest.approx(0.01)
    assert by_dataset["task"].value == pytest.approx(by_dataset["task"].null, abs=0.02)


def test_without_two_datasets_of_like_tasks_the_dataset_is_not_tested() -> None:
    # One dataset has semantic tasks only, the other lacks them.
    embeddings = planted(datasets=2, lacking=[(1, 0), (2, 0), (4, 0), (5, 0), (0, 1), (3, 1)])
    assert variance(embeddings, permutations=9).factors["dataset"].p is None


def test_one_seed_has_no_interval_and_several_have_students() -> None:
    runs = [variance(planted(task=1, seed=seed), permutations=0) for seed in range(3)]
    assert summarised(runs[:1])["task"]["low"] is None
    found = summarised(runs)["task"]
    values = [run.factors["task"].value for run in runs]
    half = 4.302653 * np.std(values, ddof=1) / np.sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx((np.mean(values) - half, np.mean(values) + half))


@pytest.mark.slow
@pytest.mark.parametrize("factor", ["task", "dataset", "category"])
def test_without_an_effect_p_is_uniform_though_images_have_looks_of_their_own(factor: str) -> None:
    strengths = {"task": 1.0, "dataset": 1.0, "category": 0.0, "image": 1.0}
    if factor != "category":
        strengths[factor] = 0.0
    found = []
    for seed in range(300):
        embeddings = planted(
            **strengths, tasks=9, datasets=5, images=3, lacking=LACKING[:3], width=8, seed=seed
        )
        found.append(variance(embeddings, permutations=39, seed=seed).factors[factor].p)
    shares = [np.mean(np.array(found) <= level) for level in (0.1, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.08)
