"""Each of the seven families on its tiny flavour: the official processor's inputs, true boxes, LoRA."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from peft import LoraConfig, get_peft_model

from data_recipes.errors import UserError
from data_recipes.records import Box
from model_adapters.base import IGNORE, TooLongError, written_entry
from model_adapters.registry import FAMILIES, family, load_adapter
from model_adapters.tiny.flavour import write

SIZES = ((160, 120), (97, 211), (64, 64))  # width, height


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request, flavour_folder):
    return load_adapter(str(flavour_folder(request.param)))


@pytest.fixture(scope="module")
def model(adapter):
    return adapter.load_model(dtype=torch.float32).eval()


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


def official(adapter, image, prompt, target=None):
    """What the checkpoint's own processor and chat template give, by the library's own call."""
    if adapter.family == "llava" and image.width != image.height:  # LLaVA pads to a square itself
        side = max(image.size)
        colour = tuple(round(255 * mean) for mean in adapter.processor.image_processor.image_mean)
        square = PIL.Image.new("RGB", (side, side), colour)
        square.paste(image.convert("RGB"), ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    turns = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": image.convert("RGB")},
                {"type": "text", "text": prompt},
            ],
        }
    ]
    if target is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": target}]})
    options = {"crop_to_patches": False} if adapter.family == "internvl" else {}
    return adapter.processor.apply_chat_template(
        turns,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        add_generation_prompt=target is None,
        processor_kwargs=options,
    )


@pytest.mark.parametrize("size", SIZES)
def test_inputs_are_the_official_processors(adapter, entry, size):
    image = picture(*size)
    prompt, target = written_entry(entry, adapter.codec, *size)
    for answer in (target, None):
        ours = adapter.encode(entry, image, with_target=answer is not None)
        ours.pop("labels", None)
        theirs = official(adapter, image, prompt, answer)
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            expected = theirs[key] if value.ndim > 1 or key == "batch_num_images" else theirs[key][0]
            assert torch.equal(value, torch.as_tensor(expected)), key


def test_labels_are_the_answer_and_its_end(adapter, entry):
    image = picture(160, 120)
    encoded = adapter.encode(entry, image, with_target=True)
    labels, ids = encoded["labels"], encoded["input_ids"]
    trained = torch.nonzero(labels != IGNORE)[:, 0]
    assert torch.equal(labels[trained], ids[trained])
    assert trained.tolist() == list(range(trained[0], trained[-1] + 1))
    assert labels[trained[-1]] == adapter.end_id
    assert not (labels == adapter.image_id).any()
    text = adapter.processor.tokenizer.decode(labels[trained[:-1]]).strip()
    assert text == adapter.codec.write(entry.boxes[1], *image.size)
    # everything before is what stands before an answer that is still to come
    asked = adapter.encode(entry, image, with_target=False)["input_ids"]
    assert torch.equal(ids[: trained[0]], asked)


def test_empty_answers_and_special_tokens_in_texts_are_refused(adapter, entry):
    image = picture(64, 64)
    with pytest.raises(UserError, match=r"entry e/rec/0 .* no token of the answer"):
        adapter.encode(replace(entry, target="", boxes=entry.boxes[:1]), image, with_target=True)
    for token in (adapter.processor.image_token, adapter.processor.tokenizer.eos_token):
        with pytest.raises(UserError, match=f"{re.escape(repr(token))}, a special token"):
            adapter.encode(replace(entry, prompt=f"a {token} {{box}}"), image, with_target=True)


def test_what_is_too_long_is_refused_and_never_cut(adapter, entry):
    image = picture(160, 120)
    encoded = adapter.encode(entry, image, with_target=True)
    length, shown = len(encoded["input_ids"]), int((encoded["input_ids"] == adapter.image_id).sum())
    again = adapter.encode(entry, image, with_target=True, max_length=length)
    assert torch.equal(again["input_ids"], encoded["input_ids"])
    for limit in (length - 1, shown - 1):  # a cut would take the end of the answer, or part of the image
        with pytest.raises(
            TooLongError, match=rf"its {length} tokens, {shown} of them the image's, .* {limit},"
        ):
            adapter.encode(entry, image, with_target=True, max_length=limit)


@pytest.mark.parametrize("form", ["{}", "a {} and 0.5, end."])
def test_a_thousand_boxes_come_back_within_the_notations_resolution(adapter, form):
    rng = np.random.default_rng(0)
    for _ in range(1000):
        width, height = map(int, rng.integers(57, 1500, 2))
        (x1, x2), (y1, y2) = np.sort(rng.random((2, 2)), axis=1).tolist()
        box = Box(x1, y1, x2, y2)
        text, read = adapter.codec.read(form.format(adapter.codec.write(box, width, height)), width, height)
        assert text == form.format("{box}")
        for axis, limit in enumerate(adapter.codec.resolution(width, height)):
            low, high = box.xyxy[axis], box.xyxy[axis + 2]
            limit = limit if high - low >= 2 * limit else 2 * limit  # thinner than a step is widened to one
            assert abs(read[0].xyxy[axis] - low) <= limit + 1e-9
            assert abs(read[0].xyxy[axis + 2] - high) <= limit + 1e-9


def test_boxes_are_read_after_decoding_too(adapter, entry):
    """`decode` drops special tokens, and some families wrap boxes in them."""
    image = picture(160, 120)
    encoded = adapter.encode(entry, image, with_target=True)
    said = adapter.decode(encoded["labels"][encoded["labels"] != IGNORE])
    text, boxes = adapter.codec.read(said, *image.size)
    assert text == "{box}"
    assert boxes[0].iou(entry.boxes[1]) > 0.9


def test_the_image_is_shown_whole(adapter):
    """A mark in any corner changes what the vision tower gets."""
    plain = np.full((120, 200), 128, np.uint8)
    before = adapter.see(PIL.Image.fromarray(plain))["pixel_values"]
    for rows in (slice(0, 12), slice(-12, None)):
        for columns in (slice(0, 12), slice(-12, None)):
            marked = plain.copy()
            marked[rows, columns] = 255
            after = adapter.see(PIL.Image.fromarray(marked))["pixel_values"]
            assert after.shape == before.shape
            assert (after - before).abs().max() > 0.5


def test_images_matter_and_padding_does_not(adapter, model, entry):
    """The logits of an entry depend on its image, and not on what it is batched with."""
    images = [picture(160, 120, seed=1), picture(200, 64, seed=2)]
    short = replace(entry, prompt="Where?", boxes=entry.boxes[1:])
    features = [
        adapter.encode(one, image, with_target=True)
        for one, image in zip((entry, short), images, strict=True)
    ]
    with torch.inference_mode():
        both = model(**adapter.collate(features, padding_side="right")).logits
        for row, feature in enumerate(features):
            alone = model(**adapter.collate([feature], padding_side="right")).logits[0]
            assert torch.allclose(both[row, : len(alone)], alone, atol=1e-4)
        other = adapter.encode(short, picture(200, 64, seed=3), with_target=True)
        changed = model(**adapter.collate([other], padding_side="right")).logits[0]
    assert not torch.allclose(changed, alone, atol=1e-4)


def test_left_padding_does_not_change_what_is_generated(adapter, model, entry):
    image = picture(160, 120)
    short = replace(entry, prompt="Where?", boxes=entry.boxes[1:])
    features = [adapter.encode(one, image, with_target=False) for one in (entry, short)]
    settings = {**adapter.generation, "max_new_tokens": 4, "min_new_tokens": 4}
    alone = adapter.collate(features[1:], padding_side="left")
    both = adapter.collate(features, padding_side="left")
    first = model.generate(**alone, **settings)[0, alone["input_ids"].shape[1] :]
    second = model.generate(**both, **settings)[1, both["input_ids"].shape[1] :]
    assert torch.equal(first, second)


def test_positions_of_qwen_have_three_axes(adapter, model, entry):
    if not adapter.family.startswith("qwen"):
        pytest.skip("one axis")
    inputs = adapter.collate(
        [adapter.encode(entry, picture(160, 120), with_target=False)], padding_side="left"
    )
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
    )
    time, height, width = positions[-3:, 0]
    image = inputs["input_ids"][0] == adapter.image_id
    assert not torch.equal(time[image], height[image])
    assert not torch.equal(height[image], width[image])
    assert torch.equal(time[~image], height[~image])


def test_lora_reaches_every_linear_layer_of_the_language_model_and_no_other(adapter):
    model = adapter.load_model(dtype=torch.float32)
    layers = model.config.get_text_config().num_hidden_layers
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=adapter.lora_targets))
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert len(names) == layers * 7 * 2  # layers, linear layers, A and B
    assert all("language_model" in name and "lora_" in name for name in names)
    found = [
        n for n, _ in model.named_parameters() if re.fullmatch(adapter.projector, n.removesuffix(".weight"))
    ]
    assert found, "the projector's expression matches nothing"
    assert not any("language_model" in name for name in found)


def test_a_flavour_is_small_and_written_alike_each_time(adapter, tmp_path):
    kind = family(adapter.family)
    write(kind.flavour, kind.model_class, tmp_path)
    for file in sorted(Path(adapter.folder).iterdir()):
        assert file.stat().st_size < 3_000_000
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == adapter.family
