"""Does a distance between tasks say which pretraining helps? Rank agreement of distance and gain.

Gains of one target are ranked among themselves, so that a target that any pretraining helps, or none, does
not decide. A pair of tasks is no independent sample, since it shares its source and its target with others:
intervals leave out whole tasks, tests exchange the names of tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from data_recipes.errors import UserError
from eval.stats import SEED

Matrix = NDArray[np.float64]  # (T, T): row the source, column the target; the diagonal is never looked at
Statistic = Callable[[Matrix, Matrix, Matrix], float]  # of nearness, gain and same category

PERMUTATIONS = 2000
RANDOM = 1000  # random distances drawn
MIN_TASKS = 4


@dataclass(frozen=True)
class Estimate:
    """value, with its 95 % interval where there is one; n: of tasks."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    p: float | None = None

    def json(self) -> dict[str, Any]:
        """Its fields; p where there is a test."""
        return {key: value for key, value in asdict(self).items() if key != "p" or value is not None}


def within_ranks(values: Matrix) -> Matrix:
    """Ranks of the sources of each target (column), less their mean; 0 on the diagonal. Ties share a rank."""
    away = ~np.eye(len(values), dtype=bool)
    lower = (np.sign(values[:, None] - values[None]) * away[None]).sum(
        axis=1
    )  # sources below less those above
    return np.asarray(lower / 2 * away, dtype=np.float64)


def correlation(nearness: Matrix, gain: Matrix, same: Matrix | None = None) -> float:
    """Spearman's correlation of nearness (minus distance) and gain within targets: pooled over all targets,
    from ranks within each. Without ties it is the mean of the targets' correlations. 1: the nearest helps
    most. 0 where either is constant."""
    return _cosine(within_ranks(nearness), within_ranks(gain))


def partial(nearness: Matrix, gain: Matrix, same: Matrix) -> float:
    """The same with `same` (1: source and target are of one category) taken out of both ranks by least
    squares; 0 where nothing is left."""
    third = within_ranks(same)
    return _cosine(_without(within_ranks(nearness), third), _without(within_ranks(gain), third))


def by_target(nearness: Matrix, gain: Matrix) -> list[float]:
    """(T,) Spearman's correlation of each target."""
    near, gained = within_ranks(nearness), within_ranks(gain)
    return [_cosine(near[:, target], gained[:, target]) for target in range(len(gain))]


def pooled(nearness: Matrix, gain: Matrix) -> float:
    """Spearman's correlation over all ordered pairs at once: targets that gain much and little are mixed."""
    away = ~np.eye(len(gain), dtype=bool)
    ranks = [scipy.stats.rankdata(values[away]) for values in (nearness, gain)]
    return _cosine(*(rank - rank.mean() for rank in ranks))


def jackknife(value: float, without: Sequence[float]) -> Estimate:
    """A 95 % interval from the values with each task left out once, as source and as target (Efron and Stein
    1981): a standard error with the factor (T - 1) / T, Student's t with T - 1 degrees of freedom. A pair
    leaves with either of its tasks, so where pairs vary on their own the interval is too wide, never too
    narrow. Cut at -1 and 1 for correlations by the caller."""
    n = len(without)
    spread = np.asarray(without) - np.mean(without)
    error = float(np.sqrt((n - 1) / n * (spread**2).sum()))
    reach = error * float(scipy.stats.t.ppf(0.975, n - 1))
    return Estimate(value, value - reach, value + reach, n)


def agreement(
    distance: Matrix,
    gain: Matrix,
    same: Matrix,
    *,
    statistic: Statistic = correlation,
    groups: Sequence[Any] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> Estimate:
    """A statistic of minus distance and gain, with its jackknife interval and a permutation p.

    Args:
        distance, gain, same: (T, T).
        groups: (T,) labels within which names of tasks are exchanged; None exchanges all.

    Raises:
        UserError: fewer than MIN_TASKS tasks, or values that are not finite.
    """
    _check(distance, gain)
    value = statistic(-distance, gain, same)
    found = jackknife(value, [statistic(-distance[k], gain[k], same[k]) for k in _left_out(len(gain))])
    p = permutation_p(
        value, distance, gain, same, statistic=statistic, groups=groups, permutations=permutations, seed=seed
    )
    return Estimate(value, max(-1.0, found.low or 0.0), min(1.0, found.high or 0.0), found.n, p)


def permutation_p(
    value: float,
    distance: Matrix,
    gain: Matrix,
    same: Matrix,
    *,
    statistic: Statistic = correlation,
    groups: Sequence[Any] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> float:
    """Two-sided p that exchanging the tasks' names in the distance matrix, rows and columns alike, gives as
    much (Mantel 1967), the observed order counted in."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(len(gain)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    larger = 0
    for _ in range(permutations):
        order = np.arange(len(gain))
        for place in places:
            order[place] = rng.permutation(place)
        larger += abs(statistic(-distance[np.ix_(order, order)], gain, same)) >= abs(value) - 1e-9
    return (larger + 1) / (permutations + 1)


def difference(first: Matrix, second: Matrix, gain: Matrix) -> Estimate:
    """The correlation of one distance minus that of another, with a jackknife interval over tasks.

    Raises:
        UserError: as `agreement`.
    """
    _check(first, gain)
    _check(second, gain)

    def minus(keep: Any) -> float:
        return correlation(-first[keep], gain[keep]) - correlation(-second[keep], gain[keep])

    return jackknife(minus(np.ix_(*[range(len(gain))] * 2)), [minus(k) for k in _left_out(len(gain))])


def random_agreement(gain: Matrix, *, draws: int = RANDOM, seed: int = SEED) -> Estimate:
    """Mean and 95 % range of the correlation for random symmetric distances."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        drawn = rng.random(gain.shape)
        found.append(correlation(drawn + drawn.T, gain))
    low, high = np.quantile(found, [0.025, 0.975])
    return Estimate(float(np.mean(found)), float(low), float(high), len(gain))


def reliability(gains: NDArray[np.float64]) -> float | None:
    """How well the mean over seeds (S, T, T) ranks the sources of a target: the mean correlation of two
    seeds, stepped up to all of them (Spearman 1910, Brown 1910). No distance can be expected to agree with
    gains better than its square root. None with one seed."""
    seeds = len(gains)
    if seeds < 2:
        return None
    pairs = [correlation(gains[i], gains[j]) for i in range(seeds) for j in range(i)]
    one = float(np.mean(pairs))
    return seeds * one / (1 + (seeds - 1) * one) if one > 0 else 0.0


def _left_out(tasks: int) -> list[Any]:
    kept = [[other for other in range(tasks) if other != left] for left in range(tasks)]
    return [np.ix_(keep, keep) for keep in kept]


def _without(values: Matrix, third: Matrix) -> Matrix:
    square = float((third**2).sum())
    return values - third * float((values * third).sum() / square) if square else values


def _cosine(first: Matrix, second: Matrix) -> float:
    """0 where either is 0, rounding aside."""
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum() / lengths) if lengths > 1e-9 else 0.0


def _check(distance: Matrix, gain: Matrix) -> None:
    if len(gain) < MIN_TASKS:
        raise UserError(f"{len(gain)} tasks are too few to compare distance with gain: at least {MIN_TASKS}")
    away = ~np.eye(len(gain), dtype=bool)
    if distance.shape != gain.shape or not np.isfinite(distance[away]).all() or not np.isfinite(gain).all():
        raise UserError("distances and gains must be finite, and of the same tasks")
