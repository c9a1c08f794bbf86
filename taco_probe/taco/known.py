"""What a run knows: where tasks lie on its datasets, how far instances lie from them, and how well that names
the task of a dataset that was left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_recipes.errors import UserError
from eval.stats import SEED, interval, resampled_sums
from taco_probe.taco.analysis.cells import Cells
from taco_probe.taco.embeddings import Embeddings

Floats = NDArray[np.float64]

QUANTILE = 0.95


class Limits(NamedTuple):
    """How far the tasks of left-out datasets lie from their own centres, 95th percentiles: the mean of a task
    on a dataset, and single instances. `typical`: the mean of each task's means."""

    group: float
    instance: float
    typical: dict[str, float]


class Known:
    """Embeddings of known datasets. A task's centre is the mean over its datasets of mean unit vectors, each
    dataset alike; distances are of cosine.

    Attributes:
        tasks, categories: T of them; datasets: D.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        """Failed and altered instances are left out.

        Raises:
            UserError: nothing is left.
        """
        plain = embeddings.plain
        if not plain.rows.height:
            raise UserError("the run's embeddings hold no instance as its task makes it")
        self._cells = Cells(plain)
        self._unit = plain.unit
        self.means, self.present = self._cells.means(self._unit, self._cells.groups.whole)
        self.tasks, self.categories = self._cells.tasks, self._cells.categories
        self.datasets = self._cells.groups.datasets
        self.home = self._cells.groups.home  # (D,) number of each dataset's origin
        self.modality = dict(plain.rows.select("dataset", "modality").unique().iter_rows())

    def centres(self, without: str = "", weight: Floats | None = None) -> Floats:
        """(T, K) unit centres of the tasks over all datasets but one and those of its origin, or with these
        weights (D,); NaN where a task has none."""
        counts = np.ones(len(self.datasets)) if weight is None else weight
        if without:
            counts = np.where(self.home == self.home[self.datasets.index(without)], 0, counts)
        there = self.present.astype(np.float64) * counts
        return _unit(np.matmul(there[:, None], self.means)[:, 0], np.asarray((there > 0).any(axis=1)))

    def cells(self, task: str) -> Floats:
        """(D, K) unit means of a task on each dataset; NaN where there are none."""
        number = self.tasks.index(task)
        return _unit(self.means[number], self.present[number])

    def left_out(self, dataset: str) -> tuple[Floats, NDArray[np.intp]]:
        """Distances (N, T) of a dataset's instances to the centres of the other datasets, and their tasks
        (N,)."""
        rows = np.flatnonzero(self._cells.groups.dataset == self.datasets.index(dataset))
        return distances(self._unit[rows], self.centres(without=dataset)), self._cells.task[rows]

    def leads(self, datasets: Sequence[str]) -> tuple[Floats, NDArray[np.bool_]]:
        """For each task on each of these datasets, left out in turn: how much nearer the nearest task is than
        the next, and whether it is the right one."""
        lead, right = [], []
        for name in datasets:
            apart, task = self.left_out(name)
            for one in np.unique(task):
                mean = apart[task == one].mean(axis=0)
                if np.isfinite(mean[one]) and np.isfinite(mean).sum() > 1:
                    lead.append(lead_of(mean))
                    right.append(bool(np.nanargmin(mean) == one))
        return np.asarray(lead), np.asarray(right, dtype=bool)

    def limits(self, datasets: Sequence[str]) -> Limits | None:
        """From these datasets, each left out in turn; None where none of their tasks is known elsewhere."""
        groups: list[float] = []
        instances, of = [], []
        for name in datasets:
            apart, task = self.left_out(name)
            own = apart[np.arange(len(task)), task]
            instances.append(own[np.isfinite(own)])
            groups += [float(own[task == one].mean()) for one in np.unique(task)]
            of += [self.tasks[one] for one in np.unique(task)]
        kept = [(group, name) for group, name in zip(groups, of, strict=True) if np.isfinite(group)]
        if not kept:
            return None
        typical = {
            name: float(np.mean([group for group, other in kept if other == name])) for _, name in kept
        }
        return Limits(
            float(np.quantile([group for group, _ in kept], QUANTILE)),
            float(np.quantile(np.concatenate(instances), QUANTILE)),
            typical,
        )


def distances(unit: Any, centres: Floats) -> Floats:
    """Cosine distances (N, C) of unit vectors (N, K) to unit centres (C, K)."""
    return np.asarray(1 - np.asarray(unit, dtype=np.float64) @ centres.T)


def lead_of(apart: Floats) -> float:
    """How much nearer the nearest of (T,) distances is than the next; NaN is left out."""
    first, second = np.sort(apart[np.isfinite(apart)])[:2]
    return float(second - first)


def leave_one_dataset_out(
    embeddings: Embeddings, datasets: Sequence[str], *, top: Sequence[int] = (1, 5)
) -> dict[str, Any]:
    """How often the task of a left-out dataset's instances is named, as `imax taco nearest` names it.

    Each task on each of `datasets` stands for a folder: it is ranked by its mean distance to the tasks'
    centres over all other datasets. A task that no other dataset has cannot be named and is not counted.
    Datasets weigh as many folders as they have tasks.

    Returns:
        for k of `top`: `top<k>` {value, low, high, n}, the share of folders whose task is among the k
        nearest, with an interval over datasets, of which n are of different origin (None from one alone), and
        `chance<k>`; `by_dataset`.

    Raises:
        UserError: a dataset that is not there, or nothing that can be judged.
    """
    judged = ranks(embeddings, datasets)
    by_dataset: dict[str, Any] = {
        str(name): {f"top{k}": _share(part, k) for k in top} | {"n": part.height}
        for (name,), part in judged.group_by("dataset", maintain_order=True)
    }
    hits = [
        [*(float((part["rank"] <= k).sum()) for k in top), float(part.height)]
        for _, part in judged.group_by("origin", maintain_order=True)
    ]
    sums = np.asarray(hits)
    drawn = resampled_sums(sums, resamples=2000, seed=SEED)
    whole: dict[str, Any] = {"by_dataset": by_dataset, "folders": int(sums[:, -1].sum())}
    for place, k in enumerate(top):
        low = high = None
        if len(hits) > 1:
            low, high = interval(drawn[:, place] / drawn[:, -1], len(hits))
        value = float(sums[:, place].sum() / sums[:, -1].sum())
        whole[f"top{k}"] = {"value": value, "low": low, "high": high, "n": len(hits)}
        whole[f"chance{k}"] = min(1.0, k / embeddings.plain.rows["task"].n_unique())
    return whole


def _share(ranked: pl.DataFrame, k: int) -> float:
    return float((ranked["rank"].to_numpy() <= k).mean())


def ranks(embeddings: Embeddings, datasets: Sequence[str]) -> pl.DataFrame:
    """A row for each task on each of `datasets`: at which rank, from 1, its task lies among the centres of
    the other datasets' tasks, ties shared. A task that no other dataset has is left out.

    Raises:
        UserError: a dataset that is not there, or nothing that can be judged.
    """
    known = Known(embeddings)
    rows = []
    for name in datasets:
        if name not in known.datasets:
            raise UserError(f"no embeddings of dataset {name}; known: {', '.join(known.datasets)}")
        apart, task = known.left_out(name)
        origin = int(known.home[known.datasets.index(name)])
        for one in np.unique(task):
            rank = _rank(apart[task == one].mean(axis=0), one)
            if rank is not None:
                rows.append({"task": known.tasks[one], "dataset": name, "origin": origin, "rank": rank})
    if not rows:
        raise UserError("no task of the left-out datasets is known from another dataset")
    return pl.DataFrame(rows)


def _rank(apart: Floats, task: int) -> float | None:
    """From 1; of the tasks at the same distance half are above. None for a task without a centre."""
    own = apart[task]
    if not np.isfinite(own):
        return None
    return float(1 + (apart < own).sum() + ((apart == own).sum() - 1) / 2)


def _unit(vectors: Floats, known: NDArray[np.bool_]) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(known[..., None], vectors / np.maximum(lengths, 1e-12), np.nan)
