"""Retrieval across datasets on planted embeddings, against scikit-learn and against chance."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from taco_probe.taco.analysis import retrieval
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.analysis.planted import planted

HELD = ("d0", "d1", "d2", "d3")


@pytest.mark.parametrize("gallery", retrieval.GALLERIES)
def test_clusters_of_tasks_are_retrieved_without_fault(gallery: retrieval.Gallery) -> None:
    found = retrieval.summarised(
        [(0, retrieval.across(planted(task=5, dataset=1, noise=0.1), gallery, HELD))]
    )
    for name in retrieval.NAMES:
        assert found[name]["value"] == pytest.approx(1)
        assert found[name]["n"] == 4


@pytest.mark.parametrize("gallery", retrieval.GALLERIES)
def test_clusters_of_datasets_are_retrieved_at_chance(gallery: retrieval.Gallery) -> None:
    lacking = [(0, 1), (0, 5), (1, 6), (2, 4), (2, 5), (2, 6)]
    embeddings = planted(dataset=5, noise=1, images=60, lacking=lacking)
    found = retrieval.summarised([(0, retrieval.across(embeddings, gallery, HELD))])
    for name in retrieval.NAMES:
        assert found[name]["value"] == pytest.approx(found[name]["chance"], abs=0.04)


def test_equal_embeddings_score_chance_exactly_on_average() -> None:
    embeddings = planted(images=100, lacking=[(0, 5), (1, 6)])
    same = Embeddings(np.ones_like(embeddings.vectors), embeddings.rows)
    found = retrieval.summarised([(0, retrieval.across(same, "both", HELD))])
    for name in retrieval.NAMES:
        assert found[name]["value"] == pytest.approx(found[name]["chance"], abs=0.03)


def test_numbers_of_each_query_are_those_of_scikit_learn() -> None:
    embeddings = planted(task=0.6, images=3)
    found = retrieval.across(embeddings, "training", HELD)
    gallery = embeddings.where(~pl.col("dataset").is_in(HELD))
    asked = embeddings.where(pl.col("dataset").is_in(HELD))
    scores = asked.unit @ gallery.unit.T
    labels = gallery.rows["task"].to_numpy()
    expected = {}
    for row, similarity in zip(asked.rows.iter_rows(named=True), scores, strict=True):
        own = labels == row["task"]
        best = np.argsort(-similarity)[:5]
        votes = {task: int((labels[best] == task).sum()) for task in labels[best]}
        winners = [task for task, count in votes.items() if count == max(votes.values())]
        expected[row["task"], row["dataset"], row["image"]] = (
            labels[similarity.argmax()] == row["task"],
            average_precision_score(own, similarity),
            (row["task"] in winners) / len(winners),
        )
    keys = zip(found.rows["task"], found.rows["dataset"], found.rows["image"], strict=True)
    assert len(found.values) == len(expected) == 6 * 4 * 3
    assert found.values[:, :3] == pytest.approx(np.array([expected[key] for key in keys], float))


def test_the_gallery_never_holds_the_querys_own_dataset() -> None:
    # Every dataset has its own direction for each task, so only its own instances could answer.
    parts = [planted(task=5, noise=0.1, datasets=1, images=30, seed=seed) for seed in range(5)]
    rows = [
        part.rows.with_columns(dataset=(own := pl.lit(f"d{seed}")), origin=own)
        for seed, part in enumerate(parts)
    ]
    embeddings = Embeddings(np.concatenate([part.vectors for part in parts]), pl.concat(rows))
    found = retrieval.summarised([(0, retrieval.across(embeddings, "both", HELD))])
    assert found["top1"]["value"] < 0.6


def test_failed_and_altered_instances_take_no_part() -> None:
    whole = planted(task=2, failed=0.0)
    altered = whole.rows.with_columns(
        failure=pl.lit(""),
        alteration=pl.when(pl.col("failure") != "").then(pl.lit("noise")).otherwise(pl.lit("")),
    )
    right = whole.where(pl.col("failure") == "")
    expected = retrieval.across(right, "both", HELD).values
    for embeddings in (whole, Embeddings(whole.vectors, altered)):
        assert retrieval.across(embeddings, "both", HELD).values == pytest.approx(expected)


def test_queries_without_an_answer_are_counted_and_left_out() -> None:
    embeddings = planted(task=5, noise=0.1, lacking=[(0, d) for d in range(4, 8)])
    found = retrieval.across(embeddings, "training", HELD)
    assert found.unanswerable == 4 * 4
    assert "t0" not in found.rows["task"]


def test_a_task_of_few_datasets_counts_as_much_as_one_of_many() -> None:
    # t0 is asked for by one dataset only and lies where t1 lies in the gallery: always wrong, others right.
    embeddings = planted(task=5, noise=0.1, tasks=3, lacking=[(0, 1), (0, 2), (0, 3)])
    vectors = embeddings.vectors.copy()
    rows = embeddings.rows
    lost = ((rows["task"] == "t0") & (rows["dataset"] == "d0")).to_numpy()
    vectors[lost] = vectors[((rows["task"] == "t1") & (rows["dataset"] == "d5")).to_numpy()][0]
    found = [(0, retrieval.across(Embeddings(vectors, rows), "training", HELD))]
    assert retrieval.summarised(found)["top1"]["value"] == pytest.approx(2 / 3)
    tasks = {row["task"]: row["top1"]["value"] for row in retrieval.by_task(found)}
    assert tasks == {"t0": 0, "t1": 1, "t2": 1}
    share = retrieval.confusion([found[0][1]], ["t0", "t1", "t2"])["share"]
    assert share == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_datasets_of_one_patient_are_not_in_each_others_gallery_and_count_once() -> None:
    embeddings = planted(task=5, noise=0.1, datasets=5)
    rows = embeddings.rows.with_columns(origin=pl.col("dataset").replace({"d1": "d0"}))
    held = ("d0", "d1")
    same = Embeddings(embeddings.vectors, rows)
    assert retrieval.across(same, "held_out", held).unanswerable == 2 * 6 * 4
    found = retrieval.summarised([(0, retrieval.across(same, "both", (*held, "d2", "d3")))])["top1"]
    assert (found["n"], found["over"]) == (3, "datasets")


def test_an_interval_without_width_is_none() -> None:
    perfect = retrieval.across(planted(task=9, noise=0.01), "both", HELD)
    assert retrieval.summarised([(0, perfect), (1, perfect)])["top1"]["low"] is None
