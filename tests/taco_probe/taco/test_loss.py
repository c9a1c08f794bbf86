"""The supervised contrastive loss, against a loop over its formula and against another implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taco_probe.taco.loss import OTHER, supervised_contrastive


def by_loops(vectors: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    """Equation 2 of Khosla et al. 2020, as it stands, in float64."""
    z = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and labels[i] == labels[p] != OTHER]
        if not positives:
            continue
        below = sum(math.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        shares = [math.log(math.exp(z[i] @ z[p] / temperature) / below) for p in positives]
        losses.append(-sum(shares) / len(shares))
    return sum(losses) / len(losses) if losses else 0.0


def drawn(seed: int, rows: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, 5)), rng.integers(OTHER, classes, rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 20), st.integers(1, 5), st.floats(0.05, 2))
def test_it_is_the_formula_also_with_failures_and_lonely_rows(
    seed: int, rows: int, classes: int, temperature: float
):
    vectors, labels = drawn(seed, rows, classes)
    ours = supervised_contrastive(torch.tensor(vectors), torch.tensor(labels), temperature)
    assert ours.item() == pytest.approx(by_loops(vectors, labels, temperature), rel=1e-4, abs=1e-5)


def test_its_gradient_is_that_of_finite_differences():
    vectors, labels = drawn(3, 9, 3)
    leaf = torch.tensor(vectors, dtype=torch.float32, requires_grad=True)
    supervised_contrastive(leaf, torch.tensor(labels), 0.5).backward()
    for place in ((0, 0), (4, 2), (8, 4)):
        up, down = vectors.copy(), vectors.copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = (by_loops(up, labels, 0.5) - by_loops(down, labels, 0.5)) / 2e-5
        assert leaf.grad[place].item() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_a_failure_is_pushed_away_by_others_and_pulls_nothing():
    vectors = torch.tensor([[1.0, 0.1], [1.0, -0.1], [0.9, 0.3]], requires_grad=True)
    supervised_contrastive(vectors, torch.tensor([0, 0, OTHER]), 0.5).backward()
    moved = (vectors - 0.1 * vectors.grad).detach()
    unit = torch.nn.functional.normalize
    before, after = (unit(one)[2] @ unit(one)[:2].mean(0) for one in (vectors.detach(), moved))
    assert after < before


def test_it_is_finite_at_the_smallest_temperatures_and_for_large_vectors():
    vectors, labels = drawn(1, 12, 2)
    leaf = torch.tensor(vectors * 1e8, dtype=torch.float32, requires_grad=True)
    loss = supervised_contrastive(leaf, torch.tensor(labels), 1e-3)
    loss.backward()
    assert loss.isfinite()
    assert leaf.grad.isfinite().all()


def test_bfloat16_vectors_are_compared_in_float32():
    vectors, labels = drawn(2, 12, 3)
    rounded = torch.tensor(vectors).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        loss = supervised_contrastive(rounded, torch.tensor(labels), 0.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_loops(rounded.double().numpy(), labels, 0.1), rel=1e-4)


def test_without_positives_it_is_zero():
    vectors = torch.randn(3, 4, requires_grad=True)
    loss = supervised_contrastive(vectors, torch.tensor([0, 1, OTHER]), 0.1)
    loss.backward()
    assert loss.item() == 0
    assert not vectors.grad.any()


def test_it_is_that_of_pytorch_metric_learning():
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    vectors, labels = drawn(7, 40, 6)
    labels = np.abs(labels)  # it knows no rows that are nobody's positives
    peer = losses.SupConLoss(temperature=0.1)(torch.tensor(vectors).float(), torch.tensor(labels))
    ours = supervised_contrastive(torch.tensor(vectors), torch.tensor(labels), 0.1)
    assert ours.item() == pytest.approx(peer.item(), rel=1e-5)
