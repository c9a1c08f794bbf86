"""The grid of the transfer study, source by seed, kept in a file a cell: what is killed goes on from there."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.transfer.fisher import distance, fisher
from taco_probe.taco.transfer.material import Material
from taco_probe.taco.transfer.measure import METHOD, Budget, cell

SCRATCH = ""  # the source that is none


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
    sources = (*material.tasks, SCRATCH)
    todo = [
        (seed, source) for seed in seeds for source in sources if _read(at, seed, source, material) is None
    ]
    if done := len(seeds) * len(sources) - len(todo):
        say(f"transfer: {done} of {done + len(todo)} cells are there already")
    _SHARED.update(material=material, budget=budget, device=device, at=at)
    begun = time.monotonic()
    for count, (seed, source) in enumerate(_spread(todo, workers), start=1):
        left = (time.monotonic() - begun) / count * (len(todo) - count) / 60
        say(f"transfer {count}/{len(todo)}: {source or 'scratch'}, seed {seed}; {left:.1f} min left")
    task2vec = [_task2vec(at, material, seed, budget, device) for seed in seeds]
    cells = [[_read(at, seed, source, material) for source in sources] for seed in seeds]
    errors = [
        [[[c["errors"][t][d] for d in material.fine_tune] for t in material.tasks] for c in row if c]
        for row in cells
    ]
    seconds = sum(c["seconds"] for row in cells for c in row if c)
    return Grid(np.asarray(errors), np.mean(task2vec, axis=0), seconds)


# What the processes share by being forked from this one: nothing is copied to them.
_SHARED: dict[str, Any] = {}


def _spread(todo: Sequence[tuple[int, str]], workers: int) -> Iterator[tuple[int, str]]:
    """Measures cells, in one process or several of one thread each, as they get done."""
    if workers < 2 or len(todo) < 2:
        yield from map(_measure, todo)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
    ) as pool:
        for future in as_completed([pool.submit(_measure, one) for one in todo]):
            yield future.result()


def _begin(parent: int) -> None:
    """One thread, since a forked process must not enter its parent's thread pool; and no life without it."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _measure(one: tuple[int, str]) -> tuple[int, str]:
    """Measures a cell and writes it."""
    seed, source = one
    start = time.monotonic()
    errors = cell(_SHARED["material"], source, seed, _SHARED["budget"], _SHARED["device"])
    found = {"source": source, "seed": seed, "errors": errors, "seconds": time.monotonic() - start}
    write_text(json.dumps(found), _file(_SHARED["at"], seed, source))
    return one


def _name(material: Material, budget: Budget) -> str:
    told = json.dumps([METHOD, material.identity, budget.model_dump()], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _file(at: Path, seed: int, source: str) -> Path:
    return at / f"{source or 'scratch'}-{seed}.json"


def _read(at: Path, seed: int, source: str, material: Material) -> dict[str, Any] | None:
    """A cell that was measured whole, or None."""
    try:
        found = json.loads(_file(at, seed, source).read_text(encoding="utf-8"))
        errors = [found["errors"][task][name] for task in material.tasks for name in material.fine_tune]
        whole = all(isinstance(value, float) and math.isfinite(value) for value in errors)
        return found if whole and isinstance(found["seconds"], float) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _task2vec(at: Path, material: Material, seed: int, budget: Budget, device: str) -> NDArray[np.float64]:
    path = at / f"task2vec-{seed}.json"
    try:
        found = np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
        if found.shape == (len(material.tasks),) * 2 and np.isfinite(found).all():
            return found
    except (OSError, ValueError, TypeError):
        pass
    found = distance(fisher(material, seed, budget, device))
    write_text(json.dumps(found.tolist()), path)
    return found
