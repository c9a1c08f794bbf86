"""Outputs of which some are right, some wrong and some unreadable, in canonical notation."""

import numpy as np
import pytest

from data_recipes.records import fill_slots
from data_recipes.store import read_mixture
from eval.predictions import CanonicalBoxes


@pytest.fixture
def pairs(mixture_dir):
    return list(read_mixture(mixture_dir).of_split("test"))


@pytest.fixture
def outputs(pairs):
    """entry_id -> the entry's own target, that of another entry of its task, or something unreadable."""
    rng, codec = np.random.default_rng(7), CanonicalBoxes()
    found = {}
    for image, entry in pairs:
        others = [other for _, other in pairs if other.task == entry.task]
        source = entry if rng.random() < 0.6 else others[int(rng.integers(len(others)))]
        written = [codec.write(box, image.width, image.height) for box in source.target_boxes]
        unreadable = rng.random() < 0.1
        found[entry.entry_id] = "" if unreadable else fill_slots(source.target, written)
    return found
