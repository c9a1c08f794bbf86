"""Gram matrices of entries' gradients against a loop over batches of one and against torchjd, in all
families."""

import pytest
import torch
from torchjd.autogram import Engine

from data_recipes.errors import UserError
from model_adapters.registry import FAMILIES, load_adapter
from taco_probe.dynamics.forms import Adam, Factor, Gauge, adam_moments
from taco_probe.dynamics.gram import measure, sweeps_for
from taco_probe.dynamics.lora import Group, by_third, find
from taco_probe.dynamics.losses import EntryLosses, image_rows
from taco_probe.dynamics.spectrum import spectrum
from tests.taco_probe.dynamics.conftest import batches, encode, loop, with_lora

MEAN = EntryLosses("token_mean")


def near(ours, theirs, tolerance=1e-5):
    """By the largest entry, as spectra see it."""
    off = float((ours - theirs).abs().max() / theirs.abs().max())
    assert off < tolerance, off


def same_spectrum(ours, theirs):
    first, second = spectrum(ours), spectrum(theirs)
    assert first.entropy == pytest.approx(second.entropy, rel=1e-5)
    assert first.dominance == pytest.approx(second.dominance, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_gram_entropy_and_dominance_are_those_of_a_loop_and_of_torchjd(flavour_folder, family):
    adapter = load_adapter(str(flavour_folder(family)))
    model, features = with_lora(adapter), encode(adapter, 5)
    assert len({len(feature["input_ids"]) for feature in features}) > 1
    rows = loop(model, features, adapter, MEAN)
    expected = rows @ rows.T
    for size in (5, 2):  # one batch; several, the last of another size
        ours = measure(model, batches(adapter, features, size), MEAN).pooled()
        near(ours, expected)
        same_spectrum(ours, expected)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    for size in (5, 2):
        near(measure(model, batches(adapter, features, size), MEAN).pooled(), expected)
    model.gradient_checkpointing_disable()
    model.eval()
    (whole,) = batches(adapter, features, 5)
    engine = Engine(model.get_base_model().model.language_model, batch_dim=None)
    theirs = engine.compute_gramian(MEAN(model, whole)).double()
    near(ours, theirs)
    same_spectrum(ours, theirs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_stays_on_while_dropout_is_off(llava, reentrant, monkeypatch):
    """And the model comes back as it was: modes, gradients, what trains."""
    model, features = with_lora(llava), encode(llava, 3)
    expected = measure(model, batches(llava, features, 3), MEAN).pooled()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    model.train()
    layer = next(m for name, m in model.named_modules() if name.endswith("language_model.layers.0"))
    ran, checkpointed = [], layer._gradient_checkpointing_func
    monkeypatch.setattr(
        layer, "_gradient_checkpointing_func", lambda *a, **k: ran.append(1) or checkpointed(*a, **k)
    )
    weight = find(model).modules[0].a.weight
    weight.grad = torch.full_like(weight, 7.0)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    near(measure(model, batches(llava, features, 3), MEAN).pooled(), expected)
    assert ran
    assert all(module.training for module in model.modules())
    assert bool((weight.grad == 7).all())
    assert trained == [name for name, p in model.named_parameters() if p.requires_grad]


def test_reentrant_checkpointing_of_inputs_without_gradient_is_an_error(llava):
    model, features = with_lora(llava), encode(llava, 2)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.disable_input_require_grads()  # transformers switches it on, where it knows of the adapter
    with pytest.raises(UserError, match=r"LoRA module .*_proj: .*reentrant.*enable_input_require_grads"):
        measure(model, batches(llava, features, 2), MEAN)


def test_groups_add_up_and_sweeps_and_sketches_see_the_same_entries(llava):
    model, features = with_lora(llava), encode(llava, 5)
    rows = loop(model, features, llava, MEAN)
    several = batches(llava, features, 2)
    found = measure(model, several, MEAN)
    assert {group for _, group in found.kernels} == {
        Group(layer, kind) for layer in (0, 1) for kind in ("attention", "mlp")
    }
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    mlp = torch.cat([torch.full((size,), "mlp" in name) for name, size in zip(names, sizes, strict=True)])
    near(found.pooled(where=lambda group: group.kind == "mlp"), rows[:, mlp] @ rows[:, mlp].T)
    swept = measure(model, several, MEAN, sweeps=3)
    near(swept.pooled(), rows @ rows.T)
    assert torch.equal(swept.losses, found.losses)
    thirds = measure(model, several, MEAN, groups=by_third(find(model).modules))
    assert {group.layer for _, group in thirds.kernels} == {"early", "middle"}  # of two layers
    stored = sum(sizes) * 5 * 4
    assert (sweeps_for(model, 5, stored), sweeps_for(model, 5, stored // 2)) == (1, 2)


def test_a_sketch_is_as_far_off_as_it_says(llava):
    model, features = with_lora(llava), encode(llava, 12)
    exact = measure(model, batches(llava, features, 4), MEAN)
    assert (exact.exact, exact.error()) == (True, 0.0)
    length = exact.pooled().diagonal().sqrt()
    for width in (64, 1024):
        off, said = [], []
        for seed in range(6):
            found = measure(model, batches(llava, features, 5), MEAN, sketch=width, seed=seed)
            away = ((found.pooled() - exact.pooled()) / length.outer(length)).fill_diagonal_(0)
            off.append(float(away.square().sum() / (12 * 11)))
            said.append(found.error() ** 2)
            assert not found.exact
        assert 0.5 < (sum(said) / sum(off)) ** 0.5 < 2
    assert sum(off) / 6 < 0.1**2


def test_a_bfloat16_base_is_measured_within_its_rounding(llava):
    features = encode(llava, 3)
    model = with_lora(llava, dtype=torch.bfloat16)
    for module in find(model).modules:  # as peft makes them
        for layer in (module.a, module.b):
            layer.weight.data = layer.weight.data.float()
    rows = loop(model, features, llava, MEAN)
    near(measure(model, batches(llava, features, 2), MEAN).pooled(), rows @ rows.T, 0.1)


def test_autocast_inside_the_model_is_measured_within_its_rounding(llava, monkeypatch):
    """As accelerate does it for --bf16: around forward, where nobody outside sees it."""
    features, model = encode(llava, 3), with_lora(llava)
    plain = measure(model, batches(llava, features, 2), MEAN).pooled()
    monkeypatch.setattr(model, "forward", torch.autocast("cpu", torch.bfloat16)(model.forward))
    rows = loop(model, features, llava, MEAN)
    ours = measure(model, batches(llava, features, 2), MEAN).pooled()
    near(ours, rows @ rows.T, 0.1)
    near(ours, plain, 0.1)
    assert not torch.allclose(ours, plain, rtol=1e-4)


@pytest.mark.parametrize("reduction", ["token_mean", "token_sum"])
def test_losses_are_the_models_own(llava, reduction):
    model, features = with_lora(llava).eval(), encode(llava, 3)
    (batch,) = batches(llava, features, 3)
    ours = EntryLosses(reduction)(model, batch)
    for number, feature in enumerate(features):
        (one,) = batches(llava, [feature], 1)
        tokens = int((feature["labels"] != -100).sum())
        expected = model(**one).loss * (tokens if reduction == "token_sum" else 1)
        assert float(ours[number]) == pytest.approx(float(expected), rel=1e-5)


def test_drawn_gradients_have_the_length_that_the_models_own_distribution_gives(llava):
    """E |g|^2 = sum_t sum_v p_tv |grad log p_tv|^2, by a backward pass for each word v at each token t: under
    teacher forcing tokens are drawn apart, and the mean gradient of each is 0. Between entries the mean
    product is 0."""
    model = with_lora(llava).eval()
    features = [feature for feature in encode(llava, 2) if (feature["labels"] != -100).sum() < 5] * 2
    (one,) = batches(llava, features[:1], 1)
    weights = [p for p in model.parameters() if p.requires_grad]
    places = (one["labels"][0, 1:] != -100).nonzero()[:, 0]
    fed = {key: value for key, value in one.items() if key != "labels"}
    logs = model(**fed).logits[0, places].log_softmax(-1)
    expected = 0.0
    for token in logs:
        for word in token:
            grads = torch.autograd.grad(word, weights, retain_graph=True)
            expected += float(word.exp()) * sum(float(grad.double().square().sum()) for grad in grads)
    pair = batches(llava, features, 2)
    found = torch.stack(
        [
            measure(model, pair, EntryLosses("token_sum", fisher="true", seed=seed)).pooled()
            for seed in range(60)
        ]
    )
    own, across = found.diagonal(dim1=1, dim2=2).flatten(), found[:, 0, 1]
    assert abs(float(own.mean()) - expected) < 4 * float(own.std()) / len(own) ** 0.5 < expected / 3
    assert abs(float(across.mean())) < 4 * float(across.std()) / len(across) ** 0.5


def test_drawn_targets_have_the_models_probabilities_and_do_not_depend_on_the_batch(llava):
    model, features = with_lora(llava).eval(), encode(llava, 2)
    drawn = EntryLosses("token_sum", fisher="true", seed=3)
    assert drawn.label == "true Fisher, token_sum, draw 3"
    first = measure(model, batches(llava, features, 2), drawn)
    near(measure(model, batches(llava, features, 1), drawn).pooled(), first.pooled())
    other = measure(model, batches(llava, features, 2), EntryLosses("token_sum", fisher="true", seed=4))
    assert not torch.allclose(other.losses, first.losses)
    # E over drawn targets of -log p is the entropy of the model's distribution, and the score has mean 0.
    (batch,) = batches(llava, features[:1], 1)
    with torch.no_grad():
        logits = model(**batch).logits[0, :-1][batch["labels"][0, 1:] != -100].double()
        entropy = float(torch.distributions.Categorical(logits=logits).entropy().sum())
        values = [
            float(
                EntryLosses("token_sum", fisher="true", seed=s)(model, batch | {"number": torch.tensor([0])})
            )
            for s in range(300)
        ]
    spread = torch.tensor(values).std() / 300**0.5
    assert abs(sum(values) / 300 - entropy) < 4 * float(spread)


def test_the_gauge_form_stays_and_the_factor_form_moves_under_a_change_of_gauge(llava):
    model, features = with_lora(llava), encode(llava, 5)
    several, forms = batches(llava, features, 2), (Factor(), Gauge())
    before = measure(model, several, MEAN, forms=forms)
    torch.manual_seed(5)
    for module in find(model).modules:
        turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
        mix = turn * torch.tensor([0.5, 0.8, 1.5, 2.0], dtype=torch.float64)
        module.a.weight.data = (mix @ module.a.weight.double()).float()
        module.b.weight.data = (module.b.weight.double() @ torch.linalg.inv(mix)).float()
    after = measure(model, several, MEAN, forms=forms)
    near(after.pooled("gauge"), before.pooled("gauge"))
    factor = [one.pooled("factor") for one in (before, after)]
    assert float((factor[0] - factor[1]).abs().max() / factor[0].abs().max()) > 0.1


@pytest.mark.parametrize("scale_b", [0.05, 0.0])
def test_the_gauge_form_is_the_full_gradient_projected_on_the_tangent_space(llava, scale_b):
    """Against the gradient of the full weight, projected by explicit p x p and d x d projectors."""
    model, features = with_lora(llava, dtype=torch.float64, scale_b=scale_b), encode(llava, 4)
    for module in find(model).modules:  # B of rank 3: inverses must be pseudo-inverses
        module.b.weight.data[:, 3] = module.b.weight[:, 0]
    found = measure(model, batches(llava, features, 2), MEAN, forms=(Gauge(),))
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "lora_A")}
    bases = {name: layer.base_layer.weight.requires_grad_(True) for name, layer in layers.items()}
    full = loop(model, features, llava, MEAN, prefix="base_layer.weight")
    expected, start = torch.zeros(4, 4, dtype=torch.float64), 0
    for module in find(model, leave_out=r".*base_layer.*").modules:
        base = bases[module.name]
        grads = full[:, start : start + base.numel()].view(4, *base.shape)
        start += base.numel()
        a, b = module.a.weight.detach(), module.b.weight.detach()
        onto_b, onto_a = b @ torch.linalg.pinv(b, rtol=1e-9), torch.linalg.pinv(a) @ a
        tangent = onto_b @ grads + grads @ onto_a - onto_b @ grads @ onto_a
        expected += tangent.flatten(1) @ tangent.flatten(1).T
    near(found.pooled("gauge"), expected, 1e-9)
    assert bool(found.b_is_zero) == (scale_b == 0)


@pytest.mark.parametrize(("update", "power"), [(False, -0.5), (True, -1.0)])
def test_the_adam_form_scales_each_coordinate(llava, update, power):
    model, features = with_lora(llava), encode(llava, 4)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=0.0, betas=(0.9, 0.95))
    (whole,) = batches(llava, features, 4)
    for _ in range(2):
        MEAN(model.eval(), whole).sum().backward()
        optimizer.step()
    moments = adam_moments(optimizer)
    rows = loop(model, features, llava, MEAN)
    # With learning rate 0, both steps see the same gradient: its square is the bias-corrected moment, which
    # the test takes from the gradients themselves.
    mean = torch.cat([((p.grad / 2).double()).flatten() for p in weights])
    first, both = mean.square(), (2 * mean).square()
    corrected = (0.05 * 0.95 * first + 0.05 * both) / (1 - 0.95**2)
    scaled = rows * (corrected.sqrt() + 1e-8).pow(power)
    form = Adam(moments, update=update)
    found = measure(model, batches(llava, features, 2), MEAN, forms=(form,))
    near(found.pooled(form.name), scaled @ scaled.T, 1e-3 if update else 1e-4)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl"])
def test_adapters_of_the_projector_are_measured_by_image(flavour_folder, family):
    adapter = load_adapter(str(flavour_folder(family)))
    targets = f"(?:{adapter.lora_targets})|(?:{adapter.projector})"
    model, features = with_lora(adapter, target_modules=targets), encode(adapter, 4)
    rows = loop(model, features, adapter, MEAN)
    if family == "qwen3_vl":
        with pytest.raises(UserError, match=r"deepstack_merger_list.1.linear_fc1 is exactly 0"):
            measure(model, batches(adapter, features, 4), MEAN, image_rows=image_rows(adapter.image_id))
    counts = image_rows(adapter.image_id)
    for size in (4, 3):
        # The last of Qwen3-VL's deepstack mergers adds to image tokens after the tiny flavour's last layer,
        # where no loss depends on them.
        found = measure(
            model,
            batches(adapter, features, size),
            MEAN,
            image_rows=counts,
            leave_out=r".*merger_list\.1\..*",
        )
        near(found.pooled(), rows @ rows.T)
    assert Group("", "projector") in {group for _, group in found.kernels}
