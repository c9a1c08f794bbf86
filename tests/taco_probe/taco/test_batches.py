"""Which instances make up a batch, and what views show of them."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.taco.batches import Batches
from taco_probe.taco.loss import OTHER
from taco_probe.taco.views import Shown, partners
from tests.taco_probe.taco.factories import made_up_pool, tiny


def test_a_batch_has_the_tasks_instances_and_failures_asked_for():
    asked = tiny(tasks=3, per_task=4, failure_share=0.25)
    rows = made_up_pool(asked).rows
    for number in range(5):
        batch = Batches(rows, asked)[number]
        chosen = rows[batch.rows].with_columns(label=pl.Series(batch.labels))
        good, failed = (chosen.filter(pl.col("label") >= 0), chosen.filter(pl.col("label") == OTHER))
        assert good.group_by("task").len()["len"].to_list() == [4, 4, 4]
        assert (good["failure"] == "").all()
        assert [asked.tasks_used[label] for label in good["label"]] == good["task"].to_list()
        assert len(failed) == 4  # a quarter of 16
        assert (failed["failure"] != "").all()
        assert set(failed["task"]) <= set(good["task"])


def test_instances_of_a_task_come_from_as_many_datasets_as_there_are():
    asked = tiny(per_task=3, datasets=("a", "b", "c", "d"))
    rows = made_up_pool(asked).rows
    for number in range(5):
        batch = Batches(rows, asked)[number]
        chosen = rows[batch.rows].filter(pl.col("failure") == "")
        assert chosen.group_by("task").agg(pl.col("dataset").n_unique())["dataset"].to_list() == [3, 3, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**4))
def test_a_batch_is_a_function_of_seed_and_number(seed: int, number: int):
    asked = tiny(seed=seed)
    rows = made_up_pool(asked).rows
    one, other = Batches(rows, asked), Batches(rows, asked)
    other[number + 1]
    assert all(np.array_equal(a, b) for a, b in zip(one[number], other[number], strict=True))
    assert not np.array_equal(one[number].rows, one[number + 1].rows)


def test_failures_can_be_classes_or_left_out():
    asked = tiny(failures="classes")
    rows = made_up_pool(asked).rows
    batch = Batches(rows, asked)[0]
    names = [*asked.tasks_used, *(f"failed {name}" for name in asked.tasks_used)]
    chosen = rows[batch.rows]
    told = [names[label].removeprefix("failed ") for label in batch.labels]
    assert told == chosen["task"].to_list()
    assert [label >= len(asked.tasks_used) for label in batch.labels] == (chosen["failure"] != "").to_list()
    none = tiny(failures="none")
    assert (rows[Batches(rows, none)[0].rows]["failure"] == "").all()


def test_a_small_pool_repeats_rows_only_when_all_were_drawn():
    asked = tiny(per_task=10, failures="none")
    batch = Batches(made_up_pool(asked, each=6).rows, asked)[0]  # 4 good ones of each of 2 datasets
    for label in np.unique(batch.labels):
        _, counts = np.unique(batch.rows[batch.labels == label], return_counts=True)
        assert sorted(counts) == [1] * 6 + [2] * 2


def test_a_pool_without_failures_or_with_one_task_is_refused():
    asked = tiny()
    rows = made_up_pool(asked).rows
    with pytest.raises(UserError, match="failures none"):
        Batches(rows.filter(pl.col("failure") == ""), asked)
    with pytest.raises(UserError, match="at least two tasks"):
        Batches(rows.filter(pl.col("task") == "boundary"), asked)


def test_views_show_what_they_say():
    pool = made_up_pool(tiny())
    rows = np.array([0, 7, 30])

    def shown(view: str) -> list[np.ndarray]:
        return [part.permute(0, 2, 3, 1).numpy() for part in Shown(pool, view, 5)[rows]]

    inputs, targets = pool.inputs[rows], pool.targets[rows]
    for view, expected in (
        ("both", (inputs, targets)),
        ("input", (inputs, inputs)),
        ("target", (targets, targets)),
    ):
        assert all(np.array_equal(a, b) for a, b in zip(shown(view), expected, strict=True))
    mixed = shown("shuffled")
    assert np.array_equal(mixed[0], inputs)
    for target, row in zip(mixed[1], rows, strict=True):
        (source,) = [k for k in range(len(pool)) if np.array_equal(pool.targets[k], target)]
        assert source != row
        assert pool.rows["dataset"][source] == pool.rows["dataset"][int(row)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 100))
def test_partners_are_others_of_the_same_dataset_each_once(names: list[str], seed: int):
    datasets = np.array(names)
    found = partners(datasets, seed)
    assert sorted(found) == list(range(len(names)))
    assert (datasets[found] == datasets).all()
    for name in set(names):
        if names.count(name) > 1:
            own = np.flatnonzero(datasets == name)
            assert (found[own] != own).all()
