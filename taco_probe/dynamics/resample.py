"""Intervals for numbers of a Gram matrix, with patients as the unit of resampling.

Rows are never drawn with replacement: a duplicate row lowers the rank and so the entropy. Clusters are left
out instead. Both intervals say how much other patients would have changed the number, at this n; they say
nothing of other seeds.

Legend: n entries, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import torch
from scipy.stats import norm, t

from data_recipes.errors import UserError


class Interval(NamedTuple):
    """A number, its standard error and its interval; over `clusters` clusters."""

    value: float
    error: float
    low: float
    high: float
    clusters: int


def jackknife(
    number: Callable[[torch.Tensor], float], clusters: Sequence[Hashable], *, level: float = 0.95
) -> Interval:
    """Leave-one-cluster-out interval (Efron and Stein 1981), with Student's t on C - 1 degrees of freedom.

    Args:
        number: of the indices (m,) of the entries that are kept; close over one K, or over several for a
            paired difference between checkpoints or runs on the same entries.
        clusters: of each entry (n,), such as its patient.

    Raises:
        UserError: fewer than 2 clusters.
    """
    members = _members(clusters)
    count = len(members)
    every = torch.arange(len(clusters))
    value = number(every)
    left = [number(every[~torch.isin(every, gone)]) for gone in members]
    values = torch.tensor(left, dtype=torch.float64)
    error = math.sqrt((count - 1) / count * float((values - values.mean()).square().sum()))
    half = float(t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(value, error, value - half, value + half, count)


def subsample(
    number: Callable[[torch.Tensor], float],
    clusters: Sequence[Hashable],
    *,
    share: float = 0.5,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval from random subsets of clusters without replacement (Politis and Romano 1994): the deviation
    among subsets of b clusters times sqrt(b / (C - b)), which for a mean is the deviation of all C.

    The value is that of all entries, the subsets only give the spread: their own level is that of a smaller
        n.

    Raises:
        UserError: fewer than 4 clusters, or a share that leaves none in or out.
    """
    members = _members(clusters)
    count = len(members)
    kept = round(share * count)
    if count < 4 or not 0 < kept < count:
        raise UserError(f"a share of {share} of {count} clusters cannot be drawn: give 4 clusters at least")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        chosen = torch.randperm(count, generator=generator)[:kept].tolist()
        found.append(number(torch.cat([members[index] for index in chosen]).sort().values))
    spread = float(torch.tensor(found, dtype=torch.float64).std())
    error = spread * math.sqrt(kept / (count - kept))
    value = number(torch.arange(len(clusters)))
    half = float(norm.ppf((1 + level) / 2)) * error
    return Interval(value, error, value - half, value + half, count)


def part(kernel: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """The rows and columns of K that are kept."""
    return kernel[kept][:, kept]


def _members(clusters: Sequence[Hashable]) -> list[torch.Tensor]:
    of: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        of.setdefault(cluster, []).append(index)
    if len(of) < 2:
        raise UserError("an interval over clusters needs 2 clusters (patients) at least")
    return [torch.tensor(indices) for indices in of.values()]
