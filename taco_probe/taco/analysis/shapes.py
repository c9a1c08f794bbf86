"""What a path of points looks like: straight, even, monotone, smooth. All of it follows from the points'
inner products, so that a shuffled order costs no new ones.

Shape suffixes: A paths, P points of a path, K width of the space.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.stats

from taco_probe.taco.analysis.resampling import Floats, Numbers

ORDERS = 200  # shuffled, for the null


class Measure(NamedTuple):
    """A title, whether a path in order has high or low values, and the range of values."""

    title: str
    best: str
    least: float
    most: float


MEASURES = {
    "straightness": Measure("straightness: chord over path length", "high", 0, 1),
    "turning": Measure("mean turning angle, degrees", "low", 0, 180),
    "uniformity": Measure("uniformity of steps", "high", 0, 1),
    "monotony": Measure("Spearman of strength with distance from the start", "high", -1, 1),
    "monotone": Measure("share that never comes back nearer to the start", "high", 0, 1),
    "roughness": Measure("roughness: second over first differences", "low", 0, np.inf),
}


def grams(points: Floats) -> Floats:
    """Inner products (A, P, P) of points (A, P, K) minus each path's first."""
    moved = np.asarray(points, dtype=np.float64) - points[:, :1]
    return np.asarray(moved @ moved.swapaxes(1, 2))


def measure(gram: Floats) -> dict[str, Floats]:
    """Each of MEASURES (A,) from `grams` (A, P, P); NaN where a path stands still.

    straightness: |p_n - p_0| / sum of step lengths; 1 on a line, 0 on a closed loop.
    turning: mean angle between neighbouring steps; 0 on a line, 90 for steps that do not know of each other,
        120 for points that do not.
    uniformity: (sum of step lengths)^2 / (n * sum of their squares); 1 for equal steps, 1 / n for one jump.
    monotony: Spearman's correlation of the place along the path with the distance from its start.
    monotone: 1 where that distance grows with every step, else 0.
    roughness: root mean square of second differences over that of first ones; 0 for a line at even pace,
        sqrt(2) for steps that do not know of each other, sqrt(3) for points that do not.
    """
    square = np.diagonal(gram, axis1=1, axis2=2)
    after = np.diagonal(gram, offset=1, axis1=1, axis2=2)
    skip = np.diagonal(gram, offset=2, axis1=1, axis2=2)
    step = np.maximum(square[:, 1:] + square[:, :-1] - 2 * after, 0)  # squared lengths (A, P - 1)
    dot = after[:, 1:] - square[:, 1:-1] - skip + after[:, :-1]  # neighbouring steps (A, P - 2)
    length = np.sqrt(step)
    away = np.sqrt(np.maximum(square, 0))
    steps = step.shape[1]
    second = step[:, 1:] + step[:, :-1] - 2 * dot
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.clip(dot / (length[:, 1:] * length[:, :-1]), -1, 1)
        angle = np.degrees(np.arccos(cosine))
        known = np.isfinite(angle)
        found = {
            "straightness": away[:, -1] / length.sum(axis=1),
            "turning": np.where(known, angle, 0).sum(axis=1) / known.sum(axis=1),
            "uniformity": length.sum(axis=1) ** 2 / (steps * step.sum(axis=1)),
            "monotony": _spearman(away[:, 1:]),
            "monotone": np.where(step.sum(axis=1) > 0, (np.diff(away, axis=1) > 0).all(axis=1), np.nan),
            "roughness": np.sqrt(np.maximum(second, 0).mean(axis=1) / step.mean(axis=1)),
        }
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def shuffled(gram: Floats, orders: Numbers) -> Iterator[dict[str, Floats]]:
    """The measures of all paths with their points in another order, an order at a time: the same for all
    paths, so that what paths have in common does not count as evidence.

    Args:
        gram: (A, P, P).
        orders: (orders, P), from `drawn_orders`.
    """
    for order in orders:
        yield measure(gram[:, order][:, :, order])


def drawn_orders(points: int, number: int = ORDERS, *, seed: int = 0) -> Numbers:
    """Random orders (number, points) that begin with 0: the start is what was altered, and stays."""
    rng = np.random.default_rng(seed)
    return np.array([[0, *(1 + rng.permutation(points - 1))] for _ in range(number)], dtype=np.intp)


def _spearman(values: Floats) -> Floats:
    """Spearman's correlation (A,) of each row with its order; NaN where a row is constant."""
    ranks = scipy.stats.rankdata(values, axis=1)
    place = np.arange(values.shape[1]) - (values.shape[1] - 1) / 2
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((centred @ place) / np.sqrt((centred**2).sum(axis=1) * (place**2).sum()))
