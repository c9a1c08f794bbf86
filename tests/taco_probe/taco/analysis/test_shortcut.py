"""The dataset shortcut on planted embeddings, and against a slow count."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from taco_probe.taco.analysis.shortcut import Shortcut, shortcut, summarised
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.analysis.planted import planted

LACKING = [(0, 1), (0, 2), (1, 2), (3, 4)]


def found(embeddings: Embeddings) -> dict[str, float]:
    shown = summarised([(0, shortcut(embeddings))], ["d0", "d1", "d2"])
    return {name: shown[name]["value"] for name in ("dataset_read", "same_dataset", "cross_dataset", "drop")}


def test_clusters_of_tasks_do_not_tell_the_dataset_and_lose_nothing_across() -> None:
    values = found(planted(task=5, noise=0.5, images=10))
    assert values["dataset_read"] < 0.3
    assert values["cross_dataset"] == pytest.approx(1)
    assert values["drop"] == pytest.approx(0)


def test_clusters_of_datasets_are_read_without_fault() -> None:
    assert found(planted(dataset=5, noise=0.1))["dataset_read"] == pytest.approx(1)


def test_tasks_that_look_different_in_each_dataset_are_found_within_it_only() -> None:
    # The direction of a task is another one in every dataset.
    parts = [planted(task=5, noise=0.1, datasets=1, images=6, seed=seed) for seed in range(6)]
    whole = planted(datasets=6, images=6)
    vectors = np.empty_like(whole.vectors)
    for number, part in enumerate(parts):
        vectors[(whole.rows["dataset"] == f"d{number}").to_numpy()] = part.vectors
    values = found(Embeddings(vectors, whole.rows))
    assert values["same_dataset"] == pytest.approx(1)
    assert values["cross_dataset"] < 0.35
    assert values["drop"] == pytest.approx(1 - values["cross_dataset"])


def test_pictures_that_are_seen_through_do_not_count_as_dataset_or_task() -> None:
    # All instances of an image are alike; a query's own image is never in the gallery.
    values = found(planted(image=5, noise=0.1, images=10))
    assert values["dataset_read"] < 0.3
    assert values["same_dataset"] == pytest.approx(values["cross_dataset"], abs=0.1)


def test_every_number_is_that_of_a_slow_count() -> None:
    embeddings = planted(task=0.5, dataset=0.5, image=0.5, datasets=5, tasks=4, images=3, lacking=LACKING)
    result: Shortcut = shortcut(embeddings)
    rows = list(embeddings.rows.select("task", "dataset", "image").iter_rows())
    place = {row: number for number, row in enumerate(rows)}
    tasks = {d: {t for t, dataset, _ in rows if dataset == d} for d in result.datasets}
    unit = embeddings.unit
    for number, (task, dataset, image) in enumerate(
        result.rows.select("task", "dataset", "image").iter_rows()
    ):
        near = unit @ unit[place[task, dataset, image]]
        others = [k for k, (_, d, i) in enumerate(rows) if (d, i) != (dataset, image)]
        elsewhere = [k for k in others if rows[k][0] != task]
        best = max(elsewhere, key=lambda k: near[k])
        assert result.read[number] == (rows[best][1] == dataset)
        chance = np.mean([rows[k][1] == dataset for k in elsewhere])
        assert result.read_chance[number] == pytest.approx(chance)
        for (d, name), (where, right, level) in product(
            enumerate(result.datasets),
            (("same", result.same, result.same_chance), ("cross", result.cross, result.cross_chance)),
        ):
            gallery = dataset if where == "same" else name
            shared = tasks[dataset] & tasks[name]
            inside = [k for k in others if rows[k][1] == gallery and rows[k][0] in shared]
            present = {rows[k][0] for k in inside}
            if task not in present or present == {task}:
                assert np.isnan(right[number, d])
                continue
            best = max(inside, key=lambda k: near[k])
            assert right[number, d] == (rows[best][0] == task)
            expected = np.mean([rows[k][0] == task for k in inside])
            assert level[number, d] == pytest.approx(expected)


def test_a_dataset_of_one_image_has_no_gallery_of_its_own() -> None:
    alone = planted(task=2, images=1)
    result = shortcut(alone)
    assert np.isnan(result.same).all()
    shown = summarised([(0, result)], ["d0", "d1", "d2"])
    assert shown["same_dataset"] is None
    assert shown["dataset_read"] is None
    assert shown["matrix"]["share"][0][0] is None
    assert shown["matrix"]["share"][0][1] == pytest.approx(1, abs=0.3)
