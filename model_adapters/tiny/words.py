"""The texts that the words of `tiny` are taken from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_recipes import tasks
from data_recipes.records import BOX_SLOT
from data_recipes.sources import phantom
from model_adapters.tiny.describe import describe
from model_adapters.tiny.material import RESERVED_SEED

LISTINGS = 6  # of a patient


def corpus(seed: int, patients: int = 300) -> Iterator[str]:
    """Texts whose words the tokenizer knows: listings, prompts and answers of phantom patients."""
    rng = np.random.default_rng(seed)
    for task in tasks.TASKS:
        yield from (text for texts in tasks.task(task).PROMPTS.values() for text in texts)
    for unit in phantom.units({}, seed=RESERVED_SEED + seed, images=patients):
        _, scene = phantom.render(unit.seed, unit.index, 0)
        for listing in describe(scene, rng, LISTINGS):
            yield f"{listing.header} {listing.text}".replace(BOX_SLOT, "[0.00, 0.01]")
        for sample in phantom.read(unit):
            yield from (text for entry in sample.entries for text in (entry.prompt, entry.target))
