"""Distances between tasks in the full space, with intervals, and the noise floor below which two tasks are
not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.stats

from data_recipes.errors import UserError
from taco_probe.taco.analysis import clusters
from taco_probe.taco.analysis.cells import Cells, between
from taco_probe.taco.analysis.resampling import RESAMPLES, Floats, estimate, finite
from taco_probe.taco.embeddings import Embeddings

SPLITS = 100  # into halves, for the noise floor
_CELL = 8  # instances of a task and dataset that the energy distance looks at


def energy(embeddings: Embeddings, cells: Cells, *, seed: int = 0) -> Floats:
    """Energy distances (T, T) between tasks as distributions: 2 E|X - Y| - E|X - X'| - E|Y - Y'| with the
    Euclidean distance of unit vectors (Székely and Rizzo 2013), over shared datasets, each alike; without
    bias, so that equal distributions come out around 0, below it too. At most _CELL rows of a cell."""
    order = np.random.default_rng(seed).permutation(len(cells.cell))
    order = order[np.argsort(cells.cell[order], kind="stable")]
    start = np.searchsorted(cells.cell[order], cells.cell[order])
    kept = order[np.arange(len(order)) - start < _CELL]
    unit, task, dataset = embeddings.unit[kept], cells.task[kept], cells.groups.dataset[kept]
    apart = np.sqrt(np.maximum(2 - 2 * unit @ unit.T, 0))
    np.fill_diagonal(apart, 0)
    rows = [np.flatnonzero(task == number) for number in range(len(cells.tasks))]

    def weights(of: int, among: Any) -> Floats:
        named = dataset[rows[of]]
        inside = np.isin(named, among)
        count = np.bincount(named, minlength=len(cells.groups.datasets))[named]
        weight = inside / count
        return np.asarray(weight / max(weight.sum(), 1e-12))

    def spread(of: int, weight: Floats) -> float:
        other = 1 - np.sum(weight**2)  # chance that two draws are different rows
        inner = weight @ apart[np.ix_(rows[of], rows[of])] @ weight
        return float(inner / other) if other > 1e-9 else float("nan")

    found = np.zeros((len(rows), len(rows)))
    for a, b in _pairs(len(rows)):
        shared = np.intersect1d(dataset[rows[a]], dataset[rows[b]])
        mine = weights(a, shared if len(shared) else dataset[rows[a]])
        theirs = weights(b, shared if len(shared) else dataset[rows[b]])
        across = mine @ apart[np.ix_(rows[a], rows[b])] @ theirs
        found[a, b] = found[b, a] = 2 * across - spread(a, mine) - spread(b, theirs)
    return found


def floors(unit: Any, cells: Cells, *, splits: int = SPLITS, seed: int = 0) -> tuple[Floats, Floats]:
    """How far apart a task is from itself (T,), 95 % quantiles over splits: other images of the same
    datasets, and other datasets; NaN where there are none.

    The squared noise of a mean goes with 1 / n, and a cosine distance with the square: a distance between
    halves is twice that of two samples of full size, and is halved.
    """
    rng = np.random.default_rng(seed)
    whole, there = cells.means(unit, cells.groups.whole)
    images, datasets = [], []
    for first, second in cells.groups.halves(splits, seed):
        (one, has), (other, has_too) = cells.means(unit, first), cells.means(unit, second)
        both = (has & has_too)[..., None]
        images.append(_apart((one * both).sum(axis=1), (other * both).sum(axis=1)) / 2)
        # Half of each task's own datasets: which half a dataset is in depends on the task.
        chance = np.where(there, rng.random((len(there), cells.groups.units))[:, cells.groups.home], 2)
        side = (chance.argsort(axis=1, kind="stable").argsort(axis=1) < there.sum(axis=1, keepdims=True) / 2)[
            ..., None
        ]
        mine, rest = whole * (there[..., None] & side), whole * (there[..., None] & ~side)
        datasets.append(_apart(mine.sum(axis=1), rest.sum(axis=1)) / 2)
    return _quantile(np.array(images)), _quantile(np.array(datasets))


def _apart(first: Floats, second: Floats) -> Floats:
    """Cosine distance row by row (T,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        length = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        return np.asarray(1 - np.clip(np.sum(first * second, axis=1) / length, -1, 1))


def _quantile(values: Floats) -> Floats:
    known = np.isfinite(values).sum(axis=0) > 0
    found = np.full(values.shape[1], np.nan)
    found[known] = np.nanpercentile(values[:, known], 95, axis=0)
    return found


def levels(distances: Floats, categories: Sequence[str]) -> dict[str, float]:
    """Mean distance `within` and `between` categories, their ratio `contrast`, and the `variation` (standard
    deviation over mean) of all distances: how sharply peaks stand out of a matrix (T, T)."""
    upper = np.triu_indices(len(distances), 1)
    values = distances[upper]
    named = np.asarray(categories)
    same = named[upper[0]] == named[upper[1]]
    within = float(np.nanmean(values[same])) if same.any() else np.nan
    apart = float(np.nanmean(values[~same])) if (~same).any() else np.nan
    return {
        "within": within,
        "between": apart,
        "contrast": apart / within if within > 0 else np.nan,
        "variation": float(np.nanstd(values) / np.nanmean(values)) if np.nanmean(values) > 0 else np.nan,
    }


def measured(test: Sequence[Embeddings], *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """The values of keys `distances` and `clusters`.

    Args:
        test: embeddings of the same instances, one a training seed; failures and alterations are left out.

    Raises:
        UserError: fewer than three tasks, or embeddings of different instances.
    """
    plain = [one.plain for one in test]
    if any(not one.rows.equals(plain[0].rows) for one in plain[1:]):
        raise UserError("distances over seeds need embeddings of the same instances")
    cells = Cells(plain[0])
    if len(cells.tasks) < 3:
        raise UserError(f"distances between tasks need at least three tasks, not {len(cells.tasks)}")
    datasets = cells.groups.datasets
    units = [one.unit for one in plain]
    matrices = [between(*cells.means(unit, cells.groups.whole), np.ones(len(datasets))) for unit in units]
    samples = np.array(
        [
            [between(*cells.means(unit, draw), draw.datasets) for unit in units]
            for draw in cells.groups.draws(resamples, seed)
        ]
    ).swapaxes(0, 1)  # (seeds, resamples, T, T)
    by_kind = [floors(unit, cells, seed=seed) for unit in units]
    floor, reach = (np.mean([one[kind] for one in by_kind], axis=0) for kind in (0, 1))
    present = np.zeros((len(cells.tasks), cells.groups.units), dtype=np.intp)
    present[cells.task, cells.groups.home[cells.groups.dataset]] = 1
    mean = np.mean(matrices, axis=0)
    size = len(cells.tasks)
    low, high = np.full((size, size), np.nan), np.full((size, size), np.nan)
    shared = present @ present.T
    for a, b in _pairs(size):
        found = estimate([m[a, b] for m in matrices], samples[:, :, a, b], int(max(shared[a, b], 1)), least=0)
        low[a, b] = low[b, a] = np.nan if found["low"] is None else found["low"]
        high[a, b] = high[b, a] = np.nan if found["high"] is None else found["high"]
    known = [levels(one, cells.categories) for one in matrices]
    drawn = [[levels(one, cells.categories) for one in of_seed] for of_seed in samples]
    spread = {
        name: estimate(
            [one[name] for one in known], [[o[name] for o in s] for s in drawn], cells.groups.units
        )
        for name in known[0]
    }
    by_energy = np.mean([energy(one, cells, seed=seed) for one in plain], axis=0)
    upper = np.triu_indices(size, 1)
    nearest = np.where(np.eye(size, dtype=bool), np.inf, mean).min(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = np.nanmedian(nearest / floor) if np.isfinite(floor).any() else np.nan
    alike = [_ranks(one[upper], two[upper]) for place, one in enumerate(matrices) for two in matrices[:place]]
    found_distances = {
        "tasks": cells.tasks,
        "categories": cells.categories,
        "datasets": datasets,
        "n": len(cells.task),
        "matrix": _listed(mean),
        "low": _listed(low),
        "high": _listed(high),
        "shared": shared.tolist(),
        "energy": {
            "matrix": _listed(by_energy),
            "agreement": finite(_ranks(by_energy[upper], mean[upper])),
        },
        "floor": [
            {"task": task, "images": finite(floor[place]), "datasets": finite(reach[place])}
            for place, task in enumerate(cells.tasks)
        ],
        "blends": list(_blends(cells.tasks, mean, low, high, floor, reach)),
        "within": spread["within"],
        "between": spread["between"],
        "sharpness": {
            "contrast": spread["contrast"],
            "variation": spread["variation"],
            "margin": {"value": finite(margin)},
        },
        "seeds": {"n": len(test), "agreement": finite(np.mean(alike)) if alike else None},
    }  # fmt: skip
    return {
        "distances": found_distances,
        "clusters": clusters.measured(
            matrices, samples, cells.categories, datasets=cells.groups.units, seed=seed
        ),
    }


def _ranks(first: Floats, second: Floats) -> float:
    """Spearman's correlation; NaN where all is equal or nothing is known."""
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any() or np.ptp(first[known]) == 0 or np.ptp(second[known]) == 0:
        return np.nan
    return float(scipy.stats.spearmanr(first[known], second[known])[0])


def _blends(
    tasks: Sequence[str], mean: Floats, low: Floats, high: Floats, floor: Floats, reach: Floats
) -> Iterator[dict[str, Any]]:
    """Pairs of tasks that are not told apart, nearest first."""
    for a, b in sorted(_pairs(len(tasks)), key=lambda pair: mean[pair]):
        noise = np.fmax(floor[a], floor[b])
        far = np.fmax(reach[a], reach[b])
        if mean[a, b] <= np.fmax(noise, far):
            yield {
                "tasks": [tasks[a], tasks[b]],
                "value": finite(mean[a, b]),
                "low": finite(low[a, b]),
                "high": finite(high[a, b]),
                "floor": finite(noise),
                "reach": bool(not mean[a, b] <= noise),
            }


def _pairs(size: int) -> list[tuple[int, int]]:
    return [(a, b) for a in range(size) for b in range(a + 1, size)]


def _listed(values: Floats) -> list[list[float | None]]:
    """As JSON, to six decimals."""
    return [[finite(np.round(value, 6)) for value in row] for row in values]
