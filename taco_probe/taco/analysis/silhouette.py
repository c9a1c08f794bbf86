"""Silhouettes (Rousseeuw 1987) under the cosine distance, of categories and of tasks.

On unit vectors the sum of cosine distances to a cluster is its size minus the product with its sum, so a
silhouette needs no distance matrix, and can be taken without any one dataset at no cost. Levels: `instances`,
or `centroids` (the point of a cluster is then a task's mean over datasets, or a task's mean in a dataset).

Legend: N instances, W width, C clusters, P cells of a dataset and a cluster, D datasets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl

from taco_probe.taco.analysis import shuffling
from taco_probe.taco.analysis.intervals import FEWEST, Found, Measured, Values, average, codes
from taco_probe.taco.analysis.ranking import Codes
from taco_probe.taco.embeddings import Embeddings, Vectors

By = Literal["category", "task"]
Level = Literal["centroids", "instances"]
PERMUTATIONS = 199


def silhouettes(unit: Vectors, labels: Codes) -> Values:
    """(N, W) vectors of length 1, (N,) labels -> (N,) silhouettes, as scikit-learn's silhouette_samples with
    metric="cosine": 0 for the only instance of a cluster. All 0 where there is one cluster only."""
    one_hot = (labels[None, :] == np.arange(labels.max(initial=0) + 1)[:, None]).astype(np.float32)
    return _from_products((unit @ (one_hot @ unit).T).astype(np.float64), one_hot.sum(axis=1), unit, labels)


def _from_products(products: Values, sizes: Values, unit: Vectors, labels: Codes) -> Values:
    """(N, C) products with the clusters' sums, (C,) sizes -> (N,) silhouettes."""
    every = np.arange(len(labels))
    distances = np.where(sizes > 0, 1.0 - products / np.maximum(sizes, 1), np.inf)
    others = sizes[labels] - 1
    itself = np.einsum("nw,nw->n", unit, unit).astype(np.float64)
    own = (others - (products[every, labels] - itself)) / np.maximum(others, 1)
    distances[every, labels] = np.inf
    nearest = distances.min(axis=1)
    larger = np.maximum(own, nearest)
    known = (others > 0) & np.isfinite(nearest) & (larger > 0)
    return np.where(known, (nearest - own) / np.where(known, larger, 1.0), 0.0)


@dataclass(frozen=True)
class Points:
    """What is clustered: (n, W) vectors of length 1, and rows with at least task and category."""

    unit: Vectors
    rows: pl.DataFrame

    @property
    def labelled(self) -> tuple[Codes, Codes]:
        """(n,) tasks and (tasks,) category of each."""
        tasks = self.rows.select("task", "category").unique().sort("task")
        return codes(self.rows["task"]), codes(tasks["category"])


def points(embeddings: Embeddings, by: By, level: Level) -> Points:
    """What a silhouette is taken over."""
    if level == "instances":
        return Points(
            embeddings.unit, embeddings.rows.select("task", "category", "dataset", "origin", "image")
        )
    cells = centres(embeddings.unit, embeddings.rows.select("task", "category", "dataset", "origin"))
    return cells if by == "task" else centres(cells.unit, cells.rows.select("task", "category"))


def centres(unit: Vectors, rows: pl.DataFrame) -> Points:
    """Means of vectors with equal rows, of length 1."""
    found = rows.unique().sort(rows.columns)
    place = rows.join(found.with_row_index("_place"), on=rows.columns, how="left", maintain_order="left")
    sums = np.zeros((found.height, unit.shape[1]), np.float32)
    np.add.at(sums, place["_place"].to_numpy(), unit)
    return Points(_unit(sums), found)


def measured(embeddings: Embeddings, by: By, level: Level, seed: int | None = None) -> Measured:
    """The mean silhouette, and what it is without each dataset."""
    right = embeddings.plain
    whole = points(right, by, level)
    names = sorted(right.rows["origin"].unique())
    if len(names) < FEWEST:
        without: list[float] = []
    elif by == "category" and level == "centroids":
        cells = points(right, "task", "centroids")
        kept = ((cells.rows["origin"] != name).to_numpy() for name in names)
        means = (centres(cells.unit[k], cells.rows.filter(k).select("task", "category")) for k in kept)
        without = [_mean(mean, by) for mean in means]
    else:
        without = _without_each(whole, by)
    return Measured(
        ("silhouette",), np.array([_mean(whole, by)]), np.array(without, float)[:, None], "datasets", seed
    )


def _mean(found: Points, by: By) -> float:
    task, category = found.labelled
    return float(silhouettes(found.unit, task if by == "task" else category[task]).mean())


def _without_each(found: Points, by: By) -> list[float]:
    """The mean silhouette without each dataset."""
    task, category = found.labelled
    labels = task if by == "task" else category[task]
    dataset = codes(found.rows["origin"])
    clusters, datasets = int(labels.max()) + 1, int(dataset.max()) + 1
    cell = dataset * clusters + labels
    sums = np.zeros((datasets * clusters, found.unit.shape[1]), np.float32)
    np.add.at(sums, cell, found.unit)
    products = (found.unit @ sums.T).reshape(-1, datasets, clusters).astype(np.float64)
    sizes = np.bincount(cell, minlength=datasets * clusters).reshape(datasets, clusters)
    whole, every = products.sum(axis=1), sizes.sum(axis=0)
    values = []
    for d in range(datasets):
        kept = dataset != d
        left = whole[kept] - products[kept, d]
        values.append(float(_from_products(left, every - sizes[d], found.unit[kept], labels[kept]).mean()))
    return values


def null(
    runs: Sequence[Embeddings], by: By, level: Level, *, permutations: int, seed: int = 0
) -> shuffling.Null:
    """The mean silhouette of runs on the same instances under permutation: categories among tasks; tasks
    among the instances of an image, or among the centroids of a dataset. A shuffle is the same in all runs.
    """
    values, shuffled = zip(*(_shuffled(one, by, level, permutations, seed) for one in runs), strict=True)
    means = iter(np.mean(shuffled, axis=0).tolist())
    return shuffling.null(float(np.mean(values)), lambda: next(means), permutations)


def _shuffled(
    embeddings: Embeddings, by: By, level: Level, permutations: int, seed: int
) -> tuple[float, list[float]]:
    """The silhouette of one run, and under each permutation."""
    found = points(embeddings.plain, by, level)
    rng = np.random.default_rng(seed)
    task, category = found.labelled
    if by == "category":
        one_hot = (np.arange(len(category))[:, None] == task).astype(np.float32)
        products = (found.unit @ (one_hot @ found.unit).T).astype(np.float64)
        sizes = one_hot.sum(axis=1)

        def of(categories: Codes) -> float:
            merged = (np.arange(categories.max() + 1)[:, None] == categories).astype(np.float64)
            values = _from_products(products @ merged.T, merged @ sizes, found.unit, categories[task])
            return float(values.mean())

        return of(category), [of(rng.permutation(category)) for _ in range(permutations)]
    instances = level == "instances"
    free = shuffling.exchangeable(found.rows) if instances else codes(found.rows["dataset"])
    orders = (shuffling.within(free, rng) for _ in range(permutations))
    return float(silhouettes(found.unit, task).mean()), [
        float(silhouettes(found.unit, task[order]).mean()) for order in orders
    ]


def summarised(runs: Sequence[tuple[int | None, Embeddings]], *, permutations: int = PERMUTATIONS) -> Found:
    """Silhouettes by category and by task, of centroids and of instances, over runs that differ in their
    seed; value, null and p are of the mean over runs."""
    shown: Found = {}
    for by in get_args(By):
        shown[by] = {}
        for level in get_args(Level):
            numbers = [measured(embeddings, by, level, seed) for seed, embeddings in runs]
            found = average(numbers, "silhouette", within=False)
            if found and permutations:
                mean, high, p = null([one for _, one in runs], by, level, permutations=permutations)
                found |= {"null": mean, "null_high": high, "p_permutation": p}
            shown[by][level] = found
    return shown


def _unit(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
