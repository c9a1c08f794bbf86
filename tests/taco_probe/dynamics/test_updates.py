"""Updates compared without forming them, against the p x d matrices and against scipy."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles

from data_recipes.errors import UserError
from taco_probe.dynamics import updates
from taco_probe.dynamics.updates import Update


def draw(seed, r=3, d=14, p=11, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(r, d, generator=generator, dtype=torch.float64)
    return Update(a, torch.randn(p, r, generator=generator, dtype=torch.float64), scale)


def whole(update):
    return update.scale * update.b.double() @ update.a.double()


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_products_angles_and_energy_are_those_of_the_whole_matrices(seed, r1, r2):
    one, other = draw(seed, r=r1), draw(seed + 1, r=r2, scale=0.3)
    w1, w2 = whole(one), whole(other)
    assert updates.inner(one, other) == pytest.approx(float((w1 * w2).sum()), abs=1e-9)
    assert updates.norm(one) == pytest.approx(float(w1.norm()))
    expected = float((w1 * w2).sum() / w1.norm() / w2.norm())
    assert updates.cosine({"m": one}, {"m": other}) == pytest.approx(expected, abs=1e-9)
    u, values, v = updates.singular(one)
    assert torch.allclose(u * values @ v.T, w1)
    for side, bases in (("column", (one.b, other.b)), ("row", (one.a.T, other.a.T))):
        theirs = subspace_angles(*(base.numpy() for base in bases))[::-1]
        assert updates.angles(one, other, side=side).angles.tolist() == pytest.approx(
            theirs.tolist(), abs=1e-8
        )
    u2, _, v2 = torch.linalg.svd(w2)
    k = min(2, r2)
    inside = (u2[:, :k].T @ w1 @ v2[:k].T).square().sum() / w1.square().sum()
    assert updates.energy(one, other, 2)[0] == pytest.approx(float(inside), abs=1e-9)
    both = torch.linalg.svdvals(w1)
    assert updates.own_energy(one, 1) == pytest.approx(float(both[0] ** 2 / both.square().sum()))
    assert torch.allclose(whole(one.minus(other)), w1 - w2)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_a_change_of_gauge_changes_nothing_though_cosines_of_factors_move(seed):
    one, other = draw(seed), draw(seed + 1)
    mix = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mix += 3 * torch.eye(3, dtype=torch.float64)
    turned = Update(mix @ one.a, one.b @ torch.linalg.inv(mix), one.scale)
    assert updates.cosine({"m": turned}, {"m": other}) == pytest.approx(
        updates.cosine({"m": one}, {"m": other}), abs=1e-9
    )
    assert updates.cosine({"m": turned}, {"m": one}) == pytest.approx(1)
    assert float(updates.angles(turned, one).angles.max()) < 1e-7
    assert updates.angles(turned, other).overlap == pytest.approx(updates.angles(one, other).overlap)


def test_modules_are_pooled_as_one_vector():
    first, second = ({"q": draw(seed), "v": draw(seed + 5, d=9)} for seed in (0, 1))
    flat = [torch.cat([whole(one).flatten() for one in side.values()]) for side in (first, second)]
    expected = float(flat[0] @ flat[1] / flat[0].norm() / flat[1].norm())
    assert updates.cosine(first, second) == pytest.approx(expected)
    alone = updates.cosine_by_module(first, second)
    assert alone["v"] == pytest.approx(updates.cosine({"v": first["v"]}, {"v": second["v"]}))


def test_random_subspaces_overlap_as_the_baseline_says():
    column, row, inside = [], [], []
    for seed in range(200):
        one, other = draw(2 * seed), draw(2 * seed + 1)
        found = updates.angles(one, other)
        column.append(found.overlap)
        row.append(updates.angles(one, other, side="row").overlap)
        share, expected = updates.energy(one, other, 2)
        inside.append(share)
    assert sum(column) / 200 == pytest.approx(3 / 11, abs=0.02)
    assert found.overlap_random == pytest.approx(3 / 11)
    assert sum(row) / 200 == pytest.approx(3 / 14, abs=0.02)
    assert sum(inside) / 200 == pytest.approx(expected, abs=0.01)


def test_small_angles_are_not_lost_in_rounding():
    a = torch.eye(1, 6, dtype=torch.float64)
    b = torch.eye(6, 1, dtype=torch.float64)
    tilted = b.clone()
    tilted[1] = 1e-10
    assert float(updates.angles(Update(a, b), Update(a, tilted)).angles[0]) == pytest.approx(1e-10, rel=1e-3)


def test_an_update_of_zero_has_no_direction():
    none = Update(torch.randn(3, 14), torch.zeros(11, 3))
    assert math.isnan(updates.cosine({"m": none}, {"m": draw(0)}))
    assert math.isnan(updates.own_energy(none, 1))
    one = draw(3)
    assert updates.norm(one.minus(one)) == pytest.approx(0, abs=1e-6)
    assert len(updates.singular(one.minus(one))[1]) == 0
    with pytest.raises(UserError, match="update of zero"):
        updates.angles(none, draw(0))
    with pytest.raises(UserError, match="update of zero"):
        updates.energy(draw(0), none, 1)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"\(11, 14\) and \(11, 9\) cannot be compared"):
        updates.inner(draw(0), draw(0, d=9))
    with pytest.raises(UserError, match="v is in one only"):
        updates.cosine({"q": draw(0)}, {"q": draw(0), "v": draw(0)})
    with pytest.raises(UserError, match="make no update"):
        Update(torch.ones(2, 5), torch.ones(4, 3))
    with pytest.raises(UserError, match="neither 'column' nor 'row'"):
        updates.angles(draw(0), draw(1), side="top")
