"""Assembles an image-centric mixture: one source, many tasks on each image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import UserError
from data_recipes.funnel import Funnel, Step
from data_recipes.mixing import by_quota, by_task, image_centric, share_out
from data_recipes.reading import Delivered, Job, read
from data_recipes.recipe_file import ImageCentric
from data_recipes.records import SPLITS, Entry, Image
from data_recipes.reject import Rejection
from data_recipes.sources import SOURCES, reads_files, source
from data_recipes.stock import drawn_splits, open_stock
from data_recipes.tasks import TASKS
from data_recipes.thumbnails import Mark

_PATIENCE = 3  # rounds in a row that may bring nothing that was missing


@dataclass(frozen=True)
class Assembled:
    """A mixture before its tables are written; its image files lie in the builder's folder already.

    Attributes:
        marks: image id -> what it is known by.
        funnel: where rows were lost, source by source.
        notes: sentences for the card.
        meta: keys that this style adds to `mixture.json`.
    """

    images: list[Image]
    entries: list[Entry]
    marks: dict[str, Mark]
    rejected: list[Rejection]
    funnel: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


def assemble(recipe: ImageCentric, folder: Path, *, progress: bool) -> Assembled:
    """Reads the source into `folder` and chooses the entries of every split at the recipe's density.

    Raises:
        UserError: the source refuses its options, or cannot give as many images or entries as asked for.
    """
    result = Assembled([], [], {}, [])
    gather = _files if reads_files(recipe.source) else _made
    delivered = gather(recipe, folder, result, progress)
    for number, split in enumerate(SPLITS):
        members = [found for found in delivered if found.image.split == split]
        if recipe.images is not None:
            members = members[: getattr(recipe.images, split)]
        result.images.extend(found.image for found in members)
        result.marks.update({found.image.image_id: found.mark for found in members})
        result.entries.extend(_choose(members, recipe, np.random.default_rng([recipe.seed, number])))
    if result.funnel:
        offered, chosen = sum(len(found.entries) for found in delivered), len(result.entries)
        last = Funnel(recipe.source)
        last.count("entries at the density asked for", "entries", offered, chosen, "more than were asked for")
        result.funnel.extend(last.steps)
    return result


def _made(recipe: ImageCentric, folder: Path, result: Assembled, progress: bool) -> list[Delivered]:
    """Images of a source that makes them, patients of their own for each split unless the source has a say
    in it.

    Read in rounds: an image may turn out to have no entry, or to belong to another split than it was read
    for.
    """
    if recipe.images is None:
        raise UserError(f"{recipe.name}: source {recipe.source} makes any number of images: set `images`")
    module = source(recipe.source)
    delivered: list[Delivered] = []
    first, idle = recipe.first_patient, 0
    while short := _short(recipe, delivered):
        jobs = []
        for split, number in short.items():
            units = module.units(recipe.options, seed=recipe.seed, images=number, first=first)
            jobs += [Job(SOURCES[recipe.source], unit, split) for unit in units]
            first += len(units)  # a unit is one patient
        fresh, bad = read(jobs, folder, label=f"{recipe.name}: patients", progress=progress)
        delivered += _weighted(fresh, recipe)
        result.rejected.extend(bad)
        idle = idle + 1 if _short(recipe, delivered) == short else 0
        if idle == _PATIENCE:
            wants = ", ".join(f"{number} {split}" for split, number in short.items())
            raise UserError(
                f"{recipe.name}: source {recipe.source} gives no more images, {wants} images are missing"
            )
    return delivered


def _short(recipe: ImageCentric, delivered: Iterable[Delivered]) -> dict[str, int]:
    """How many images each split still lacks."""
    have = Counter(found.image.split for found in delivered)
    wanted = {split: getattr(recipe.images, split) for split in SPLITS}
    return {split: number - have[split] for split, number in wanted.items() if number > have[split]}


def _files(recipe: ImageCentric, folder: Path, result: Assembled, progress: bool) -> list[Delivered]:
    """Images of a source that reads files, split by patient: all of them, or as many as the recipe asks for
    and as have a file that can be used."""
    fractions = recipe.split_fractions.model_dump()
    stock = open_stock(
        recipe.source,
        recipe.options,
        folder,
        lambda images: drawn_splits(images, fractions, recipe.seed),
        [task for task in TASKS if recipe.task_weights.get(task, 1.0) > 0],
        seed=recipe.seed,
        shuffle=recipe.images is not None,
    )
    label = f"{recipe.name}: images"
    if recipe.images is None:
        delivered = stock.take(None, label=label, progress=progress)
        if not delivered and stock.broken:
            raise UserError(
                f"{recipe.name}: none of {stock.broken} image files can be used, first: "
                f"{stock.rejected[-1].reason}; --pixels skip builds the mixture without them"
            )
    else:
        delivered = []
        while short := _short(recipe, delivered):
            fresh = stock.take(short, label=label, progress=progress)
            if not fresh and not stock.left(short):
                split, number = next(iter(short.items()))
                raise UserError(
                    f"{recipe.name}: the files lack {number} {split} images of those that `images` asks for"
                )
            delivered += fresh
    stock.close()
    result.rejected.extend(stock.rejected)
    result.funnel.extend(stock.funnel.steps)
    result.notes.extend(stock.notes)
    return delivered


def _weighted(delivered: Iterable[Delivered], recipe: ImageCentric) -> list[Delivered]:
    """Without entries of tasks that the recipe leaves out, and without images that have no other."""
    weights = recipe.task_weights
    kept = (
        found._replace(entries=tuple(e for e in found.entries if weights.get(e.task, 1.0) > 0))
        for found in delivered
    )
    return [found for found in kept if found.entries]


def _choose(members: Iterable[Delivered], recipe: ImageCentric, rng: np.random.Generator) -> list[Entry]:
    candidates = {found.image.image_id: found.entries for found in members}
    if recipe.density is None or not candidates:
        return [e for offered in candidates.values() for group in by_task(offered).values() for e in group]
    if recipe.task_shares:
        n = len(candidates)
        total = round(recipe.density.entries_per_image * n)
        quotas = share_out(total, dict.fromkeys(recipe.task_shares, total), recipe.task_shares)
        pairs = round(recipe.density.tasks_per_image * n)
        return by_quota(candidates, pairs=pairs, quotas=quotas, rng=rng)
    return image_centric(
        candidates,
        tasks_per_image=recipe.density.tasks_per_image,
        entries_per_image=recipe.density.entries_per_image,
        weights=recipe.task_weights,
        rng=rng,
    )
