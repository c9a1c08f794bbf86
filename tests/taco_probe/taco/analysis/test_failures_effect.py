"""Sharpness of clusters and failed instances, on planted embeddings and against slow counts."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from taco_probe.taco.analysis import failures, retrieval
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.analysis.planted import planted

HELD = ("d0", "d1", "d2")
LACKING = [(0, 1), (0, 2), (1, 2), (3, 4)]


def sharpness(embeddings: Embeddings, seed: int = 0) -> dict[str, failures.Measured]:
    retrieved = retrieval.across(embeddings, "training", HELD).measured(seed)
    return failures.sharpness(embeddings, HELD, retrieved, seed)


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def centre(embeddings: Embeddings, task: str, without: str) -> np.ndarray:
    """Of a task over all datasets but one, each alike."""
    right = embeddings.where(pl.col("failure") == "", pl.col("task") == task, pl.col("dataset") != without)
    names = right.rows["dataset"].unique(maintain_order=True)
    cells = [right.where(pl.col("dataset") == name).unit.mean(axis=0) for name in names]
    return unit(np.mean([unit(cell) for cell in cells], axis=0))


def test_margins_are_those_of_a_slow_count() -> None:
    embeddings = planted(task=1, dataset=1, tasks=4, datasets=5, images=2, lacking=LACKING)
    tasks = ("t0", "t1", "t2", "t3")
    cells: dict[str, dict[str, list[float]]] = {}
    for vector, row in zip(embeddings.unit, embeddings.rows.iter_rows(named=True), strict=True):
        if row["dataset"] in HELD:
            near = {task: vector @ centre(embeddings, task, row["dataset"]) for task in tasks}
            margin = near.pop(row["task"]) - max(near.values())
            cells.setdefault(row["task"], {}).setdefault(row["dataset"], []).append(margin)
    expected = np.mean([np.mean([np.mean(cell) for cell in task.values()]) for task in cells.values()])
    assert sharpness(embeddings)["margin"].values[0] == pytest.approx(expected, abs=1e-5)


def test_peakedness_is_that_of_a_slow_count() -> None:
    embeddings = planted(task=1, dataset=1, tasks=4, datasets=5, images=2, lacking=LACKING)
    cells = {}
    for task, dataset in embeddings.rows.select("task", "dataset").unique().iter_rows():
        mine = embeddings.where(pl.col("task") == task, pl.col("dataset") == dataset)
        cells[task, dataset] = unit(mine.unit.mean(axis=0))
    means = []
    for alike in (True, False):
        of_task = []
        for task in ("t0", "t1", "t2", "t3"):
            found = [
                1 - cells[one] @ cells[two]
                for one in cells
                for two in cells
                if one[0] == task and one[1] != two[1] and (two[0] == task) == alike
            ]
            of_task.append(np.mean(found))
        means.append(np.mean(of_task))
    found = sharpness(embeddings)["peakedness"]
    assert found.values[0] == pytest.approx(1 - means[0] / means[1], abs=1e-5)
    rest = sharpness(embeddings.where(pl.col("dataset") != "d3"))["peakedness"]
    assert found.without[3] == pytest.approx(rest.values, abs=1e-5)


def test_sharper_clusters_are_sharper_by_every_measure() -> None:
    sharp, blunt = (
        [sharpness(planted(task=task, category=1, dataset=1, seed=seed), seed) for seed in range(3)]
        for task in (2.0, 0.5)
    )
    seeds, found = failures.pairs(sharp, blunt)
    assert seeds == [0, 1, 2]
    for name in ("silhouette_task", "margin", "peakedness", "top1", "map"):
        assert found[name]["difference"]["low"] > 0
        assert found[name]["seeds_only"]["low"] > 0
        assert found[name]["with"]["value"] > found[name]["without"]["value"]


def test_runs_are_paired_by_seed_and_seeds_of_one_side_only_are_left_out() -> None:
    runs = [
        [sharpness(planted(task=1, seed=seed), seed) for seed in seeds] for seeds in ((0, 1, 5), (1, 2, 0))
    ]
    seeds, found = failures.pairs(*runs)
    assert seeds == [0, 1]
    assert found["margin"]["difference"]["value"] == pytest.approx(0)
    assert found["margin"]["difference"]["seeds"] == 2
    alone = failures.pairs(runs[0][:1], runs[1][2:])[1]
    assert alone["margin"]["seeds_only"] is None
    assert failures.pairs(runs[0][2:], runs[1]) == ([], {})


def test_failed_instances_far_from_their_task_are_told_apart_and_like_ones_are_not() -> None:
    for share, low, high in ((0.0, 0.99, 1.0), (1.0, 0.4, 0.6)):
        embeddings = planted(task=2, noise=0.5, failed=share, images=12)
        found = failures.apart_summarised([(0, embeddings), (1, embeddings)])
        assert found is not None
        assert low <= found["auroc"]["value"] <= high
        assert found["kinds"]["blank"]["value"] == pytest.approx(found["auroc"]["value"])


def test_auroc_is_that_of_scikit_learn_in_each_task_and_dataset() -> None:
    embeddings = planted(task=1, failed=0.5, tasks=3, datasets=4, lacking=[(0, 1)])
    cells: dict[str, list[float]] = {}
    for task, dataset in embeddings.rows.select("task", "dataset").unique().iter_rows():
        mine = embeddings.where(pl.col("task") == task, pl.col("dataset") == dataset)
        distance = 1 - mine.unit @ centre(embeddings, task, dataset)
        cells.setdefault(task, []).append(roc_auc_score(mine.rows["failure"].to_numpy() != "", distance))
    expected = np.mean([np.mean(values) for values in cells.values()])
    assert failures.told_apart(embeddings)[""].values[0] == pytest.approx(expected, abs=1e-6)


def test_without_failed_instances_nothing_is_told_apart() -> None:
    assert failures.apart_summarised([(0, planted(task=1))]) is None
    runs = [[sharpness(planted(task=1, seed=seed), seed) for seed in (0, 1)] for _ in range(2)]
    found = failures.pairs(*runs)[1]["auroc"]
    assert (found["with"], found["difference"], found["seeds_only"]) == (None, None, None)
