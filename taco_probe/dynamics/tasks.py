"""How the tasks of a run get on with each other at one step: cosines, conflicts, and what a step along one
does to the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from taco_probe.dynamics.conflict import MIN_SNR, Cosines, conflict, cosines
from taco_probe.dynamics.differences import Estimate, Replicate, benjamini_hochberg, mean
from taco_probe.dynamics.measurement import Measurement

BATCH = 8  # entries of a batch whose mean gradients may conflict
TITLES = {
    "tasks_standing": "tasks that stand out of the noise",
    "task_cosine": "mean cosine between such tasks",
}


def standing(found: Cosines) -> int:
    """Of how many tasks the mean gradient stands out of the noise."""
    return sum(one.snr >= MIN_SNR for one in found.signals)


def overall(kernel: torch.Tensor, tasks: Sequence[str]) -> dict[str, float | None]:
    """How many tasks stand out of the noise, and the mean debiased cosine over pairs of such tasks."""
    found = cosines(kernel, tasks)
    off = torch.ones_like(found.debiased, dtype=torch.bool).triu(1)
    known = found.debiased[off & found.debiased.isfinite()]
    return {
        "tasks_standing": standing(found),
        "task_cosine": float(known.mean()) if len(known) else None,
    }


def matrices(kernel: torch.Tensor, tasks: Sequence[str]) -> dict[str, Any]:
    """Cosines between the mean gradients of tasks, gated on signal (None where noise is all there is), and
    each task's signal."""
    found = cosines(kernel, tasks)
    return {
        "tasks": list(found.tasks),
        "debiased": _rows(found.debiased),
        "plain": _rows(found.plain),
        "magnitude": _rows(found.magnitude),
        "snr": [_finite(one.snr) for one in found.signals],
        "noise_scale": [_finite(one.noise_scale) for one in found.signals],
        "gate": MIN_SNR,
    }


def conflicts(kernel: torch.Tensor, tasks: Sequence[str], *, seed: int = 0) -> list[dict[str, Any]]:
    """For each pair of tasks, how often batches of the two disagree, beside permuted labels; `q` is the p
    value after Benjamini and Hochberg over the pairs."""
    counts = {task: tasks.count(task) for task in dict.fromkeys(tasks)}
    batch = min(BATCH, min(counts.values()) // 2)
    if batch < 1:
        return []
    pairs = list(itertools.combinations(counts, 2))
    found = [conflict(kernel, tasks, *pair, batch=batch, seed=seed) for pair in pairs]
    adjusted = benjamini_hochberg([one.p for one in found])
    return [
        {"first": pair[0], "second": pair[1], **one._asdict(), "q": q, "batch": batch}
        for pair, one, q in zip(pairs, found, adjusted, strict=True)
    ]


def affinities(found: Sequence[Measurement]) -> dict[str, Any] | None:
    """Over runs of a group: how a step along the row's task changes the mean loss of the column's task, as a
    share of what it was, below 0 where it helps. None where it was not tried."""
    if not found or any("affinity" not in one.facts for one in found):
        return None
    tasks = list(dict.fromkeys(found[0].tasks))
    cells = [[_cell(found, of, on) for on in tasks] for of in tasks]
    flat = [cell.p for place, row in enumerate(cells) for other, cell in enumerate(row) if other != place]
    adjusted = iter(benjamini_hochberg(flat))
    return {
        "tasks": tasks,
        "direction": found[0].facts["affinity"]["direction"],
        "value": [[cell.value for cell in row] for row in cells],
        "low": [[cell.low for cell in row] for row in cells],
        "high": [[cell.high for cell in row] for row in cells],
        "q": [[None if a == b else next(adjusted) for b in range(len(tasks))] for a in range(len(tasks))],
        "own": asdict(_mean_over(found, tasks, own=True)),
        "others": asdict(_mean_over(found, tasks, own=False)),
    }


def _mean_over(found: Sequence[Measurement], tasks: Sequence[str], *, own: bool) -> Estimate:
    """Mean change over the tasks that steps were taken along, or over all pairs with another task."""
    wanted = np.eye(len(tasks), dtype=bool) == own
    made = []
    for one in found:
        tried, names = one.facts["affinity"], np.unique(one.patients, return_inverse=True)[1]
        by_patient = np.zeros((names.max() + 1, len(tasks), len(one.tasks)))  # which entries, by task
        by_patient[names, [tasks.index(task) for task in one.tasks], range(len(one.tasks))] = 1
        changes = by_patient @ np.array([tried["changes"][task] for task in tasks]).T  # (C, on, of)
        losses = by_patient @ np.array(tried["before"])[:, None]
        without = (changes.sum(0) - changes) / (losses.sum(0) - losses)
        whole = changes.sum(0) / losses.sum(0)
        made.append(Replicate(np.array([whole[wanted].mean()]), without[:, wanted].mean(1)[:, None]))
    return mean(made, 0)


def _cell(found: Sequence[Measurement], of: str, on: str) -> Estimate:
    return mean([_replicate(one, of, on) for one in found], 0)


def _replicate(found: Measurement, of: str, on: str) -> Replicate:
    """Change over loss of the entries of task `on`, and without each patient."""
    wanted = np.array([task == on for task in found.tasks])
    tried = found.facts["affinity"]
    change, loss = np.array(tried["changes"][of])[wanted], np.array(tried["before"])[wanted]
    names, member = np.unique(np.array(found.patients)[wanted], return_inverse=True)
    changes, losses = (np.bincount(member, weights=one, minlength=len(names)) for one in (change, loss))
    without = (changes.sum() - changes) / (losses.sum() - losses)
    return Replicate(np.array([changes.sum() / losses.sum()]), without[:, None])


def _rows(matrix: torch.Tensor) -> list[list[float | None]]:
    return [[_finite(value) for value in row] for row in matrix.tolist()]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
