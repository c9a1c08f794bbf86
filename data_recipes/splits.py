"""Splits by patient: no patient may have images in two splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

from data_recipes.records import SPLITS, Image


def by_patient(patients: Iterable[str], fractions: Mapping[str, float], seed: int) -> dict[str, str]:
    """Patient -> split, drawn by hashing, so that a patient keeps its split when others come or go.

    Args:
        patients: patient ids; repeated ones do no harm.
        fractions: split -> share of the patients; the shares sum to 1.
        seed: another seed gives another draw.
    """
    return {patient: _draw(f"{seed}/{patient}", fractions) for patient in patients}


def _draw(key: str, fractions: Mapping[str, float]) -> str:
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    edge = 0.0
    for split in SPLITS:
        edge += fractions.get(split, 0.0)
        if place < edge:
            return split
    return max(SPLITS, key=lambda split: fractions.get(split, 0.0))  # the shares summed to a hair below 1


def crossing(images: Iterable[Image]) -> dict[str, set[str]]:
    """Patients with images in more than one split -> those splits. Empty for a sound mixture."""
    splits = defaultdict(set)
    for image in images:
        splits[image.patient_id].add(image.split)
    return {patient: found for patient, found in splits.items() if len(found) > 1}


def same_pixels(images: Iterable[Image], digests: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of images in different splits with the same pixels: leakage, as between datasets that were made
    of the same images. Each image stands in one pair at most; images without pixels (digest "") in none."""
    first: dict[str, Image] = {}
    pairs = []
    for image in images:
        mark = digests.get(image.image_id)
        if mark and first.setdefault(mark, image).split != image.split:
            pairs.append((first[mark].image_id, image.image_id))
    return pairs
