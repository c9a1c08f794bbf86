"""Where runs moved the weights: their Delta W compared, step by step and run by run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from taco_probe.dynamics.measurement import FOLDER, read_lora
from taco_probe.dynamics.runs import Series
from taco_probe.dynamics.updates import (
    Update,
    Updates,
    angles,
    cosine,
    energy,
    norm,
    own_energy,
    random_cosine,
)

TOP = 4  # leading directions


def at(run: Series, step: int) -> dict[str, Update]:
    """Delta W = s B A of each module that was measured, at a step. Raises: UserError: see
    `measurement.read_lora`."""
    weights = read_lora(run.folder / FOLDER, step)
    return {
        name: Update(
            torch.from_numpy(weights[f"{name}.lora_A.weight"]),
            torch.from_numpy(weights[f"{name}.lora_B.weight"]),
            scale,
        )
        for name, scale in run.measured[step].facts["lora_scale"].items()
    }


def length(update: Updates) -> float:
    """Frobenius norm over all modules."""
    return math.sqrt(sum(norm(one) ** 2 for one in update.values()))


def between(runs: Sequence[Series], steps: Mapping[str, int]) -> dict[str, Any]:
    """Cosines of the runs' Delta W with each other, overall; mean overlap of their leading column and row
    spaces over modules, beside that of random subspaces; lengths.

    Args:
        steps: by run, the step to take.
    """
    last = {run.name: at(run, steps[run.name]) for run in runs}
    moved = [name for name in last if length(last[name]) > 0]
    pairs = []
    for place, first in enumerate(moved):
        for second in moved[place + 1 :]:
            pairs.append({"first": first, "second": second, **_pair(last[first], last[second])})
    return {
        "lengths": {name: length(one) for name, one in last.items()},
        "pairs": pairs,
        "top": TOP,
    }


def _pair(first: Updates, second: Updates) -> dict[str, Any]:
    """Two updates of the same modules."""
    if _shapes(first) != _shapes(second):
        return {"cosine": None}
    moved = [name for name in first if norm(first[name]) > 0 and norm(second[name]) > 0]
    found: dict[str, Any] = {
        "cosine": cosine(first, second),
        "cosine_random": random_cosine(first, second),
    }
    if not moved:  # each moved modules that the other did not
        return {"cosine": None}
    for side in ("column", "row"):
        spans = [angles(first[name], second[name], side=side, top=TOP) for name in moved]
        found[f"{side}_overlap"] = float(np.mean([one.overlap for one in spans]))
        found[f"{side}_overlap_random"] = float(np.mean([one.overlap_random for one in spans]))
        fewest = min(len(one.angles) for one in spans)  # below TOP where the rank is
        degrees = np.degrees([one.angles.numpy()[:fewest] for one in spans])
        found[f"{side}_angles"] = degrees.mean(axis=0).tolist()
    shares = [energy(first[name], second[name], TOP) for name in moved]
    found["energy"], found["energy_random"] = (float(np.mean(values)) for values in zip(*shares, strict=True))
    return found


def _shapes(update: Updates) -> dict[str, tuple[int, int]]:
    return {name: (one.b.shape[0], one.a.shape[1]) for name, one in update.items()}


def along(run: Series) -> list[dict[str, Any]]:
    """Of each step after the first: length of Delta W, its share in the leading directions of each module
    (mean over modules), cosine of the step's own change with the change before, and with the whole way."""
    steps = sorted(run.measured)
    last = at(run, steps[-1])
    found: list[dict[str, Any]] = []
    before, change_before = at(run, steps[0]), None
    for step in steps[1:]:
        now = at(run, step)
        change = {name: now[name].minus(before[name]) for name in now}
        found.append(
            {
                "step": step,
                "length": length(now),
                "own_energy": _mean([own_energy(one, TOP) for one in now.values()]),
                "with_before": _finite(cosine(change, change_before)) if change_before else None,
                "with_end": _finite(cosine(change, last)),
            }
        )
        before, change_before = now, change
    return found


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def by_module(run: Series, step: int) -> dict[str, float]:
    """Length of Delta W of each module at a step."""
    return {name: norm(one) for name, one in at(run, step).items()}
