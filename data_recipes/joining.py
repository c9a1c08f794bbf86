"""Several mixtures in one training: their training entries together, and no patient on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, Mixture


@dataclass(frozen=True)
class Joined:
    """A mixture with the training entries of others.

    Attributes:
        mixture: the first one, and the training images and entries of the others that it lacks.
        elsewhere: image id -> folder, for images whose files are not in the folder of the first.
        added: what each of the others gave: name, mixture_hash, images, entries, and how many entries were
            there already.
    """

    mixture: Mixture
    elsewhere: dict[str, Path]
    added: list[dict[str, Any]]


def join(first: Mixture, others: Sequence[tuple[Path, Mixture]]) -> Joined:
    """The first mixture with the training entries of `others`, given with their folders; files stay where
    they are.

    An image that several have (a mixture and its pseudo-annotation) is one image with the entries of all; an
    equal entry counts once. Entries that share an id and differ both stay, the later one under a longer id.

    Raises:
        UserError: images of one id are of different patients or sizes, or a patient is held out in one
            mixture and trained on in another.
    """
    refuse_leaks([(_name(mixture), mixture) for mixture in (first, *(mixture for _, mixture in others))])
    images, entries = first.image_by_id(), {entry.entry_id: entry for entry in first.entries}
    elsewhere: dict[str, Path] = {}
    added = []
    for folder, mixture in others:
        fresh, new, known = 0, 0, 0
        for image, entry in mixture.of_split("train"):
            if image.image_id not in images:
                images[image.image_id] = image
                elsewhere[image.image_id] = folder
                fresh += 1
            _same(images[image.image_id], image, _name(mixture))
            if any(entry == other for other in _alike(entries, entry, _name(mixture))):
                known += 1
                continue
            if entry.entry_id in entries:
                entry = replace(entry, entry_id=f"{entry.entry_id}@{_name(mixture)}")
            entries[entry.entry_id] = entry
            new += 1
        added.append({
            "name": _name(mixture),
            "mixture_hash": mixture.meta.get("mixture_hash"),
            "images": fresh,
            "entries": new,
            "known_entries": known,
        })  # fmt: skip
    return Joined(Mixture(tuple(images.values()), tuple(entries.values()), first.meta), elsewhere, added)


def refuse_leaks(mixtures: Sequence[tuple[str, Mixture]]) -> None:
    """Lets no patient of a validation or test split of one mixture be in the training split of another.

    Args:
        mixtures: with the names to call them by.

    Raises:
        UserError: how many patients are, and in which mixtures.
    """
    trained = [_patients(mixture, train=True) for _, mixture in mixtures]
    for name, mixture in mixtures:
        held = _patients(mixture, train=False)
        for (other, _), patients in zip(mixtures, trained, strict=True):
            if shared := held & patients:
                raise UserError(
                    f"leakage: {len(shared)} patients of the validation or test split of {name} are in the "
                    f"training split of {other}, such as {min(shared)}: train on mixtures that hold out the "
                    "same patients"
                )


def _patients(mixture: Mixture, *, train: bool) -> set[str]:
    return {image.patient_id for image in mixture.images if (image.split == "train") == train}


def _alike(entries: dict[str, Entry], entry: Entry, name: str) -> list[Entry]:
    """The entries there that may be the same: of its id, or of the id it would get; ids aside."""
    found = (entries.get(entry.entry_id), entries.get(f"{entry.entry_id}@{name}"))
    return [replace(other, entry_id=entry.entry_id) for other in found if other]


def _same(one: Image, other: Image, name: str) -> None:
    facts = [(image.patient_id, image.split, image.width, image.height) for image in (one, other)]
    if facts[0] != facts[1]:
        raise UserError(f"{name}: image {one.image_id} is another image in the mixture it is joined with")


def _name(mixture: Mixture) -> str:
    return str(mixture.meta.get("name") or "the mixture")
