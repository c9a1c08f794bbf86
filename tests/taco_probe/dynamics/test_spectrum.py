"""Spectra of planted gradients, and what must not change them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from data_recipes.errors import UserError
from taco_probe.dynamics.spectrum import (
    centred,
    curve,
    eigenvalues,
    normalised,
    participation_debiased,
    spectrum,
    weighted,
)


def planted(values, n, dimension=40, seed=0):
    """Gradients (n, dimension) whose Gram matrix has these eigenvalues and no other."""
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((n, len(values))))[0]
    right = np.linalg.qr(rng.standard_normal((dimension, len(values))))[0]
    return torch.from_numpy(left * np.sqrt(values) @ right.T)


gradients = st.builds(
    lambda n, d, seed: torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d))),
    st.integers(3, 12),
    st.integers(2, 15),
    st.integers(0, 10_000),
)


@pytest.mark.parametrize("values", [[5.0, 3.0, 1.0, 0.5], [1.0] * 8, [100.0, 1e-3]])
def test_a_planted_spectrum_is_recovered(values):
    rows = planted(values, 12)
    kernel = rows @ rows.T
    assert eigenvalues(kernel)[: len(values)].tolist() == pytest.approx(values)
    found, total = spectrum(kernel, rank_bound=len(values)), sum(values)
    assert found.entropy == pytest.approx(entropy(values))
    assert found.entropy_normalised == pytest.approx(entropy(values) / math.log(len(values)))
    assert found.dominance == pytest.approx(values[0] / total)
    assert found.first_over_second == pytest.approx(values[0] / values[1])
    assert found.first_over_rest == pytest.approx(values[0] / (total - values[0]))
    assert found.effective_rank == pytest.approx(math.exp(entropy(values)))
    assert found.participation == pytest.approx(total**2 / sum(v**2 for v in values))


@given(gradients, st.floats(1e-6, 1e6), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_scale_order_and_rotation_do_not_matter(rows, scale, random):
    kernel = rows @ rows.T
    order = list(range(len(rows)))
    random.shuffle(order)
    turn = torch.linalg.qr(torch.randn(rows.shape[1], rows.shape[1], dtype=torch.float64))[0]
    turned = (rows @ turn)[order] * scale
    for one, other in zip(spectrum(kernel), spectrum(turned @ turned.T), strict=True):
        assert one == pytest.approx(other, rel=1e-6) or (one > 1e9 and other > 1e9)


@given(gradients)
@settings(max_examples=50, deadline=None)
def test_bounds_hold(rows):
    found = spectrum(rows @ rows.T, rank_bound=min(rows.shape))
    assert 0 <= found.entropy_normalised <= 1 + 1e-9
    assert 1 - 1e-9 <= found.participation <= found.effective_rank + 1e-6 <= min(rows.shape) + 1e-5
    assert 1 / len(rows) <= found.dominance <= 1


@given(gradients)
@settings(max_examples=30, deadline=None)
def test_centring_and_normalising_are_those_of_the_gradients(rows):
    kernel = rows @ rows.T
    less = rows - rows.mean(0)
    unit = rows / rows.norm(dim=1, keepdim=True)
    weights = torch.linspace(0.5, 2, len(rows), dtype=torch.float64)
    heavy = rows * weights[:, None]
    assert torch.allclose(centred(kernel), less @ less.T)
    assert torch.allclose(normalised(kernel), unit @ unit.T)
    assert torch.allclose(weighted(kernel, weights), heavy @ heavy.T)


def test_one_direction_has_no_entropy():
    row = torch.randn(1, 9, dtype=torch.float64)
    found = spectrum((row.T @ row) * 3)
    assert (found.entropy, found.dominance) == (pytest.approx(0, abs=1e-6), pytest.approx(1))
    assert found.first_over_rest > 1e9


def test_the_debiased_participation_ratio_is_right_at_small_n_where_the_plug_in_is_not():
    """Normal gradients with a known second-moment matrix; 400 sets of 12 entries."""
    scales = torch.cat([torch.tensor([2.0]), torch.full((60,), 0.5)]).double()
    square = scales.square()
    true = float(square.sum() ** 2 / square.square().sum())
    generator = torch.Generator().manual_seed(0)
    tops, bottoms, plug = [], [], []
    for _ in range(400):
        rows = torch.randn(12, 61, generator=generator, dtype=torch.float64) * scales
        kernel = rows @ rows.T
        plug.append(spectrum(kernel).participation)
        own = kernel.diagonal()
        # The ratio's two parts are what is unbiased.
        tops.append(float(own.sum() ** 2 - own.square().sum()) / 132)
        bottoms.append(tops[-1] / participation_debiased(kernel))
    spread = np.std(bottoms) / 20
    assert abs(np.mean(bottoms) - float(square.square().sum())) < 4 * spread
    assert abs(np.mean(tops) - float(square.sum() ** 2)) < 4 * np.std(tops) / 20
    assert np.mean(tops) / np.mean(bottoms) == pytest.approx(true, rel=0.1)
    assert abs(np.mean(plug) - true) > 0.15 * true


def test_entropy_grows_with_n_so_the_curve_is_shown():
    """Coordinates of variance 1 / k: the same distribution, more entries, more entropy."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(256, 2000, generator=generator, dtype=torch.float64)
    rows *= torch.arange(1, 2001, dtype=torch.float64).rsqrt()
    points = curve(rows @ rows.T, [16, 64, 256], draws=5)
    assert [point.n for point in points] == [16, 64, 256]
    assert points[0].mean < points[1].mean < points[2].mean
    assert points[2].deviation == 0
    assert curve(rows @ rows.T, [16], draws=5) == points[:1]


@pytest.mark.parametrize("rank", [3, 2000])
def test_rounding_of_many_entries_is_not_taken_for_negative_eigenvalues(rank):
    """2,000 gradients in float32, most eigenvalues 0 or all alike, products and file in float32 too."""
    rows = torch.randn(2000, rank, generator=torch.Generator().manual_seed(0))
    rows = rows * torch.logspace(0, -3, 2000)[:, None]  # lengths as late in training
    values = eigenvalues(rows @ rows.T)
    assert int((values > 1e-5 * values[0]).sum()) <= rank


def test_what_is_no_gram_matrix_is_refused():
    with pytest.raises(UserError, match="negative eigenvalue"):
        spectrum(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    with pytest.raises(UserError, match="square and symmetric"):
        spectrum(torch.ones(2, 3))
    with pytest.raises(UserError, match="not finite"):
        spectrum(torch.full((2, 2), math.nan))
    with pytest.raises(UserError, match="all gradients are zero"):
        spectrum(torch.zeros(2, 2))
    with pytest.raises(UserError, match="entry 1 has a zero gradient"):
        normalised(torch.diag(torch.tensor([1.0, 0.0])))
    with pytest.raises(UserError, match="no subset of 3 among 2"):
        curve(torch.eye(2), [3])
    with pytest.raises(UserError, match="2 entries"):
        participation_debiased(torch.ones(1, 1))
    with pytest.raises(UserError, match="all orthogonal"):
        participation_debiased(torch.eye(3))
