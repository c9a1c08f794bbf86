"""Which images are annotated, and which of the kept answers go into the mixture."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_recipes.draws import draws
from data_recipes.errors import UserError
from data_recipes.mixing import by_task, image_centric, share_out
from data_recipes.pseudo.spec import Annotation
from data_recipes.records import Entry, Image, Mixture


class Chosen(NamedTuple):
    """Entries for the mixture: own ones first on each image. `pairs` and `entries` are (wanted, got) of
    (image, task) pairs and of entries, own ones counted."""

    own: list[Entry]
    answered: list[Entry]
    pairs: tuple[int, int]
    entries: tuple[int, int]


def volume(mixture: Mixture) -> int:
    """Training entries of the mixture that this one is matched to, else its own."""
    match = mixture.meta.get("match") or {}
    own = sum(1 for _ in mixture.of_split("train"))
    return int(match.get("matched", {}).get("entries", own))


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
    wanted = annotation.images or max(1, round(volume(mixture) / annotation.density.entries_per_image))
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
    rng: np.random.Generator,
) -> Chosen:
    """Own entries, all of them with `keep_own`, and of the answers as many as make up the density, mixed over
    tasks, images and kinds as in an image-centric recipe. Where the answers do not reach, all that there
    are.

    Args:
        own, answered: image id -> entries.
    """
    n, density = len(images), annotation.density
    wanted = round(density.tasks_per_image * n), round(density.entries_per_image * n)
    keepers = images if annotation.keep_own else ()
    stay = [entry for image in keepers for entry in own.get(image.image_id, ())]
    have = len({(entry.image_id, entry.task) for entry in stay}), len(stay)
    candidates = {i.image_id: answered[i.image_id] for i in images if answered.get(i.image_id)}
    sizes = {
        (image_id, name): len(group)
        for image_id, offered in candidates.items()
        for name, group in by_task(offered).items()
    }
    pairs = min(max(0, wanted[0] - have[0]), len(sizes))
    if pairs < len(candidates):  # so sparse that not every image gets a task more
        candidates = dict(list(candidates.items())[:pairs])
        sizes = {pair: size for pair, size in sizes.items() if pair[0] in candidates}
    entries = min(max(pairs, wanted[1] - have[1]), _reach(sizes, pairs))
    chosen = (
        image_centric(
            candidates,
            tasks_per_image=pairs / len(candidates),
            entries_per_image=entries / len(candidates),
            weights={},
            rng=rng,
        )
        if candidates
        else []
    )
    got = have[0] + len({(entry.image_id, entry.task) for entry in chosen}), have[1] + len(chosen)
    return Chosen(stay, chosen, (wanted[0], got[0]), (wanted[1], got[1]))


def _reach(sizes: Mapping[tuple[str, str], int], pairs: int) -> int:
    """The most entries that so many pairs can hold, at least one pair on each image: the largest of each
    image, then the largest of the rest (a greedy choice is best, the choices being bases of a matroid)."""
    first: dict[str, tuple[str, str]] = {}
    for pair, size in sizes.items():
        if pair[0] not in first or size > sizes[first[pair[0]]]:
            first[pair[0]] = pair
    rest = [size for pair, size in sizes.items() if first[pair[0]] != pair]
    return sum(sizes[pair] for pair in first.values()) + sum(heapq.nlargest(pairs - len(first), rest))
