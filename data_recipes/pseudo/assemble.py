"""From kept answers to a mixture: the chosen training images with their own and their pseudo-entries;
validation and test of the mixture that was annotated, untouched."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.duplicates import Limits, in_mixture
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel, as_json
from data_recipes.pixels import inside
from data_recipes.placing import place
from data_recipes.priors import priors
from data_recipes.pseudo.choose import Chosen, choose_entries, volumes
from data_recipes.pseudo.filters import Answered, verdicts
from data_recipes.pseudo.leaks import check_entries
from data_recipes.pseudo.spec import Annotation
from data_recipes.records import Entry, Image, Mixture
from data_recipes.splits import same_pixels
from data_recipes.stats import PSEUDO, counts, density
from data_recipes.store import SCHEMA, content_hash
from data_recipes.thumbnails import Mark


@dataclass(frozen=True)
class Origin:
    """Who answered: the run's name ("" if there is none), the hash of its weights ("truth" for the truth)."""

    run: str
    weights: str


def assemble(
    mixture: Mixture,
    images: Sequence[Image],
    answers: Sequence[Answered],
    annotation: Annotation,
    origin: Origin,
    marks: Mapping[str, Mark],
    *,
    key: str,
    seed: int,
) -> Mixture:
    """The pseudo-mixture, before anything is written.

    Args:
        images: the chosen training images. marks: of all images of the mixture.
        key: what the result depends on, for `mixture.json`.

    Raises:
        UserError: no answer was kept, or one is about an image that was not chosen.
    """
    judged = list(zip(answers, verdicts(answers, annotation.filters), strict=True))
    good = [answered for answered, passes in judged if all(passes.values())]
    check_entries((answered.entry for answered in good), {image.image_id: image for image in images})
    offered: dict[str, list[Entry]] = defaultdict(list)
    for answered in good:
        entry = answered.entry
        offered[entry.image_id].append(replace(entry, provenance=provenance(answered, annotation, origin)))
    own: dict[str, list[Entry]] = defaultdict(list)
    for image, entry in mixture.of_split("train"):
        own[image.image_id].append(entry)
    rng = np.random.default_rng([annotation.seed, seed])
    about = {(answered.entry.image_id, answered.entry.task) for answered in answers}
    chosen = choose_entries(
        images,
        own,
        offered,
        annotation,
        weights=volumes(mixture),
        asked=Counter(task for _, task in about),
        rng=rng,
    )
    if not chosen.answered:
        raise UserError(
            f"{annotation.mixture}: none of {len(answers)} answers was kept: loosen the filters, or train "
            "the model for longer"
        )
    by_image: dict[str, list[Entry]] = defaultdict(list)
    for entry in (*chosen.own, *chosen.answered):
        by_image[entry.image_id].append(entry)
    members = [image for image in images if image.image_id in by_image]
    held = [image for image in mixture.images if image.split != "train"]
    ids = {image.image_id for image in held}
    entries = [entry for image in members for entry in by_image[image.image_id]]
    entries += [entry for entry in mixture.entries if entry.image_id in ids]
    everything = [*members, *held]
    meta = _meta(mixture, everything, entries, answers, chosen, annotation, origin)
    digests = {name: mark.digest for name, mark in marks.items()}
    meta |= {
        "key": key,
        "mixture_hash": content_hash(everything, entries, digests),
        "leakage": len(same_pixels(everything, digests)),
        "near_duplicates": in_mixture(everything, marks, Limits()).summary(),
    }
    return Mixture(tuple(everything), tuple(entries), meta)


def provenance(answered: Answered, annotation: Annotation, origin: Origin) -> str:
    """What an entry says of where it comes from: `pseudo/` details `/source/task/kind`."""
    details = {
        "model": origin.weights[:12],
        "run": origin.run.replace("/", "_"),
        "log_probability": f"{answered.log_probability:.4f}",
        "agreement": "-" if answered.agreement is None else f"{answered.agreement:.4f}",
        "passed": "+".join(annotation.filters.on),
    }
    said = ";".join(f"{name}={value}" for name, value in details.items())
    return f"{PSEUDO}/{said}/{answered.entry.provenance}"


def _meta(
    mixture: Mixture,
    images: Sequence[Image],
    entries: Sequence[Entry],
    answers: Sequence[Answered],
    chosen: Chosen,
    annotation: Annotation,
    origin: Origin,
) -> dict[str, Any]:
    old = mixture.meta
    name = f"{old.get('name', 'mixture')}-pseudo"
    who = f"run {origin.run}" if origin.run else "a model"
    by = "The truth" if annotation.labels == "truth" else who.capitalize()
    description = (
        f"{by} answered, about training images of mixture {old.get('name', '')}, the tasks that they lack; "
        "answers that passed the filters are entries here, beside the images' own. Validation and test set "
        f"are those of {old.get('name', '')}."
    )
    settings = annotation.model_dump()
    settings["mixture"] = str(old.get("name") or Path(annotation.mixture).name)  # not a path of this machine
    recipe = {
        "name": name,
        "description": description,
        "style": PSEUDO,
        "annotate": settings,
        "annotated": old.get("recipe", {}),
    }
    short = [
        f"{name} {chosen.got[name].entries} of {wanted.entries}"
        for name, wanted in chosen.wanted.items()
        if chosen.got[name].entries < wanted.entries
    ]
    asked = sum(image.split == "train" for image in images)
    said = f"SHORT: too few answers were kept for {', '.join(short)} entries on {asked} images."
    return {
        **{key: old[key] for key in ("license", "licences", "languages", "sources") if key in old},
        "schema": SCHEMA,
        "name": name,
        "recipe": recipe,
        "annotated": {
            "mixture_hash": old.get("mixture_hash"),
            "weights": origin.weights,
            "run": origin.run,
        },
        "counts": counts(images, entries),
        "density": density(images, entries),
        "priors": priors(images, entries),
        "rejected": 0,
        "match": None,
        "notes": [*old.get("notes", ()), *([said] if short else [])],
        "funnel": as_json(_funnel(answers, chosen, annotation).steps),
    }


def _funnel(answers: Sequence[Answered], chosen: Chosen, annotation: Annotation) -> Funnel:
    """Where questions went: each answer goes for the first filter that it fails."""
    steps = Funnel(PSEUDO)
    reasons = Counter(
        next((name for name, passed in passes.items() if not passed), "")
        for passes in verdicts(answers, annotation.filters)
    )
    passed = reasons.pop("", 0)
    steps.tally("filters", "answers", passed, {f"fail {name}": n for name, n in reasons.items()})
    steps.count(
        "entries at the density asked for",
        "entries",
        passed,
        len(chosen.answered),
        "more than were asked for",
    )
    return steps


def place_images(images: Sequence[Image], source: Path, target: Path) -> None:
    """The image files of a mixture's folder in another one, by hard link where the file system can."""
    for image in images:
        if not image.path:
            continue
        file, there = inside(source, image.path), target / image.path
        there.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, there)
        except OSError:
            place(file, there, link=False)
