"""The second stage of pretraining: the whole model learns to read images.

Each image carries several listings (`describe`) as branches of one shared sequence. Besides next-token
prediction: numbers are soft labels, so that 0.49 for 0.50 is nearly right; the heads of `sight` stay on, so
that sight is kept; and one branch copies random words, so that words no listing uses have trained embeddings
too.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch.utils.data import DataLoader, Dataset

from data_recipes.records import BOX_SLOT, fill_slots
from model_adapters.adapter import Adapter
from model_adapters.base import IGNORE
from model_adapters.packing import Branch, Shared, batch, share
from model_adapters.tiny.build import SIDE, WIDTH
from model_adapters.tiny.describe import Listing, describe
from model_adapters.tiny.material import RESERVED_SEED, Material, shuffled
from model_adapters.tiny.numerals import soft_labels
from model_adapters.tiny.sight import Heads, exposed, reading, seeing
from model_adapters.tiny.steps import Part, Progress, Steps
from model_adapters.tiny.words import LISTINGS

COPIED = 8  # words of the copying branch
SIGHT_PACE = 0.3  # learning rate of what `sight` has trained, as a share of that of the language model
LONGEST = 512  # tokens after the image, for their positions


class Item(NamedTuple):
    """One image with its listings, ready to be batched."""

    sequence: Shared
    number: int


class Descriptions(Dataset[Item]):
    """Listings of the material's images, other ones in each pass; an item is a function of (seed, number).
    Begins with item `first`."""

    def __init__(self, adapter: Adapter, material: Material, first: int, last: int, seed: int) -> None:
        self._adapter, self._material, self._seed = adapter, material, seed
        self._first, self._last = first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, place: int) -> Item:
        number = self._first + place
        rng = np.random.default_rng([RESERVED_SEED + self._seed, number])
        which = shuffled(len(self._material), number, self._seed)
        listings = describe(self._material.scenes[which], rng, LISTINGS)
        return Item(shared_listings(self._adapter, listings, (SIDE, SIDE), rng), which)


class Frame(NamedTuple):
    """What the chat template writes around a listing, for images of one size.

    Attributes:
        before: ids up to the question, the image's among them.
        between: ids from the question to the answer.
        positions: (L,) or (axes, L), of `before` and what follows it.
        words: the ids of words, which a copying branch draws from.
    """

    before: list[int]
    between: list[int]
    positions: torch.Tensor
    words: list[int]


@lru_cache
def frame(adapter: Adapter, size: tuple[int, int]) -> Frame:
    """The frame for images of `size`; it depends on nothing else of them."""
    vision = adapter.see(PIL.Image.new("L", size))
    tokenizer = adapter.processor.tokenizer
    probe = tokenizer("listing", add_special_tokens=False)["input_ids"]
    ids = adapter.prompt_ids("listing", vision)
    after_image = len(ids) - ids[::-1].index(adapter.image_id)
    start = next(i for i in range(after_image, len(ids)) if ids[i : i + len(probe)] == probe)
    filled = torch.tensor([*ids[:start], *probe * LONGEST])[: start + LONGEST]
    positions = adapter.positions({**vision, "input_ids": filled})
    special = tokenizer.added_tokens_decoder
    words = [number for number in range(len(tokenizer)) if number not in special]
    return Frame(ids[:start], ids[start + len(probe) :], positions, words)


def shared_listings(
    adapter: Adapter, listings: Sequence[Listing], size: tuple[int, int], rng: np.random.Generator
) -> Shared:
    """Listings and a copying branch behind an image of `size` (width, height); the ids are those of
    `adapter.conversation_ids`."""
    tokenizer = adapter.processor.tokenizer
    around = frame(adapter, size)
    written = [_written(adapter, listing, size) for listing in listings]
    ids = tokenizer([text for pair in written for text in pair], add_special_tokens=False)["input_ids"]
    branches = [
        Branch([*header, *around.between], [*text, adapter.end_id])
        for header, text in zip(ids[::2], ids[1::2], strict=True)
    ]
    words = rng.choice(around.words, COPIED).tolist()
    copying = tokenizer("listing: words;", add_special_tokens=False)["input_ids"]
    branches.append(Branch([*copying, *words, *around.between], [*words, adapter.end_id]))
    return share(around.before, branches, around.positions)


def learn_to_read(
    model: Any,
    heads: Heads,
    material: Material,
    adapter: Adapter,
    args: argparse.Namespace,
    progress: Progress,
) -> dict[str, float]:
    """Trains everything on listings; returns mean losses of the last steps."""
    parts = {
        "reading": Part(reading(model)),
        "seeing": Part(seeing(model), SIGHT_PACE),
        "heads": Part(dict(heads.named_parameters()), SIGHT_PACE),
    }
    run = Steps(parts, lr=args.lr, count=args.read_steps, name="read", progress=progress)
    soft = soft_labels(adapter)
    loader = DataLoader(
        Descriptions(adapter, material, run.done * args.batch, args.read_steps * args.batch, args.seed),
        batch_size=args.batch,
        num_workers=args.workers,
        collate_fn=lambda items: collate(items, adapter),
    )
    for step, (inputs, which) in zip(run.steps(), loader, strict=True):
        labels = inputs.pop("labels")
        inputs = adapter.with_mask(inputs, model)
        vision = exposed(material.vision(which), len(which), step)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16), embeddings(model) as read:
            out = model.model(**inputs, **vision, use_cache=False)
            trained = labels[:, 1:] != IGNORE
            logits = model.lm_head(out.last_hidden_state[:, :-1][trained]).float()
            text = -(soft[labels[:, 1:][trained]] * logits.log_softmax(-1)).sum(-1).mean()
            tokens = read[0][inputs["input_ids"] == adapter.image_id].view(len(which), -1, WIDTH)
            seen, parts_of_it = heads.losses(tokens, material, which)
        run.descend(text + seen, {"text": text, **parts_of_it}, args.batch)
    return run.last()


@contextmanager
def embeddings(model: Any) -> Iterator[list[torch.Tensor]]:
    """Collects what the language model is given, (B, L, WIDTH) a call; image tokens are in it as seen."""
    given: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        given.append(named["inputs_embeds"])

    hook = model.model.language_model.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        yield given
    finally:
        hook.remove()


def collate(items: Sequence[Item], adapter: Adapter) -> tuple[dict[str, torch.Tensor], np.ndarray]:
    """What `Adapter.with_mask` makes inputs of, without pixels, and which images they are about (B,)."""
    inputs = adapter.typed(batch([[item.sequence] for item in items], pad_id=adapter.pad_id))
    return inputs, np.array([item.number for item in items])


def _written(adapter: Adapter, listing: Listing, size: tuple[int, int]) -> tuple[str, str]:
    boxes = [adapter.codec.write(box, *size) for box in listing.boxes]
    asked = listing.header.count(BOX_SLOT)
    return fill_slots(listing.header, boxes[:asked]), fill_slots(listing.text, boxes[asked:])
