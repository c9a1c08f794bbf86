"""Reads the units of sources that make images into a folder: pixels go to disk at once, entries come back."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

from data_recipes.pixels import safe_name, write_png
from data_recipes.processes import WORTH_A_WORKER, each
from data_recipes.records import Entry, Image
from data_recipes.reject import Rejection
from data_recipes.sources import Sample, Source
from data_recipes.thumbnails import Mark, marked


@dataclass(frozen=True)
class Job:
    """One unit to read. `module` rather than a source's name, so that a fresh process finds it; with
    `task`, images without entries of that task are dropped before anything is written, and the other
    entries as well."""

    module: str
    unit: Any
    split: str
    task: str = ""


class Delivered(NamedTuple):
    """An image as it lies in the folder, its mark, and its candidates."""

    image: Image
    mark: Mark
    entries: tuple[Entry, ...]


def read(
    jobs: Sequence[Job], folder: Path, *, label: str, progress: bool
) -> tuple[list[Delivered], list[Rejection]]:
    """All images of the jobs, in the order of the jobs whatever the number of processes, and rows left out.

    Raises:
        UserError: a source refuses a unit, or as `processes.each`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    worth = WORTH_A_WORKER
    if jobs:
        worth = getattr(importlib.import_module(jobs[0].module), "WORTH_A_WORKER", WORTH_A_WORKER)
    delivered: list[Delivered] = []
    rejected: list[Rejection] = []
    one = partial(_read_job, folder=folder)
    for found in each(one, jobs, label=label, progress=progress, worth=worth):
        for item in found:
            if isinstance(item, Rejection):
                rejected.append(item)
            else:
                delivered.append(item)
    return delivered, rejected


def _read_job(job: Job, folder: Path) -> list[Delivered | Rejection]:
    source = cast(Source, importlib.import_module(job.module))
    results: list[Delivered | Rejection] = []
    for found in source.read(job.unit):
        if isinstance(found, Rejection):
            results.append(found)
            continue
        entries = tuple(entry for entry in found.entries if job.task in ("", entry.task))
        if entries:
            results.append(_deliver(found, entries, job.split, folder))
    return results


def _deliver(sample: Sample, entries: tuple[Entry, ...], split: str, folder: Path) -> Delivered:
    """Writes the pixels of a sample."""
    path = f"images/{safe_name(sample.image.image_id)}.png"
    write_png(sample.pixels, folder / path)
    image = replace(sample.image, split=sample.image.split or split, path=path)
    return Delivered(image, marked(sample.pixels), entries)
