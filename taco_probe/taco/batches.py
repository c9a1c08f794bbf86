"""Which instances make up a batch: a function of the seed and the batch's number, so that a run that was
killed goes on with the batch it would have had."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from data_recipes.errors import UserError
from taco_probe.taco.loss import OTHER
from taco_probe.taco.settings import Settings

Numbers = NDArray[np.int64]


class Batch(NamedTuple):
    """Rows of a pool, and their labels; the failed ones last."""

    rows: Numbers
    labels: Numbers


class Batches:
    """Draws tasks, then instances of each from as many datasets as possible, then failures of the same
    tasks."""

    def __init__(self, rows: pl.DataFrame, settings: Settings) -> None:
        """
        Args:
            rows: of the pool, as in pool.COLUMNS.

        Raises:
            UserError: fewer than two tasks, or no failed instances where they are asked for.
        """
        self._settings = settings
        numbered = rows.with_row_index("row")
        good = numbered.filter(pl.col("failure") == "")
        self._good = {task: _by_dataset(good, task) for task in settings.tasks_used}
        self._good = {task: found for task, found in self._good.items() if found}
        if len(self._good) < 2:
            raise UserError(f"instances of {len(self._good)} tasks: at least two tasks are needed to train")
        failed = numbered.filter(pl.col("failure") != "")
        self._failed = {task: _rows(failed.filter(pl.col("task") == task)) for task in self._good}
        if settings.failed and not any(map(len, self._failed.values())):
            raise UserError("the pool has no failed instances: use --failures none")
        self._labels = {task: number for number, task in enumerate(settings.tasks_used)}

    def __getitem__(self, number: int) -> Batch:
        """The batch of this number, from 0."""
        settings = self._settings
        rng = np.random.default_rng([settings.seed, number])
        names = list(self._good)
        drawn = rng.choice(len(names), min(settings.tasks, len(names)), replace=False)
        tasks = [names[k] for k in drawn]
        parts = [_draw(self._good[task], settings.per_task, rng) for task in tasks]
        labels = [np.full(len(part), self._labels[task]) for task, part in zip(tasks, parts, strict=True)]
        rows, kinds = self._draw_failed(tasks, rng)
        return Batch(np.concatenate([*parts, rows]), np.concatenate([*labels, kinds]))

    def _draw_failed(self, tasks: Sequence[str], rng: np.random.Generator) -> tuple[Numbers, Numbers]:
        """Failed instances of these tasks, each alike."""
        wanted = self._settings.failed
        able = [task for task in tasks if len(self._failed[task])]
        if not wanted or not able:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        chosen = [able[k % len(able)] for k in range(wanted)]
        rows = np.array([rng.choice(self._failed[task]) for task in chosen], np.int64)
        if self._settings.failures == "negatives":
            return rows, np.full(wanted, OTHER)
        return rows, np.array([len(self._labels) + self._labels[task] for task in chosen])


def _draw(by_dataset: Sequence[Numbers], wanted: int, rng: np.random.Generator) -> Numbers:
    """`wanted` rows; datasets take turns in random order, and none gives a row twice before all its rows are
    drawn."""
    turns = [rng.permutation(by_dataset[k]) for k in rng.permutation(len(by_dataset))]
    drawn = [turns[k % len(turns)] for k in range(wanted)]
    return np.array([rows[k // len(turns) % len(rows)] for k, rows in enumerate(drawn)], np.int64)


def _by_dataset(rows: pl.DataFrame, task: str) -> list[Numbers]:
    of_task = rows.filter(pl.col("task") == task)
    return [_rows(part) for part in of_task.partition_by("dataset", maintain_order=True)]


def _rows(frame: pl.DataFrame) -> Numbers:
    return frame["row"].to_numpy().astype(np.int64)
