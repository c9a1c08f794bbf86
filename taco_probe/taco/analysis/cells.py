"""Instances by task and dataset, and the distances between the means of such cells."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from taco_probe.taco.analysis.resampling import Draw, Floats, Groups
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.tasks import TASKS

Truths = NDArray[np.bool_]


class Cells:
    """Instances by task and dataset.

    Attributes:
        tasks: T names, in the order of `tasks.TASKS`, others behind by name.
        categories: of each task.
        groups: datasets (D) and images of the rows.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        rows = embeddings.rows
        place = {name: number for number, name in enumerate(TASKS)}
        self.tasks: list[str] = sorted(rows["task"].unique(), key=lambda n: (place.get(n, len(place)), n))
        category = dict(rows.select("task", "category").unique().iter_rows())
        self.categories: list[str] = [category[task] for task in self.tasks]
        self.groups = Groups(rows)
        number = {name: one for one, name in enumerate(self.tasks)}
        self.task = np.array([number[name] for name in rows["task"]], dtype=np.intp)
        self.cell = self.task * len(self.groups.datasets) + self.groups.dataset

    def means(self, unit: Any, draw: Draw) -> tuple[Floats, Truths]:
        """Mean vectors (T, D, K) of rows `unit` (N, K), and which cells have any (T, D)."""
        shape = len(self.tasks), len(self.groups.datasets)
        size = shape[0] * shape[1]
        count = np.bincount(self.cell, weights=draw.rows, minlength=size)
        weight = draw.rows / np.maximum(count, 1e-12)[self.cell]
        rows = np.arange(len(self.cell))
        taken = sparse.csr_matrix((weight.astype(np.float32), (self.cell, rows)), (size, len(rows)))
        means = np.asarray(taken @ unit, dtype=np.float64)
        return means.reshape(*shape, -1), (count > 0).reshape(shape)


def centroids(embeddings: Embeddings) -> tuple[list[str], Floats]:
    """The tasks, and their centroids (T, K): means of unit vectors in which each dataset counts alike."""
    cells = Cells(embeddings)
    means, present = cells.means(embeddings.unit, cells.groups.whole)
    return cells.tasks, means.sum(axis=1) / present.sum(axis=1, keepdims=True)


def between(means: Floats, present: Truths, weight: Floats) -> Floats:
    """Cosine distances (T, T) between centroids over the datasets that both tasks have: so that tasks which
    few datasets can feed are not apart because of their datasets. Tasks that share none are compared over
    each one's own; NaN where a task has no row at all.

    Args:
        means: (T, D, K); present: (T, D), which are there; weight: (D,) of each dataset.
    """
    own = present * weight  # (T, D)
    shared = own[:, None] * present[None]  # (T, T, D): row task, column task
    alone = shared.sum(axis=2) == 0
    shared[alone] = np.broadcast_to(own[:, None], shared.shape)[alone]
    sums = np.matmul(shared, means)  # (T, T, K): the row's task, over datasets of the pair
    length = np.linalg.norm(sums, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.einsum("abk,bak->ab", sums, sums) / (length * length.T)
    distance = 1 - np.clip(cosine, -1, 1)
    np.fill_diagonal(distance, 0)
    return np.asarray(distance)


def matrix(embeddings: Embeddings) -> Floats:
    """Cosine distances (T, T) between the tasks of plain instances, in the order of `Cells.tasks`."""
    plain = embeddings.plain
    cells = Cells(plain)
    means, present = cells.means(plain.unit, cells.groups.whole)
    return between(means, present, cells.groups.whole.datasets)
