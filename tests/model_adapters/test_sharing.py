"""Shared sequences give the loss and the gradient of separate ones, in every family; and a mask or a position
that is a little wrong does not."""

from __future__ import annotations

import copy

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch.nn.attention.flex_attention import BlockMask

from data_recipes.errors import UserError
from data_recipes.records import Box, Entry
from model_adapters import block_attention, packing
from model_adapters.base import IGNORE
from model_adapters.registry import FAMILIES, load_adapter

# width, height, entries
IMAGES = ((160, 121, 12), (97, 211, 1), (64, 63, 5), (199, 57, 3))
WORDS = ("nodule", "mass", "edema", "heart", "left", "right", "zone", "0.48", "no", "effusion")


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request, flavour_folder):
    return load_adapter(str(flavour_folder(request.param)))


@pytest.fixture(scope="module")
def model(adapter):
    """LoRA with random weights on the whole language model."""
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=adapter.lora_targets)
    lora = get_peft_model(adapter.load_model(dtype=torch.float32), config)
    for name, parameter in lora.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return lora.train()


@pytest.fixture(scope="module")
def groups(adapter):
    """Encoded entries of images of odd sizes: 1 to 12 of them, with answers of 3 to 200 tokens."""
    rng = np.random.default_rng(1)
    made = []
    for width, height, count in IMAGES:
        pixels = rng.integers(0, 256, (height, width), dtype=np.uint8)
        image = PIL.Image.fromarray(pixels)
        vision = adapter.see(image)
        lengths = np.geomspace(2, 199, count).astype(int) if count > 1 else [7]
        entries = []
        for number, length in enumerate(lengths):
            x, y = rng.uniform(0, 0.5, 2)
            target = "{box}" if number % 5 == 2 else " ".join(rng.choice(WORDS, length))
            prompt = " ".join(rng.choice(WORDS, int(rng.integers(1, 9)))) + "?"
            boxes = (Box(x, y, x + 0.4, y + 0.3),) if target == "{box}" else ()
            entry = Entry(f"{width}/{number}", "i", "vqa", prompt, target, boxes, "test")
            entries.append(adapter.encode(entry, image, with_target=True, vision=vision))
        made.append(entries)
    return made


def separate(adapter, model, groups):
    """Loss of each entry (E,), each in a row of its own, padded."""
    flat = [entry for group in groups for entry in group]
    batch = adapter.collate(flat, padding_side="right")
    labels = batch.pop("labels")
    losses = F.cross_entropy(
        model(**batch).logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none"
    )
    return losses.sum(1)


def shared(adapter, model, groups, *, spoil=None, **options):
    """The same from shared sequences; `spoil` changes the inputs of the model."""
    batch = adapter.collate_shared(groups, **options)
    inputs = adapter.with_mask(batch, model)
    labels = inputs.pop("labels")
    if spoil:
        spoil(inputs, batch)
    losses = F.cross_entropy(
        model(**inputs).logits[:, :-1].float().transpose(1, 2), labels[:, 1:], reduction="none"
    )
    sums = losses.new_zeros(sum(map(len, groups)))
    trained = labels[:, 1:] != IGNORE
    return sums.index_add(0, batch["owner"][:, 1:][trained], losses[trained])


def gradient(model, losses):
    """All of LoRA's gradient of the summed loss, as one vector."""
    model.zero_grad()
    losses.sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]).clone()


def off(one, other):
    """Relative difference of two vectors."""
    return float((one - other).detach().norm() / other.detach().norm())


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("row_tokens", [None, 900], ids=["padded", "packed"])
def test_losses_and_gradients_are_those_of_separate_sequences(
    adapter, model, groups, row_tokens, checkpointing
):
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    try:
        apart = separate(adapter, model, groups)
        expected = gradient(model, apart)
        together = shared(adapter, model, groups, row_tokens=row_tokens)
        assert off(together.sum(), apart.sum()) <= 1e-5
        assert torch.allclose(together, apart, rtol=1e-5, atol=0)
        assert expected.norm() > 1
        assert off(gradient(model, together), expected) <= 1e-5
    finally:
        model.gradient_checkpointing_disable()


def test_in_bfloat16_the_difference_is_that_of_another_order_of_summation(adapter, model, groups):
    """The unshared computation itself, with other neighbours in its batch, is the measure."""
    exact = gradient(model, separate(adapter, model, groups))
    with torch.autocast("cpu", torch.bfloat16):
        one = gradient(model, separate(adapter, model, groups))
        apart = [separate(adapter, model, [group]) for group in reversed(groups)]
        other = gradient(model, torch.cat(apart))
        together = gradient(model, shared(adapter, model, groups))
    rounding = max(off(one, exact), off(other, exact), off(one, other))
    assert 0 < off(together, exact) <= 1.5 * rounding


def every_entry_sees_the_one_before(inputs, batch):
    """One branch sees one token of another."""
    owner = batch["owner"]
    row, first = torch.nonzero(owner == owner.max(), as_tuple=True)

    def open_up(mask):
        mask[row[0], :, first, first[0] - 1] = True if mask.dtype == torch.bool else 0.0
        return mask

    mask = inputs["attention_mask"]
    inputs["attention_mask"] = (
        {kind: open_up(one) for kind, one in mask.items()} if isinstance(mask, dict) else open_up(mask)
    )


def a_position_is_off_by_one(inputs, batch):
    owner = batch["owner"]
    row, first = torch.nonzero(owner == owner.max(), as_tuple=True)
    inputs["position_ids"][..., row, first] += 1


def the_last_row_is_another_entrys(inputs, batch):
    """The image of one row stands before the entries of another."""
    inputs["pixel_values"] = inputs["pixel_values"].flip(0)


@pytest.mark.parametrize(
    "spoil", [every_entry_sees_the_one_before, a_position_is_off_by_one, the_last_row_is_another_entrys]
)
def test_what_is_a_little_wrong_shows(adapter, model, groups, spoil):
    apart = separate(adapter, model, groups)
    spoiled = shared(adapter, model, groups, spoil=spoil)
    assert off(spoiled, apart) > 1e-5
    assert off(gradient(model, spoiled), gradient(model, separate(adapter, model, groups))) > 1e-4


def test_eager_attention_reads_the_mask_too(adapter, model, groups):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert torch.allclose(shared(adapter, eager, groups), separate(adapter, model, groups), rtol=1e-5, atol=0)


@torch.no_grad()
def test_flex_attention_reads_the_mask_in_blocks(adapter, model, groups):
    """Forward only: torch has no backward pass of it on CPUs. Not compiled, so no compiler is needed."""
    flex = copy.deepcopy(model)
    flex.set_attn_implementation({"text_config": block_attention.NAME})
    seen = []

    def spoil(inputs, batch):
        masks = inputs["attention_mask"]
        seen.extend(masks.values() if isinstance(masks, dict) else [masks])

    with torch.compiler.set_stance("force_eager"):
        together = shared(adapter, flex, groups, spoil=spoil)
    assert all(isinstance(mask, BlockMask) for mask in seen)
    assert torch.allclose(together, separate(adapter, model, groups), rtol=1e-5, atol=0)


def test_positions_are_those_the_model_counts_itself(adapter, model, groups):
    """The library's own count for Qwen; a plain one elsewhere."""
    for group in groups:
        feature = group[0]
        ours = adapter.positions(feature)
        length = len(feature["input_ids"])
        if not adapter.family.startswith("qwen"):
            assert ours.tolist() == list(range(length))
            continue
        theirs, _ = model.base_model.model.model.get_rope_index(
            feature["input_ids"][None],
            image_grid_thw=feature["image_grid_thw"],
            mm_token_type_ids=feature["mm_token_type_ids"][None],
        )
        assert torch.equal(ours, theirs[-3:, 0])


@pytest.mark.parametrize("max_tokens", [1, 150, 400, 5000])
def test_a_split_image_loses_no_entry_and_keeps_to_its_budget(adapter, groups, max_tokens):
    for group in groups:
        ids = [entry["input_ids"] for entry in group]
        sizes = packing.part_sizes(ids, image_id=adapter.image_id, max_tokens=max_tokens)
        assert sum(sizes) == len(group)
        first = 0
        for size in sizes:
            part = group[first : first + size]
            length = len(adapter.share(part).owner)
            assert length <= max_tokens or size == 1
            first += size


def test_parts_of_a_split_image_give_the_same_losses(adapter, model, groups):
    whole = shared(adapter, model, groups[:1])
    parts = shared(adapter, model, [groups[0][:5], groups[0][5:6], groups[0][6:]])
    assert torch.allclose(parts, whole, rtol=1e-5, atol=0)


def test_a_question_before_the_image_cannot_be_shared(adapter, groups):
    def turned(entry):
        ids = entry["input_ids"].clone()
        image = ids == adapter.image_id
        return {**entry, "input_ids": torch.cat([ids[~image][:9], ids[image], ids[~image][9:]])}

    group = [turned(entry) for entry in groups[0]]
    for number, entry in enumerate(group):
        entry["input_ids"][0] = number
    with pytest.raises(UserError, match="the question before the image"):
        adapter.share(group)
