"""Encoding, labels, batches and loading of the LLaVA family."""

import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model

from data_recipes.errors import UserError
from model_adapters.base import IGNORE, mask_labels, pad_batch


def conversation(image, prompt, target=None):
    turns = [
        {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": prompt}]}
    ]
    if target is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": target}]})
    return turns


def official(adapter, turns, **options):
    return adapter.processor.apply_chat_template(
        turns, tokenize=True, return_dict=True, return_tensors="pt", **options
    )


def test_ids_and_pixels_are_the_official_processors(adapter, image, entry):
    encoded = adapter.encode(entry, image, with_target=True)
    prompt, target = encoded_texts(adapter, entry, image)
    square = PIL.Image.new("L", (160, 160), 128)
    square.paste(image, (0, 20))
    reference = official(adapter, conversation(square, prompt, target))
    assert torch.equal(encoded["input_ids"], reference["input_ids"][0])
    assert torch.equal(encoded["pixel_values"], reference["pixel_values"])
    asked = official(adapter, conversation(square, prompt), add_generation_prompt=True)
    unanswered = adapter.encode(entry, image, with_target=False)
    assert torch.equal(unanswered["input_ids"], asked["input_ids"][0])
    assert "labels" not in unanswered


def encoded_texts(adapter, entry, image):
    from model_adapters.base import written_entry

    return written_entry(entry, adapter.codec, image.width, image.height)


def test_labels_are_the_answer_and_its_end(adapter, image, entry):
    encoded = adapter.encode(entry, image, with_target=True)
    labels, ids = encoded["labels"], encoded["input_ids"]
    trained = labels != IGNORE
    assert adapter.decode(labels[trained]) == adapter.codec.write(entry.boxes[1], *image.size)
    assert labels[-1] == ids[-1] == adapter.end_id
    assert not trained[ids == adapter.image_id].any()
    assert int((ids == adapter.image_id).sum()) == 64
    prompt = adapter.encode(entry, image, with_target=False)["input_ids"]
    assert not trained[: len(prompt)].any()
    assert trained[len(prompt) :].all()


def test_labels_that_cannot_be_told_apart_are_an_error(adapter, image, entry):
    with pytest.raises(UserError, match="no token of the answer"):
        adapter.encode(replace(entry, target="", boxes=entry.boxes[:1]), image, with_target=True)
    with pytest.raises(UserError, match="does not start with the prompt"):
        mask_labels([1, 2], [1, 3, 4], image_id=9, end_id=4, what="x")
    with pytest.raises(UserError, match="no end of turn"):
        mask_labels([1, 2], [1, 2, 5], image_id=9, end_id=4, what="x")
    assert mask_labels([1, 9], [1, 9, 9, 5, 4], image_id=9, end_id=4, what="x") == [IGNORE] * 3 + [5, 4]


def test_pixels_show_the_whole_image(adapter):
    """A mark in each corner survives: padded, not cropped."""
    pixels = np.zeros((100, 200), np.uint8)
    pixels[:20, :20] = pixels[-20:, -20:] = 255
    seen = adapter.see(PIL.Image.fromarray(pixels))["pixel_values"][0, 0]
    assert seen.shape == (112, 112)
    assert seen[31, 3] > 1.5
    assert seen[-32, -4] > 1.5
    assert torch.allclose(seen[:24], torch.tensor(0.0), atol=0.02)  # the mean grey above and below


def test_collate_pads_on_the_side_asked_for(adapter, image, entry):
    short = replace(entry, prompt="Where?", target="nodule", boxes=())
    features = [adapter.encode(e, image, with_target=True) for e in (entry, short)]
    lengths = [len(f["input_ids"]) for f in features]
    assert lengths[0] > lengths[1]
    for side, kept in (("left", slice(-lengths[1], None)), ("right", slice(lengths[1]))):
        batch = adapter.collate(features, padding_side=side)
        assert batch["input_ids"].shape == batch["labels"].shape == (2, lengths[0])
        assert batch["pixel_values"].shape == (2, 3, 112, 112)
        assert torch.equal(batch["input_ids"][1, kept], features[1]["input_ids"])
        assert batch["attention_mask"][1].sum() == lengths[1]
        outside = torch.ones(lengths[0], dtype=torch.bool)
        outside[kept] = False
        assert (batch["labels"][1, outside] == IGNORE).all()
    with pytest.raises(AssertionError):
        pad_batch(features, pad_id=0, padding_side="up")


def test_left_padding_does_not_change_what_is_generated(adapter, model, image, entry):
    short = replace(entry, prompt="Where?", boxes=entry.boxes[1:])
    features = [adapter.encode(one, image, with_target=False) for one in (entry, short)]
    alone = adapter.collate(features[1:], padding_side="left")
    both = adapter.collate(features, padding_side="left")
    settings = {**adapter.generation, "max_new_tokens": 4, "min_new_tokens": 4}
    first = model.generate(**alone, **settings)[0, alone["input_ids"].shape[1] :]
    second = model.generate(**both, **settings)[1, both["input_ids"].shape[1] :]
    assert torch.equal(first, second)


def test_lora_reaches_the_language_model_only(adapter):
    model = adapter.load_model(dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=adapter.lora_targets))
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(names) == 4 * 7 * 2  # layers, linear layers, A and B
    assert all("language_model" in name and "lora_" in name for name in names)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert (
        sum(bool(re.fullmatch(adapter.projector, name.removeprefix("base_model.model."))) for name in linear)
        == 2
    )


def test_decode_gives_text_without_special_tokens(adapter, image):
    vision = adapter.see(image)
    ids = adapter.conversation_ids("x", "pleural effusion, [0.12, 0.34, 0.56, 0.78]", vision)
    start = len(adapter.prompt_ids("x", vision))
    assert adapter.decode(torch.tensor(ids[start:])) == "pleural effusion, [0.12, 0.34, 0.56, 0.78]"


def test_dtype_and_backend(adapter):
    assert next(adapter.load_model(dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16
    assert adapter.image_backend in ("torchvision", "pil")
