"""Embeddings whose distances and trajectories are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl

from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import COLUMNS

CATEGORIES = ("semantic", "generative", "transformation")


def rows(found: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Rows of a pool; what is not said is as in an instance that nothing was done to."""
    usual = {
        "task": "a", "category": "semantic", "dataset": "d0", "modality": "CT", "image": "0", "strength": 1.0,
        "failure": "", "alteration": "", "altered_by": 0.0, "anchor": -1, "seed": 0,
    }  # fmt: skip
    whole = [usual | dict(row) for row in found]
    return pl.DataFrame([{"origin": row["dataset"]} | row for row in whole], schema=COLUMNS)


def clusters(
    centres: Mapping[str, np.ndarray],
    category: Mapping[str, str],
    *,
    datasets: Sequence[str] = ("d0", "d1", "d2", "d3"),
    images: int = 10,
    noise: float = 0.1,
    of_dataset: float = 0.0,
    missing: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Embeddings:
    """An instance of each task for each image of each dataset: the task's centre, a shift of the dataset (of
    length `of_dataset`) and Gaussian noise. `missing` are datasets that a task lacks."""
    rng = np.random.default_rng(seed)
    width = len(next(iter(centres.values())))
    shifts = {name: of_dataset * unit(rng.standard_normal(width)) for name in datasets}
    found, vectors = [], []
    for task, centre in centres.items():
        for dataset in datasets:
            if dataset in (missing or {}).get(task, ()):
                continue
            for image in range(images):
                found.append(
                    {"task": task, "category": category[task], "dataset": dataset, "image": f"{image}"}
                )
                vectors.append(centre + shifts[dataset] + noise * rng.standard_normal(width) / np.sqrt(width))
    return Embeddings(np.array(vectors, dtype=np.float32), rows(found))


def three_categories(
    each: int = 4, *, apart: float = 0.4, width: int = 64, **how: object
) -> tuple[Embeddings, dict[str, str]]:
    """Tasks around three orthogonal directions, `apart` from them, and their categories."""
    rng = np.random.default_rng(5)
    axes = np.linalg.qr(rng.standard_normal((width, 3)))[0].T
    centres, category = {}, {}
    for axis, name in zip(axes, CATEGORIES, strict=True):
        for number in range(each):
            centres[f"{name}{number}"] = axis + apart * unit(rng.standard_normal(width))
            category[f"{name}{number}"] = name
    return clusters(centres, category, **how), category  # type: ignore[arg-type]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def trajectories(
    path: Callable[[np.random.Generator], np.ndarray],
    *,
    alteration: str = "noise",
    datasets: Sequence[str] = ("d0", "d1", "d2"),
    anchors: int = 6,
    task: str = "a",
    category: str = "semantic",
    seed: int = 0,
    first: int = 0,
) -> Embeddings:
    """Rows of whole trajectories; `path(rng)` gives the points (strengths, width) of one. `first` is the
    number of the first row, for parts that are put together."""
    rng = np.random.default_rng(seed)
    found, vectors = [], []
    for dataset in datasets:
        for image in range(anchors):
            points = path(rng)
            anchor = first + len(found)
            for place, by in enumerate(np.linspace(0, 1, len(points))):
                found.append(
                    {"task": task, "category": category, "dataset": dataset, "image": f"{image}",
                     "alteration": alteration, "altered_by": by, "anchor": anchor}
                )  # fmt: skip
                vectors.append(points[place])
    return Embeddings(np.array(vectors, dtype=np.float32), rows(found))


def joined(parts: Sequence[Embeddings]) -> Embeddings:
    return Embeddings(np.concatenate([one.vectors for one in parts]), pl.concat([one.rows for one in parts]))
