"""How two numbers go together over a study's runs: correlations with intervals, over arms and within them.

Seeds of one arm are no independent pieces of evidence on what sets arms apart: over arms each arm counts
once, by its mean over seeds. Within arms (the means of arms taken out) only what sets seeds apart is left.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Values = NDArray[np.float64]
PEARSON, SPEARMAN = "pearson", "spearman"


@dataclass(frozen=True)
class Correlation:
    """Of `n` runs in `arms` arms; over arms it has a point an arm. `value` is None where one of the numbers
    is constant; the interval where points are too few or lie on one line."""

    method: str
    within: bool
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    arms: int


def correlation(
    x: Sequence[float], y: Sequence[float], arms: Sequence[Hashable], *, method: str, within: bool
) -> Correlation:
    """The correlation of x and y (n,) with its 95 % interval by Fisher's z.

    The variance of z is 1 / (n - 3) for Pearson's r (Fisher 1921) and (1 + r^2 / 2) / (n - 3) for Spearman's
    (Bonett and Wright 2000, Psychometrika 65(1)). Over arms the points are the arms' means, so n there is the
    number of arms. Within arms n is that of runs, and every arm but one costs a degree of freedom, as in a
    partial correlation on k - 1 indicators of arms (Fisher 1924); arms with one run say nothing there and are
    left out. Spearman's within arms ranks what is left when the arms' means are taken out.
    """
    if within:
        kept = [place for place, arm in enumerate(arms) if list(arms).count(arm) > 1]
        x, y, arms = (
            [x[place] for place in kept],
            [y[place] for place in kept],
            [arms[place] for place in kept],
        )
    groups, n = len(set(arms)), len(x)
    one, other = (np.asarray(values, dtype=np.float64) for values in (x, y))
    take = _centred if within else _means
    one, other = take(one, arms), take(other, arms)
    if method == SPEARMAN:
        one, other = stats.rankdata(_rounded(one)), stats.rankdata(_rounded(other))
    value = _pearson(one, other)
    freedom = n - 3 - (groups - 1) if within else groups - 3
    if value is None or freedom < 1 or abs(value) > 1 - 1e-12:
        return Correlation(method, within, value, None, None, None, n, groups)
    error = math.sqrt((1 + value**2 / 2 if method == SPEARMAN else 1.0) / freedom)
    z = math.atanh(value)
    low, high = math.tanh(z - 1.959964 * error), math.tanh(z + 1.959964 * error)
    return Correlation(method, within, value, low, high, float(2 * stats.norm.sf(abs(z) / error)), n, groups)


def _centred(values: Values, arms: Sequence[Hashable]) -> Values:
    """Values less the mean of their arm."""
    out = values.copy()
    for arm in set(arms):
        rows = np.array([one == arm for one in arms])
        out[rows] -= values[rows].mean()
    return out


def _means(values: Values, arms: Sequence[Hashable]) -> Values:
    """The mean of each arm."""
    rows = [np.array([one == arm for one in arms]) for arm in dict.fromkeys(arms)]
    return np.array([values[row].mean() for row in rows], dtype=np.float64)


def _rounded(values: Values) -> Values:
    """Without the last digits, in which equal residuals may differ."""
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    return np.asarray(np.round(values / scale, 12))


def _pearson(one: Values, other: Values) -> float | None:
    if len(one) < 3:
        return None
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    spread = min(float(np.abs(one).max()), float(np.abs(other).max()))
    return None if spread < 1e-12 or not scale else max(-1.0, min(1.0, float(one @ other) / scale))
