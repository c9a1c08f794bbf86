"""Ten semantic tasks: the target is drawn from the annotation alone; the input is the image."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize
from skimage.segmentation import find_boundaries

from taco_probe.taco.tasks.base import Array, Labels, Make, regions

Random = np.random.Generator
GOLDEN = 0.618033988749895  # steps of hue that never come near an earlier one


def on_mask(draw: Callable[[Labels, Random], NDArray[Any]]) -> Make:
    """A task's function from one that makes a target of an annotation."""

    def make(image: Array, labels: Labels, strength: float, rng: Random) -> tuple[Array, Array]:
        return image, draw(labels, rng)

    return make


def foreground(labels: Labels, rng: Random) -> NDArray[np.bool_]:
    """White where anything is annotated."""
    return labels > 0


def class_mask(labels: Labels, rng: Random) -> Array:
    """(H, W, 3): each class in its own colour, the same in every image."""
    classes, place = np.unique(labels, return_inverse=True)
    table = _colours(classes * GOLDEN)
    table[classes == 0] = 0
    return table[place.reshape(labels.shape)]


def instance_mask(labels: Labels, rng: Random) -> NDArray[np.bool_]:
    """White on one region, drawn at random: a lesion, a cell."""
    found = regions(labels)
    return np.asarray(found == rng.integers(1, found.max() + 1))


def boxes(labels: Labels, rng: Random) -> Array:
    """Outlines of the regions' bounding boxes, 1/64 of the image's shorter side thick."""
    target = np.zeros(labels.shape, np.float32)
    thick = max(1, min(labels.shape) // 64)
    for rows, columns in ndimage.find_objects(regions(labels)):
        box = target[rows, columns]
        box[:thick] = box[-thick:] = box[:, :thick] = box[:, -thick:] = 1
    return target


def centres(labels: Labels, rng: Random) -> Array:
    """A Gaussian peak of height 1 at each region's centroid, as CenterNet's heat maps (arXiv 1904.07850);
    standard deviation a quarter of the square root of the region's area."""
    found = regions(labels)
    numbers = np.arange(1, found.max() + 1)
    areas = np.bincount(found.ravel())[1:]
    y, x = np.indices(labels.shape)
    target = np.zeros(labels.shape)
    for (cy, cx), area in zip(ndimage.center_of_mass(found > 0, found, numbers), areas, strict=True):
        np.maximum(target, np.exp(-8 * ((y - cy) ** 2 + (x - cx) ** 2) / area), out=target)
    return target.astype(np.float32)


def boundary(labels: Labels, rng: Random) -> NDArray[np.bool_]:
    """Pixels of a label that touch another label or the background."""
    return np.asarray(find_boundaries(labels, mode="inner"))


def distance(labels: Labels, rng: Random) -> Array:
    """Euclidean distance to the nearest background pixel, over the largest one."""
    far = ndimage.distance_transform_edt(labels > 0)
    return np.asarray(far / far.max(), dtype=np.float32)


def skeleton(labels: Labels, rng: Random) -> NDArray[np.bool_]:
    """The foreground thinned to lines (Zhang and Suen 1984)."""
    return np.asarray(skeletonize(labels > 0))


def region_count(labels: Labels, rng: Random) -> Array:
    """(H, W, 3): regions counted in reading order, from red to violet: number over count is the hue."""
    found = regions(labels)
    table = _colours(np.arange(found.max() + 1) / found.max() * 0.8)
    table[0] = 0
    return table[found]


def ellipses(labels: Labels, rng: Random) -> Array:
    """The ellipse around each region: along its second moments, just large enough for all its pixels."""
    target = np.zeros(labels.shape, np.float32)
    found = regions(labels)
    y, x = np.indices(labels.shape)
    for number in range(1, int(found.max()) + 1):
        inside = found == number
        rows, columns = np.nonzero(inside)
        dy, dx = y - rows.mean(), x - columns.mean()
        spread = np.cov(rows, columns, bias=True) + np.eye(2) / 12  # a pixel is a square of side 1
        (a, b), (_, c) = np.linalg.inv(spread)
        reach = a * dy**2 + 2 * b * dy * dx + c * dx**2
        target[reach <= reach[inside].max()] = 1
    return target


def _colours(hues: NDArray[np.floating[Any]]) -> Array:
    return np.array([colorsys.hsv_to_rgb(hue % 1, 0.85, 1.0) for hue in hues], dtype=np.float32)
