"""Levels by chance, against counting and against random orders."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taco_probe.taco.analysis import chance

COUNTS = st.lists(st.integers(0, 4), min_size=2, max_size=5).filter(lambda counts: sum(counts) > 0)


def of(counts: list[int]) -> list[int]:
    """One label an instance."""
    return [task for task, count in enumerate(counts) for _ in range(count)]


@given(COUNTS, st.integers(1, 5))
def test_majority_is_the_mean_over_all_draws(counts: list[int], k: int) -> None:
    labels = of(counts)
    expected = np.zeros(len(counts))
    draws = list(combinations(labels, min(k, len(labels))))
    for drawn in draws:
        votes = np.bincount(drawn, minlength=len(counts))
        winners = votes == votes.max()
        expected += winners / winners.sum()
    assert chance.majority(np.array(counts), k) == pytest.approx(expected / len(draws))


@pytest.mark.parametrize("counts", [[1, 1], [3, 2], [1, 4, 2], [0, 3, 1], [5]])
def test_average_precision_is_the_mean_over_all_orders(counts: list[int]) -> None:
    labels = of(counts)
    orders = np.array(list(permutations(labels)))
    expected = []
    for task, count in enumerate(counts):
        hits = orders == task
        precision = hits.cumsum(axis=1) / np.arange(1, len(labels) + 1)
        expected.append((precision * hits).sum(axis=1).mean() / count if count else 0.0)
    assert chance.average_precision(np.array(counts)) == pytest.approx(expected)


@given(COUNTS)
def test_one_neighbour_is_a_majority_and_levels_of_tasks_add_up_to_one(counts: list[int]) -> None:
    assert chance.majority(np.array(counts), 1) == pytest.approx(chance.nearest(np.array(counts)))
    assert chance.majority(np.array(counts), 3).sum() == pytest.approx(1)


def test_majority_of_a_large_gallery_is_finite_and_a_probability() -> None:
    found = chance.majority(np.array([600] * 20 + [40] * 10), 5)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)
    assert found[0] > found[-1] > 0
