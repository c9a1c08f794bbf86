"""Does the distance between tasks predict transfer? A small network, pretrained on one task, meets another.

`study` measures it: gains and distances into a folder with `transfer.json` and a figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import Pool
from taco_probe.taco.transfer.distances import embedded, target_pixels
from taco_probe.taco.transfer.grid import run
from taco_probe.taco.transfer.material import DEFAULT_TASKS, choose
from taco_probe.taco.transfer.measure import Budget
from taco_probe.taco.transfer.results import results

__all__ = ["DEFAULT_TASKS", "Budget", "study"]


def study(
    runs: Mapping[str, Embeddings],
    train: Pool,
    test: Pool,
    folder: Path,
    *,
    tasks: Sequence[str] = DEFAULT_TASKS,
    seeds: Sequence[int] = (0, 1, 2),
    budget: Budget | None = None,
    device: str = "cpu",
    workers: int = 1,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures what is not measured yet, and writes transfer.json, transfer.png and transfer.svg.

    Args:
        runs: embeddings of the test pool by name of run; their distances are averaged.
        train, test: pools; see `material`.

    Returns:
        What transfer.json holds, the `transfer` key of analysis.json.

    Raises:
        UserError: no run, a pool without the tasks, or too few tasks.
    """
    from taco_probe.taco.transfer.figure import draw

    if not runs:
        raise UserError("the transfer study needs at least one run, for its distances")
    budget = budget or Budget()
    material = choose(train, test, tasks)
    distances = {name: embedded(one, material.tasks) for name, one in runs.items()}
    pixels = embedded(target_pixels(test, material.tasks), material.tasks)
    grid = run(material, folder, seeds=seeds, budget=budget, device=device, workers=workers, say=say)
    found = results(material, grid, distances, pixels, budget)
    write_text(json.dumps(found, indent=1), folder / "transfer.json")
    draw(found, folder)
    return found
