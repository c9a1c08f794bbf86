"""Where runs went, on adapters that are constructed."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from data_recipes.store import read_mixture
from taco_probe.dynamics import directions, measurement
from taco_probe.dynamics.probe import choose
from taco_probe.dynamics.runs import read
from taco_probe.dynamics.take import Plan, Probed
from taco_probe.dynamics.updates import Update, cosine, random_cosine
from tests.harness.conftest import make_mixture
from tests.taco_probe.dynamics import fakes
from tests.taco_probe.dynamics.conftest import with_lora as small_lora


def with_lora(folder, lora_by_step, **facts):
    """A run whose weights are these; rank, and so the number of modules, is free."""
    fakes.run(folder, steps=())
    for step, lora in lora_by_step.items():
        made = fakes.measured(step, **facts)
        scales = {name.removesuffix(".lora_A.weight"): 2.0 for name in lora if name.endswith("lora_A.weight")}
        again = measurement.Measurement(dict(made.facts) | {"lora_scale": scales}, made.grams, lora)
        measurement.write(again, folder / measurement.FOLDER)
    return folder


def draw(seed, rank=4, outputs=10, inputs=12, modules=fakes.MODULES):
    rng = np.random.default_rng(seed)
    found = {}
    for name in modules:
        found[f"{name}.lora_A.weight"] = rng.normal(size=(rank, inputs)).astype(np.float32)
        found[f"{name}.lora_B.weight"] = rng.normal(size=(outputs, rank)).astype(np.float32)
    return found


def turned(lora, seed=9):
    """The same update in another gauge: (R A, B R^-1)."""
    mix = np.random.default_rng(seed).normal(size=(4, 4)) + 3 * np.eye(4)
    return {
        name: (mix @ value if "lora_A" in name else value @ np.linalg.inv(mix)).astype(np.float32)
        for name, value in lora.items()
    }


def pair_of(tmp_path, first, second):
    runs = read([with_lora(tmp_path / "a", {5: first}), with_lora(tmp_path / "b", {5: second})])
    found = directions.between(runs, {"a": 5, "b": 5})
    json.dumps(found, allow_nan=False)
    return found["pairs"]


@pytest.mark.parametrize("rslora", [False, True])
def test_a_measured_update_is_the_one_that_peft_would_merge(llava, tmp_path, rslora):
    model = small_lora(llava, use_rslora=rslora)
    make_mixture(tmp_path / "mixture", images=4, entries_each=lambda image: 7)
    probe = choose(read_mixture(tmp_path / "mixture"), 14, split="train")
    plan = Plan(fishers=("empirical",))
    taken = Probed(probe, llava, tmp_path / "mixture", plan, device=torch.device("cpu"))
    fakes.run(tmp_path / "run", steps=())
    measurement.write(taken.take(model, step=5), tmp_path / "run" / measurement.FOLDER)
    (run,) = read([tmp_path / "run"])
    found = directions.at(run, 5)
    assert len(found) == 14
    for name, update in found.items():
        delta = model.get_submodule(name).get_delta_weight("default")
        assert torch.allclose(update.scale * update.b @ update.a, delta, atol=1e-6)


def test_the_same_update_in_another_gauge_is_the_same_direction(tmp_path):
    lora = draw(0)
    (pair,) = pair_of(tmp_path, lora, turned(lora))
    assert pair["cosine"] == pytest.approx(1, abs=1e-5)
    for side in ("column", "row"):
        assert pair[f"{side}_overlap"] == pytest.approx(1, abs=1e-5)
        assert pair[f"{side}_angles"] == pytest.approx([0] * 4, abs=0.1)
    assert pair["energy"] == pytest.approx(1, abs=1e-5)


def test_a_rank_below_the_directions_looked_at_is_no_nan(tmp_path):
    (pair,) = pair_of(tmp_path, draw(0, rank=1), draw(1, rank=2))
    assert len(pair["row_angles"]) == len(pair["column_angles"]) == 1


def test_updates_of_different_shapes_or_modules_are_not_compared(tmp_path):
    (pair,) = pair_of(tmp_path / "1", draw(0), draw(1, inputs=9))
    assert pair["cosine"] is None
    (pair,) = pair_of(tmp_path / "2", draw(0), draw(1, modules=("other",)))
    assert pair["cosine"] is None
    halves = [draw(0), draw(1)]
    for half, still in zip(halves, fakes.MODULES, strict=True):
        half[f"{still}.lora_B.weight"] *= 0
    (pair,) = pair_of(tmp_path / "3", *halves)
    assert pair["cosine"] is None


def test_what_has_not_moved_has_a_length_of_zero_and_no_direction(tmp_path):
    still = {name: value * ("lora_A" in name) for name, value in draw(0).items()}
    runs = read([with_lora(tmp_path / "a", {0: still, 5: draw(0)}), with_lora(tmp_path / "b", {5: still})])
    found = directions.between(runs, {"a": 5, "b": 5})
    assert (found["pairs"], found["lengths"]["b"]) == ([], 0)


def test_the_way_of_a_run_is_that_of_the_whole_matrices(tmp_path):
    lora = {0: draw(0), 5: draw(1), 9: draw(2)}
    (run,) = read([with_lora(tmp_path / "a", lora)])
    w = {
        step: np.concatenate(
            [2 * (one[f"{m}.lora_B.weight"] @ one[f"{m}.lora_A.weight"]).ravel() for m in fakes.MODULES]
        )
        for step, one in lora.items()
    }

    def cos(x, y):
        return x @ y / np.linalg.norm(x) / np.linalg.norm(y)

    first, second = directions.along(run)
    assert (first["step"], first["with_before"]) == (5, None)
    assert first["with_end"] == pytest.approx(cos(w[5] - w[0], w[9]), abs=1e-5)
    assert second["with_before"] == pytest.approx(cos(w[9] - w[5], w[5] - w[0]), abs=1e-5)
    assert second["length"] == pytest.approx(np.linalg.norm(w[9]), rel=1e-5)
    whole = directions.by_module(run, 9)
    assert sum(one**2 for one in whole.values()) == pytest.approx(np.linalg.norm(w[9]) ** 2, rel=1e-5)


def test_chance_is_the_spread_of_cosines_of_updates_turned_at_random():
    shapes = {"wide": (6, 40), "small": (5, 4)}
    drawn = torch.Generator().manual_seed(0)

    def update():
        return {
            name: Update(
                torch.randn(2, d, generator=drawn), torch.randn(p, 2, generator=drawn), 1.0 + (p == 5)
            )
            for name, (p, d) in shapes.items()
        }

    first, second = update(), update()
    found = []
    for _ in range(1500):
        rotated = {}
        for name, one in second.items():
            q, r = (torch.linalg.qr(torch.randn(k, k, generator=drawn))[0] for k in shapes[name])
            rotated[name] = Update(one.a @ r, q @ one.b, one.scale)
        found.append(cosine(first, rotated))
    assert random_cosine(first, second) == pytest.approx(float(np.std(found)), rel=0.06)
    assert np.mean(found) == pytest.approx(0, abs=0.01)
