"""The numbers of a Gram matrix by name, on spectra that are known."""

from __future__ import annotations

import math

import pytest
import torch

from taco_probe.dynamics.quantities import TITLES, by_task, headlines, numbers
from taco_probe.dynamics.spectrum import Spectrum


def test_the_headlines_of_a_known_spectrum():
    shares = [0.5, 0.25, 0.25]
    found = headlines(torch.diag(torch.tensor(shares)) * 7)
    # Three directions at right angles, each of length 1, are one as strong as the other.
    assert found == pytest.approx((-sum(p * math.log(p) for p in shares), 0.5, math.log(3), 1 / 3))
    assert "entropy" in Spectrum._fields


def test_all_numbers_have_a_title_and_the_values_of_their_formulas():
    g = torch.tensor([[2.0, 0.0], [1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    found = numbers(g @ g.T)  # eigenvalues 6 and 2
    assert found.keys() == TITLES.keys()
    assert found["dominance"] == pytest.approx(0.75)
    assert found["first_over_second"] == found["first_over_rest"] == pytest.approx(3)
    assert found["participation"] == pytest.approx(64 / 40)
    assert found["effective_rank"] == pytest.approx(math.exp(found["entropy"]))
    assert found["gradient"] == pytest.approx(8 / 3)
    # mean of K_ij over i != j is (2 + 2 + 0) / 3, the variance of an entry 8/3 less that
    assert found["noise_scale"] == pytest.approx((8 / 3 - 4 / 3) / (4 / 3))
    assert found["effective_entries"] == pytest.approx(8**2 / (4**2 + 2**2 + 2**2))
    d = g / g.norm(dim=1, keepdim=True)
    values = torch.linalg.eigvalsh(d.T @ d) / 3
    assert found["dominance_directions"] == pytest.approx(float(values.max()))
    assert found["entropy_directions"] == pytest.approx(float(-(values * values.log()).sum()))
    c = g - g.mean(0)
    values = torch.linalg.eigvalsh(c.T @ c)
    p = values / values.sum()
    assert found["entropy_centred"] == pytest.approx(float(-(p * p.log()).sum()))


def test_what_is_not_defined_is_none_and_never_nan():
    dead = torch.diag(torch.tensor([1.0, 0.0, 2.0]))
    found = numbers(dead)
    assert found["entropy_directions"] == pytest.approx(math.log(2))  # one entry has no gradient
    assert found["effective_entries"] == pytest.approx(9 / 5)
    assert found["participation_debiased"] is None  # orthogonal entries
    assert found["noise_scale"] is None  # no signal
    rank_one = numbers(torch.ones(4, 4))
    assert rank_one["entropy_centred"] is None
    assert rank_one["dominance"] == pytest.approx(1)
    assert set(numbers(torch.zeros(3, 3)).values()) <= {None, 0.0}
    alone = numbers(torch.ones(1, 1))
    assert all(value is None or math.isfinite(value) for value in alone.values())


def test_a_tasks_numbers_are_those_of_its_own_entries():
    g = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    found = by_task(g @ g.T, ["a", "b", "a", "b", "b", "a"])
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx(numbers(g[[0, 2, 5]] @ g[[0, 2, 5]].T))
