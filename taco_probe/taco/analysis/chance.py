"""What retrieval by chance scores, exactly, from how many instances of each task the gallery holds.

Legend: T tasks; N = sum of counts, the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import comb

Values = NDArray[np.float64]


def nearest(counts: NDArray[np.int64]) -> Values:
    """(T,) counts -> (T,) chance that a random instance is of the task."""
    return np.asarray(counts / max(1, counts.sum()), dtype=np.float64)


def average_precision(counts: NDArray[np.int64]) -> Values:
    """(T,) counts -> (T,) expected average precision of a random order.

    An instance is at place k with chance 1/N for each k, and then (k - 1)(R - 1)/(N - 1) of the task's R are
    expected before it: the mean of (1 + (k - 1)(R - 1)/(N - 1)) / k over k. 0 for a task that is not there.
    """
    total = int(counts.sum())
    if total == 0:
        return np.zeros(len(counts))
    harmonic = float((1.0 / np.arange(1, total + 1)).sum())
    share = (counts - 1) / max(1, total - 1)
    return np.where(counts > 0, (harmonic + share * (total - harmonic)) / total, 0.0)


def majority(counts: NDArray[np.int64], k: int) -> Values:
    """(T,) counts -> (T,) chance that the task has most votes among k instances drawn without replacement; a
    tie of j tasks counts 1/j to each."""
    return np.array(_majority(tuple(int(count) for count in counts), min(k, int(counts.sum()))))


@lru_cache(maxsize=512)
def _majority(counts: Sequence[int], k: int) -> tuple[float, ...]:
    if k == 0:
        return (0.0,) * len(counts)
    draws = np.arange(k + 1)
    ways = comb(np.array(counts)[:, None], draws[None, :])  # (T, k + 1)
    found = np.zeros(len(counts))
    for most in range(1, k + 1):
        # A polynomial a task: its draws, up to `most`, by how many were drawn and whether that is a tie.
        others = np.zeros((len(counts), k + 1, k + 1))
        others[:, :most, 0] = ways[:, :most]
        others[:, most, 1] = ways[:, most]
        rest = _all_but_one(others)[:, k - most, :]  # (T, ties)
        found += ways[:, most] * (rest / (1 + draws)).sum(axis=1)
    return tuple(found / comb(sum(counts), k))


def _all_but_one(factors: Values) -> Values:
    """(T, K, K) polynomials -> (T, K, K) products of all others, cut at degree K - 1."""
    one = np.zeros_like(factors[0])
    one[0, 0] = 1.0
    before, after = [one], [one]
    for left, right in zip(factors[:-1], factors[:0:-1], strict=True):
        before.append(_product(before[-1], left))
        after.append(_product(after[-1], right))
    return np.stack([_product(left, right) for left, right in zip(before, after[::-1], strict=True)])


def _product(one: Values, two: Values) -> Values:
    size = len(one)
    found = np.zeros_like(one)
    for row, column in zip(*np.nonzero(one), strict=True):
        found[row:, column:] += one[row, column] * two[: size - row, : size - column]
    return found
