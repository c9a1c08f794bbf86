"""Which images are annotated, and which of the kept answers go into the mixture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_recipes.draws import draws
from data_recipes.errors import UserError
from data_recipes.mixing import by_task, of_task, share_out
from data_recipes.pseudo.spec import Annotation
from data_recipes.records import Entry, Image, Mixture
from data_recipes.tasks import TASKS


class Share(NamedTuple):
    """Of one task: its (image, task) pairs and entries, own ones counted."""

    pairs: int
    entries: int


class Chosen(NamedTuple):
    """Entries for the mixture: own ones and answers, by image in the order given; and task -> what of it was
    wanted and is there."""

    own: list[Entry]
    answered: list[Entry]
    wanted: dict[str, Share]
    got: dict[str, Share]


def volumes(mixture: Mixture) -> dict[str, int]:
    """Task -> training entries of the mixture that this one is matched to, else its own."""
    match = mixture.meta.get("match") or {}
    own = Counter(entry.task for _, entry in mixture.of_split("train"))
    return dict(match.get("matched", {}).get("per_task") or own)


def choose_images(mixture: Mixture, annotation: Annotation) -> list[Image]:
    """Training images to annotate, spread evenly over the tasks that they carry, in stored order. More images
    for the same seed are the same and others.

    Raises:
        UserError: the mixture has no training images.
    """
    carried: dict[str, set[str]] = defaultdict(set)
    for _, entry in mixture.of_split("train"):
        carried[entry.image_id].add(entry.task)
    groups: dict[str, list[str]] = defaultdict(list)
    for image_id, tasks in carried.items():
        groups[" ".join(sorted(tasks))].append(image_id)
    if not groups:
        raise UserError(f"{annotation.mixture}: no training images, so there is nothing to annotate")
    whole = sum(volumes(mixture).values()) / annotation.density.entries_per_image
    said = 1.0 if annotation.images is None else annotation.images
    wanted = said if isinstance(said, int) else max(1, round(said * whole))
    capacity = {name: len(members) for name, members in groups.items()}
    shares = share_out(min(wanted, len(carried)), capacity, dict.fromkeys(groups, 1.0))
    taken: set[str] = set()
    for name, members in groups.items():
        keys = draws(members, annotation.seed, "annotated images")
        taken.update(members[place] for place in np.argsort(keys, kind="stable")[: shares[name]])
    return [image for image in mixture.images if image.image_id in taken]


def choose_entries(
    images: Sequence[Image],
    own: Mapping[str, Sequence[Entry]],
    answered: Mapping[str, Sequence[Entry]],
    annotation: Annotation,
    *,
    weights: Mapping[str, int],
    asked: Mapping[str, int],
    rng: np.random.Generator,
) -> Chosen:
    """Own entries, all of them with `keep_own`, and of the answers as many as make up the density, each task
    in the share that it has in the matched mixture. A task that too few answers were kept of stays short:
    were it filled up with others, filters would change what is trained on as well as how right it is.

    Args:
        own, answered: image id -> entries.
        weights: task -> its entries in the matched mixture.
        asked: task -> how many of the images were asked about it, whatever was kept.
    """
    order = {image.image_id: place for place, image in enumerate(images)}
    keepers = images if annotation.keep_own else ()
    stay = [entry for image in keepers for entry in own.get(image.image_id, ())]
    have = _shares(stay)
    tasks = [name for name in TASKS if have[name].entries or asked.get(name)]
    wanted = _wanted(len(images), annotation, {name: weights.get(name, 0) for name in tasks}, have, asked)
    offered: dict[str, dict[str, list[Entry]]] = {name: {} for name in TASKS}
    for image in images:
        for name, group in by_task(answered.get(image.image_id, ())).items():
            offered[name][image.image_id] = group
    chosen: list[Entry] = []
    for name in tasks:
        pairs, entries = (max(0, want - got) for want, got in zip(wanted[name], have[name], strict=True))
        chosen += of_task(offered[name], pairs, entries, rng)
    chosen.sort(key=lambda entry: order[entry.image_id])
    got = _shares([*stay, *chosen])
    return Chosen(stay, chosen, wanted, {name: got[name] for name in tasks})


def _wanted(
    n: int,
    annotation: Annotation,
    weights: Mapping[str, int],
    have: Mapping[str, Share],
    asked: Mapping[str, int],
) -> dict[str, Share]:
    """Entries in proportion to the weights; pairs, in proportion to the images that can carry the task."""
    density = annotation.density
    total = round(density.entries_per_image * n)
    known = weights if any(weights.values()) else dict.fromkeys(weights, 1)
    entries = share_out(total, dict.fromkeys(known, total), known)
    carriers = {name: have[name].pairs + asked.get(name, 0) for name in weights}
    capacity = {name: min(entries[name], carriers[name]) for name in weights}
    pairs = min(round(density.tasks_per_image * n), sum(capacity.values()))
    shared = share_out(pairs, capacity, carriers)
    return {name: Share(shared[name], entries[name]) for name in weights}


def _shares(entries: Sequence[Entry]) -> dict[str, Share]:
    pairs = Counter(name for _, name in {(entry.image_id, entry.task) for entry in entries})
    number = Counter(entry.task for entry in entries)
    return {name: Share(pairs[name], number[name]) for name in TASKS}
