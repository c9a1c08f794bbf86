"""What the transfer study learns from: the same images for every task, and others to be judged on.

Every chosen task is pretrained on the same datasets, those of the training pool that all chosen tasks can be
made of, so that sources differ in nothing but the task. Fine-tuning and measuring are on the test pool:
on datasets that the training pool lacks where all chosen tasks can be made of one, else on all. Of each
dataset the first half of the images, in the order of their names, gives the few examples, and the second half
is measured on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.nn import functional

from data_recipes.errors import UserError, unknown
from taco_probe.taco.pool import PLAIN, Pool
from taco_probe.taco.tasks import TASKS
from taco_probe.taco.transfer.agreement import MIN_TASKS

SIDE = 64  # pixels; the U-Net's images
MEASURED = 96  # instances of a target that are measured on, at most, of all datasets alike
# Each can be told from the input alone: a rotation by a random angle cannot.
DEFAULT_TASKS = (
    "foreground_mask", "boundary", "distance", "centres", "boxes",
    "denoise_gaussian", "deblur", "super_resolution", "inpainting",
    "flip_horizontal", "flip_vertical", "inversion",
)  # fmt: skip


@dataclass(frozen=True)
class Examples:
    """Instances of one task. inputs, targets: (N, 3, SIDE, SIDE) uint8; dataset: (N,) numbers of datasets."""

    inputs: torch.Tensor
    targets: torch.Tensor
    dataset: torch.Tensor

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Material:
    """All that is learnt from and measured on, by task.

    Attributes:
        pretrain, fine_tune: names of datasets; `Examples.dataset` counts in them.
        held_out: whether the datasets of `fine_tune` are none of the training pool.
        source: to pretrain on. few: that the few examples are drawn from. measured: for the error.
    """

    tasks: tuple[str, ...]
    pretrain: tuple[str, ...]
    fine_tune: tuple[str, ...]
    held_out: bool
    source: dict[str, Examples]
    few: dict[str, Examples]
    measured: dict[str, Examples]

    @property
    def identity(self) -> str:
        """A hash of all tasks, datasets and pixels."""
        found = hashlib.blake2b(repr((self.tasks, self.pretrain, self.fine_tune)).encode(), digest_size=16)
        for part in (self.source, self.few, self.measured):
            for task in self.tasks:
                for pixels in (part[task].inputs, part[task].targets, part[task].dataset):
                    found.update(pixels.numpy().tobytes())
        return found.hexdigest()


def choose(train: Pool, test: Pool, tasks: Sequence[str] = DEFAULT_TASKS) -> Material:
    """The study's instances of these tasks; failed and altered instances of the pools are left out.

    Raises:
        UserError: an unknown task, one twice, too few, or no dataset of a pool that all tasks are made of.
    """
    for task in tasks:
        if task not in TASKS:
            raise unknown("task", task, TASKS)
    if len(tasks) < MIN_TASKS:
        raise UserError(f"{len(tasks)} tasks are too few for a transfer study: at least {MIN_TASKS}")
    if len(set(tasks)) < len(tasks):
        raise UserError("a task is named twice among the tasks of the study")
    pretrain = complete(train.rows, tasks)
    known = set(train.rows["dataset"])
    whole = [name for name in complete(test.rows, tasks) if _images(test, name)[1:]]
    fresh = [name for name in whole if name not in known]
    fine_tune = fresh or whole
    for names, pool in ((pretrain, "training"), (fine_tune, "test")):
        if not names:
            raise UserError(
                f"no dataset of the {pool} pool has instances of all of {', '.join(tasks)}: name fewer "
                f"--tasks, or train with datasets that have masks"
            )
    halves = {name: _halves(_images(test, name)) for name in fine_tune}
    each = -(-MEASURED // len(fine_tune))
    first, second = ({name: half[part] for name, half in halves.items()} for part in (0, 1))
    return Material(
        tasks=tuple(tasks),
        pretrain=tuple(pretrain),
        fine_tune=tuple(fine_tune),
        held_out=bool(fresh),
        source={task: _examples(train, task, dict.fromkeys(pretrain)) for task in tasks},
        few={task: _examples(test, task, first) for task in tasks},
        measured={task: _examples(test, task, second, each) for task in tasks},
    )


def complete(rows: pl.DataFrame, tasks: Sequence[str]) -> list[str]:
    """Datasets with an instance of every one of the tasks, in order of name."""
    count = rows.filter(*PLAIN, pl.col("task").is_in(list(tasks))).group_by("dataset")
    found = count.agg(pl.col("task").n_unique()).filter(pl.col("task") == len(tasks))
    return sorted(found["dataset"])


def _images(pool: Pool, dataset: str) -> list[str]:
    """Names of images, numbers in them by size: neighbouring slices stay neighbours."""
    names = set(pool.rows.filter(*PLAIN, pl.col("dataset") == dataset)["image"])
    return sorted(
        names, key=lambda name: [(part.isdigit(), part.zfill(12)) for part in re.split(r"(\d+)", name)]
    )


def _halves(images: list[str]) -> tuple[list[str], list[str]]:
    return images[: len(images) // 2], images[len(images) // 2 :]


def _examples(pool: Pool, task: str, images: dict[str, Any], each: int | None = None) -> Examples:
    """Instances of a task on these images of each dataset (None: all), `each` a dataset at most."""
    rows = pool.rows.with_row_index("_row").filter(*PLAIN, pl.col("task") == task)
    places, numbers = [], []
    for number, (name, wanted) in enumerate(images.items()):
        of = rows.filter(pl.col("dataset") == name)
        if wanted is not None:
            of = of.filter(pl.col("image").is_in(wanted))
        if of.is_empty():
            raise UserError(f"the pool has too few images of dataset {name} for task {task}: make it larger")
        found = of["_row"].to_numpy()
        if each is not None and len(found) > each:
            found = found[np.linspace(0, len(found) - 1, each).round().astype(int)]
        places.append(found)
        numbers += [number] * len(found)
    at = np.concatenate(places)
    return Examples(_pixels(pool.inputs[at]), _pixels(pool.targets[at]), torch.tensor(numbers))


def _pixels(images: np.ndarray) -> torch.Tensor:
    """(N, S, S, 3) uint8 to (N, 3, SIDE, SIDE) uint8, by averaging areas."""
    found = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if found.shape[-1] == SIDE:
        return found
    return functional.interpolate(found.float(), size=(SIDE, SIDE), mode="area").round().to(torch.uint8)
