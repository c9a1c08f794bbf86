"""What the map says of pictures unlike those it was trained on: tasks of datasets that it does not know, and
photographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from taco_probe.taco import known
from taco_probe.taco.analysis import retrieval
from taco_probe.taco.analysis.intervals import Found, average, measured
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.settings import Settings

TOP = (1, 5)
NATURAL = ("photograph",)  # modalities of pictures that are not medical

# (seed, embeddings) of runs that differ in their seed; the seed is None for what has none.
Seeded = list[tuple[int | None, Embeddings]]


def nearest(embedded: Seeded, held_out: Sequence[str]) -> Found | None:
    """How often `imax taco nearest` names the task of a dataset that it does not know: each task on each
    held-out dataset stands for a folder, and is ranked among the tasks of all other datasets. None where no
    held-out dataset has a task that another has."""
    rows = embedded[0][1].plain.rows
    tasks = rows["task"].n_unique()
    held_out = [name for name in held_out if name in set(rows["dataset"])]
    elsewhere = rows.select("task", "origin").unique()["task"].value_counts().filter(pl.col("count") > 1)
    new = pl.col("dataset").is_in(held_out) & pl.col("task").is_in(elsewhere["task"].to_list())
    if rows.filter(new).is_empty():
        return None
    runs_, folders = [], 0
    for seed, one in embedded:
        ranks = known.ranks(one, held_out).with_columns(image=pl.col("task"))
        hits = np.stack([ranks["rank"].to_numpy() <= k for k in TOP], axis=1).astype(np.float64)
        runs_.append(measured(hits, [f"top{k}" for k in TOP], ranks, seed))
        folders = ranks.height
    shown: Found = {"folders": folders, "tasks": tasks}
    for k in TOP:
        shown[f"top{k}"] = average(runs_, f"top{k}")
        shown[f"chance{k}"] = min(1.0, k / tasks)
    return shown


def natural(embedded: Seeded, settings: Settings) -> Found:
    """Photographs as one more domain: each side's instances asked of the other, and medical held-out ones
    asked of medical ones for comparison, all of the tasks that both sides have."""
    rows = embedded[0][1].plain.rows
    photographs = pl.col("modality").is_in(NATURAL)
    names = sorted(rows.filter(photographs)["dataset"].unique())
    shared = set(rows.filter(photographs)["task"]) & set(rows.filter(~photographs)["task"])
    new = pl.col("dataset").is_in(list(settings.held_out))
    asked = {
        "natural_to_medical": (photographs, ~photographs),
        "medical_to_natural": (~photographs & new, photographs),
        "medical_to_medical": (~photographs & new, ~photographs),
    }
    found: Found = {"datasets": names, "trained_on": [name for name in names if name in settings.datasets]}
    found["tasks"] = sorted(shared)
    for name, (queries, gallery) in asked.items():
        some = [(seed, one.where(pl.col("task").is_in(list(shared)))) for seed, one in embedded]
        met = [(seed, retrieval.search(one.plain, queries, gallery)) for seed, one in some] if shared else []
        found[name] = retrieval.summarised(met) if met and met[0][1].rows.height else None
    return found
