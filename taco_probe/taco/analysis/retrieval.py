"""Retrieval of tasks across datasets: which task have the instances nearest to one of a dataset never seen.

Queries are instances of held-out datasets. The gallery never holds an instance of the query's own dataset, or
of another dataset of the same patient, so the look of a dataset cannot help.

Legend: N instances, m queries, G gallery, T tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from taco_probe.taco.analysis import chance, ranking
from taco_probe.taco.analysis.intervals import Found, Measured, Values, average, measured
from taco_probe.taco.embeddings import Embeddings

Gallery = Literal["training", "held_out", "both"]
GALLERIES: tuple[Gallery, ...] = get_args(Gallery)
HEADLINE: Gallery = "training"
K = 5
NAMES = ("top1", "map", "knn", "category")  # each with its chance
_ALL = (*NAMES, *(f"chance_{name}" for name in NAMES), "above_chance")


@dataclass(frozen=True)
class Retrieved:
    """Numbers of m queries that the gallery holds an answer to.

    Attributes:
        rows: m rows: task, dataset, image and `nearest`, the task of the nearest instance.
        values: (m, Q) as named in `_ALL`.
        unanswerable: queries whose task the gallery lacks; they are left out of everything else.
    """

    rows: pl.DataFrame
    values: Values
    unanswerable: int

    def measured(self, seed: int | None = None, task: str = "") -> Measured:
        """Means over all tasks, or of one."""
        kept = (self.rows["task"] == task).to_numpy() if task else np.ones(len(self.values), bool)
        return measured(self.values[kept], _ALL, self.rows.filter(pl.Series(kept)), seed)


def across(embeddings: Embeddings, gallery: Gallery, held_out: Collection[str], *, k: int = K) -> Retrieved:
    """Queries of the held-out datasets; gallery of the training datasets, of the other held-out ones, or of
    both. Failed and altered instances take no part.

    Args:
        held_out: names of datasets; all others were trained on.
    """
    chosen = {
        "training": ~pl.col("dataset").is_in(list(held_out)),
        "held_out": pl.col("dataset").is_in(list(held_out)),
        "both": pl.lit(True),
    }
    right = embeddings.plain
    return search(right, pl.col("dataset").is_in(list(held_out)), chosen[gallery], k=k)


def search(
    embeddings: Embeddings, queries: pl.Expr, gallery: pl.Expr, *, k: int = K, seed: int = 0
) -> Retrieved:
    """Retrieval of `queries` among the instances of `gallery` that are of other datasets, and
    patients, than the query's.

    Args:
        seed: of the order of instances that are equally near.
    """
    rows = embeddings.rows.select("task", "category", "dataset", "origin", "modality", "image")
    names, task = np.unique(rows["task"].to_numpy(), return_inverse=True)
    categories = _categories(rows, names)
    dataset, home = rows["dataset"].to_numpy(), rows["origin"].to_numpy()
    asked = rows.select(_=queries).to_series().to_numpy()
    held = np.broadcast_to(rows.select(_=gallery).to_series().to_numpy(), len(dataset))
    unit, rng = embeddings.unit, np.random.default_rng(seed)
    parts, values, nearest, unanswerable = [], [], [], 0
    for name in np.unique(dataset[asked]):
        inside = np.flatnonzero(held & (home != home[dataset == name][0]))
        counts = np.bincount(task[inside], minlength=len(names))
        mine = np.flatnonzero(asked & (dataset == name))
        found = mine[counts[task[mine]] > 0]
        unanswerable += len(mine) - len(found)
        levels = _chances(counts, categories, k)
        for part in ranking.blocks(found):
            keys = ranking.keys(unit[part], unit[inside], task[inside], rng)
            scores, best = _score(keys, task[part], categories, counts, k)
            expected = levels[task[part]]
            parts.append(part)
            values.append(np.concatenate([scores, expected, scores[:, :1] - expected[:, :1]], axis=1))
            nearest.append(best)
    if not parts:
        return Retrieved(rows[:0].with_columns(nearest=pl.lit("")), np.empty((0, len(_ALL))), unanswerable)
    met = rows[np.concatenate(parts)].with_columns(nearest=pl.Series(names[np.concatenate(nearest)]))
    return Retrieved(met, np.concatenate(values), unanswerable)


def _score(
    keys: ranking.Keys, own: ranking.Codes, categories: ranking.Codes, counts: NDArray[np.int64], k: int
) -> tuple[Values, ranking.Codes]:
    """(m, G) keys, (m,) tasks of the queries -> (m, 4) numbers as in NAMES, (m,) tasks of the nearest."""
    keys.sort(axis=1)
    order = ranking.label(keys[:, ::-1])
    best = order[:, 0]
    row, place = np.nonzero(order == own[:, None])
    starts = np.searchsorted(row, np.arange(len(own)))
    precision = (np.arange(len(row)) - starts[row] + 1) / (place + 1)
    average_precision = np.bincount(row, precision, len(own)) / counts[own]
    votes = (order[:, :k, None] == np.arange(len(counts))).sum(axis=1)  # (m, T)
    most = votes == votes.max(axis=1, keepdims=True)
    won = most[np.arange(len(own)), own] / most.sum(axis=1)
    same = categories[best] == categories[own]
    return np.stack([best == own, average_precision, won, same], axis=1).astype(np.float64), best


def _chances(counts: NDArray[np.int64], categories: ranking.Codes, k: int) -> Values:
    """(T,) counts -> (T, 4) levels by chance as in NAMES."""
    of_category = np.bincount(categories, counts)[categories] / max(1, counts.sum())
    first = chance.nearest(counts), chance.average_precision(counts), chance.majority(counts, k)
    return np.stack([*first, of_category], axis=1)


def _categories(rows: pl.DataFrame, names: NDArray[np.str_]) -> ranking.Codes:
    """(T,) number of each task's category."""
    found = dict(rows.select("task", "category").unique().iter_rows())
    return np.unique([found[name] for name in names], return_inverse=True)[1].astype(np.int64)


def summarised(runs: Sequence[tuple[int | None, Retrieved]]) -> Found:
    """Estimates over runs (seed, retrieved) that differ in their seed."""
    numbers = [found.measured(seed) for seed, found in runs]
    first = runs[0][1]
    shown: Found = {name: average(numbers, name, f"chance_{name}") for name in NAMES}
    shown["above_chance"] = average(numbers, "above_chance", within=False)
    counts = {"queries": first.rows.height, "unanswerable": first.unanswerable}
    return shown | counts | {"datasets": first.rows["dataset"].n_unique()}


def by_task(runs: Sequence[tuple[int | None, Retrieved]]) -> list[Found]:
    """A row a task that was asked for, in the order of categories."""
    rows = runs[0][1].rows
    found = []
    for task, category in rows.select("task", "category").unique().sort("category", "task").iter_rows():
        numbers = [retrieved.measured(seed, task) for seed, retrieved in runs]
        mine = rows.filter(pl.col("task") == task)
        shown = {name: average(numbers, name, f"chance_{name}") for name in ("top1", "map")}
        about = {"queries": mine.height, "datasets": sorted(mine["dataset"].unique())}
        found.append({"task": task, "category": category, **shown, **about})
    return found


def confusion(runs: Sequence[Retrieved], tasks: Sequence[str]) -> Found:
    """Share of each task's queries (rows) whose nearest instance is of each task (columns), mean over the
    datasets of a task and over runs; a row without queries is None."""
    number = {task: place for place, task in enumerate(tasks)}
    total = np.zeros((len(tasks), len(tasks)))
    for found in runs:
        shares = found.rows.group_by("task", "dataset", "nearest").len()
        shares = shares.with_columns(share=pl.col("len") / pl.col("len").sum().over("task", "dataset"))
        of_task = found.rows.select("task", "dataset").unique().group_by("task").len()
        datasets = dict(of_task.iter_rows())
        for task, nearest, share in shares.select("task", "nearest", "share").iter_rows():
            total[number[task], number[nearest]] += share / datasets[task] / len(runs)
    return {"tasks": list(tasks), "share": [list(map(float, row)) if row.any() else None for row in total]}
