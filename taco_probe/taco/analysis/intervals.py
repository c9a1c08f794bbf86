"""Estimates with intervals, for other datasets and other seeds.

Two sources of chance are kept apart and then added, as for dynamics. Datasets: every number is taken again
without one dataset at a time (jackknife; those of one origin, such as one patient, go together), since tiles
and slices of one dataset are no independent samples; images vary within datasets and so are part of what
datasets vary by. Nothing is drawn with replacement: a duplicate would be its own nearest neighbour. Seeds:
the spread among runs, by Student's t. With fewer than three datasets images take their place, and the
interval speaks of other images of these datasets only.

Legend: N instances, Q quantities, U units (datasets or images), T tasks, D datasets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats

from taco_probe.dynamics.differences import Estimate, Replicate, difference, mean

Values = NDArray[np.float64]
Over = Literal["datasets", "images"]
Found = dict[str, Any]
FEWEST = 3  # datasets that an interval for other datasets can be had from
_WIDTH = 1e-9  # an interval that is narrower is none


@dataclass(frozen=True)
class Measured:
    """Numbers of one run.

    Attributes:
        names: of the Q quantities.
        values: (Q,) of the run.
        without: (U, Q) without each unit; no rows where there are no two units.
        over: what the units are.
        seed: of the run; None for what has no seed, such as raw pixels.
    """

    names: tuple[str, ...]
    values: Values
    without: Values
    over: Over
    seed: int | None = None

    def one(self, name: str) -> Replicate:
        """One quantity, as a replicate."""
        place = self.names.index(name)
        return Replicate(self.values[[place]], self.without[:, [place]])

    def known(self, name: str) -> bool:
        return name in self.names and math.isfinite(float(self.one(name).values[0]))


def measured(values: Values, names: Sequence[str], rows: pl.DataFrame, seed: int | None = None) -> Measured:
    """Means of numbers of instances: over the instances of a task and dataset, then over the datasets of a
    task, then over tasks. So every task counts alike, and every dataset of a task.

    Args:
        values: (N, Q); rows with a NaN are left out.
        rows: N rows with task, dataset, origin and image.
    """
    kept = np.isfinite(values).all(axis=1)
    values, rows = values[kept], rows.filter(pl.Series(kept))
    task, dataset = codes(rows["task"]), codes(rows["dataset"])
    origins = codes(rows["origin"])
    over: Over = "datasets" if len(np.unique(origins)) >= FEWEST else "images"
    unit = origins if over == "datasets" else codes(images(rows))
    units = int(unit.max(initial=-1)) + 1
    shape = (units, int(task.max(initial=-1)) + 1, int(dataset.max(initial=-1)) + 1)
    cell = np.ravel_multi_index((unit, task, dataset), shape) if len(rows) else unit
    size = math.prod(shape)
    counts = np.bincount(cell, minlength=size).reshape(shape)
    sums = np.stack([np.bincount(cell, column, size).reshape(shape) for column in values.T], axis=-1)
    all_sums, all_counts = sums.sum(axis=0), counts.sum(axis=0)
    without = [_macro(all_sums - sums[u], all_counts - counts[u]) for u in range(units)] if units > 1 else []
    return Measured(
        tuple(names),
        _macro(all_sums, all_counts),
        np.array(without, float).reshape(len(without), len(names)),
        over,
        seed,
    )


def _macro(sums: Values, counts: NDArray[np.int64]) -> Values:
    """(T, D, Q) sums and (T, D) counts -> (Q,) mean of means; NaN where there is nothing."""
    there = counts > 0
    cells = np.where(there[..., None], sums / np.maximum(counts, 1)[..., None], 0.0)
    of_task = there.sum(axis=1)
    tasks = cells.sum(axis=1) / np.maximum(of_task, 1)[:, None]
    if not of_task.any():
        return np.full(sums.shape[-1], np.nan)
    return np.asarray(tasks[of_task > 0].mean(axis=0), dtype=np.float64)


def average(runs: Sequence[Measured], name: str, chance: str = "", within: bool = True) -> Found | None:
    """The mean of a quantity over runs that differ in their seed; None where a run has no such number.

    Args:
        chance: the quantity that is its level by chance.
        within: the number is a share, so that its interval ends at 0 and 1.
    """
    if not runs or not all(run.known(name) for run in runs):
        return None
    found = _as_found([run.one(name) for run in runs], runs[0].over, len(runs))
    if within:
        found |= {key: found[key] and min(1.0, max(0.0, found[key])) for key in ("low", "high")}
    if chance:
        found["chance"] = float(np.mean([run.one(chance).values[0] for run in runs]))
    return found


def contrast(first: Sequence[Measured], second: Sequence[Measured], name: str) -> Found | None:
    """First minus second, paired dataset by dataset. Runs are paired by seed where the two share at least two
    seeds (others are left out), or where the second has none (raw pixels)."""
    if not all(group and all(run.known(name) for run in group) for group in (first, second)):
        return None
    over = first[0].over
    by_seed = {run.seed: run for run in second}
    no_seed = set(by_seed) == {None}
    shared = [run for run in first if no_seed or run.seed in by_seed]
    if no_seed or len(shared) > 1 or len(first) == len(second) == len(shared):
        pairs = [(run.one(name), by_seed[None if no_seed else run.seed].one(name)) for run in shared]
        paired = [Replicate(one.values - two.values, one.without - two.without) for one, two in pairs]
        return _as_found(paired, over, len(paired), p=True)
    one, two = ([run.one(name) for run in group] for group in (first, second))
    if len(one[0].without) < 2:
        value = float(np.mean([run.values[0] for run in one]) - np.mean([run.values[0] for run in two]))
        return {"value": value, "low": None, "high": None, "n": 1, "over": over, "seeds": 1, "p": None}
    return _json(difference(one, two, 0), over, len(one[0].without), min(len(one), len(two)), p=True)


def over_seeds(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of a mean over seeds alone, by Student's t; None for one seed."""
    if len(values) < 2:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def codes(names: pl.Series) -> NDArray[np.int64]:
    """Numbers of the names, in alphabetical order."""
    return np.unique(names.to_numpy(), return_inverse=True)[1].astype(np.int64)


def images(rows: pl.DataFrame) -> pl.Series:
    """A name for each row's image that no other dataset's image has."""
    return rows.select(pl.concat_str("dataset", "image", separator="\t"))["dataset"]


def _as_found(runs: Sequence[Replicate], over: Over, seeds: int, p: bool = False) -> Found:
    units = len(runs[0].without)
    value = float(np.mean([run.values[0] for run in runs]))
    nothing: Found = {"value": value, "low": None, "high": None, "n": max(1, units), "over": over}
    nothing |= {"seeds": seeds} | ({"p": None} if p else {})
    if units < 2 or not all(np.isfinite(run.without).all() for run in runs):
        return nothing
    found = _json(mean(runs, 0), over, units, seeds, p)
    # Where all is right everywhere, nothing varies, and nothing is known of how much it could.
    return nothing if found["high"] - found["low"] < _WIDTH else found


def _json(found: Estimate, over: Over, units: int, seeds: int, p: bool) -> Found:
    shown: Found = {"value": found.value, "low": found.low, "high": found.high, "n": units}
    return shown | {"over": over, "seeds": seeds} | ({"p": found.p} if p else {})
