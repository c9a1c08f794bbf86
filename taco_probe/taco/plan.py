"""Which instances a pool consists of: for each task and dataset, of which images, with which seeds.

A plan is a function of settings and of what each image allows; nothing is drawn while instances are made.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from taco_probe.taco.settings import Settings
from taco_probe.taco.tasks import TASKS
from taco_probe.taco.tasks.alter import ALTERATIONS, STRENGTHS
from taco_probe.taco.tasks.failures import FAILURES, allowed

Part = Literal["train", "test", "paths"]
PARTS: tuple[Part, ...] = ("train", "test", "paths")
SWEEP = "strength"  # the alteration that is the task's own strength
_FAILED_FOR_TRAINING = 4  # one failed instance for so many good ones

# What one image allows: for each task "" or why it cannot be made; None for an image that cannot be read.
Allowed = Mapping[str, str] | None


class Wanted(NamedTuple):
    """One instance, or with `follow` one and its alterations. `other` is the image whose target the failure
    other_image takes, and `other_task` the task for the failure other_task."""

    dataset: str
    image: int
    task: str
    seed: int
    failure: str = ""
    other: int = -1
    other_task: str = ""
    follow: bool = False

    @property
    def rows(self) -> int:
        """Rows that it becomes."""
        if not self.follow:
            return 1
        return 1 + len(STRENGTHS) * (len(ALTERATIONS) + (TASKS[self.task].strengths is not None))


def images_of(part: Part, number: int, *, trained_on: bool) -> list[int]:
    """Which of a dataset's `number` images a part uses. Of a dataset that is trained on, the last quarter is
    for testing: neighbours in a volume are alike, so these are not mixed with others. One image is for
    training alone. Datasets that are held out are not trained on, and tested with all."""
    if not trained_on:
        return [] if part == "train" else list(range(number))
    for_test = 0 if number == 1 else max(1, number // 4)
    return list(range(number - for_test) if part == "train" else range(number - for_test, number))


def plan(part: Part, settings: Settings, allows: Mapping[str, Sequence[Allowed]]) -> list[Wanted]:
    """The instances of a part.

    Args:
        allows: by dataset, what each of its images allows.
    """
    if part == "paths":
        return _followed(settings, allows)
    return [
        one
        for dataset in allows
        for task in settings.tasks_used
        for one in _of_pair(part, settings, dataset, task, allows[dataset])
    ]


def able(part: Part, settings: Settings, dataset: str, task: str, images: Sequence[Allowed]) -> list[int]:
    """The images of a dataset that a part uses and that the task can be made of."""
    numbers = images_of(part, len(images), trained_on=dataset in settings.datasets)
    return [k for k in numbers if (allowed_here := images[k]) is not None and not allowed_here[task]]


def _of_pair(
    part: Part, settings: Settings, dataset: str, task: str, images: Sequence[Allowed]
) -> list[Wanted]:
    """Instances of a task and dataset, good ones and failed ones; images take turns."""
    usable = able(part, settings, dataset, task, images)
    if not usable:
        return []
    rng = _rng(settings, part, dataset, task)
    good = settings.pool if part == "train" else settings.test_pool
    bad = settings.pool // _FAILED_FOR_TRAINING if part == "train" else len(FAILURES)
    rounds = range(-(-(good + bad) // len(usable)))
    turns = [int(image) for _ in rounds for image in rng.permutation(usable)][: good + bad]
    made = [Wanted(dataset, image, task, _seed(rng)) for image in turns[:good]]
    kinds = [kind for kind in FAILURES if allowed(kind, TASKS[task])]
    if len(usable) == 1:
        kinds.remove("other_image")
    for number, image in enumerate(turns[good:]):
        kind = kinds[number % len(kinds)]
        missing = images[image] or {}
        others = [name for name in settings.tasks_used if wrong_for_both(task, name) and not missing[name]]
        if kind == "other_task" and not others:
            continue
        made.append(
            Wanted(
                dataset,
                image,
                task,
                _seed(rng),
                kind,
                int(rng.choice([k for k in usable if k != image])) if kind == "other_image" else -1,
                str(rng.choice(others)) if kind == "other_task" else "",
            )
        )
    return made


def wrong_for_both(task: str, other: str) -> bool:
    """Whether a task's input with another's target is an instance of neither. Of two generative tasks the
    targets are equal, and of two others the inputs: then it would be a right instance of one of them."""
    return (TASKS[task].category == "generative") != (TASKS[other].category == "generative")


def _followed(settings: Settings, allows: Mapping[str, Sequence[Allowed]]) -> list[Wanted]:
    """Anchors of each task: datasets take turns, held-out ones first."""
    wanted = []
    for task in settings.tasks_used:
        found = {name: able("paths", settings, name, task, images) for name, images in allows.items()}
        usable = {name: images for name, images in found.items() if images}
        rng = _rng(settings, "paths", task)
        order = sorted(rng.permutation(sorted(usable)), key=lambda name: name in settings.datasets)
        for number in range(settings.anchors if order else 0):
            dataset = str(order[number % len(order)])
            image = int(rng.choice(usable[dataset]))
            wanted.append(Wanted(dataset, image, task, _seed(rng), follow=True))
    return wanted


def _rng(settings: Settings, *names: str) -> np.random.Generator:
    return np.random.default_rng([settings.pool_seed, *(zlib.crc32(name.encode()) for name in names)])


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))
