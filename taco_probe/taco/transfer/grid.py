"""The grid of the transfer study, source by seed, a file a cell: what is killed goes on from there."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.forked import each
from taco_probe.taco.transfer.fisher import distance, fisher
from taco_probe.taco.transfer.material import Material
from taco_probe.taco.transfer.measure import METHOD, Budget, cell

SCRATCH = "scratch"  # the source that is none
PROBE = "task2vec"  # in the place of a source: the baseline's distances
Job = tuple[int, str]  # seed, source


class Cell(NamedTuple):
    """values: (T, datasets) errors of each target, or of PROBE (T, T) distances; seconds that it took."""

    values: NDArray[np.float64]
    seconds: float


@dataclass(frozen=True)
class Grid:
    """Errors of all cells.

    Attributes:
        errors: (seeds, T + 1 sources, T targets, datasets) mean squared errors; the last source is none.
        task2vec: (T, T) the Task2Vec-like distance, mean over seeds.
        seconds: that all cells took.
    """

    errors: NDArray[np.float64]
    task2vec: NDArray[np.float64]
    seconds: float

    @property
    def log_ratio(self) -> NDArray[np.float64]:
        """(seeds, T, T): log of the error over the error from scratch, mean over datasets."""
        logs = np.log(np.maximum(self.errors, 1e-12))
        return np.asarray((logs[:, :-1] - logs[:, -1:]).mean(axis=3))

    @property
    def gain(self) -> NDArray[np.float64]:
        """(T, T): 1 - error / error from scratch, the geometric mean over seeds and datasets."""
        return np.asarray(1 - np.exp(self.log_ratio.mean(axis=0)))


def run(
    material: Material,
    folder: Path,
    *,
    seeds: Sequence[int],
    budget: Budget,
    device: str = "cpu",
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> Grid:
    """Measures every cell that `folder` lacks, a seed after the other, and gathers all.

    Cells lie in a folder whose name is a hash of the material and the budget; each is written at once, so a
    kill costs the cell under way.

    Args:
        workers: processes, of one thread each; 1 measures here.

    Raises:
        UserError: no seeds; an error that is not finite.
    """
    if not seeds:
        raise UserError("the transfer study needs at least one seed")
    at = folder / "cells" / _name(material, budget)
    at.mkdir(parents=True, exist_ok=True)
    _SHARED.update(material=material, budget=budget, device=device, at=at)
    every = [(seed, source) for seed in seeds for source in (*material.tasks, SCRATCH, PROBE)]
    todo = [job for job in every if _read(job) is None]
    if len(todo) < len(every):
        say(f"transfer: {len(every) - len(todo)} of {len(every)} cells are there already")
    begun = time.monotonic()
    for count, (seed, source) in enumerate(each(_measure, todo, workers), start=1):
        left = (time.monotonic() - begun) / count * (len(todo) - count) / 60
        say(f"transfer {count}/{len(todo)}: {source}, seed {seed}; {left:.1f} min left")
    found = {job: cell_ for job in every if (cell_ := _read(job))}
    errors = [[found[seed, source].values for source in (*material.tasks, SCRATCH)] for seed in seeds]
    task2vec = np.mean([found[seed, PROBE].values for seed in seeds], axis=0)
    return Grid(np.asarray(errors), task2vec, sum(cell_.seconds for cell_ in found.values()))


# What the processes share by being forked from this one: nothing is copied to them.
_SHARED: dict[str, Any] = {}


def _measure(job: Job) -> Job:
    """Measures a cell and writes it."""
    seed, source = job
    material, budget, device = (_SHARED[name] for name in ("material", "budget", "device"))
    start = time.monotonic()
    if source == PROBE:
        values = distance(fisher(material, seed, budget, device)).tolist()
    else:
        values = cell(material, "" if source == SCRATCH else source, seed, budget, device)
    write_text(json.dumps({"values": values, "seconds": time.monotonic() - start}), _file(job))
    return job


def _name(material: Material, budget: Budget) -> str:
    told = json.dumps([METHOD, material.identity, budget.model_dump()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _file(job: Job) -> Path:
    return Path(_SHARED["at"]) / f"{job[1]}-{job[0]}.json"


def _read(job: Job) -> Cell | None:
    """A cell that was measured whole, or None."""
    material: Material = _SHARED["material"]
    shape = (len(material.tasks), len(material.tasks if job[1] == PROBE else material.fine_tune))
    try:
        found = json.loads(_file(job).read_text(encoding="utf-8"))
        values, seconds = np.asarray(found["values"], dtype=np.float64), float(found["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Cell(values, seconds) if values.shape == shape and np.isfinite(values).all() else None
