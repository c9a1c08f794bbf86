"""How likely an answer is, and answers drawn by seed, through the sequences that share an image."""

from __future__ import annotations

import itertools

import numpy as np
import PIL.Image
import pytest
import torch

from data_recipes.records import Entry
from eval.backends import Asked, Transformers
from eval.prefix import _draw, decode
from model_adapters.registry import FAMILIES, load_adapter

MOST = 12
WORDS = ("nodule", "mass", "edema", "heart", "left", "right", "zone")


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request, flavour_folder):
    return load_adapter(str(flavour_folder(request.param)))


@pytest.fixture(scope="module")
def model(adapter):
    return adapter.load_model(dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def llava(flavour_folder):
    found = load_adapter(str(flavour_folder("llava")))
    return Transformers(found.load_model(dtype=torch.float32).eval(), found)


def encoded(adapter, counts=(3, 1, 2)):
    """Questions of 1 to 6 words about images of odd sizes, those of an image together."""
    rng = np.random.default_rng(1)
    groups = []
    for number, count in enumerate(counts):
        image = PIL.Image.fromarray(rng.integers(0, 256, (70 + 20 * number, 90), dtype=np.uint8))
        vision = adapter.see(image)
        groups.append(
            [
                adapter.encode(
                    Entry(f"{number}/{k}", "i", "vqa", " ".join(rng.choice(WORDS, k * 2 + 1)) + "?", "no"),
                    image,
                    with_target=False,
                    vision=vision,
                )
                for k in range(count)
            ]
        )
    return groups


@torch.inference_mode()
def teacher_forced(adapter, model, feature, ids):
    """Mean log-probability of `ids` after the prompt by one plain forward pass of the model."""
    inputs = adapter.collate([feature], padding_side="left")
    grown = {key: value for key, value in inputs.items() if key != "labels"}
    for key, filler in (("input_ids", ids[None]), ("attention_mask", torch.ones_like(ids)[None])):
        grown[key] = torch.cat([inputs[key], filler], dim=1)
    for key in grown:
        if key.endswith("token_type_ids"):
            grown[key] = torch.cat([inputs[key], torch.zeros_like(ids)[None]], dim=1)
    logits = model(**grown).logits[0, -len(ids) - 1 : -1]
    return float(logits.log_softmax(-1).gather(-1, ids[:, None]).mean())


@pytest.mark.parametrize("drawn", [False, True])
def test_the_likelihood_is_that_of_a_plain_forward_pass(adapter, model, drawn):
    groups = encoded(adapter)
    features = [feature for group in groups for feature in group]
    seeds = list(range(len(features))) if drawn else None
    found = list(decode(model, adapter, groups, [MOST] * len(features), seeds=seeds, temperature=0.7))
    assert len(found) == len(features)
    # An untrained model may draw the image's own token, which a plain forward pass takes for a picture.
    found = [one for one in found if not (one.ids == adapter.image_id).any()]
    assert len(found) >= 3
    for one in found:
        expected = teacher_forced(adapter, model, features[one.number], one.ids)
        assert one.log_probability == pytest.approx(expected, abs=1e-4)
    assert np.std([one.log_probability for one in found]) > 1e-3


def asked(counts=(3, 1, 2)):
    rng = np.random.default_rng(0)
    return [
        Asked(
            PIL.Image.fromarray(rng.integers(0, 256, (60 + 9 * n, 90), dtype=np.uint8)),
            [Entry(f"{n}/{k}", "i", "vqa", "no " * k + "heart?", "no") for k in range(count)],
        )
        for n, count in enumerate(counts)
    ]


def texts(backend, questions, seeds, temperature=1.0):
    limits = [MOST] * sum(len(one.entries) for one in questions)
    outputs = dict(backend.outputs(questions, limits, seeds=seeds, temperature=temperature))
    return [outputs[number].text for number in range(len(limits))]


def test_a_draw_depends_on_its_seed_and_not_on_its_batch(llava):
    whole = asked()
    seeds = list(range(10, 16))
    together = texts(llava, whole, seeds)
    assert texts(llava, whole, seeds) == together
    assert len(set(together)) > 3
    alone = itertools.chain.from_iterable(
        texts(llava, [Asked(one.picture, [entry])], [seed])
        for (one, entry), seed in zip(((o, e) for o in whole for e in o.entries), seeds, strict=True)
    )
    assert list(alone) == together
    assert texts(llava, whole, [seed + 100 for seed in seeds]) != together
    small = Transformers(llava._model, llava._adapter, batch_tokens=1)
    assert texts(small, whole, seeds) == together


def test_a_question_may_be_asked_greedily_and_drawn_at_once(llava):
    (first, *_) = asked()
    mixed = [Asked(first.picture, [entry for entry in first.entries for _ in range(3)])]
    got = texts(llava, mixed, [None, 1, 2] * 3)
    assert got[::3] == texts(llava, [first], None)
    assert got[1::3] == texts(llava, [first], [1] * 3)


def test_at_a_low_temperature_a_draw_is_the_likeliest_answer(llava):
    whole = asked()
    assert texts(llava, whole, list(range(6)), temperature=1e-4) == texts(llava, whole, None)


def test_draws_follow_the_distribution():
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0])
    uniform = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    drawn = _draw(logits.expand(100_000, 4), uniform, 0.5)
    expected = (logits.double() / 0.5).softmax(-1)
    assert torch.allclose(drawn.bincount(minlength=4) / 100_000, expected.to(torch.float32), atol=2e-5)
    assert _draw(logits[None], torch.tensor([1.0], dtype=torch.float64), 1.0).tolist() == [3]
