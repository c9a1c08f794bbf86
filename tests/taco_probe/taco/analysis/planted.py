"""Embeddings whose make-up is known: sums of the directions of a task, a dataset and an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import COLUMNS

CATEGORIES = ("semantic", "generative", "transformation")


def planted(
    *,
    task: float = 0.0,
    dataset: float = 0.0,
    image: float = 0.0,
    category: float = 0.0,
    noise: float = 1.0,
    tasks: int = 6,
    datasets: int = 8,
    images: int = 4,
    lacking: Sequence[tuple[int, int]] = (),
    failed: float | None = None,
    width: int = 48,
    seed: int = 0,
) -> Embeddings:
    """One instance of each task and image. Datasets are d0, d1, ...; tasks t0, t1, ... by turns of the three
    categories. `lacking` names (task, dataset) without instances. With `failed`, each instance has a failed
    twin whose task direction is multiplied by that."""
    rng = np.random.default_rng(seed)

    def directions(*shape: int) -> np.ndarray:
        return rng.standard_normal((*shape, width))

    of_task, of_dataset, of_category = directions(tasks), directions(datasets), directions(3)
    of_image = directions(datasets, images)
    vectors, rows = [], []
    for kind in ("", *([] if failed is None else ["blank"])):
        for t, d, i in np.ndindex(tasks, datasets, images):
            if (t, d) in lacking:
                continue
            share = failed if kind and failed is not None else 1.0
            vectors.append(
                task * share * of_task[t]
                + dataset * of_dataset[d]
                + category * of_category[t % 3]
                + image * of_image[d, i]
                + noise * rng.standard_normal(width)
            )
            about = (f"t{t}", CATEGORIES[t % 3], f"d{d}", f"d{d}", f"m{d}", f"i{i}")
            rows.append((*about, 1.0, kind, "", 0.0, -1, 0))
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    return Embeddings(np.array(vectors, np.float32), frame)
