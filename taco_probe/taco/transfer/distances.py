"""Distances between the tasks of the study: of an embedding, of raw pixels, of categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch.nn import functional

from data_recipes.errors import UserError
from taco_probe.taco.analysis.cells import Cells, matrix
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import PLAIN, Pool
from taco_probe.taco.tasks import TASKS
from taco_probe.taco.transfer.material import complete

_SHRUNK = 16  # pixels; side of the targets whose pixels are compared


def embedded(embeddings: Embeddings, tasks: Sequence[str]) -> NDArray[np.float64]:
    """(T, T) cosine distances as on the map (`analysis.distances`), from the datasets that have all tasks: no
    pair is near or far because of the datasets it comes from.

    Raises:
        UserError: no dataset has all tasks.
    """
    datasets = complete(embeddings.rows, tasks)
    if not datasets:
        raise UserError(f"the embeddings have no dataset with all of {', '.join(tasks)}")
    kept = embeddings.where(*PLAIN, pl.col("task").is_in(list(tasks)), pl.col("dataset").is_in(datasets))
    place = [Cells(kept).tasks.index(task) for task in tasks]
    return np.asarray(matrix(kept)[np.ix_(place, place)])


def target_pixels(pool: Pool, tasks: Sequence[str]) -> Embeddings:
    """The targets' pixels, shrunk by averaging, as vectors less the mean of all: what raw images alone tell
    of a task."""
    rows = pool.rows.with_row_index("_row").filter(*PLAIN, pl.col("task").is_in(list(tasks)))
    pixels = torch.from_numpy(np.ascontiguousarray(pool.targets[rows["_row"].to_numpy()]))
    small = functional.adaptive_avg_pool2d(pixels.permute(0, 3, 1, 2).float() / 255, _SHRUNK)
    flat = small.flatten(1).numpy()
    return Embeddings(flat - flat.mean(axis=0), rows.drop("_row"))


def same_category(tasks: Sequence[str]) -> NDArray[np.float64]:
    """(T, T) 1 where both tasks are of one category, else 0."""
    categories = np.array([TASKS[task].category for task in tasks])
    return np.asarray(categories[:, None] == categories[None], dtype=np.float64)
