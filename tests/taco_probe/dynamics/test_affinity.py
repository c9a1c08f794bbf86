"""One-step affinity on a model whose losses are quadratic, against the steps by hand; and over runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from data_recipes.errors import UserError
from taco_probe.dynamics import tasks
from taco_probe.dynamics.affinity import STEP, affinity, halves
from taco_probe.dynamics.measurement import Measurement

TASKS = ["a", "a", "b", "b", "b", "a", "b", "a"]
PATIENTS = ["p", "q", "p", "q", "r", "r", "s", "s"]


class Bowl(torch.nn.Module):
    """Entry i costs |w - t_i|^2 / 2 + 1, with dropout that must be off."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w = torch.nn.Parameter(torch.randn(3, generator=generator, dtype=torch.float64))
        self.targets = torch.randn(len(TASKS), 3, generator=generator, dtype=torch.float64)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, numbers):
        return (self.drop(self.w) - self.targets[numbers]).square().sum(1) / 2 + 1


class ByTwo:
    """Entries in batches of two."""

    def parts(self, numbers):
        numbers = list(numbers)
        return [numbers[at : at + 2] for at in range(0, len(numbers), 2)]

    def batch(self, part):
        return {"numbers": torch.tensor(part)}


def tried(model, **more):
    return affinity(model, ByTwo(), lambda model, batch: model(batch["numbers"]), TASKS, PATIENTS, **more)


@pytest.mark.parametrize("adam", [False, True])
def test_each_step_is_that_of_the_other_half_made_by_hand(adam):
    model = Bowl().train()
    second = torch.tensor([4.0, 0.25, 1.0], dtype=torch.float64)
    found = tried(model, moments={model.w: second} if adam else None)
    w, targets, side = model.w.detach().numpy(), model.targets.numpy(), {}
    for task in ("a", "b"):
        side[task] = halves(PATIENTS, [p for p, one in zip(PATIENTS, TASKS, strict=True) if one == task])

    def loss(at, n):
        return float(((at - targets[n]) ** 2).sum() / 2 + 1)

    assert found.before == pytest.approx([loss(w, n) for n in range(8)])
    for task in ("a", "b"):
        for n in range(8):
            steering = [m for m in range(8) if TASKS[m] == task and side[task][m] != side[task][n]]
            grad = np.mean([w - targets[m] for m in steering], axis=0)
            step = grad / (np.sqrt(second.numpy()) + 1e-8) if adam else grad
            eta = STEP * np.mean([loss(w, m) for m in steering]) / (grad @ step)
            assert found.changes[task][n] == pytest.approx(loss(w - eta * step, n) - loss(w, n), abs=1e-12)


def test_the_model_is_left_bit_for_bit_as_it_was():
    model = Bowl().train()
    before = model.w.detach().clone()
    tried(model)
    assert torch.equal(model.w, before)
    assert model.w.grad is None
    assert model.drop.training
    with pytest.raises(RuntimeError, match="stop"):  # a failure in the middle too
        affinity(model, ByTwo(), failing(), TASKS, PATIENTS)
    assert torch.equal(model.w, before)


def failing():
    calls = []

    def losses(model, batch):
        calls.append(1)
        if len(calls) == 8:  # after the first step was made
            raise RuntimeError("stop")
        return model(batch["numbers"])

    return losses


def test_halves_share_no_patient_and_do_not_depend_on_the_order():
    patients = [f"p{n % 11}" for n in range(60)]
    side = halves(patients)
    of = {}
    for patient, one in zip(patients, side, strict=True):
        assert of.setdefault(patient, one) == one
    assert sorted((list(of.values()).count(0), list(of.values()).count(1))) == [5, 6]
    assert halves(patients[::-1]) == side[::-1]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=30), st.data())
def test_the_patients_of_a_task_are_on_both_sides(patients, data):
    names = [f"p{patient}" for patient in patients]
    asked = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    side = dict(zip(names, halves(names, asked), strict=True))
    ones = sum(side[name] for name in asked)
    assert len(asked) - ones - ones in (0, 1)


def test_a_task_of_one_patient_or_without_gradient_is_one_line():
    model = Bowl()
    with pytest.raises(UserError, match="task b has probe entries of one patient only"):
        affinity(model, ByTwo(), lambda m, batch: m(batch["numbers"]), ["a", "a", "b"], ["p", "q", "p"])
    with pytest.raises(UserError, match="task a has no gradient"):
        affinity(model, ByTwo(), lambda m, batch: 0 * m(batch["numbers"]), TASKS, PATIENTS)


def made(changes, before, patients, names):
    kept = {"direction": "gradient", "before": before, "changes": changes}
    return Measurement({"step": 1, "tasks": names, "patients": patients, "affinity": kept}, {})


def test_affinities_are_ratios_of_sums_with_a_jackknife_over_patients():
    rng = np.random.default_rng(3)
    names, patients = ["a"] * 6 + ["b"] * 6, [f"p{n % 4}" for n in range(12)]
    before = rng.uniform(1, 3, 12)
    changes = {task: rng.normal(-0.1, 0.05, 12) for task in "ab"}
    one = made({task: row.tolist() for task, row in changes.items()}, before.tolist(), patients, names)
    found = tasks.affinities([one])
    assert found["tasks"] == ["a", "b"]
    p = {}
    for i, of in enumerate("ab"):
        for j, on in enumerate("ab"):
            rows = [n for n in range(12) if names[n] == on]

            def ratio(rows, of=of):
                return sum(changes[of][n] for n in rows) / sum(before[n] for n in rows)

            left = [ratio([n for n in rows if patients[n] != f"p{k}"]) for k in range(4)]
            error = np.sqrt(3 / 4 * sum((x - np.mean(left)) ** 2 for x in left))
            assert found["value"][i][j] == pytest.approx(ratio(rows))
            assert found["high"][i][j] - ratio(rows) == pytest.approx(stats.t.ppf(0.975, 3) * error)
            p[i, j] = 2 * stats.t.sf(abs(ratio(rows)) / error, 3)
    for kind, pairs in (("own", [(0, 0), (1, 1)]), ("others", [(0, 1), (1, 0)])):

        def average(skip, pairs=pairs):
            kept = [n for n in range(12) if patients[n] != skip]
            ratios = []
            for i, j in pairs:
                rows = [n for n in kept if names[n] == "ab"[j]]
                ratios.append(sum(changes["ab"[i]][n] for n in rows) / sum(before[n] for n in rows))
            return np.mean(ratios)

        left = [average(f"p{k}") for k in range(4)]
        error = np.sqrt(3 / 4 * sum((x - np.mean(left)) ** 2 for x in left))
        assert found[kind]["value"] == pytest.approx(average(None))
        assert found[kind]["high"] - found[kind]["value"] == pytest.approx(stats.t.ppf(0.975, 3) * error)
    low, high = sorted([p[0, 1], p[1, 0]])
    assert sorted([found["q"][0][1], found["q"][1][0]]) == pytest.approx([min(2 * low, high), high])
    assert found["q"][0][0] is None
    assert tasks.affinities([one, Measurement({"step": 1, "tasks": names}, {})]) is None
