"""Groups of runs compared: the difference of a number, for other patients and other seeds.

Two sources of chance are kept apart and then added. Patients: the number of each run without one patient at a
time (jackknife, Efron and Stein 1981), paired, since all runs were measured on the same entries; never drawn
with replacement, since a duplicate row lowers the rank and so the entropy. Seeds: the spread among runs of a
group, which are its replicates. With one run a group nothing is known of seeds, and `seeds_varied` says so.

Legend: C patients, Q quantities, S seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from data_recipes.errors import UserError
from taco_probe.dynamics.spectrum import part

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Replicate:
    """Numbers (Q,) of one run, and what they are without each patient (C, Q)."""

    values: Values
    without: Values


@dataclass(frozen=True)
class Estimate:
    """A mean over runs, or a difference of two such means.

    Attributes:
        low, high: of the 95 % interval for other patients and, where they were varied, other seeds.
        p: of no difference, two-sided; the interval excludes 0 where it is below 0.05.
        patients_error, seeds_error: standard errors; the latter is None where seeds were not varied.
    """

    value: float
    low: float
    high: float
    p: float
    patients_error: float
    seeds_error: float | None

    @property
    def seeds_varied(self) -> bool:
        return self.seeds_error is not None


def replicate(
    kernel: torch.Tensor,
    patients: Sequence[Hashable],
    number: Callable[[torch.Tensor], Sequence[float]],
) -> Replicate:
    """The numbers of a Gram matrix (n, n), and without each patient.

    Raises:
        UserError: fewer than 2 patients.
    """
    names = list(dict.fromkeys(patients))
    if len(names) < 2:
        raise UserError("an interval needs probe entries of 2 patients at least")
    rows = {name: torch.tensor([one != name for one in patients]).nonzero()[:, 0] for name in names}
    without = [list(number(part(kernel, kept))) for kept in rows.values()]
    return Replicate(np.array(number(kernel), float), np.array(without, float))


def mean(runs: Sequence[Replicate], place: int) -> Estimate:
    """The mean over runs of one quantity."""
    return _estimate([runs], [1.0], place)


def difference(first: Sequence[Replicate], second: Sequence[Replicate], place: int) -> Estimate:
    """First minus second, of the means over their runs."""
    return _estimate([first, second], [1.0, -1.0], place)


def _estimate(groups: Sequence[Sequence[Replicate]], signs: Sequence[float], place: int) -> Estimate:
    signed = list(zip(signs, groups, strict=True))
    value = sum(sign * _mean(runs, place) for sign, runs in signed)
    without = sum(sign * np.mean([run.without[:, place] for run in runs], axis=0) for sign, runs in signed)
    count = len(without)
    patients = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
    parts = [(patients, count - 1)]
    varied = all(len(runs) > 1 for runs in groups)
    if varied:
        parts += [(_variance(runs, place) / len(runs), len(runs) - 1) for runs in groups]
    total = sum(variance for variance, _ in parts)
    seeds = math.sqrt(sum(variance for variance, _ in parts[1:])) if varied else None
    # Welch and Satterthwaite, over seeds and patients.
    spread = sum(variance**2 / freedom for variance, freedom in parts)
    freedom = total**2 / spread if spread else float(count - 1)
    error = math.sqrt(total)
    half = float(stats.t.ppf(0.975, freedom)) * error
    p = float(2 * stats.t.sf(abs(value) / error, freedom)) if error else float(value == 0)
    return Estimate(value, value - half, value + half, p, math.sqrt(patients), seeds)


def _mean(runs: Sequence[Replicate], place: int) -> float:
    return float(np.mean([run.values[place] for run in runs]))


def _variance(runs: Sequence[Replicate], place: int) -> float:
    return float(np.var([run.values[place] for run in runs], ddof=1))


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Adjusted p values: at a threshold, the expected share of false ones among those below it."""
    return [float(q) for q in stats.false_discovery_control(p)] if p else []
