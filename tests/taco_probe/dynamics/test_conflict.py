"""Planted conflicts between tasks, and what noise alone looks like."""

import math

import pytest
import torch

from data_recipes.errors import UserError
from taco_probe.dynamics.conflict import conflict, cosines, signal


def tasks_at(cosine, *, noise, each=16, dimension=400, seed=0):
    """Entries of two tasks whose mean gradients have length 1 and this cosine; `noise` is the length of what
    each entry adds."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.zeros(dimension, dtype=torch.float64)
    second = first.clone()
    first[0] = 1
    second[0], second[1] = cosine, math.sqrt(1 - cosine**2)
    away = torch.randn(2 * each, dimension, generator=generator, dtype=torch.float64) * noise / dimension**0.5
    rows = torch.cat([first.expand(each, -1), second.expand(each, -1)]) + away
    return rows @ rows.T, ["a"] * each + ["b"] * each


@pytest.mark.parametrize("cosine", [-0.7, 0.0, 0.5])
def test_a_planted_cosine_is_recovered_under_noise_where_the_plain_one_collapses(cosine):
    debiased, plain = [], []
    for seed in range(60):
        found = cosines(*tasks_at(cosine, noise=3.0, seed=seed), min_snr=0)
        debiased.append(float(found.debiased[0, 1]))
        plain.append(float(found.plain[0, 1]))
    spread = torch.tensor(debiased).std() / 60**0.5
    assert abs(sum(debiased) / 60 - cosine) < 4 * float(spread) + 0.02
    if cosine:
        assert abs(sum(plain) / 60) < 0.75 * abs(cosine)


def test_signal_noise_and_noise_scale_are_those_that_were_planted():
    found = [signal(tasks_at(0.0, noise=2.0, seed=seed)[0][:16, :16]) for seed in range(200)]
    for name, true in (("squared_mean", 1.0), ("variance", 4.0)):
        values = torch.tensor([getattr(one, name) for one in found])
        assert abs(float(values.mean()) - true) < 4 * float(values.std()) / 200**0.5, name
    kernel, _ = tasks_at(0.0, noise=2.0)
    one = signal(kernel[:16, :16])
    assert one.noise_scale == pytest.approx(one.variance / one.squared_mean)
    assert one.snr == pytest.approx(16 / one.noise_scale)


def test_a_cosine_of_noise_is_not_given():
    kernel, tasks = tasks_at(0.5, noise=60.0)
    found = cosines(kernel, tasks)
    assert math.isnan(float(found.debiased[0, 1]))
    assert math.isnan(float(found.magnitude[0, 1]))
    assert min(one.snr for one in found.signals) < 1


def test_cosines_do_not_depend_on_the_order_of_entries_or_the_scale():
    kernel, tasks = tasks_at(0.5, noise=1.0)
    first = cosines(kernel, tasks)
    order = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    shuffled = [tasks[index] for index in order]
    second = cosines(kernel[order][:, order] * 7, shuffled)
    swap = [second.tasks.index(name) for name in first.tasks]
    assert torch.allclose(second.debiased[swap][:, swap], first.debiased)
    assert torch.allclose(second.magnitude[swap][:, swap], first.magnitude)


def test_magnitudes_are_compared_as_planted():
    kernel, tasks = tasks_at(0.3, noise=0.1)
    scale = torch.tensor([1.0] * 16 + [3.0] * 16, dtype=torch.float64)
    found = cosines(kernel * scale.outer(scale), tasks)
    assert float(found.magnitude[0, 1]) == pytest.approx(2 * 3 / (1 + 9), rel=0.02)


def test_planted_conflict_stands_out_from_the_null_and_noise_does_not():
    against = conflict(*tasks_at(-0.8, noise=1.0), "a", "b", batch=4)
    assert against.rate > 0.95
    assert against.rate > against.null_high
    assert against.p < 0.02
    noise = conflict(*tasks_at(0.0, noise=1e6), "a", "b", batch=4)
    assert noise.rate == pytest.approx(0.5, abs=0.2)  # a half, and not nothing
    assert noise.null_low <= noise.rate <= noise.null_high
    along = conflict(*tasks_at(0.9, noise=0.5), "a", "b", batch=4)
    assert along.rate == 0
    assert conflict(*tasks_at(0.0, noise=1.0), "a", "b") == conflict(*tasks_at(0.0, noise=1.0), "a", "b")


def test_p_values_under_the_null_are_not_small_too_often():
    """Both tasks draw from one distribution."""
    found = []
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(16, 30, generator=generator, dtype=torch.float64)
        tasks = ["a"] * 8 + ["b"] * 8
        found.append(conflict(rows @ rows.T, tasks, "a", "b", batch=2, splits=5, permutations=39).p)
    assert sum(p <= 0.1 for p in found) <= 14  # 6 expected; above 14 once in a thousand


def test_too_few_entries_are_refused():
    kernel, tasks = tasks_at(0.0, noise=1.0, each=4)
    with pytest.raises(UserError, match="'a' has fewer than 8 entries"):
        conflict(kernel, tasks, "a", "b")
    with pytest.raises(UserError, match="task 'c' has fewer"):
        conflict(kernel, tasks, "a", "c", batch=2)
    with pytest.raises(UserError, match="2 entries of a task"):
        cosines(kernel[:5, :5], tasks[:5])
    with pytest.raises(UserError, match="7 tasks for 8 entries"):
        cosines(kernel, tasks[:7])
