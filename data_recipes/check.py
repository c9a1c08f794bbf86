"""Everything that can be wrong with a mixture on disk, said in lines. The slow counterpart of
`read_mixture`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_recipes.duplicates import Limits, in_mixture
from data_recipes.pixels import decode, inside
from data_recipes.records import SPLITS, Image, Mixture
from data_recipes.reject import Rejection, sift_entries, sift_images
from data_recipes.splits import crossing, same_pixels
from data_recipes.stats import counts, density
from data_recipes.store import ENTRIES, IMAGES, content_hash, read_meta, record
from data_recipes.tables import read_rows
from data_recipes.thumbnails import Mark, marked

_TOLERANCE = 0.02  # how far a density may lie from the one asked for, as a fraction


class Report(NamedTuple):
    """`problems` are about the mixture as a whole; `rejected` are the rows that cannot be used; `mixture`
    is what survives; `notes` are worth knowing, and no problem."""

    problems: list[str]
    rejected: list[Rejection]
    mixture: Mixture
    notes: list[str]

    @property
    def sound(self) -> bool:
        return not self.problems and not self.rejected


def check(folder: Path) -> Report:
    """Checks every row, decodes every image, and looks at splits, densities and the content hash.

    Rows that cannot be used are added to `rejected.jsonl` and counted in `mixture.json` and the card.

    Raises:
        UserError: the folder is no mixture, or a table cannot be read at all.
    """
    meta = read_meta(folder)
    image_rows = read_rows(folder / IMAGES)
    images, rejected = sift_images(image_rows, IMAGES, folder)
    marks, undecoded = _decode_all(images, image_rows, folder)
    rejected += undecoded
    images = {name: image for name, image in images.items() if name in marks}
    entries, bad = sift_entries(read_rows(folder / ENTRIES), ENTRIES, images)
    rejected += bad

    mixture = Mixture(tuple(images.values()), tuple(entries), meta)
    problems = [*_patients(mixture), *_densities(mixture), *_idle(mixture)]
    digests = {name: mark.digest for name, mark in marks.items()}
    if not rejected:  # with rows missing, of course the content differs
        problems += _content(mixture, digests)
    copied, notes = _copies(mixture, marks, same_pixels(mixture.images, digests))
    problems += copied
    if rejected:
        record(rejected, meta, folder)
    return Report(problems, rejected, mixture, notes)


def _decode_all(
    images: Mapping[str, Image], rows: list[tuple[int, Any]], folder: Path
) -> tuple[dict[str, Mark], list[Rejection]]:
    """Image id -> its mark, and the rows whose file cannot be decoded."""
    number_of = {
        row["image_id"]: number for number, row in reversed(rows) if isinstance(row.get("image_id"), str)
    }
    marks: dict[str, Mark] = {}
    rejected = []
    for image in images.values():
        try:
            marks[image.image_id] = _mark(image, folder)
        except ValueError as error:
            rejected.append(Rejection(IMAGES, number_of[image.image_id], str(error)))
    return marks, rejected


def _mark(image: Image, folder: Path) -> Mark:
    if not image.path:
        return Mark()
    pixels = np.asarray(decode(inside(folder, image.path)))
    height, width = pixels.shape
    if (width, height) != (image.width, image.height):
        raise ValueError(f"{image.path} is {width} x {height}, the row says {image.width} x {image.height}")
    return marked(pixels)


def _copies(
    mixture: Mixture, marks: Mapping[str, Mark], same: list[tuple[str, str]]
) -> tuple[list[str], list[str]]:
    """Images of two splits that are the same or copies, which is a problem; and a note on copies within."""
    limits = Limits(**mixture.meta.get("recipe", {}).get("duplicates", {}))
    found = in_mixture(mixture.images, marks, limits)
    problems = [f"{a} and {b} have the same pixels, in two splits" for a, b in same]
    problems += [
        f"{a} and {b} are near-duplicates, in two splits"
        for a, b in found.across
        if marks[a].digest != marks[b].digest
    ]
    if not found.within:
        return problems, []
    first = " and ".join(found.within[0])
    return problems, [f"{len(found.within)} pairs of near-duplicates within a split, the first: {first}"]


def _patients(mixture: Mixture) -> list[str]:
    return [
        f"patient {patient} has images in {' and '.join(sorted(splits))}"
        for patient, splits in sorted(crossing(mixture.images).items())
    ]


def _densities(mixture: Mixture) -> list[str]:
    asked = mixture.meta.get("recipe", {}).get("density")
    if not asked:
        return []
    problems = []
    for split in SPLITS:
        found = density(mixture.images, mixture.entries, split)
        for name, value in found.items():
            if value and abs(value / asked[name] - 1) > _TOLERANCE:
                problems.append(f"{split}: {name} is {value:.2f}, the recipe asks for {asked[name]:.2f}")
    return problems


def _idle(mixture: Mixture) -> list[str]:
    used = {entry.image_id for entry in mixture.entries}
    idle = [image.image_id for image in mixture.images if image.image_id not in used]
    return [f"{len(idle)} images carry no entry, the first is {idle[0]}"] if idle else []


def _content(mixture: Mixture, digests: Mapping[str, str]) -> list[str]:
    problems = []
    if content_hash(mixture.images, mixture.entries, digests) != mixture.meta.get("mixture_hash"):
        problems.append("the content is not what was built: its hash differs from mixture_hash")
    if counts(mixture.images, mixture.entries) != mixture.meta.get("counts"):
        problems.append("the counts in mixture.json differ from those of the tables")
    return problems
