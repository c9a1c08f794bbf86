"""What a decentralised mixture and the one it is matched to have in common: volumes, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.duplicates import Known
from data_recipes.image_centric import Assembled
from data_recipes.recipe_file import Decentralised
from data_recipes.records import Entry, Mixture
from data_recipes.sources import source
from data_recipes.stats import words

_HELD_EQUAL = {
    "entries": "the same number of training entries of each task",
    "images": "the same number of training images",
    "tokens": "the same number of training tokens of each task, to within one entry",
    "steps": "the same number of training images, and training goes on for the same number of steps",
}


def match(
    recipe: Decentralised, matched: Mixture, result: Assembled, known: Known, short: Mapping[str, Any]
) -> dict[str, Any]:
    """The keys `match` and `budget` of `mixture.json`; `result` holds the training split alone.

    Args:
        known: the images of the matched mixture.
        short: task -> what its source lacks.
    """
    train = [entry for _, entry in matched.of_split("train")]
    theirs = _quantities(sum(image.split == "train" for image in matched.images), train, recipe)
    ours = _quantities(len(result.images), result.entries, recipe)
    meta: dict[str, Any] = {}
    if recipe.match.by == "steps":
        ours["steps"] = theirs["steps"]
        meta["budget"] = {"train_entries": theirs["steps"]}
    meta["match"] = {
        "to": matched.meta["name"],
        "by": recipe.match.by,
        "held_equal": _HELD_EQUAL[recipe.match.by],
        "mixture_hash": matched.meta["mixture_hash"],
        "image_tokens": recipe.match.image_tokens,
        "this": ours,
        "matched": theirs,
        "short": dict(short),
        "disjoint": disjoint(result, matched, known),
    }
    return meta


def disjoint(result: Assembled, matched: Mixture, known: Known) -> dict[str, int]:
    """How many patients and images the training split shares with the whole matched mixture: patients and
    images by id, and images that are copies by their pixels. All are 0 in a sound mixture; `compared` says
    how many images have pixels on both sides, 0 where only ids tell."""
    patients = {image.patient_id for image in result.images} & {image.patient_id for image in matched.images}
    images = {image.image_id for image in result.images} & {image.image_id for image in matched.images}
    marks = [result.marks[image.image_id] for image in result.images]
    return {
        "patients": len(patients),
        "images": len(images),
        "copies": len(known.copies(marks)),
        "compared": sum(bool(mark.thumbnail) for mark in marks) if len(known) else 0,
    }


def warnings_of(recipe: Decentralised, matched: Mixture, result: Assembled) -> list[str]:
    """Notes for the card: tasks with less than their volume, and sources made of the same images."""
    match = result.meta["match"]
    notes = [
        f"SHORT: task {task} has {found['entries']} of {found['wanted']} {found['unit']}, on "
        f"{found['images']} of {found['wanted_images']} images: its source has no more."
        for task, found in match["short"].items()
    ]
    if match["disjoint"]["compared"]:
        return notes
    names = {image.source for image in (*matched.images, *result.images)}
    origins: dict[str, list[str]] = {}
    for name in sorted(names):
        origins.setdefault(getattr(source(name), "IMAGES_OF", name), []).append(name)
    return notes + [
        f"LEAKAGE cannot be ruled out: sources {' and '.join(alike)} are made of the same images, and "
        f"without pixels only ids tell."
        for alike in origins.values()
        if len(alike) > 1
    ]


def _quantities(images: int, entries: Sequence[Entry], recipe: Decentralised) -> dict[str, Any]:
    tokens = sum(words(entry) + recipe.match.image_tokens for entry in entries)
    return {
        "images": images,
        "entries": len(entries),
        "tokens": tokens,
        "steps": len(entries),
        "per_task": dict(Counter(e.task for e in entries)),
    }
