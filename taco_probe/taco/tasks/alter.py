"""Trajectories: an instance altered step by step, by brightness, rotation or noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from data_recipes.errors import UserError, unknown
from taco_probe.taco.tasks.base import Array, Instance, clean
from taco_probe.taco.tasks.transformation import brightened, rotated

STRENGTHS: tuple[float, ...] = tuple(float(value) for value in np.linspace(0, 1, 11))
Part = Literal["input", "target", "both"]


def _noise(image: Array, strength: float, seed: int) -> NDArray[Any]:
    field = np.random.default_rng(seed).standard_normal(image.shape[:2])  # one field for all strengths
    return image + 0.3 * strength * (field if image.ndim == 2 else field[..., None])


ALTERATIONS: dict[str, Callable[[Array, float, int], NDArray[Any]]] = {
    "brightness": lambda image, strength, seed: brightened(image, 0.5 * strength),
    "rotation": lambda image, strength, seed: rotated(image, 90 * strength),
    "noise": _noise,
}


def alter(
    instance: Instance, kind: str, strength: float, *, part: Part = "target", seed: int = 0
) -> Instance:
    """The instance with one part altered; strength 0 leaves it as it is.

    Args:
        kind: `brightness` (up by 0.5 at strength 1), `rotation` (by 90 degrees), `noise` (Gaussian, standard
            deviation 0.3; the same field at all strengths).
        strength: 0..1; STRENGTHS has eleven.
        part: what is altered. That it is the target by default is ours: it alters the task, while altering
            both alters the image.
        seed: of the noise.

    Raises:
        UserError: an unknown kind or part, or a strength out of range.
    """
    if kind not in ALTERATIONS:
        raise unknown("alteration", kind, ALTERATIONS)
    if part not in ("input", "target", "both"):
        raise unknown("part", part, ("input", "target", "both"))
    if not 0 <= strength <= 1:
        raise UserError(f"alteration {kind}: strength must be from 0 to 1, not {strength}")
    if strength == 0:
        return instance

    def altered(image: Array, name: str) -> Array:
        return clean(ALTERATIONS[kind](image, strength, seed)) if part in (name, "both") else image

    return Instance(altered(instance.input, "input"), altered(instance.target, "target"))
