"""The dataset shortcut: do embeddings tell where a picture is from, rather than what is done to it?

Is the instance nearest to a query, among those of other tasks and other images, of the query's dataset? How
much better are tasks retrieved within a dataset than from another one? A third reading is in `variance.py`.

Legend: N instances, m queries, D datasets, T tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from taco_probe.taco.analysis import ranking
from taco_probe.taco.analysis.intervals import Found, Measured, Values, average, codes, images, measured
from taco_probe.taco.embeddings import Embeddings

NAMES = ("dataset_read", "same_dataset", "cross_dataset")


@dataclass(frozen=True)
class Shortcut:
    """Numbers of N queries; NaN where a gallery has no right answer for a query, or no wrong one.

    Attributes:
        rows: N rows with task, dataset and image.
        read, read_chance: (N,) is the nearest instance of another task and image of the query's dataset?
        same, cross: (N, D) is the nearest instance of the query's task? Gallery: other images of the query's
            own dataset, or those of dataset d; of the tasks that both datasets have.
        same_chance, cross_chance: (N, D) their levels by chance.
        datasets: names of the D.
    """

    rows: pl.DataFrame
    read: Values
    read_chance: Values
    same: Values
    same_chance: Values
    cross: Values
    cross_chance: Values
    datasets: Sequence[str]

    def measured(self, seed: int | None = None, only: Collection[str] | None = None) -> Measured:
        """Means over queries, all or of some datasets. A query counts for `same_dataset` and `cross_dataset`
        where it can be answered in both; each is a mean over the other datasets."""
        own = codes(self.rows["dataset"])
        both = np.isfinite(self.same) & np.isfinite(self.cross)
        both[np.arange(len(own)), own] = False
        parts = [self.read, self.read_chance]
        number = both.sum(axis=1)
        for values in (self.same, self.same_chance, self.cross, self.cross_chance):
            sums = np.where(both, values, 0.0).sum(axis=1)
            parts.append(np.where(number > 0, sums / np.maximum(number, 1), np.nan))
        values = np.stack([*parts, parts[2] - parts[4]], axis=1)
        kept = self.rows["dataset"].is_in(list(only)) if only is not None else pl.Series([True] * len(own))
        names = [name for kind in NAMES for name in (kind, f"chance_{kind}")]
        return measured(values[kept.to_numpy()], [*names, "drop"], self.rows.filter(kept), seed)

    def matrix(self) -> Found:
        """Share of queries of dataset a (rows) whose nearest instance in dataset b (columns) is of their
        task, mean over tasks; on the diagonal other images of the dataset itself. None: no task in common."""
        own, task = codes(self.rows["dataset"]), codes(self.rows["task"])
        shown = []
        for values in (self.cross, self.cross_chance):
            rows = [_over_tasks(values[own == a], task[own == a]) for a in range(len(self.datasets))]
            shown.append([[float(x) if np.isfinite(x) else None for x in row] for row in rows])
        return {"datasets": list(self.datasets), "share": shown[0], "chance": shown[1]}


def shortcut(embeddings: Embeddings, *, seed: int = 0) -> Shortcut:
    """Every instance as a query. Failed and altered ones take no part.

    Args:
        seed: of the order of instances that are equally near.
    """
    right = embeddings.plain
    order = np.argsort(codes(right.rows["dataset"]), kind="stable")  # a dataset's columns lie side by side
    rows, unit = right.rows[order], right.unit[order]
    table = _Table.of(rows)
    rng = np.random.default_rng(seed)
    size = (len(rows), len(table.starts))
    read = np.full((len(rows), 2), np.nan)
    same, same_chance, cross, cross_chance = (np.full(size, np.nan) for _ in range(4))
    every = np.arange(len(rows))
    for a in range(len(table.starts)):
        for part in ranking.blocks(every[table.dataset == a]):
            keys = ranking.keys(unit[part], unit, table.task, rng)
            other = table.image[part][:, None] != table.image[None, :]
            read[part] = _read(keys, other, part, table)
            keys[~(other & table.has[a][table.task][None, :])] = ranking.NOTHING
            cross[part], cross_chance[part] = _between(keys, part, table)
            same[part], same_chance[part] = _within(keys, part, table, a)
    return Shortcut(
        rows, read[:, 0], read[:, 1], same, same_chance, cross, cross_chance,
        np.unique(rows["dataset"].to_numpy()).tolist(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Table:
    """Codes (N,) of rows that are sorted by dataset; `starts` (D,) of each dataset's rows; `counts` (D, T) of
    instances, `has` where there are any, `of_image` (images, T) of instances of each image."""

    task: ranking.Codes
    dataset: ranking.Codes
    image: ranking.Codes
    starts: ranking.Codes
    counts: ranking.Codes
    has: NDArray[np.bool_]
    of_image: ranking.Codes

    @classmethod
    def of(cls, rows: pl.DataFrame) -> _Table:
        task, dataset, image = codes(rows["task"]), codes(rows["dataset"]), codes(images(rows))
        tasks = int(task.max()) + 1
        counts = _table(dataset, task, tasks)
        of_image = _table(image, task, tasks)
        return cls(
            task, dataset, image, np.unique(dataset, return_index=True)[1], counts, counts > 0, of_image
        )


def _table(one: ranking.Codes, task: ranking.Codes, tasks: int) -> ranking.Codes:
    size = int(one.max()) + 1
    return np.bincount(one * tasks + task, minlength=size * tasks).reshape(size, tasks).astype(np.int64)


def _read(keys: ranking.Keys, other: NDArray[np.bool_], part: ranking.Codes, table: _Table) -> Values:
    """(m, 2): is the nearest of other tasks and images of the query's dataset, and how likely by chance."""
    eligible = other & (table.task[part][:, None] != table.task[None, :])
    nearest = np.where(eligible, keys, ranking.NOTHING).argmax(axis=1)
    mine = eligible & (table.dataset[None, :] == table.dataset[part][0])
    number, total = mine.sum(axis=1), eligible.sum(axis=1)
    answerable = (number > 0) & (number < total)
    found = np.stack([table.dataset[nearest] == table.dataset[part], number / np.maximum(total, 1)], axis=1)
    return np.where(answerable[:, None], found, np.nan)


def _between(keys: ranking.Keys, part: ranking.Codes, table: _Table) -> tuple[Values, Values]:
    """(m, D) right or wrong in each dataset, and by chance; `keys` hold other images and the tasks that the
    queries' dataset has."""
    best = np.maximum.reduceat(keys, table.starts, axis=1)
    own, a = table.task[part], table.dataset[part][0]
    counts = np.repeat((table.counts * table.has[a])[None], len(part), axis=0)  # (m, D, T)
    counts[:, a] -= table.of_image[table.image[part]]
    return _graded(best, counts, own)


def _within(keys: ranking.Keys, part: ranking.Codes, table: _Table, a: int) -> tuple[Values, Values]:
    """(m, D) right or wrong among other images of the own dataset, and by chance, of the tasks that dataset d
    has too."""
    mine = slice(table.starts[a], table.starts[a] + int(table.counts[a].sum()))
    task = table.task[mine]
    best = np.full((len(part), len(table.starts)), ranking.NOTHING)
    for d, shared in enumerate(table.has & table.has[a]):
        if shared.any():
            best[:, d] = keys[:, mine][:, shared[task]].max(axis=1)
    left = table.counts[a] - table.of_image[table.image[part]]  # (m, T)
    return _graded(best, left[:, None, :] * table.has[None, :, :], table.task[part])


def _graded(best: ranking.Keys, counts: ranking.Codes, own: ranking.Codes) -> tuple[Values, Values]:
    """(m, D) best keys and (m, D, T) instances that there were -> (m, D) right or wrong, chance; NaN where
    the query's task was not among them, or no other."""
    number = np.take_along_axis(counts, own[:, None, None], axis=2)[..., 0]
    total = counts.sum(axis=2)
    answerable = (number > 0) & (number < total)
    right = np.where(answerable, ranking.label(best) == own[:, None], np.nan)
    return right, np.where(answerable, number / np.maximum(total, 1), np.nan)


def _over_tasks(values: Values, task: ranking.Codes) -> Values:
    """(m, D) -> (D,) means over tasks of means over queries."""
    there = np.isfinite(values)
    tasks = int(task.max(initial=-1)) + 1
    one_hot = (np.arange(tasks)[:, None] == task).astype(float)
    numbers = one_hot @ there
    means = np.where(numbers > 0, one_hot @ np.where(there, values, 0.0) / np.maximum(numbers, 1), 0.0)
    known = (numbers > 0).sum(axis=0)
    return np.where(known > 0, means.sum(axis=0) / np.maximum(known, 1), np.nan)


def summarised(runs: Sequence[tuple[int | None, Shortcut]], held_out: Collection[str]) -> Found:
    """Estimates over runs, of all datasets as queries and of the held-out ones; the matrix is a mean."""
    shown: Found = {}
    for part, only in (("all", None), ("held_out", held_out)):
        numbers = [found.measured(seed, only) for seed, found in runs]
        shown[part] = {name: average(numbers, name, f"chance_{name}") for name in NAMES}
        shown[part]["drop"] = average(numbers, "drop", within=False)
    matrices = [found.matrix() for _, found in runs]
    share = np.array([matrix["share"] for matrix in matrices], dtype=float).mean(axis=0)
    shares = [[float(x) if np.isfinite(x) else None for x in row] for row in share]
    return {**shown.pop("all"), **shown, "matrix": matrices[0] | {"share": shares}}
