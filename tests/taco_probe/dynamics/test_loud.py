"""What cannot be measured rightly is refused, by the name of the module."""

import re

import pytest
import torch
from torch import nn

from data_recipes.errors import UserError
from model_adapters.registry import load_adapter
from taco_probe.dynamics import hooks
from taco_probe.dynamics.forms import Adam
from taco_probe.dynamics.gram import measure
from taco_probe.dynamics.lora import find
from taco_probe.dynamics.losses import EntryLosses, image_rows
from tests.taco_probe.dynamics.conftest import batches, encode, loop, with_lora

MEAN = EntryLosses("token_mean")
Q0 = "base_model.model.model.language_model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def entries(llava):
    return batches(llava, encode(llava, 2), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "is DoRA"),
        ({"lora_bias": True, "target_modules": r".*vision_tower.*q_proj"}, r"has a bias in B \(lora_bias\)"),
        ({"alora_invocation_tokens": [1]}, "is the LoRA variant ALora"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens is a Embedding"),
        (
            {"modules_to_save": ["multi_modal_projector"]},
            "multi_modal_projector.* trains, but is no weight of",
        ),
        ({"bias": "all"}, r"\.bias trains, but is no weight of"),
        ({"trainable_token_indices": [3]}, "trainable_tokens.* trains, but is no weight of"),
    ],
)
def test_other_than_plain_lora_is_refused_by_name(llava, entries, options, message):
    model = with_lora(llava, lora_dropout=0.0, **{"task_type": "CAUSAL_LM"} | options)
    with pytest.raises(UserError, match=message):
        measure(model, entries, MEAN)


def test_a_bare_parameter_is_refused_by_name_and_left_out_on_request(flavour_folder):
    adapter = load_adapter(str(flavour_folder("gemma3")))
    bare = "model.multi_modal_projector.mm_input_projection_weight"
    model = with_lora(adapter, target_parameters=[bare], lora_dropout=0.0)
    some = batches(adapter, encode(adapter, 2), 2)
    with pytest.raises(UserError, match="multi_modal_projector is on a bare parameter"):
        measure(model, some, MEAN)
    found = measure(model, some, MEAN, leave_out=".*multi_modal_projector")
    assert len(found.left_out) == 2
    assert all("multi_modal_projector" in name for name in found.left_out)
    assert not any(group.kind == "projector" for _, group in found.kernels)


def test_scaling_by_the_root_of_the_rank_is_plain_lora(llava):
    model, features = with_lora(llava, use_rslora=True), encode(llava, 3)
    rows = loop(model, features, llava, MEAN)
    ours = measure(model, batches(llava, features, 3), MEAN).pooled()
    assert torch.allclose(ours, rows @ rows.T, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))
    assert find(model).modules[0].scale == 8 / 4**0.5


def test_merged_switched_off_and_missing_adapters_are_refused(llava, entries):
    model = with_lora(llava)
    model.merge_adapter()
    with pytest.raises(UserError, match="_proj is merged"):
        measure(model, entries, MEAN)
    model.unmerge_adapter()
    with model.disable_adapter(), pytest.raises(UserError, match="is switched off"):
        measure(model, entries, MEAN)
    with pytest.raises(UserError, match="no LoRA module"):
        measure(llava.load_model().requires_grad_(False), entries, MEAN)


def test_a_module_out_of_the_forward_pass_is_named(llava, entries):
    model = with_lora(llava)
    layer = model.get_submodule(Q0)
    layer.forward = layer.base_layer.forward
    with pytest.raises(UserError, match=f"1 of 14 LoRA modules got no gradient.*{re.escape(Q0)}"):
        measure(model, entries, MEAN)


def test_a_module_that_runs_twice_is_named(llava, entries):
    model = with_lora(llava)
    layer = model.get_submodule(Q0)
    once = layer.forward
    layer.forward = lambda x: (once(x) + once(x)) / 2
    with pytest.raises(UserError, match=f"{re.escape(Q0)} ran more than once"):
        measure(model, entries, MEAN)


def test_a_weight_that_is_used_elsewhere_too_does_not_add_up(llava, entries):
    model = with_lora(llava)
    weight = model.get_submodule(Q0).lora_B["default"].weight

    def losses(model, batch):
        return MEAN(model, batch) + weight.square().sum()

    with pytest.raises(UserError, match=f"gradients of B in LoRA module {re.escape(Q0)} do not add up"):
        measure(model, entries, losses)


def test_entries_swapped_in_one_hook_are_not_what_a_loop_gives(llava):
    """What the sum cannot see: the tests compare with a loop for this."""
    model, features = with_lora(llava), encode(llava, 3)
    rows = loop(model, features, llava, MEAN)
    whole, saw = batches(llava, features, 3), hooks.Pass.saw

    def swapped(self, module, part, x, dz):
        saw(self, module, part, *(one.flip(0) if module.name == Q0 else one for one in (x, dz)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hooks.Pass, "saw", swapped)
        ours = measure(model, whole, MEAN).pooled()
    assert not torch.allclose(ours, rows @ rows.T, rtol=1e-3)


def test_zero_and_infinite_gradients_are_named(llava, entries):
    model = with_lora(llava)
    with pytest.raises(UserError, match=r"gradient of . in LoRA module .* is exactly 0"):
        measure(model, entries, lambda model, batch: 0 * MEAN(model, batch))
    with pytest.raises(UserError, match=r"LoRA module .* not finite"):
        measure(model, entries, lambda model, batch: MEAN(model, batch) * float("inf"))
    for module in find(model).modules[:1]:
        nn.init.zeros_(module.a.weight)
        nn.init.zeros_(module.b.weight)
        with pytest.raises(UserError, match=f"A and B of LoRA module {re.escape(module.name)} are both 0"):
            measure(model, entries, MEAN)


def test_b_of_zero_is_the_start_of_training_and_is_said(llava, entries):
    model = with_lora(llava, scale_b=0)
    found = measure(model, entries, MEAN)
    assert set(found.b_is_zero) == {module.name for module in find(model).modules}
    assert float(found.pooled().diagonal().min()) > 0


def test_shared_sequences_are_refused(llava):
    feature = encode(llava, 1)[0]
    batch = llava.collate_shared([[feature, feature]])
    with pytest.raises(UserError, match="share a sequence"):
        measure(with_lora(llava), [batch], MEAN)


def test_rows_of_unknown_entries_are_refused(flavour_folder):
    adapter = load_adapter(str(flavour_folder("qwen2_vl")))
    model = with_lora(adapter, target_modules=f"(?:{adapter.lora_targets})|(?:{adapter.projector})")
    some = batches(adapter, encode(adapter, 2), 2)
    with pytest.raises(UserError, match=r"merger.* for 2 entries, so it is unknown which row is whose"):
        measure(model, some, MEAN)


def test_tiles_of_images_are_measured_one_entry_a_batch(flavour_folder):
    adapter = load_adapter(str(flavour_folder("llava_onevision")))
    model = with_lora(adapter, target_modules=f"(?:{adapter.lora_targets})|(?:{adapter.projector})")
    features, counts = encode(adapter, 3), image_rows(adapter.image_id)
    with pytest.raises(UserError, match=r"multi_modal_projector.* so it is unknown which row is whose"):
        measure(model, batches(adapter, features, 3), MEAN, image_rows=counts)
    rows = loop(model, features, adapter, MEAN)
    ours = measure(model, batches(adapter, features, 1), MEAN, image_rows=counts).pooled()
    assert torch.allclose(ours, rows @ rows.T, rtol=1e-4, atol=1e-5 * float(ours.abs().max()))


def test_wrong_arguments_are_one_clear_line(llava, entries):
    model = with_lora(llava)
    with pytest.raises(UserError, match="did you mean 'token_mean'"):
        EntryLosses("token_means")
    with pytest.raises(UserError, match="no entry"):
        measure(model, [], MEAN)
    with pytest.raises(UserError, match="give one each"):
        measure(model, entries, lambda model, batch: MEAN(model, batch).sum())
    with pytest.raises(UserError, match=f"no second moment for LoRA module {re.escape(Q0)}"):
        measure(model, entries, MEAN, forms=(Adam({}),))
    with pytest.raises(UserError, match="no group of form 'gauge'"):
        measure(model, entries, MEAN).pooled("gauge")
    with pytest.raises(UserError, match="width 1"):
        measure(model, entries, MEAN, sketch=1)


def test_a_layer_with_its_own_dropout_cannot_checkpoint(llava, entries):
    model = with_lora(llava)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    layer = next(m for name, m in model.named_modules() if name.endswith("language_model.layers.0"))
    layer.dropout = 0.1
    with pytest.raises(UserError, match=r"layers\.0 has dropout=0\.1"):
        measure(model, entries, MEAN)
