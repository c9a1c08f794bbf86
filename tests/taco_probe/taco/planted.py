"""Pools and embeddings with a known answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import COLUMNS, Pool
from taco_probe.taco.tasks import TASKS


def rows(tasks: Sequence[str], datasets: Sequence[str], images: int, **more: Any) -> pl.DataFrame:
    """A row for each task, dataset and image."""
    found = [
        {
            "task": task, "category": TASKS[task].category, "dataset": dataset, "origin": dataset,
            "modality": f"modality of {dataset}", "image": f"{dataset}[{image}]", "strength": None,
            "failure": "", "alteration": "", "altered_by": 0.0, "anchor": -1, "seed": image, **more,
        }
        for task in tasks for dataset in datasets for image in range(images)
    ]  # fmt: skip
    return pl.DataFrame(found, schema=COLUMNS)


def pool(about: pl.DataFrame, *, size: int = 64, seed: int = 0) -> Pool:
    """Blobs that depend on dataset and image alone; the target is darker by a shade of the task's own."""
    inputs, targets = [], []
    for row in about.iter_rows(named=True):
        rng = np.random.default_rng([seed, *row["image"].encode()])
        coarse = rng.random((4, 4, 3))
        image = np.kron(coarse, np.ones((size // 4, size // 4, 1)))
        inputs.append((255 * image).astype(np.uint8))
        shade = (1 + list(TASKS).index(row["task"])) / 40
        targets.append((255 * image * (1 - shade)).astype(np.uint8))
    return Pool(np.stack(inputs), np.stack(targets), about)


def embeddings(
    about: pl.DataFrame,
    *,
    task: float = 1.0,
    dataset: float = 0.3,
    noise: float = 0.2,
    seed: int = 0,
    width: int = 32,
    centres: Mapping[str, np.ndarray] | None = None,
) -> Embeddings:
    """A random direction for each task (or the one given) and dataset, and noise, by these weights."""

    def direction(kind: int, name: str) -> np.ndarray:
        return np.random.default_rng([seed, kind, *name.encode()]).standard_normal(width) / np.sqrt(width)

    rng = np.random.default_rng(seed)
    vectors = [
        task * (centres[row["task"]] if centres else direction(0, row["task"]))
        + dataset * direction(1, row["dataset"])
        + noise * rng.standard_normal(width) / np.sqrt(width)
        for row in about.iter_rows(named=True)
    ]
    return Embeddings(np.asarray(vectors, dtype=np.float32), about)
