"""Failure tasks: instances whose target is not what the task asks for. The paper names such tasks and not
their rule; these five rules are ours.

- `other_image`: the target that the task has for another image.
- `other_task`: the target that another task has for the same image. Pools take a generative task's for
  another and the other way round: else the pair is a right instance of one of the two.
- `blank`: a black target.
- `eroded`: the target's bright structures shrunk.
- `underdone`: the task done by `DONE` only. A transformation is made at that share of its strength; of a
  generative task the target goes that share of the way from input to image; semantic tasks and those
  without strength have none.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy import ndimage
from skimage import transform

from data_recipes.errors import UserError, unknown
from taco_probe.taco.tasks.base import Array, Instance, Labels, Task, clean

Failure = Literal["other_image", "other_task", "blank", "eroded", "underdone"]
FAILURES: tuple[Failure, ...] = get_args(Failure)
DONE = 0.3  # share of the task that an under-done target has


def swapped(instance: Instance, other: Instance) -> Instance:
    """The target of another instance (another image or another task), resized to this one's where needed."""
    target = other.target
    if target.shape[:2] != instance.input.shape[:2]:
        target = clean(transform.resize(target, (*instance.input.shape[:2], *target.shape[2:])))
    return Instance(instance.input, target)


def blank(instance: Instance) -> Instance:
    """A black target."""
    return Instance(instance.input, np.zeros_like(instance.target))


def eroded(instance: Instance, strength: float = 1.0) -> Instance:
    """Grey erosion of the target by a square of up to 1/8 of its shorter side; 0 leaves it as it is."""
    side = 1 + 2 * round(strength * min(instance.target.shape[:2]) / 16)
    size = (side, side, 1)[: instance.target.ndim]
    return Instance(instance.input, clean(ndimage.grey_erosion(instance.target, size)))


def underdone(
    task: Task, image: Array, annotation: Labels | None, *, strength: float, seed: int, done: float = DONE
) -> Instance:
    """The task done by the share `done`, 0..1; with 1 the instance of the task itself.

    Raises:
        UserError: a task that cannot be under-done.
    """
    if task.strengths is None:
        raise UserError(f"task {task.name} has no strength, so it cannot be under-done")
    if task.category == "transformation":
        return task(image, annotation, strength=strength * done, seed=seed)
    made = task(image, annotation, strength=strength, seed=seed)
    return Instance(made.input, clean(made.input + done * (made.target - made.input)))


def allowed(kind: Failure, task: Task) -> bool:
    """Whether a task can fail in this way."""
    return kind != "underdone" or task.strengths is not None


def fail(
    kind: str,
    task: Task,
    image: Array,
    annotation: Labels | None,
    *,
    seed: int,
    strength: float | None = None,
    other: Instance | None = None,
) -> Instance:
    """A failed instance of a task; `other` is the instance whose target is taken by the two kinds that swap.

    Raises:
        UserError: an unknown kind, `other` missing or given in vain, a task that cannot fail so.
    """
    if kind not in FAILURES:
        raise unknown("failure", kind, FAILURES)
    if (other is not None) != kind.startswith("other_"):
        raise UserError(f"failure {kind}: {'give' if other is None else 'takes no'} other instance")
    if kind == "underdone":
        strength = task.strengths[1] if strength is None and task.strengths else strength or 0.0
        return underdone(task, image, annotation, strength=strength, seed=seed)
    made = task(image, annotation, strength=strength, seed=seed)
    if other is not None:
        return swapped(made, other)
    return blank(made) if kind == "blank" else eroded(made)
