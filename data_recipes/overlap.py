"""What two mixtures have in common: patients, and images by id, by pixels, and as near-duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_recipes.duplicates import Limits, pairs
from data_recipes.records import SPLITS, Image
from data_recipes.store import read_mixture
from data_recipes.thumbnails import Mark, read_marks, stacked

KINDS = ("patients", "image ids", "same pixels", "near-duplicates")


def overlap(
    a: Path, b: Path, limits: Limits | None = None, *, progress: bool = False, shown: int = 5
) -> dict[str, Any]:
    """The overlap of the mixtures in two folders, ready for JSON.

    `shared[kind][split of a][split of b]` is a number for each of KINDS: patients and images of one id in
    both; pixels (by their digest) of both; images of a that are near-duplicates of an image of b, which count
    those with the same pixels too, if they are no plain areas. `compared` are the images with pixels on
    either side, and `first` the first pairs of near-duplicates.

    Raises:
        UserError: a folder is no mixture.
    """
    sides = [read_mixture(folder) for folder in (a, b)]
    marks = [
        read_marks(folder, side.images, progress=progress) for folder, side in zip((a, b), sides, strict=True)
    ]
    ours, theirs = sides[0].images, sides[1].images
    copies = _copies(ours, theirs, marks, limits or Limits())
    found = {
        "patients": _same(*([(image.patient_id, image) for image in side.images] for side in sides)),
        "image ids": _same(*([(image.image_id, image) for image in side.images] for side in sides)),
        "same pixels": _same(
            *(
                [(mark[image.image_id].digest, image) for image in side.images]
                for side, mark in zip(sides, marks, strict=True)
            )
        ),
        "near-duplicates": {(x.split, y.split, x.image_id) for x, y in copies},
    }
    return {
        "names": [side.meta.get("name", "") for side in sides],
        "shared": {kind: _by_split(found[kind]) for kind in KINDS},
        "compared": [sum(bool(mark.thumbnail) for mark in side.values()) for side in marks],
        "first": [[x.image_id, y.image_id] for x, y in copies[:shown]],
    }


def _same(a: Iterable[tuple[str, Image]], b: Iterable[tuple[str, Image]]) -> set[tuple[str, str, str]]:
    """(split in a, split in b, key) for each key that both have; "" is no key."""
    there: dict[str, set[str]] = {}
    for key, image in b:
        there.setdefault(key, set()).add(image.split)
    return {(image.split, split, key) for key, image in a if key for split in there.get(key, ())}


def _by_split(found: Iterable[tuple[str, str, str]]) -> dict[str, dict[str, int]]:
    number = Counter((x, y) for x, y, _ in found)
    return {x: {y: number[x, y] for y in SPLITS} for x in SPLITS}


def _copies(
    ours: Sequence[Image], theirs: Sequence[Image], marks: Sequence[Mapping[str, Mark]], limits: Limits
) -> list[tuple[Image, Image]]:
    known = [
        [image for image in side if mark[image.image_id].thumbnail]
        for side, mark in zip((ours, theirs), marks, strict=True)
    ]
    small = [
        stacked(mark[image.image_id].thumbnail for image in side)
        for side, mark in zip(known, marks, strict=True)
    ]
    return [(known[0][i], known[1][j]) for i, j in pairs(small[0], small[1], limits)]
