"""A folder that is new to a run, as instances that its encoder can embed: made as the run's pools are."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from zlib import crc32

import numpy as np
import polars as pl

from data_recipes.errors import UserError
from taco_probe.taco import making
from taco_probe.taco.data import folder as read_folder
from taco_probe.taco.data.base import LabelKind
from taco_probe.taco.data.folder import Pairs
from taco_probe.taco.making import WORK, cut, make_all, pixels, read_all
from taco_probe.taco.plan import Wanted
from taco_probe.taco.pool import COLUMNS, Pool
from taco_probe.taco.settings import Settings
from taco_probe.taco.tasks import TASKS

Kind = Literal["masks", "pairs", "images"]
OWN = "(pair)"  # in the place of a task: input and target as the folder has them


@dataclass(frozen=True)
class Newcomer:
    """A folder's images as tasks.

    Attributes:
        kind: images with masks, pairs of input and target, or images alone.
        pool: instances; the number of its image stands in column `image`.
        images: how many were used. left_out: why others could not be.
        reading: the task that draws the masks as they are; "" without masks.
    """

    kind: Kind
    pool: Pool
    images: int
    left_out: tuple[str, ...]
    reading: str


def newcomer(root: Path, settings: Settings, *, images: int = 32, labels: LabelKind = "classes") -> Newcomer:
    """Instances of up to `images` images (`making.IMAGES` at most), spread over the folder: of every task
    that needs nothing but an image, of every semantic task that the masks allow, and the folder's own pairs.

    Raises:
        UserError: a folder that is not one of images, masks or pairs; with what is wrong.
    """
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    pairs = Pairs(root) if Pairs.there(root) else None
    dataset = pairs.inputs if pairs else read_folder(root, name=root.resolve().name, labels=labels)
    chosen = dataset.spread(min(images, making.IMAGES))
    read = read_all([dataset.only(chosen)], settings, quiet=True)
    name, found = dataset.name, read[dataset.name]
    has_masks = dataset.labels != "none"
    wanted, reading = [], ""
    for task in settings.tasks_used:
        if TASKS[task].needs and not (has_masks and TASKS[task].category == "semantic"):
            continue
        able = [k for k, allowed in enumerate(found.allows) if allowed is not None and not allowed[task]]
        wanted += [Wanted(name, k, task, crc32(f"{task} {dataset.names[chosen[k]]}".encode())) for k in able]
    for task in ("class_mask", "foreground_mask"):
        if not reading and any(one.task == task for one in wanted):
            reading = task
    if has_masks and not reading:
        raise UserError(
            f"{root}: no mask of the {len(chosen)} images looked at has foreground and background"
        )
    with tempfile.TemporaryDirectory() as at:
        rows = make_all(wanted, read, settings, Path(at), name=name, quiet=True)
        made = [np.load(Path(at) / f"{part}.npy") for part in ("inputs", "targets")]
    about = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    # Which image a row is of: all that resampling needs.
    usable = [k for k, picture in enumerate(found.pictures) if picture is not None]
    numbers = [str(usable.index(one.image)) for one in wanted]
    pool = Pool(made[0], made[1], about.with_columns(image=pl.Series(numbers, dtype=pl.String)))
    if pairs:
        pool = _with_pairs(pool, pairs, chosen, usable, settings)
    kind: Kind = "pairs" if pairs else "masks" if has_masks else "images"
    return Newcomer(kind, pool, len(usable), tuple(found.unreadable), reading)


def _with_pairs(pool: Pool, pairs: Pairs, chosen: list[int], usable: list[int], settings: Settings) -> Pool:
    """The pool with the folder's own pairs behind, each of the same piece of input and target."""
    made: list[list[np.ndarray]] = [[], []]
    rows = []
    side = WORK * settings.size
    for number, k in enumerate(usable):
        pair = pairs[chosen[k]]
        rng = np.random.default_rng(crc32(pairs.names[chosen[k]].encode()))
        height, width = pair.input.shape[:2]
        share = rng.uniform(settings.crop, 1)
        top, left = rng.uniform(0, 1 - share, 2) * (height, width)
        box = (top, left, top + share * height, left + share * width)
        for part, image in enumerate(pair):
            made[part].append(pixels(cut(image, None, box, (side, side))[0], settings.size))
        rows.append((OWN, OWN, "inputs", "inputs", "unknown", str(number), None, "", "", 0.0, -1, 0))
    return Pool(
        np.concatenate([pool.inputs, np.stack(made[0])]),
        np.concatenate([pool.targets, np.stack(made[1])]),
        pl.concat([pool.rows, pl.DataFrame(rows, schema=COLUMNS, orient="row")]),
    )
