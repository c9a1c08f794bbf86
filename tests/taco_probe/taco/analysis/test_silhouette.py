"""Silhouettes against scikit-learn, and their null."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples, silhouette_score

from taco_probe.taco.analysis import silhouette
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.analysis.planted import planted

LACKING = [(0, 1), (0, 2), (1, 2), (3, 4)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 4), min_size=8, max_size=30))
def test_silhouettes_are_those_of_scikit_learn(seed: int, drawn: list[int]) -> None:
    labels = np.unique([0, 0, 1, *drawn], return_inverse=True)[1]
    vectors = np.random.default_rng(seed).standard_normal((len(labels), 5)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = silhouette_samples(unit, labels, metric="cosine")
    assert silhouette.silhouettes(unit, labels) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("by", ["task", "category"])
@pytest.mark.parametrize("level", ["instances", "centroids"])
def test_values_without_a_dataset_are_those_of_the_rest(by: silhouette.By, level: silhouette.Level) -> None:
    embeddings = planted(task=1, dataset=1, category=1, lacking=LACKING)
    found = silhouette.measured(embeddings, by, level)
    for number, name in enumerate(sorted(embeddings.rows["dataset"].unique())):
        rest = silhouette.measured(embeddings.where(pl.col("dataset") != name), by, level)
        assert found.without[number] == pytest.approx(rest.values, abs=1e-5)


def test_instances_and_centroids_are_clustered_as_scikit_learn_would() -> None:
    embeddings = planted(task=1, dataset=1, lacking=LACKING)
    value = silhouette.measured(embeddings, "task", "instances").values[0]
    expected = silhouette_score(embeddings.vectors, embeddings.rows["task"].to_numpy(), metric="cosine")
    assert value == pytest.approx(expected, abs=1e-5)
    means, labels = [], []
    for task in sorted(embeddings.rows["task"].unique()):
        cells = []
        for dataset in sorted(embeddings.rows["dataset"].unique()):
            cell = embeddings.where(pl.col("task") == task, pl.col("dataset") == dataset)
            if len(cell.vectors):
                mean = cell.unit.mean(axis=0)
                cells.append(mean / np.linalg.norm(mean))
        means.append(np.mean(cells, axis=0))
        labels.append(embeddings.rows.filter(task=task)["category"][0])
    expected = silhouette_score(means, labels, metric="cosine")
    value = silhouette.measured(embeddings, "category", "centroids").values[0]
    assert value == pytest.approx(expected, abs=1e-5)


def test_planted_clusters_lie_far_above_their_null_and_planted_datasets_within_it() -> None:
    tight = silhouette.summarised([(0, planted(category=5, task=0.5, noise=0.5, tasks=12))], permutations=99)
    assert tight["category"]["centroids"]["value"] > 0.7 > tight["category"]["centroids"]["null_high"]
    assert tight["category"]["instances"]["p_permutation"] == pytest.approx(0.01)
    loose = silhouette.summarised([(0, planted(dataset=3))], permutations=99)
    for level in ("centroids", "instances"):
        assert loose["task"][level]["p_permutation"] > 0.02
        assert loose["task"][level]["value"] == pytest.approx(loose["task"][level]["null"], abs=0.05)


def test_the_null_and_p_are_of_the_mean_over_seeds() -> None:
    """One seed has clusters and the other none: p of the mean lies between theirs, and so does the null."""
    seeds = [
        (1, planted(task=2, datasets=3, images=2)),
        (2, planted(dataset=3, datasets=3, images=2, seed=1)),
    ]
    for by in ("task", "category"):
        found = [
            silhouette.summarised(some, permutations=99)[by]["instances"]
            for some in (seeds, seeds[:1], seeds[1:], seeds[::-1])
        ]
        both, first, second, turned = found
        assert both["null"] == pytest.approx((first["null"] + second["null"]) / 2)
        assert both["p_permutation"] == turned["p_permutation"]
        assert both["null"] == pytest.approx(turned["null"])


def test_two_datasets_give_a_number_and_no_interval() -> None:
    found = silhouette.summarised([(0, planted(task=1, datasets=2))], permutations=0)["task"]["instances"]
    assert found["low"] is None
    assert found["value"] > 0


def test_one_cluster_only_has_no_silhouette() -> None:
    embeddings = planted(tasks=1)
    assert not silhouette.silhouettes(embeddings.unit, np.zeros(len(embeddings.vectors), np.int64)).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("by", "level"),
    [("task", "instances"), ("task", "centroids"), ("category", "instances"), ("category", "centroids")],
)
def test_without_clusters_p_is_uniform(by: silhouette.By, level: silhouette.Level) -> None:
    strengths = {"dataset": 1.0, "image": 1.0, "task": 1.0 if by == "category" else 0.0}
    found = []
    for seed in range(300):
        embeddings: Embeddings = planted(**strengths, tasks=9, datasets=4, images=2, width=8, seed=seed)
        found.append(silhouette.null([embeddings], by, level, permutations=39, seed=seed).p)
    shares = [np.mean(np.array(found) <= level) for level in (0.1, 0.25, 0.5, 0.75)]
    assert shares == pytest.approx([0.1, 0.25, 0.5, 0.75], abs=0.08)
