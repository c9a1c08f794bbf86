"""The tokenizer of `tiny`, its descriptions and its pretraining."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from data_recipes import tasks
from data_recipes.records import Box
from data_recipes.sources import phantom
from model_adapters.registry import load_adapter
from model_adapters.tiny import families, material, numerals, pretrain, sight
from model_adapters.tiny.build import NUMBERS, WIDTH, build_tokenizer
from model_adapters.tiny.describe import describe, label

TOKENIZER = build_tokenizer(["The heart is normal. CTR 0.48", "[0.00, 0.01]"] * 3)


def ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_numbers_and_known_words_are_one_token():
    assert all(len(ids(number)) == 1 for number in NUMBERS)
    assert len({ids(number)[0] for number in NUMBERS}) == 101
    assert len(ids("[0.10, 0.20, 0.30, 0.99]")) == 9
    assert len(ids("The heart is normal.")) == 5


@given(st.text(max_size=60))
def test_any_text_comes_back(text):
    if any(special in text for special in ("<pad>", "<s>", "</s>", "<image>", "USER:", "ASSISTANT:")):
        return
    assert TOKENIZER.decode(ids(text)) == text
    assert TOKENIZER.unk_token is None


def test_the_same_texts_give_the_same_tokenizer():
    texts = ["pleural effusion, nodule", "the nodule"] * 5
    one, two = (build_tokenizer(texts).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


def test_descriptions_are_no_task_format(scene):
    rng = np.random.default_rng(0)
    listings = describe(scene, rng, 200)
    for listing in listings:
        assert listing.header.startswith("listing: ")
        slots = listing.header.count("{box}") + listing.text.count("{box}")
        assert slots == len(listing.boxes)
    prompts = [p for t in tasks.TASKS for ps in tasks.task(t).PROMPTS.values() for p in ps]
    assert not any("listing" in prompt for prompt in prompts)
    kinds = {re.match(r"listing: (\w+)", listing.header).group(1) for listing in listings}
    assert kinds == {
        "measures", "state", "place", "anatomy", "region", "count", "zones", "order", "boxes", "labels",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "pattern", "value"),
    [
        ("measures", r"CTR = (\S+?)(;|$)", "0.53"),
        ("measures", r"edema = (.+?)(;|$)", "interstitial 2"),
        ("state", r"^left pleural effusion = (.+?)(;|$)", "large"),
        ("state", r"^right pleural effusion = (.+?)(;|$)", "absent"),
        ("state", r"^pleural effusion = (.+?)(;|$)", "left"),
        ("state", r"^nodule = (.+?)(;|$)", "right"),
        ("state", r"^consolidation = (.+?)(;|$)", "absent"),
        ("state", r"^left mass = (.+?)(;|$)", "present"),
        ("order", r"^(.+) >", "left pleural effusion"),
        ("count", r"nodule = (\d)", "2"),
        ("count", r"all = (\d)", "6"),
        ("zones", r"right upper = (.+?)(;|$)", "nodule"),
        ("zones", r"right mid = (.+?)(;|$)", "none"),
    ],
)
def test_listings_are_true(scene, kind, pattern, value):
    rng = np.random.default_rng(0)
    texts = [one.text for one in describe(scene, rng, 600) if one.header.startswith(f"listing: {kind}")]
    found = [match.group(1) for text in texts if (match := re.search(pattern, text))]
    assert found
    assert set(found) == {value}


def test_a_label_of_two_lists_both_boxes(scene):
    nodules = [a for a in scene.abnormalities if a.name == "nodule"]
    assert {label(a) for a in nodules} == {"right upper nodule"}
    rng = np.random.default_rng(0)
    places = [one for one in describe(scene, rng, 300) if one.header == "listing: place; right upper nodule"]
    assert {one.boxes for one in places} == {tuple(a.box for a in nodules)}


def test_structures_cover_by_hand():
    mask = np.zeros((224, 224), bool)
    mask[28:35, 0:14] = True  # second row of tokens; a cell is 7 x 7 pixels: its two upper left cells
    cover = material.structures({"nodule 0": mask, "trachea": mask})
    nodule = cover[material.STRUCTURES.index("nodule")]
    assert nodule[4, :2].tolist() == [255, 255]
    assert nodule.sum() == cover.sum() == 2 * 255


def test_boxes_by_token_by_hand(scene):
    xyxy, weight = (
        part.reshape(8, 8, len(material.STRUCTURES), *part.shape[2:]) for part in material.boxes(scene)
    )
    for number, name in enumerate(material.STRUCTURES):
        boxes = [scene.anatomy[name]] if name in scene.anatomy else []
        boxes += [a.box for a in scene.abnormalities if a.name == name]
        for row, column in np.ndindex(8, 8):
            square = Box(column / 8, row / 8, (column + 1) / 8, (row + 1) / 8)
            held = [box for box in boxes if overlap(square, box) > 0]
            assert (weight[row, column, number] > 0) == bool(held)
            if held:
                smallest = min(held, key=lambda box: box.area)
                assert xyxy[row, column, number] == pytest.approx(smallest.xyxy)
    heart = material.STRUCTURES.index("heart")
    assert weight[..., heart].sum() == pytest.approx(float("heart" in scene.anatomy))


def overlap(a, b):
    """Shared area of two boxes."""
    return max(0.0, min(a.x2, b.x2) - max(a.x1, b.x1)) * max(0.0, min(a.y2, b.y2) - max(a.y1, b.y1))


def test_heads_are_best_where_they_say_the_truth(tmp_path, adapter):
    material.prepare(tmp_path, images=2, seed=0, workers=0)
    kept, which = material.Material(tmp_path, adapter), np.array([0, 1])
    truth, weight = kept.boxes(which)
    torch.manual_seed(0)
    heads = sight.Heads()
    tokens = torch.randn(2, material.GRID**2, WIDTH)
    _, careless = heads.losses(tokens, kept, which)
    middle, size = (truth[..., :2] + truth[..., 2:]) / 2, truth[..., 2:] - truth[..., :2]
    said = torch.cat([middle, size], -1).logit(1e-6).flatten(2)
    heads.framer = Say(said)
    heads.locator = Say(kept.cover(which).logit(1e-6))
    heads.whole = Say(kept.whole(which).logit(1e-6))
    _, exact = heads.losses(tokens, kept, which)
    assert exact["boxes"] == pytest.approx(0, abs=1e-3)
    assert all(exact[part] < careless[part] for part in careless)
    heads.framer = Say(torch.where((weight > 0)[..., None], said.unflatten(-1, (-1, 4)), 9.0).flatten(2))
    assert heads.losses(tokens, kept, which)[1]["boxes"] == exact["boxes"]  # elsewhere nothing is asked


class Say(torch.nn.Module):
    """A head that says the same, whatever it sees."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def forward(self, _):
        return self.said


def test_whole_image_truths_by_hand(scene):
    truths = material.whole(scene)
    assert len(truths) == material.WHOLE_TRUTHS
    assert truths[:6] == pytest.approx([1, 1, 1, 0, (0.53 - 0.35) / 0.35, 0.31 / 0.6])


def test_material_gives_what_the_adapter_and_the_phantom_give(tmp_path, adapter):
    material.prepare(tmp_path, images=3, seed=0, workers=1)
    kept = material.Material(tmp_path, adapter)
    pixels, scene = phantom.render(material.RESERVED_SEED, 0, 0)
    assert kept.scenes[0] == scene
    # a grey level is a step of 4/255 after normalisation
    seen = adapter.see(PIL.Image.fromarray(pixels))["pixel_values"]
    assert torch.allclose(kept.vision(np.array([0]))["pixel_values"], seen, atol=2.1 / 255)
    cover = kept.cover(np.array([0, 1]))
    assert cover.shape == (2, material.GRID**2, len(material.STRUCTURES) * material.CELLS**2)
    left, right = (
        cover[0].view(material.GRID, material.GRID, len(material.STRUCTURES), -1)[:, half, 2].sum()
        for half in (slice(0, 4), slice(4, 8))
    )
    assert right > left  # the patient's left lung lies at the right of the image


@pytest.mark.parametrize("length", [2, 7, 24])
def test_each_pass_shows_every_image_once(length):
    for turn in range(3):
        shown = [material.shuffled(length, turn * length + i, seed=1) for i in range(length)]
        assert sorted(shown) == list(range(length))


def test_soft_labels_are_distributions(adapter):
    soft = numerals.soft_labels(adapter)
    assert torch.allclose(soft.sum(1), torch.ones(len(soft)), atol=1e-5)
    number = adapter.processor.tokenizer.convert_tokens_to_ids("0.50")
    near = adapter.processor.tokenizer.convert_tokens_to_ids("0.51")
    word = adapter.processor.tokenizer.convert_tokens_to_ids("USER:")
    assert soft[number, number] > soft[number, near] > 0.1
    assert soft[word, word] == 1


def test_no_recipe_can_meet_a_pretraining_patient():
    unit = phantom.units({}, seed=material.RESERVED_SEED, images=1)[0]
    assert phantom.read(unit)[0].image.patient_id.startswith(f"phantom-{material.RESERVED_SEED}-")
    recipes = Path(phantom.__file__).parents[2] / "recipes"
    seeds = [
        value
        for path in recipes.glob("*.yaml")
        for value in _values(yaml.safe_load(path.read_text()), "seed")
    ]
    assert all(seed < material.RESERVED_SEED for seed in seeds)


def _values(tree, key):
    if isinstance(tree, dict):
        return [v for k, v in tree.items() if k == key] + [x for v in tree.values() for x in _values(v, key)]
    return [x for v in tree for x in _values(v, key)] if isinstance(tree, list) else []


@pytest.mark.slow
def test_the_script_pretrains_and_probes(tmp_path, monkeypatch, capsys):
    texts = ["listing: state; nodule = absent", "[0.00, 0.01]"]
    monkeypatch.setattr(families, "corpus", lambda seed: texts)
    flags = "--images 8 --sight_steps 2 --sight_batch 4 --read_steps 3 --batch 4 --workers 0 --probe_images 2"
    out, work = tmp_path / "out", tmp_path / "work"
    monkeypatch.setattr("sys.argv", ["pretrain", "--out", str(out), "--work", str(work), *flags.split()])
    pretrain.main()
    summary = json.loads((out / "pretraining.json").read_text())
    assert summary["images_seen"] == {"sight": 8, "read": 12}
    assert 0 <= summary["held_out"]["CTR error"] <= 1
    load_adapter(str(out)).load_model(dtype=torch.float32)
    capsys.readouterr()
    pretrain.main()  # what is rendered and seen is kept
    assert "sight 2/2" not in capsys.readouterr().out
