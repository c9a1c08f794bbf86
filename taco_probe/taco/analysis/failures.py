"""What failure tasks do: how sharp clusters of tasks are, and whether failed instances are told from right.

- margin: cosine of an instance to its own task's centroid minus that to the nearest other task's, centroids
  over the other datasets.
- peakedness: of the distance matrix between centroids of a task in a dataset, pairs of different datasets
  only: 1 - (mean distance of pairs of one task) / (mean distance of pairs of two tasks). 0 where the diagonal
  is as flat as the rest, 1 where each task is one point.
- AUROC: the chance that a failed instance lies farther from the centroid of the task it claims to be than a
  right one of the same task and dataset does; centroids over right instances of the other datasets.

Every number counts tasks alike. Legend: N instances, T tasks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import polars as pl

from taco_probe.taco.analysis import silhouette
from taco_probe.taco.analysis.intervals import (
    FEWEST,
    Found,
    Measured,
    Values,
    average,
    codes,
    contrast,
    measured,
    over_seeds,
)
from taco_probe.taco.analysis.ranking import Codes
from taco_probe.taco.embeddings import Embeddings

MEASURES = ("silhouette_task", "silhouette_category", "margin", "peakedness", "top1", "map", "auroc")
_CELL = ("task", "dataset", "origin")


def sharpness(
    embeddings: Embeddings, held_out: Collection[str], retrieved: Measured, seed: int | None
) -> dict[str, Measured]:
    """By measure, numbers of one run. Margins are of instances of held-out datasets.

    Args:
        retrieved: across datasets, with top1 and map.
    """
    right = embeddings.plain
    return {
        "silhouette_task": silhouette.measured(right, "task", "instances", seed),
        "silhouette_category": silhouette.measured(right, "category", "centroids", seed),
        "margin": _margin(right, held_out, seed),
        "peakedness": _peakedness(right, seed),
        "top1": retrieved,
        "map": retrieved,
        "auroc": told_apart(embeddings, seed)[""],
    }


def _margin(right: Embeddings, held_out: Collection[str], seed: int | None) -> Measured:
    cosines, task = _to_centres(right, right)
    own = cosines[np.arange(len(task)), task]
    cosines[np.arange(len(task)), task] = -np.inf
    margin = np.where(np.isfinite(own), own - cosines.max(axis=1), np.nan)
    asked = right.rows["dataset"].is_in(list(held_out))
    return measured(margin[asked.to_numpy(), None], ["margin"], right.rows.filter(asked), seed)


def _to_centres(embeddings: Embeddings, right: Embeddings) -> tuple[Values, Codes]:
    """Cosines (N, T) of instances with centroids of tasks over right instances of other datasets and
    patients, each dataset alike; -inf where no other dataset has the task. Also (N,) own tasks, -1 for one
    that has no right instances."""
    cells = silhouette.centres(right.unit, right.rows.select(_CELL))
    tasks = sorted(cells.rows["task"].unique())
    of_cell, home = codes(cells.rows["task"]), cells.rows["origin"].to_numpy()
    number = {name: place for place, name in enumerate(tasks)}
    task = np.array([number.get(name, -1) for name in embeddings.rows["task"]], np.int64)
    dataset = embeddings.rows["origin"].to_numpy()
    found = np.full((len(task), len(tasks)), -np.inf)
    for name in np.unique(dataset):
        other = home != name
        sums = np.zeros((len(tasks), cells.unit.shape[1]), np.float32)
        np.add.at(sums, of_cell[other], cells.unit[other])
        known = np.bincount(of_cell[other], minlength=len(tasks)) > 0
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
        mine = dataset == name
        found[mine] = np.where(known, embeddings.unit[mine] @ centres.T, -np.inf)
    return found, task


def _peakedness(right: Embeddings, seed: int | None) -> Measured:
    cells = silhouette.centres(right.unit, right.rows.select(_CELL))
    task, dataset = codes(cells.rows["task"]), codes(cells.rows["dataset"])
    distances = 1.0 - (cells.unit @ cells.unit.T).astype(np.float64)
    unit = codes(cells.rows["origin"])
    units = int(unit.max()) + 1
    every = np.ones(len(task), bool)
    without = [_peak(distances, task, dataset, unit != u) for u in range(units)]
    return Measured(
        ("peakedness",),
        np.array([_peak(distances, task, dataset, every)]),
        np.array(without if units >= FEWEST else [], float)[:, None],
        "datasets",
        seed,
    )


def _peak(distances: Values, task: Codes, dataset: Codes, kept: np.ndarray) -> float:
    """Of the kept cells; NaN where no task is in two datasets."""
    distances, task, dataset = distances[np.ix_(kept, kept)], task[kept], dataset[kept]
    apart = dataset[:, None] != dataset
    alike = task[:, None] == task
    means = []
    for pairs in (apart & alike, apart & ~alike):
        rows = pairs.sum(axis=1)
        of_cell = np.where(pairs, distances, 0.0).sum(axis=1)
        sums, counts = (np.bincount(task, values, int(task.max()) + 1) for values in (of_cell, rows))
        means.append(float((sums[counts > 0] / counts[counts > 0]).mean()) if counts.any() else np.nan)
    return 1.0 - means[0] / means[1] if means[1] else float("nan")


def pairs(
    first: Sequence[dict[str, Measured]], second: Sequence[dict[str, Measured]]
) -> tuple[list[int | None], Found]:
    """Runs with failures against runs without, over the seeds that both have; the difference is with minus
    without. `seeds_only` is the interval for other seeds alone, datasets as they are."""
    by_seed = [{next(iter(run.values())).seed: run for run in runs} for runs in (first, second)]
    seeds = sorted(seed for seed in by_seed[0] if seed in by_seed[1] and seed is not None)
    found: Found = {}
    for name in MEASURES if seeds else ():
        quantity = "silhouette" if name.startswith("silhouette") else name
        with_them, without = ([runs[seed][name] for seed in seeds] for runs in by_seed)
        within = name in ("top1", "map", "auroc")
        shown: Found = {
            "with": average(with_them, quantity, within=within),
            "without": average(without, quantity, within=within),
            "difference": contrast(with_them, without, quantity),
            "seeds_only": None,
        }
        differences = [
            float(one.one(quantity).values[0] - two.one(quantity).values[0])
            for one, two in zip(with_them, without, strict=True)
        ]
        if shown["difference"] and (found_interval := over_seeds(differences)):
            shown["seeds_only"] = dict(zip(("low", "high"), found_interval, strict=True))
        found[name] = shown
    return list(seeds), found


def told_apart(embeddings: Embeddings, seed: int | None = None) -> dict[str, Measured]:
    """AUROC of failed against right instances by kind of failure, "" for all kinds together."""
    right, failed = embeddings.plain, embeddings.where(pl.col("failure") != "", pl.col("alteration") == "")
    return {
        kind: _auroc(right, failed.where(pl.col("failure") == kind) if kind else failed, seed)
        for kind in ("", *sorted(failed.rows["failure"].unique()))
    }


def _auroc(right: Embeddings, failed: Embeddings, seed: int | None) -> Measured:
    near = []
    for embeddings in (right, failed):
        cosines, task = _to_centres(embeddings, right)
        own = np.where(task >= 0, cosines[np.arange(len(task)), task], -np.inf)
        rows = embeddings.rows.select(*_CELL).with_columns(near=pl.Series(own))
        near.append(rows.filter(pl.col("near").is_finite()).group_by(_CELL).agg("near"))
    cells = near[0].join(near[1], on=_CELL, suffix="_failed").sort(_CELL)
    values = [
        _larger(np.array(one), np.array(two)) for one, two in cells.select("near", "near_failed").iter_rows()
    ]
    rows = cells.select(*_CELL, image=pl.lit(""))
    return measured(np.array(values, float).reshape(-1, 1), ["auroc"], rows, seed)


def _larger(right: Values, failed: Values) -> float:
    """Chance that one of `right` is nearer than one of `failed`, ties counted half."""
    difference = right[:, None] - failed[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def apart_summarised(runs: Sequence[tuple[int | None, Embeddings]]) -> Found | None:
    """AUROC over runs that differ in their seed; None without failed instances."""
    numbers = [told_apart(embeddings, seed) for seed, embeddings in runs]
    kinds = {kind: average([run[kind] for run in numbers], "auroc") for kind in numbers[0]}
    whole = kinds.pop("")
    return None if whole is None else {"auroc": whole | {"chance": 0.5}, "kinds": kinds}
