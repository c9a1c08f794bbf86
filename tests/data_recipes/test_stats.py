"""Counts, densities and co-occurrence of a mixture made by hand."""

from __future__ import annotations

from data_recipes.records import Entry, Image, Mixture
from data_recipes.stats import statistics
from data_recipes.tasks import TASKS


def test_statistics_of_a_mixture_by_hand():
    carried = {  # image -> patient, split, tasks of its entries
        "a": ("p", "train", ["vqa", "vqa", "vqa", "rec"]),
        "b": ("p", "train", ["vqa", "findings", "rec"]),
        "c": ("q", "train", ["findings"]),
        "d": ("r", "test", ["vqa", "severity"]),
    }
    images = tuple(Image(name, who, split, "x", "", 1, 1, "") for name, (who, split, _) in carried.items())
    entries = tuple(
        Entry(f"{name}{n}", name, task, "Is it?", "no", (), f"x/{task}/k")
        for name, (_, _, tasks) in carried.items()
        for n, task in enumerate(tasks)
    )
    found = statistics(Mixture(images, entries))
    assert found["density"] == {"tasks_per_image": (2 + 3 + 1) / 3, "entries_per_image": 8 / 3}
    assert found["images_by_tasks"] == {1: 1, 2: 1, 3: 1}
    assert found["images_by_entries"] == {1: 1, 3: 1, 4: 1}
    together = {(a, b): n for a in TASKS for b, n in found["cooccurrence"][a].items() if n}
    assert together == {
        ("vqa", "vqa"): 2, ("rec", "rec"): 2, ("findings", "findings"): 2,
        ("vqa", "rec"): 2, ("rec", "vqa"): 2, ("vqa", "findings"): 1, ("findings", "vqa"): 1,
        ("rec", "findings"): 1, ("findings", "rec"): 1,
    }  # fmt: skip
    train = found["counts"]["train"]
    assert (train["images"], train["patients"], train["entries"]) == (3, 2, 8)
    assert {task: n for task, n in train["per_task"].items() if n} == {"vqa": 4, "rec": 2, "findings": 2}
    assert found["counts"]["test"]["per_task"]["severity"] == 1
    assert found["kinds"] == {"x/vqa/k": 4, "x/rec/k": 2, "x/findings/k": 2}
    assert found["near_duplicates"] is None  # nobody has looked
