"""Assembles a decentralised mixture: each image carries one task, each task has a source of its own, and
volumes are those of the image-centric mixture it is compared with. Validation and test are that mixture's,
copied."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from data_recipes.duplicates import Known
from data_recipes.errors import UserError
from data_recipes.image_centric import Assembled
from data_recipes.matching import match, warnings_of
from data_recipes.mixing import one_task, share_out
from data_recipes.pixels import decode, inside
from data_recipes.placing import place
from data_recipes.reading import Delivered, Job, read
from data_recipes.recipe_file import Decentralised
from data_recipes.records import Entry, Image, Mixture
from data_recipes.sources import SOURCES, file_options, reads_files, source
from data_recipes.stats import words
from data_recipes.stock import Stock, open_stock
from data_recipes.tasks import TASKS
from data_recipes.thumbnails import Mark, marked, read_marks

_PATIENCE = 3  # rounds in a row that may bring a task nothing


@dataclass
class _Need:
    """What one task asks for, and what was found for it so far."""

    images: int
    total: int
    measure: Callable[[Entry], int]
    exact_images: bool  # else the total is exact, and more images are taken where theirs do not reach it
    first: int  # the next patient to read
    found: list[Delivered] = field(default_factory=list)
    asked: int = 0  # images asked for so far
    idle: int = 0  # rounds in a row that brought nothing
    wanted: tuple[int, int] = (0, 0)  # images and total that a source did not reach

    def reach(self, found: Sequence[Delivered]) -> int:
        return sum(self.measure(entry) for item in found for entry in item.entries)

    def missing(self) -> int:
        """Number of images to read next; 0 when what was found is enough."""
        if len(self.found) < self.images:
            # Only some images have the task: ask for as many more as that takes, within reason.
            rate = max(0.25, len(self.found) / self.asked) if self.asked else 1.0
            return math.ceil((self.images - len(self.found)) / rate)
        short = self.total - self.reach(self.found)
        if short <= 0 or self.exact_images:
            return 0
        return 8 + math.ceil(short * len(self.found) / max(1, self.reach(self.found)))

    def enough(self) -> list[Delivered]:
        """As few of the images found as are needed, in their order."""
        reached, number = 0, 0
        while number < self.images or (reached < self.total and not self.exact_images):
            reached += self.reach(self.found[number : number + 1])
            number += 1
        return self.found[:number]

    def settle(self) -> None:
        """Makes do with what was found."""
        self.wanted = self.images, self.total
        self.images, self.total = len(self.found), self.reach(self.found)


def assemble(
    recipe: Decentralised, matched: Mixture, matched_folder: Path, folder: Path, *, progress: bool
) -> Assembled:
    """Reads the sources into `folder` until every task has its volume; copies the held-out splits.

    Raises:
        UserError: a task has no source, a source runs dry, or a patient appears twice.
    """
    needs = _needs(recipe, matched)
    result = Assembled([], [], {}, [])
    known = Known(_marks(recipe, matched, matched_folder, progress), recipe.duplicates.limits)
    _fill(needs, recipe, matched, known, folder, result, progress)
    for number, (task, need) in enumerate(needs.items()):
        members = need.enough()
        rng = np.random.default_rng([recipe.seed, TASKS.index(task), number])
        total = min(need.total, need.reach(members))
        chosen = one_task(
            {found.image.image_id: found.entries for found in members}, total, need.measure, rng
        )
        used = {entry.image_id for entry in chosen}
        members = [found for found in members if found.image.image_id in used]
        result.images.extend(found.image for found in members)
        result.marks.update({found.image.image_id: found.mark for found in members})
        result.entries.extend(chosen)
    _check_patients(result, matched)
    result.meta.update(match(recipe, matched, result, known, _short(needs, recipe)))
    result.notes.extend(warnings_of(recipe, matched, result))
    _hold_out(result, matched, matched_folder, folder)
    return result


def _needs(recipe: Decentralised, matched: Mixture) -> dict[str, _Need]:
    volume: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    carriers = defaultdict(set)
    for _, entry in matched.of_split("train"):
        volume[entry.task] += 1
        tokens[entry.task] += words(entry) + recipe.match.image_tokens
        carriers[entry.task].add(entry.image_id)
    if missing := sorted(set(volume) - set(recipe.sources)):
        raise UserError(
            f"{recipe.name}: no source for task {', '.join(missing)}, which {recipe.match.to} has"
        )

    pairs = {task: len(carriers[task]) for task in TASKS if volume[task]}
    if recipe.match.by in ("images", "steps"):
        n = sum(image.split == "train" for image in matched.images)
        images = share_out(n, dict.fromkeys(pairs, n), pairs)
        totals = {task: round(images[task] * volume[task] / pairs[task]) for task in pairs}
    else:
        images = pairs
        totals = {task: tokens[task] if recipe.match.by == "tokens" else volume[task] for task in pairs}

    def tokens_of(entry: Entry) -> int:
        return words(entry) + recipe.match.image_tokens

    measure = tokens_of if recipe.match.by == "tokens" else lambda entry: 1
    return {
        task: _Need(
            images=images[task],
            total=totals[task],
            measure=measure,
            exact_images=recipe.match.by in ("images", "steps"),
            first=recipe.first_patient + place * recipe.patients_apart,
        )
        for place, task in enumerate(pairs)
    }


def _fill(
    needs: Mapping[str, _Need],
    recipe: Decentralised,
    matched: Mixture,
    known: Known,
    folder: Path,
    result: Assembled,
    progress: bool,
) -> None:
    """Reads, in rounds, what is missing: how many images a task needs shows only when their entries are
    there."""
    label = f"{recipe.name}: images"
    stocks = _stocks(needs, recipe, matched, known, folder)
    while short := {task: need.missing() for task, need in needs.items() if need.missing()}:
        made = [task for task in short if task not in stocks]
        jobs = [job for task in made for job in _jobs(task, short[task], needs[task], recipe)]
        delivered, bad = read(jobs, folder, label=label, progress=progress and bool(jobs))
        result.rejected.extend(bad)
        for task, number in _shared(short, stocks).items():
            need = needs[task]
            if task in stocks:
                need.asked += number
                fresh = stocks[task].take({"train": number}, label=label, progress=progress, task=task)
            else:
                fresh = [f for f in delivered if f.entries[0].task == task and f.image.split == "train"]
            need.found += fresh
            need.idle = 0 if fresh else need.idle + 1
            if need.idle == _PATIENCE:
                if recipe.match.short == "fail" or not need.found:
                    raise UserError(_too_few(recipe, task, need, stocks.get(task)))
                need.settle()
    for stock in {id(stock): stock for stock in stocks.values()}.values():
        stock.close()
        result.rejected.extend(stock.rejected)
        result.funnel.extend(stock.funnel.steps)
        result.notes.extend(note for note in stock.notes if note not in result.notes)


def _shared(short: Mapping[str, int], stocks: Mapping[str, Stock]) -> dict[str, int]:
    """How many images each task asks for: tasks whose common stock has too few for all of them share it by
    what they lack."""
    asked = dict(short)
    for stock in {id(stocks[task]): stocks[task] for task in short if task in stocks}.values():
        among = {task: number for task, number in short.items() if stocks.get(task) is stock}
        free = stock.free(among)
        if sum(among.values()) > free:
            asked |= share_out(free, among, among)
    return asked


def _too_few(recipe: Decentralised, task: str, need: _Need, stock: Stock | None) -> str:
    name = recipe.sources[task].source
    if not need.found:
        # A file that was not found is named in the notes, with the task that it would give.
        missing = [note for note in stock.notes if "not found" in note and task in note] if stock else []
        why = f" ({' '.join(missing)})" if missing else ""
        return f"{recipe.name}: source {name} has nothing for task {task}{why}: name another source for it"
    unit = "tokens" if recipe.match.by == "tokens" else "entries"
    return (
        f"{recipe.name}: source {name} has {len(need.found)} images with {need.reach(need.found)} of the "
        f"{need.total} {unit} on {need.images} images that task {task} needs: name another source for it, or "
        f"take what there is (match.short=take)"
    )


def _short(needs: Mapping[str, _Need], recipe: Decentralised) -> dict[str, dict[str, Any]]:
    """Of each task whose source did not reach: what it has and what was wanted."""
    unit = "tokens" if recipe.match.by == "tokens" else "entries"
    return {
        task: {
            "unit": unit, "entries": need.total, "wanted": need.wanted[1],
            "images": need.images, "wanted_images": need.wanted[0],
        }
        for task, need in needs.items()
        if any(need.wanted)
    }  # fmt: skip


def _marks(recipe: Decentralised, matched: Mixture, folder: Path, progress: bool) -> Iterable[Mark]:
    """What the images of the matched mixture are known by, where images of files are compared with them."""
    files = (given for given in recipe.sources.values() if reads_files(given.source))
    if all(file_options(given.source, given.options).placing == "skip" for given in files):
        return ()
    return read_marks(folder, matched.images, progress=progress).values()


@contextmanager
def told(recipe: Decentralised, task: str) -> Iterator[None]:
    """A user's error inside says which task's source it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{recipe.name}, task {task}: {error}") from None


def _stocks(
    tasks: Iterable[str], recipe: Decentralised, matched: Mixture, known: Known, folder: Path
) -> dict[str, Stock]:
    """The stock that each task with a source of files draws on; tasks with the same source and options share
    one. Patients of the matched mixture stay out, and copies of its images."""
    taken = pl.Series([image.patient_id for image in matched.images], dtype=pl.String).unique().implode()
    split = pl.col("split")
    usable = split.is_in(["", "train", "train+validation"]) & ~pl.col("patient_id").is_in(taken)

    def splits(images: pl.DataFrame) -> pl.Series:
        return images.select(pl.when(usable).then(pl.lit("train")).otherwise(pl.lit("held out"))).to_series()

    opened: dict[str, Stock] = {}
    stocks: dict[str, Stock] = {}
    for task in tasks:
        given = recipe.sources[task]
        if reads_files(given.source):
            key = json.dumps([given.source, given.options], sort_keys=True, default=str)
            if key not in opened:
                with told(recipe, task):
                    opened[key] = open_stock(
                        given.source, given.options, folder, splits, TASKS,
                        seed=recipe.seed, shuffle=True, known=known if len(known) else None,
                    )  # fmt: skip
            stocks[task] = opened[key]
    return stocks


def _jobs(task: str, number: int, need: _Need, recipe: Decentralised) -> list[Job]:
    given = recipe.sources[task]
    need.asked += number
    units = source(given.source).units(given.options, seed=recipe.seed, images=number, first=need.first)
    need.first += len(units)
    return [Job(SOURCES[given.source], unit, "train", task) for unit in units]


def _check_patients(result: Assembled, matched: Mixture) -> None:
    patient_of = {image.image_id: image.patient_id for image in result.images}
    tasks_of: dict[str, set[str]] = defaultdict(set)
    for entry in result.entries:
        tasks_of[patient_of[entry.image_id]].add(entry.task)
    if both := {image.patient_id for image in matched.images} & set(tasks_of):
        raise UserError(
            f"patient {min(both)} is in the matched mixture as well: choose another first_patient"
        )
    for patient, tasks in tasks_of.items():
        if len(tasks) > 1:
            raise UserError(
                f"patient {patient} has images of {', '.join(sorted(tasks))}: raise patients_apart"
            )


def _hold_out(result: Assembled, matched: Mixture, matched_folder: Path, folder: Path) -> None:
    """Adds validation and test of the matched mixture, image by image and entry by entry."""
    held = {image.image_id: image for image in matched.images if image.split != "train"}
    for image in held.values():
        result.images.append(image)
        result.marks[image.image_id] = _copy(image, matched_folder, folder)
    result.entries.extend(entry for entry in matched.entries if entry.image_id in held)


def _copy(image: Image, matched_folder: Path, folder: Path) -> Mark:
    if not image.path:
        return Mark()
    target = inside(folder, image.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    place(inside(matched_folder, image.path), target, link=False)
    try:
        return marked(np.asarray(decode(target)))
    except ValueError as error:
        raise UserError(f"{matched_folder}: {error}; `imax recipe check` lists all such files") from None
