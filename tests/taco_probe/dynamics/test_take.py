"""A measurement as training takes it: every family, whatever the batches, and the model left alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_recipes.errors import UserError
from data_recipes.store import read_mixture
from model_adapters.registry import FAMILIES, load_adapter
from taco_probe.dynamics import batches, measurement
from taco_probe.dynamics.affinity import affinity, shared_look
from taco_probe.dynamics.batches import Encoded
from taco_probe.dynamics.losses import EntryLosses
from taco_probe.dynamics.measurement import Part
from taco_probe.dynamics.probe import choose
from taco_probe.dynamics.take import Plan, Probed
from tests.harness.conftest import make_mixture
from tests.taco_probe.dynamics.conftest import with_lora


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed")
    make_mixture(folder, images=10, entries_each=lambda image: 7)
    return folder


def probed(folder, adapter, number=14, **plan):
    probe = choose(read_mixture(folder), number, split="train")
    return Probed(probe, adapter, folder, Plan(**plan), device=torch.device("cpu"))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_measured_in_all_kinds_and_reads_back(folder, flavour_folder, tmp_path, name):
    adapter = load_adapter(str(flavour_folder(name)))
    model = with_lora(adapter)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = probed(folder, adapter, affinity=True).take(model, step=3, facts={"max_steps": 9})
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert found.kinds() == [(f, form) for f in ("empirical", "true") for form in ("gauge", "factor")]
    assert set(found.facts["affinity"]["changes"]) == set(found.tasks)
    assert found.facts["affinity"]["before"] == pytest.approx(found.facts["losses"]["empirical"], rel=1e-4)
    measurement.write(found, tmp_path)
    again = measurement.read(tmp_path, 3)
    assert again.gram("true", "factor").shape == (14, 14)
    assert len(measurement.read_lora(tmp_path, 3)) == 2 * len(again.facts["lora_scale"])


@pytest.mark.parametrize("name", FAMILIES)
def test_entries_of_an_image_in_one_sequence_have_the_gradients_they_have_alone(
    folder, flavour_folder, name, monkeypatch
):
    """With checkpointing and without; 20 entries of 8 images, empirical and true, losses too."""
    adapter = load_adapter(str(flavour_folder(name)))
    model = with_lora(adapter)
    taken = probed(folder, adapter, 20)
    alone = taken.take(model, step=1)
    monkeypatch.setattr(batches, "SHARED_TOKENS", 1)
    monkeypatch.setattr(batches, "SHARED_COST", 9)
    parts = taken._encoded.for_gradients()
    assert sum(len(part.numbers) for part in parts if part.shared) >= 10
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        shared = taken.take(model, step=1)
        for fisher in ("empirical", "true"):
            one, other = (found.facts["losses"][fisher] for found in (alone, shared))
            assert one == pytest.approx(other, abs=1e-5)
            for form in ("gauge", "factor"):
                one, other = alone.gram(fisher, form), shared.gram(fisher, form)
                assert np.abs(one - other).max() < 1e-5 * one.max()


def test_rows_are_the_probes_whatever_the_batches(folder, llava):
    model = with_lora(llava)
    whole, single = (
        probed(folder, llava, fishers=("empirical",), batch_tokens=tokens).take(model, step=1)
        for tokens in (100_000, 1)
    )
    assert whole.facts["entries"] == single.facts["entries"]
    assert whole.facts["losses"]["empirical"] == pytest.approx(single.facts["losses"]["empirical"], abs=1e-5)
    for form in ("gauge", "factor"):
        one, other = whole.gram("empirical", form), single.gram("empirical", form)
        assert np.allclose(one, other, rtol=1e-3, atol=1e-5 * one.max())


def test_looking_at_entries_that_share_their_image_changes_no_affinity(folder, llava):
    model, losses = with_lora(llava), EntryLosses()
    probe = choose(read_mixture(folder), 28, split="train")
    encoded = Encoded(probe.pairs, llava, folder, device=torch.device("cpu"))
    assert sum(len(groups) for groups in encoded.shared_parts(range(28))) == 8
    apart, shared = (
        affinity(model, encoded, losses, probe.tasks, probe.patients, look=look)
        for look in (None, shared_look(model, encoded, losses))
    )
    assert apart.before == pytest.approx(shared.before, abs=1e-5)
    for task, changes in apart.changes.items():
        assert max(map(abs, changes)) > 1e-3
        assert changes == pytest.approx(shared.changes[task], abs=1e-5)


def test_a_template_with_the_question_before_the_image_is_looked_at_apart(folder, llava, monkeypatch):
    model, losses = with_lora(llava).eval(), EntryLosses()
    encoded = Encoded(
        choose(read_mixture(folder), 14, split="train").pairs, llava, folder, device=torch.device("cpu")
    )
    shared = dict(shared_look(model, encoded, losses)(range(14)))

    def cannot(group, *, first=0):
        raise UserError("the chat template writes the question before the image")

    monkeypatch.setattr(llava, "share", cannot)
    apart = dict(shared_look(model, encoded, losses)(range(14)))
    assert apart == pytest.approx(shared, abs=1e-5)


def test_less_disk_gives_the_same_and_a_sketch_what_it_says(folder, llava, tmp_path):
    model = with_lora(llava)
    exact, little, sketched = (
        probed(folder, llava, 28, fishers=("empirical",), scratch=tmp_path, **plan).take(model, step=1)
        for plan in ({}, {"disk": 100_000}, {"sketch": 4096, "batch_tokens": 400})
    )
    whole = exact.gram("empirical", "gauge")
    assert np.allclose(little.gram("empirical", "gauge"), whole, rtol=1e-4, atol=1e-6 * whole.max())
    assert (exact.facts["exact"], exact.facts["cosine_error"]["empirical"]["gauge"]) == (True, 0)
    assert (sketched.facts["exact"], little.facts["exact"]) == (False, True)
    length = np.sqrt(np.diag(whole))
    off = (sketched.gram("empirical", "gauge") - whole) / np.outer(length, length)
    off = off[~np.eye(28, dtype=bool)]  # rows in the probe's order, or all would be off
    said = sketched.facts["cosine_error"]["empirical"]["gauge"]
    assert 0.5 < np.sqrt(np.mean(off**2)) / said < 2
    assert 0 < said < 0.05


def test_layers_are_summed_into_thirds(folder, llava):
    """The flavour has two layers: of three thirds, the early and the middle one."""
    found = probed(folder, llava, fishers=("empirical",)).take(with_lora(llava), step=1)
    places = {(part.third, part.kind) for part in found.grams}
    assert places == {(third, kind) for third in ("early", "middle") for kind in ("attention", "mlp")}
    parts = [
        found.gram("empirical", "factor", lambda p, t=third: p.third == t) for third in ("early", "middle")
    ]
    assert np.allclose(sum(parts), found.gram("empirical", "factor"))
    assert Part("empirical", "factor", "early", "mlp") in found.grams


def test_an_optimizer_that_has_stepped_adds_adams_form_and_is_left_alone(folder, llava):
    model = with_lora(llava)
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    taken = probed(folder, llava, fishers=("empirical",), affinity=True)
    assert taken.take(model, step=0, optimizer=optimizer).facts["affinity"]["direction"] == "gradient"
    for weight in weights:
        weight.grad = torch.full_like(weight, 0.1)
    optimizer.step()
    before = [optimizer.state[weight]["exp_avg_sq"].clone() for weight in weights]
    found = taken.take(model, step=1, optimizer=optimizer)
    assert ("empirical", "adam") in found.kinds()
    assert found.facts["affinity"]["direction"] == "adam"
    assert all(
        torch.equal(optimizer.state[w]["exp_avg_sq"], kept) for w, kept in zip(weights, before, strict=True)
    )
    # Equal second moments make Adam's metric the plain one, over sqrt(v) + eps = 0.1.
    assert np.allclose(found.gram("empirical", "adam"), found.gram("empirical", "factor") / 0.1, rtol=1e-3)


def test_an_entry_too_long_for_the_model_is_one_line(folder, llava):
    from taco_probe.dynamics.batches import Encoded

    pairs = choose(read_mixture(folder), 14, split="train").pairs
    with pytest.raises(UserError, match="a probe entry is too long"):
        Encoded(pairs, llava, folder, device=torch.device("cpu"), max_length=5)
