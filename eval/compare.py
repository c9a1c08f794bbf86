"""Comparisons: two runs on the same entries, or groups of runs that differ in their seed only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from eval.metrics import FloatArray, ratio
from eval.scores import Scores
from eval.stats import RESAMPLES, SEED, bootstrap_p, holm, interval, p_value, swapped_sums

AVERAGE = "multi_task_average"


@dataclass(frozen=True)
class Difference:
    """First minus second on one task's headline, or on the multi-task average (never Holm-adjusted)."""

    task: str
    value: float
    ci_low: float
    ci_high: float
    p: float
    p_holm: float | None


def compare(
    first: Scores, second: Scores, *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Difference]:
    """Paired differences of two runs on the same entries: a line a task, Holm-adjusted over tasks, then the
    average. Intervals by the bootstrap over patients, p by exchanging the runs patient by patient.

    Raises:
        ValueError: the runs were not scored on the same test set with the same number of resamples.
    """
    _check(first, second)
    mine = np.concatenate([scored.sums for scored in first.tasks.values()], axis=1)
    theirs = np.concatenate([second.tasks[task].sums for task in first.tasks], axis=1)
    swapped = swapped_sums(mine, theirs, resamples=resamples, seed=seed)
    exchanged, found, start = [], [], 0
    for task, scored in first.tasks.items():
        stop = start + scored.sums.shape[1]
        one, other = (scored.metric.finish(sums[:, start:stop]) for sums in swapped)
        start = stop
        exchanged.append(one - other)
        samples = scored.samples - second.tasks[task].samples
        value = scored.value - second.tasks[task].value
        found.append((task, value, *interval(samples, first.patients), p_value(value, exchanged[-1])))
    adjusted = holm([line[-1] for line in found])
    lines = [Difference(*line, p_holm=p) for line, p in zip(found, adjusted, strict=True)]
    value = first.average.value - second.average.value
    p = p_value(value, np.mean(exchanged, axis=0))
    low, high = interval(first.samples - second.samples, first.patients)
    return [*lines, Difference(AVERAGE, value, low, high, p, None)]


class Gain(NamedTuple):
    """Relative gain in percent; NaN where a score of the reference is 0."""

    name: str
    value: float
    ci_low: float
    ci_high: float


def gains(first: Scores, second: Scores) -> list[Gain]:
    """The relative gain of `first` over `second`, by both of its definitions, which papers mix up:

    - gain_of_averages: average of `first` / average of `second` - 1
    - average_of_gains: mean over tasks of score / score of `second` - 1; a task that `second` is bad at
      counts most

    Raises:
        ValueError: as `compare`.
    """
    _check(first, second)
    pairs = [(scored, second.tasks[task]) for task, scored in first.tasks.items()]
    values = (
        _relative(first.average.value, second.average.value),
        np.mean([_relative(one.value, other.value) for one, other in pairs], axis=0),
    )
    samples = (
        _relative(first.samples, second.samples),
        np.mean([_relative(one.samples, other.samples) for one, other in pairs], axis=0),
    )
    names = ("gain_of_averages", "average_of_gains")
    nothing = (math.nan, math.nan)
    return [
        Gain(name, float(value), *(interval(drawn, first.patients) if math.isfinite(value) else nothing))
        for name, value, drawn in zip(names, values, samples, strict=True)
    ]


def _relative(one: FloatArray | float, other: FloatArray | float) -> FloatArray:
    return 100.0 * (ratio(np.asarray(one), np.asarray(other)) - 1.0)


def _check(first: Scores, second: Scores) -> None:
    if first.test_hash != second.test_hash:
        raise ValueError("runs on different test sets can't be compared")
    if first.samples.shape != second.samples.shape:
        raise ValueError("runs scored with different numbers of resamples can't be paired")


@dataclass(frozen=True)
class Replicates:
    """A score over runs that differ in their seed only.

    Attributes:
        value: mean over the seeds.
        ci_low, ci_high: 95 % interval, for other patients and, with two seeds or more, for other seeds.
        sd: standard deviation over the seeds (n - 1); None for one seed.
        seeds, patients: how many.
        samples: what the interval was taken of (resamples,).
    """

    value: float
    ci_low: float
    ci_high: float
    sd: float | None
    seeds: int
    patients: int
    samples: FloatArray


def replicates(
    values: Sequence[float], samples: Sequence[FloatArray], patients: int, *, seed: int = SEED
) -> Replicates:
    """One score from seeds as replicates: patients vary by their bootstrap, which all seeds share, and seeds
    by Student's t with one degree of freedom less than there are seeds. So two seeds give a very wide
    interval, as they should, where a bootstrap of two seeds would give one that is too narrow.

    Args:
        values: of each run.
        samples: the resampled values of each run, (resamples,), of the same patients.
        patients: how many.
    """
    drawn = np.mean(samples, axis=0)
    sd = None
    if len(values) > 1:
        sd = float(np.std(values, ddof=1))
        noise = np.random.default_rng(seed).standard_t(len(values) - 1, size=drawn.shape)
        drawn = drawn + noise * sd / np.sqrt(len(values))
    return Replicates(float(np.mean(values)), *interval(drawn, patients), sd, len(values), patients, drawn)


def difference_of(first: Replicates, second: Replicates, task: str) -> Difference:
    """The difference of two groups of seeds. Their samples must come of the same resampled patients, and of
    different `seed`s of `replicates`."""
    samples = first.samples - second.samples
    return Difference(
        task,
        first.value - second.value,
        *interval(samples, first.patients),
        p=bootstrap_p(samples),
        p_holm=None,
    )
