"""Ten transformation tasks: the input is the image, the target the image transformed.

What leaves the frame is lost, and what comes in from outside is black. Signs and directions are drawn before
anything else and do not depend on the strength, so that a weaker one goes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from taco_probe.taco.tasks.base import Array, Labels, Make, smooth_field

Random = np.random.Generator


def transformed(change: Callable[[Array, float, Random], NDArray[Any]]) -> Make:
    """A task's function from one that transforms an image; nothing is done at strength 0."""

    def make(image: Array, labels: Labels, strength: float, rng: Random) -> tuple[Array, Array]:
        return image, (change(image, strength, rng) if strength > 0 else image)

    return make


def rotation(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """About the centre, either way, by 180 degrees at strength 1."""
    return rotated(image, 180 * strength * _sign(rng))


def flip_horizontal(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Left and right exchanged."""
    return image[:, ::-1]


def flip_vertical(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Top and bottom exchanged."""
    return image[::-1]


def translation(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """By whole pixels in any direction, 40 % of the sides at strength 1."""
    direction = rng.uniform(0, 2 * np.pi)
    shift = [
        round(0.4 * strength * side * part)
        for side, part in zip(image.shape[:2], (np.sin(direction), np.cos(direction)), strict=True)
    ]
    return np.asarray(ndimage.shift(image, (*shift, 0)[: image.ndim], order=0, prefilter=False))


def scaling(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """About the centre, larger or smaller, by a factor of 2 at strength 1."""
    return affine(image, np.eye(2) * 2.0 ** (-strength * _sign(rng)))


def shear(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Along the rows, either way, by 0.6 of the height at strength 1."""
    return affine(image, np.array([[1, 0], [0.6 * strength * _sign(rng), 1]]))


def elastic(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Smooth random displacements (Simard et al. 2003), up to 6 % of the shorter side at strength 1."""
    side = min(image.shape[:2])
    moved = 0.06 * strength * side * smooth_field((2, *image.shape[:2]), side / 16, rng)
    y, x = np.indices(image.shape[:2]) + moved
    return _channels(image, lambda one: ndimage.map_coordinates(one, [y, x], order=1))


def brightness(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Brighter or darker, by 0.5 at strength 1."""
    return brightened(image, 0.5 * strength * _sign(rng))


def gamma(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Values to a power, of 4 or 1/4 at strength 1."""
    return np.asarray(image**4.0 ** (strength * _sign(rng)))


def inversion(image: Array, strength: float, rng: Random) -> NDArray[Any]:
    """Black and white exchanged."""
    return 1 - image


def brightened(image: Array, by: float) -> NDArray[Any]:
    """Values moved by this much, kept in 0..1."""
    return np.asarray(np.clip(image + np.float32(by), 0, 1))


def rotated(image: Array, degrees: float) -> NDArray[Any]:
    """Turned about the centre, counter-clockwise; quarter turns of square images move pixels exactly."""
    turns, rest = divmod(degrees, 90)
    if rest == 0 and (image.shape[0] == image.shape[1] or turns % 2 == 0):
        return np.rot90(image, int(turns))
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return affine(image, np.array([[cos, sin], [-sin, cos]]))


def affine(image: Array, matrix: NDArray[Any]) -> NDArray[Any]:
    """Each pixel takes its value from `matrix` (2, 2) times its offset (y, x) from the centre."""
    middle = (np.array(image.shape[:2]) - 1) / 2
    offset = middle - matrix @ middle
    return _channels(image, lambda one: ndimage.affine_transform(one, matrix, offset, order=1))


def _channels(image: Array, change: Callable[[Array], Any]) -> NDArray[Any]:
    if image.ndim == 2:
        return np.asarray(change(image))
    return np.stack([change(image[..., k]) for k in range(image.shape[2])], axis=2)


def _sign(rng: Random) -> float:
    return float(rng.choice((-1.0, 1.0)))
