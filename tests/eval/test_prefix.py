"""Questions that share an image are answered as each alone by `model.generate`, in every family; a position
or a mask that is a little wrong shows."""

from __future__ import annotations

import copy

import numpy as np
import PIL.Image
import pytest
import torch

from data_recipes.records import Box, Entry
from eval.prefix import Rows, greedy
from model_adapters import packing
from model_adapters.registry import FAMILIES, load_adapter

# width, height, questions
IMAGES = ((160, 121, 7), (97, 211, 1), (64, 63, 4), (199, 57, 2))
WORDS = ("nodule", "mass", "edema", "heart", "left", "right", "zone", "0.48", "no", "effusion")
MOST = 40


@pytest.fixture(scope="module", params=FAMILIES)
def adapter(request, flavour_folder):
    return load_adapter(str(flavour_folder(request.param)))


@pytest.fixture(scope="module")
def model(adapter):
    return adapter.load_model(dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def groups(adapter):
    """Encoded questions of 1 to 40 words, some with a box, about images of odd sizes."""
    rng = np.random.default_rng(1)
    made = []
    for width, height, count in IMAGES:
        image = PIL.Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))
        vision = adapter.see(image)
        entries = []
        for number, length in enumerate(np.geomspace(1, 40, count).astype(int)):
            x, y = rng.uniform(0, 0.5, 2)
            boxes = (Box(x, y, x + 0.4, y + 0.3),) if number % 3 == 1 else ()
            prompt = " ".join(rng.choice(WORDS, length)) + " {box}" * len(boxes) + "?"
            entry = Entry(f"{width}/{number}", "i", "vqa", prompt, "no", boxes, "test")
            entries.append(adapter.encode(entry, image, with_target=False, vision=vision))
        made.append(entries)
    return made


@pytest.fixture(scope="module")
def limits(groups):
    """Ragged: some questions are over after a token, some go on for long after the others of their image."""
    count = sum(map(len, groups))
    return [
        MOST,
        *np.random.default_rng(2).permutation(np.geomspace(1, MOST, count - 1).astype(int)).tolist(),
    ]


@pytest.fixture(scope="module")
def alone(adapter, model, groups, limits):
    """(ids (T,), logits (T, V)) of `model.generate` on each question alone: no sharing, no padding."""
    found = []
    for feature, limit in zip((one for group in groups for one in group), limits, strict=True):
        inputs = adapter.collate([feature], padding_side="left")
        asked = {"max_new_tokens": limit, "output_logits": True, "return_dict_in_generate": True}
        output = model.generate(**inputs, **asked, **adapter.generation)
        ids = output.sequences[0, inputs["input_ids"].shape[1] :]
        found.append((ids, torch.cat(output.logits)))
    return found


def decode(model, adapter, groups, limits):
    """Answers by number."""
    answers = dict(greedy(model, adapter, groups, limits))
    assert sorted(answers) == list(range(len(limits)))
    return [answers[number] for number in range(len(limits))]


@torch.inference_mode()
def furthest(model, adapter, groups, alone, rows_class=Rows):
    """How far the logits are from those of each question alone, at most, when fed its answer token by
    token."""
    rows = rows_class(model, adapter, groups)
    logits, far = rows.prefill(), 0.0
    for place in range(max(len(ids) for ids, _ in alone)):
        under_way = [number for number, (ids, _) in enumerate(alone) if len(ids) > place]
        if place:
            tokens = torch.tensor([alone[number][0][place - 1] for number in under_way])
            logits = rows.step(torch.tensor(under_way), tokens)
        expected = torch.stack([alone[number][1][place] for number in under_way])
        far = max(far, float((logits - expected).abs().max()))
    return far


def test_answers_are_those_of_one_question_at_a_time(adapter, model, groups, limits, alone):
    answers = decode(model, adapter, groups, limits)
    assert [ids.tolist() for ids in answers] == [ids.tolist() for ids, _ in alone]
    assert len({len(ids) for ids in answers}) > 5


def test_logits_are_those_of_one_question_at_a_time(adapter, model, groups, alone):
    assert furthest(model, adapter, groups, alone) < 1e-4
    spread = torch.cat([logits for _, logits in alone]).std()
    assert spread > 0.3  # flat logits would hide a difference


def test_an_image_that_is_split_gives_the_same_answers(adapter, model, groups, limits, alone):
    parts = [groups[0][:3], groups[0][3:4], groups[0][4:], *groups[1:]]
    answers = decode(model, adapter, parts, limits)
    assert [ids.tolist() for ids in answers] == [ids.tolist() for ids, _ in alone]


def test_eager_attention_gives_the_same_logits(adapter, model, groups, alone):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    assert furthest(eager, adapter, groups, alone) < 1e-4


def test_an_answer_ends_at_any_of_the_end_ids(adapter, model, groups, limits, alone):
    """The third token of the longest answer is made an end of answers, as a checkpoint may list several."""
    longest = max((ids for ids, _ in alone), key=len)
    other = copy.copy(adapter)
    ends = {*adapter.generation["eos_token_id"], int(longest[2])}
    other.generation = adapter.generation | {"eos_token_id": sorted(ends)}
    answers = decode(model, other, groups, limits)
    for (ids, _), found in zip(alone, answers, strict=True):
        stop = next((n + 1 for n, token in enumerate(ids.tolist()) if token in ends), len(ids))
        assert found.tolist() == ids[:stop].tolist()
    assert min(map(len, answers)) < 4


class OffByOne(Rows):
    """The first answer goes on one position too far."""

    def prefill(self):
        self._next[..., 0] += 1
        return super().prefill()


class Leak(Rows):
    """The second question's answers pass for part of the image's prefix, which all questions see."""

    def step(self, under_way, tokens):
        owner = self.seen["owner"]
        owner[owner == 1] = packing.PREFIX
        return super().step(under_way, tokens)


class WrongRow(Rows):
    """Rows are dropped from the cache and not from the book-keeping: images change places."""

    def _drop_finished(self, under_way):
        before = len(self.seen["owner"])
        super()._drop_finished(under_way)
        if len(self.seen["owner"]) < before:
            self.cache.batch_select_indices(torch.arange(len(self.seen["owner"])).flip(0))


@pytest.mark.parametrize("spoilt", [OffByOne, Leak, WrongRow])
def test_what_is_a_little_wrong_shows(adapter, model, groups, alone, spoilt):
    assert furthest(model, adapter, groups, alone, spoilt) > 1e-3
