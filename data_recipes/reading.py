"""Reads the units of sources, in several processes, into a folder: pixels go to disk at once, entries come
back."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, cast

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from data_recipes.errors import UserError
from data_recipes.pixels import decode, digest, safe_name, write_png
from data_recipes.records import Entry, Image
from data_recipes.reject import Rejection
from data_recipes.sources import Sample, Source

_WORTH_A_WORKER = 32  # starting a process costs about as much as reading so many units


@dataclass(frozen=True)
class Job:
    """One unit to read. `module` rather than a source's name, so that a fresh process finds it; with
    `task`, images without entries of that task are dropped before anything is written, and the other
    entries as well."""

    module: str
    unit: Any
    split: str
    task: str = ""
    pixels: str = "copy"


class Delivered(NamedTuple):
    """An image as it lies in the folder, the digest of its pixels ("" for none), and its candidates."""

    image: Image
    digest: str
    entries: tuple[Entry, ...]


def read(
    jobs: Sequence[Job], folder: Path, *, label: str, progress: bool
) -> tuple[list[Delivered], list[Rejection]]:
    """All images of the jobs, in the order of the jobs whatever the number of processes, and rows left out.

    The number of processes is that of the cores, or the environment variable IMAX_WORKERS.

    Raises:
        UserError: a source refuses a unit, or a process died.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    delivered: list[Delivered] = []
    rejected: list[Rejection] = []
    for found in _tracked(_results(jobs, folder), len(jobs), label, progress):
        for item in found:
            if isinstance(item, Rejection):
                rejected.append(item)
            else:
                delivered.append(item)
    return delivered, rejected


def _results(jobs: Sequence[Job], folder: Path) -> Iterator[list[Delivered | Rejection]]:
    one = partial(_read_job, folder=folder)
    worth = getattr(importlib.import_module(jobs[0].module), "WORTH_A_WORKER", _WORTH_A_WORKER) if jobs else 1
    workers = min(_workers(), len(jobs) // worth)
    if workers <= 1:
        yield from map(one, jobs)
        return
    # Spawned, not forked: the caller may hold threads (torch), which do not survive a fork.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            with _hidden_main():
                results = pool.map(one, jobs, chunksize=max(1, min(32, len(jobs) // (8 * workers))))
            yield from results
        except BrokenProcessPool:
            raise UserError(
                "a process that reads images died (out of memory?): try again with IMAX_WORKERS=1"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _hidden_main() -> Iterator[None]:
    """Processes that start meanwhile do not run the caller's script again: they need nothing of it, it may
    import torch, and it may lack the guard or even the file that running it again takes."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _workers() -> int:
    asked = os.environ.get("IMAX_WORKERS", "")
    if not asked:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdigit() or int(asked) < 1:
        raise UserError(f"IMAX_WORKERS is {asked!r}: give a number of processes, 1 or more")
    return int(asked)


def _read_job(job: Job, folder: Path) -> list[Delivered | Rejection]:
    source = cast(Source, importlib.import_module(job.module))
    results: list[Delivered | Rejection] = []
    for found in source.read(job.unit):
        if isinstance(found, Rejection):
            results.append(found)
            continue
        entries = tuple(entry for entry in found.entries if job.task in ("", entry.task))
        if entries:
            results.append(_deliver(found, entries, job, folder))
    return results


def _deliver(sample: Sample, entries: tuple[Entry, ...], job: Job, folder: Path) -> Delivered:
    """Puts the pixels of a sample where they belong."""
    image = replace(sample.image, split=sample.image.split or job.split)
    if sample.pixels is not None:
        path = f"images/{safe_name(image.image_id)}.png"
        write_png(sample.pixels, folder / path)
        return Delivered(replace(image, path=path), digest(sample.pixels), entries)
    if job.pixels == "skip" or not image.path:
        return Delivered(replace(image, path=""), "", entries)
    file = Path(image.path)
    path = f"images/{safe_name(image.image_id)}{file.suffix.lower()}"
    place(file, folder / path, link=job.pixels == "link")
    return Delivered(replace(image, path=path), digest(np.asarray(decode(file))), entries)


def place(file: Path, target: Path, *, link: bool) -> None:
    """Copies or hard-links an image file (a symbolic link would lead out of the mixture's folder).

    Raises:
        UserError: the file system cannot link from there.
    """
    if not link:
        shutil.copyfile(file, target)
        return
    try:
        os.link(file, target)
    except OSError as error:
        raise UserError(f"{file} cannot be linked ({error.strerror}): use --pixels copy") from None


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.0f}/s")


def _tracked(
    results: Iterable[list[Delivered | Rejection]], total: int, label: str, progress: bool
) -> Iterator[list[Delivered | Rejection]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        shown = bar.add_task(label, total=total)
        for found in results:
            yield found
            bar.advance(shown)
