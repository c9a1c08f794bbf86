"""Which known tasks and datasets a new folder is most like, how sure that is, and what to pretrain on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from data_recipes.errors import UserError
from eval.stats import SEED, interval
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.known import Floats, Known, Limits, distances, lead_of, leave_one_dataset_out
from taco_probe.taco.newcomer import OWN, Newcomer
from taco_probe.taco.recommend import pretrain_on, public, sentences, told
from taco_probe.taco.tasks import TASKS

RESAMPLES = 2000  # of images
DATASET_RESAMPLES = 400  # of images and known datasets
ALIKE = 20  # left-out cases that a folder is compared with, at least
_MODALITIES = 3  # of the nearest datasets, from which public ones are named


def nearest(
    new: Newcomer,
    embedded: Embeddings,
    known: Embeddings,
    *,
    held_out: Sequence[str] = (),
    transfer: Mapping[str, Any] | None = None,
    top: int = 10,
) -> dict[str, Any]:
    """The ranking of tasks and datasets for a folder, as `imax taco nearest --json` writes it.

    Args:
        embedded: of the newcomer's pool. known: of the run's test pool.
        held_out: datasets that the encoder was not trained on: what limits and accuracy are taken from; where
            there are none, from all.
        transfer: what transfer.json holds.
        top: how many of each list.

    Raises:
        UserError: nothing of the newcomer can be compared with what is known.
    """
    what = Known(known)
    draws = _draws(new.images)
    unknown = [name for name in held_out if name in what.datasets]
    left_out = unknown or what.datasets
    limits = what.limits(left_out)
    found: dict[str, Any] = {
        "images": new.images,
        "left_out": list(new.left_out),
        "kind": new.kind,
        "reading": new.reading or None,
        "tasks": [],
        "right": None,
        "unlike": None,
        "threshold": limits.group if limits else None,
        "threshold_from": list(left_out),
        "threshold_held_out": bool(unknown),
        "images_beyond": None,
        "readings": _readings(new, embedded, what, draws, limits),
        "datasets": _datasets(embedded, what, draws, set(held_out))[:top],
        "accuracy": _accuracy(known, left_out),
    }
    own = OWN if new.kind == "pairs" else new.reading
    if own:
        part = embedded.where(pl.col("task") == own)
        found |= _tasks(part, what, draws, limits, top)
        found["right"] = _right(part, what, left_out)
    modalities = list(dict.fromkeys(one["modality"] for one in found["datasets"]))[:_MODALITIES]
    first = found["tasks"][0]["task"] if found["tasks"] else None
    found["public"] = [told(row) for row in public(modalities, first)][:top]
    found["pretrain_on"] = pretrain_on(found["tasks"], transfer, top)
    found["summary"] = sentences(found)
    return found


def _draws(images: int) -> Floats:
    """(1 + RESAMPLES, images) how often each image counts: once, then in resamples."""
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=RESAMPLES)
    return np.vstack([np.ones(images), drawn]).astype(np.float64)


def _against_tasks(part: Embeddings, what: Known, draws: Floats) -> list[dict[str, Any]]:
    """The known tasks by their mean distance to these instances, as `_ranked` gives them. How sure the first
    is also depends on which datasets are known: they are resampled too."""
    image = part.rows["image"].cast(pl.Int64).to_numpy()
    rng = np.random.default_rng(SEED)
    count = int(what.home.max()) + 1
    first = np.zeros(len(what.tasks))
    for draw in draws[1 : 1 + DATASET_RESAMPLES]:
        weight = draw[image]
        times = rng.multinomial(count, np.full(count, 1 / count))[what.home].astype(np.float64)
        if weight.any():
            mean = (weight / weight.sum()) @ part.unit
            apart = distances(mean[None], what.centres(weight=times))[0]
            first[np.nanargmin(apart)] += 1
    return _ranked(
        distances(part.unit, what.centres()), image, draws, what.tasks, first / max(first.sum(), 1)
    )


def _ranked(
    apart: Floats, image: Any, draws: Floats, names: Sequence[str], first: Floats | None = None
) -> list[dict[str, Any]]:
    """Names by mean distance, nearest first, with an interval over images and the share of resamples in which
    each is the nearest (None from a single image).

    Args:
        apart: (n, C) distances of instances; NaN columns are left out. image: (n,) each one's image.
        first: (C,) that share, where it is known already.
    """
    kept = np.flatnonzero(np.isfinite(apart).all(axis=0))
    weights = draws[:, np.asarray(image, dtype=np.intp)]
    # A resample may miss the few images that a task can be made of.
    weights = weights[weights.sum(axis=1) > 0]
    means = weights @ apart[:, kept] / weights.sum(axis=1, keepdims=True)  # (1 + resamples, C)
    images = len(np.unique(image))
    if first is None:
        first = np.zeros(apart.shape[1])
        np.add.at(first, kept[means[1:].argmin(axis=1)], 1 / max(len(means) - 1, 1))
    found = []
    for place in np.argsort(means[0], kind="stable"):
        low, high = interval(means[1:, place], images) if images > 1 else (None, None)
        found.append({
            "name": names[kept[place]],
            "distance": {"value": float(means[0, place]), "low": low, "high": high, "n": images},
            "first": float(first[kept[place]]) if images > 1 else None,
        })  # fmt: skip
    return found


def _tasks(own: Embeddings, what: Known, draws: Floats, limits: Limits | None, top: int) -> dict[str, Any]:
    if not own.rows.height:
        raise UserError("no image of the folder can be compared with the known tasks")
    ranked = _against_tasks(own, what, draws)
    category = dict(zip(what.tasks, what.categories, strict=True))
    best = ranked[0]
    apart = distances(own.unit, what.centres())[:, what.tasks.index(best["name"])]
    return {
        "tasks": [_named(one, "task", category=category[one["name"]]) for one in ranked[:top]],
        "unlike": bool(best["distance"]["value"] > limits.group) if limits else None,
        "images_beyond": float((apart > limits.instance).mean()) if limits else None,
    }


def _right(own: Embeddings, what: Known, datasets: Sequence[str]) -> dict[str, Any] | None:
    """How often the nearest task was right among the cases of left-out datasets whose lead over the next was
    most like this one's: the nearest fifth of all cases, ALIKE at least."""
    leads, right = what.leads(datasets)
    if not len(leads):
        return None
    lead = lead_of(distances(own.unit, what.centres()).mean(axis=0))
    alike = np.argsort(np.abs(leads - lead), kind="stable")[: max(ALIKE, len(leads) // 5)]
    return {"value": float(right[alike].mean()), "n": len(alike), "lead": lead}


def _readings(
    new: Newcomer, embedded: Embeddings, what: Known, draws: Floats, limits: Limits | None
) -> list[dict[str, Any]]:
    """How near the masks lie to each semantic task when they are drawn as that task: by rank, then by how far
    beside what is typical of the task on left-out datasets, since some tasks spread more than others."""
    if new.kind != "masks":
        return []
    found = []
    for task in embedded.rows["task"].unique(maintain_order=True):
        if task not in what.tasks or TASKS[task].category != "semantic":
            continue
        part = embedded.where(pl.col("task") == task)
        ranked = _against_tasks(part, what, draws)
        names = [one["name"] for one in ranked]
        place = names.index(task)
        found.append({
            "task": task, "rank": place + 1, "nearest": names[0], "distance": ranked[place]["distance"],
            "typical": limits.typical.get(task) if limits else None,
        })  # fmt: skip
    return sorted(found, key=lambda one: (one["rank"], one["distance"]["value"] / (one["typical"] or 1)))


def _datasets(embedded: Embeddings, what: Known, draws: Floats, held_out: set[str]) -> list[dict[str, Any]]:
    """Known datasets by the mean distance to the same task on them, over tasks that any image can be made
    into: what the folder's images look like, whatever its task."""
    shared = [
        task
        for number, task in enumerate(what.tasks)
        if task in TASKS and not TASKS[task].needs and what.present[number].all()
    ]
    apart: list[Floats] = []
    for task in shared:
        part = embedded.where(pl.col("task") == task)
        if not part.rows.height:
            continue
        order = np.argsort(part.rows["image"].cast(pl.Int64).to_numpy())
        apart.append(distances(part.unit[order], what.cells(task)))
    if not apart:
        return []
    images = np.unique(embedded.rows["image"].cast(pl.Int64).to_numpy())
    ranked = _ranked(np.mean(apart, axis=0), images, draws, what.datasets)
    return [
        _named(one, "dataset", modality=what.modality[one["name"]], held_out=one["name"] in held_out)
        for one in ranked
    ]


def _named(one: Mapping[str, Any], key: str, **more: Any) -> dict[str, Any]:
    return {key: one["name"], **more, "distance": one["distance"], "first": one["first"]}


def _accuracy(known: Embeddings, datasets: Sequence[str]) -> dict[str, Any] | None:
    try:
        return leave_one_dataset_out(known, datasets)
    except UserError:
        return None  # of one dataset alone nothing can be left out
