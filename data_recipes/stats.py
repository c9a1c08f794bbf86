"""What a mixture holds: counts, densities, how tasks share images. All of it is computed from the records."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from data_recipes.licence import licence
from data_recipes.priors import priors
from data_recipes.records import BOX_SLOT, SPLITS, Entry, Image, Mixture
from data_recipes.splits import crossing
from data_recipes.tasks import TASKS

PSEUDO = "pseudo"  # what the provenance of a pseudo-label starts with
_WORD = re.compile(r"\w+|[^\w\s]")


def words(entry: Entry) -> int:
    """Words and punctuation marks of prompt and target; a box counts as its four numbers."""
    text = f"{entry.prompt} {entry.target}".replace(BOX_SLOT, " 1 2 3 4 ")
    return len(_WORD.findall(text))


def counts(images: Sequence[Image], entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Per split: images, patients, entries, and entries per task."""
    split_of = {image.image_id: image.split for image in images}
    result: dict[str, dict[str, Any]] = {}
    for split in SPLITS:
        members = [image for image in images if image.split == split]
        per_task = Counter(entry.task for entry in entries if split_of[entry.image_id] == split)
        result[split] = {
            "images": len(members),
            "patients": len({image.patient_id for image in members}),
            "entries": sum(per_task.values()),
            "per_task": {task: per_task[task] for task in TASKS},
        }
    return result


def tasks_of_images(images: Iterable[Image], entries: Iterable[Entry], split: str) -> dict[str, Counter[str]]:
    """Image id -> number of entries per task, for every image of the split."""
    found: dict[str, Counter[str]] = {image.image_id: Counter() for image in images if image.split == split}
    for entry in entries:
        if entry.image_id in found:
            found[entry.image_id][entry.task] += 1
    return found


def density(images: Iterable[Image], entries: Iterable[Entry], split: str = "train") -> dict[str, float]:
    """Mean number of tasks and of entries per image of the split (0 when it has no images)."""
    found = tasks_of_images(images, entries, split)
    n = max(1, len(found))
    return {
        "tasks_per_image": sum(len(tasks) for tasks in found.values()) / n,
        "entries_per_image": sum(tasks.total() for tasks in found.values()) / n,
    }


def origin(entry: Entry) -> str:
    """The provenance of an entry without what is its alone: that of a pseudo-label says how likely it was."""
    first, *rest = entry.provenance.split("/")
    return "/".join([first, *rest[1:]]) if first == PSEUDO else entry.provenance


def statistics(mixture: Mixture) -> dict[str, Any]:
    """All of it, ready for JSON: counts, the funnel, how many patients cross splits, and for the train split
    the density, how many images have 1, 2, ... tasks and entries, `cooccurrence[a][b]` (the number of images
    that carry both tasks), and entries per kind; near-duplicates as the build found them (None: by an older
    version, which did not look), and what the text alone answers."""
    found = tasks_of_images(mixture.images, mixture.entries, "train")
    together: dict[str, Counter[str]] = defaultdict(Counter)
    for tasks in found.values():
        for task in tasks:
            together[task].update(tasks.keys())
    kinds = Counter(origin(entry) for _, entry in mixture.of_split("train"))
    return {
        "name": mixture.meta.get("name", ""),
        "mixture_hash": mixture.meta.get("mixture_hash", ""),
        "rejected": mixture.meta.get("rejected", 0),
        "funnel": mixture.meta.get("funnel", []),
        "licences": {
            name: licence(said).as_json() for name, said in mixture.meta.get("licences", {}).items()
        },
        "without_pixels": sum(not image.path for image in mixture.images),
        "leakage": mixture.meta.get("leakage", 0),
        "near_duplicates": mixture.meta.get("near_duplicates"),
        "match": mixture.meta.get("match"),
        "priors": priors(mixture.images, mixture.entries),
        "patients_in_two_splits": len(crossing(mixture.images)),
        "counts": counts(mixture.images, mixture.entries),
        "density": density(mixture.images, mixture.entries),
        "images_by_tasks": dict(sorted(Counter(len(tasks) for tasks in found.values()).items())),
        "images_by_entries": dict(sorted(Counter(tasks.total() for tasks in found.values()).items())),
        "cooccurrence": {a: {b: together[a][b] for b in TASKS} for a in TASKS},
        "kinds": dict(kinds.most_common()),
    }
