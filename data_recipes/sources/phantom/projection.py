"""Rays through shapes: every shape gives, at each pixel, an interval of depth along the ray.

Lengths are centimetres; x runs to the right of the image (the patient's left), y down, z from back to front,
from the centre of the thorax. For the divergent beam, each structure is magnified by the depth of its centre;
rays then stay parallel to z, and intervals are closed forms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

Array = np.ndarray
Window = tuple[slice, slice]

# Source-detector distance and distance of the thorax's centre from the detector, by view.
_DISTANCE = {"PA": (180.0, 12.0), "AP": (105.0, 13.0)}


def magnification(view: str, z: float) -> float:
    """Magnification of a plane at depth z (cm, positive to the front), relative to the plane z = 0.

    PA: the chest's front faces the detector; AP: its back does, and the tube is nearer.
    """
    distance, gap = _DISTANCE[view]
    towards_detector = z if view == "PA" else -z
    return (distance - gap) / (distance - gap + towards_detector)


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixel centres of a square image: x (1, S) and y (S, 1) in cm at the plane z = 0, `pixel` the spacing;
    (left, top) is the first pixel's centre."""

    x: Array
    y: Array
    pixel: float
    left: float
    top: float

    @property
    def size(self) -> int:
        return int(self.x.size)

    def window(self, x1: float, y1: float, x2: float, y2: float) -> Window | None:
        """The rows and columns whose centres lie in a rectangle, or None when it misses the image."""
        first_x = max(0, math.ceil((x1 - self.left) / self.pixel))
        first_y = max(0, math.ceil((y1 - self.top) / self.pixel))
        last_x = min(self.size, math.floor((x2 - self.left) / self.pixel) + 1)
        last_y = min(self.size, math.floor((y2 - self.top) / self.pixel) + 1)
        if first_x >= last_x or first_y >= last_y:
            return None
        return slice(first_y, last_y), slice(first_x, last_x)


def make_grid(size: int, field: float, centre: tuple[float, float]) -> Grid:
    """A grid of size x size pixels over a square field (cm) around a centre (cm)."""
    pixel = field / size
    left, top = (float(c) - (field - pixel) / 2 for c in centre)
    steps = np.arange(size, dtype=np.float32) * np.float32(pixel)
    return Grid((steps + np.float32(left))[None, :], (steps + np.float32(top))[:, None], pixel, left, top)


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes in cm; `turn` (radians) rotates the first two axes in the image plane."""

    x: float
    y: float
    z: float
    a: float
    b: float
    c: float
    turn: float = 0.0

    def projected(self, view: str, shift: float = 0.0) -> Ellipsoid:
        """As the beam shows it: in-plane sizes magnified; `shift` is the sine of the patient's rotation."""
        scale = magnification(view, self.z)
        return Ellipsoid(
            (self.x + shift * self.z) * scale,
            self.y * scale,
            self.z,
            self.a * scale,
            self.b * scale,
            self.c,
            self.turn,
        )

    @property
    def half_width(self) -> float:
        return float(np.hypot(self.a * np.cos(self.turn), self.b * np.sin(self.turn)))

    @property
    def half_height(self) -> float:
        return float(np.hypot(self.a * np.sin(self.turn), self.b * np.cos(self.turn)))


def ellipsoid_depth(grid: Grid, shape: Ellipsoid) -> tuple[Window, Array] | None:
    """Half the path (cm) through an ellipsoid inside its window: the interval is [z - half, z + half]."""
    width, height = shape.half_width, shape.half_height
    window = grid.window(shape.x - width, shape.y - height, shape.x + width, shape.y + height)
    if window is None:
        return None
    x, y = grid.x[:, window[1]] - np.float32(shape.x), grid.y[window[0]] - np.float32(shape.y)
    cos, sin = np.float32(np.cos(shape.turn)), np.float32(np.sin(shape.turn))
    if shape.turn:
        inside = 1 - np.square((x * cos + y * sin) / np.float32(shape.a))
        inside -= np.square((y * cos - x * sin) / np.float32(shape.b))
    else:
        inside = (1 - np.square(x / np.float32(shape.a))) - np.square(y / np.float32(shape.b))
    np.maximum(inside, 0, out=inside)
    return window, np.sqrt(inside, out=inside) * np.float32(shape.c)


def cross_section_depth(x: Array, width: Array, depth: Array) -> Array:
    """Half the path through a stack of elliptical cross-sections; x (1, W), width and depth (H, 1), in cm."""
    inside = np.square(x / np.maximum(width, 1e-3, dtype=np.float32))
    np.subtract(1, inside, out=inside)
    np.maximum(inside, 0, out=inside)
    np.sqrt(inside, out=inside)
    inside *= depth
    return np.asarray(inside)


Interval = tuple[Array, Array]


def uncovered(low: Array, high: Array, covers: list[Interval]) -> Array:
    """Length (cm) of [low, high] outside the union of three intervals (each may be empty: end before start).

    Inclusion and exclusion: |A or B or C| = sum of lengths - pairwise overlaps + the triple overlap.
    """
    assert len(covers) == 3
    clipped = [(np.maximum(low, a), np.minimum(high, b)) for a, b in covers]
    length = high - low
    for a, b in clipped:
        length -= np.maximum(b - a, 0)
    pairs = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        a, b = np.maximum(clipped[i][0], clipped[j][0]), np.minimum(clipped[i][1], clipped[j][1])
        pairs.append((a, b))
        length += np.maximum(b - a, 0)
    a, b = np.maximum(pairs[0][0], clipped[2][0]), np.minimum(pairs[0][1], clipped[2][1])
    length -= np.maximum(b - a, 0)
    return np.asarray(np.maximum(length, 0))


def tube_depth(grid: Grid, points: Array, radius: float) -> tuple[Window, Array] | None:
    """Path (cm) through a tube of that radius around a polyline of (x, y) points (N, 2), seen face on."""
    low, high = points.min(axis=0) - radius, points.max(axis=0) + radius
    window = grid.window(low[0], low[1], high[0], high[1])
    if window is None:
        return None
    rows, columns = window
    nearest = np.full((rows.stop - rows.start, columns.stop - columns.start), radius**2, np.float32)
    for (x1, y1), (x2, y2) in pairwise(points):
        part = grid.window(
            min(x1, x2) - radius, min(y1, y2) - radius, max(x1, x2) + radius, max(y1, y2) + radius
        )
        if part is None:
            continue
        x, y = grid.x[:, part[1]] - np.float32(x1), grid.y[part[0]] - np.float32(y1)
        dx, dy = np.float32(x2 - x1), np.float32(y2 - y1)
        along = (x * dx + y * dy) / max(dx * dx + dy * dy, np.float32(1e-6))
        np.minimum(np.maximum(along, 0, out=along), 1, out=along)
        away = np.square(x - along * dx) + np.square(y - along * dy)
        view = nearest[
            part[0].start - rows.start : part[0].stop - rows.start,
            part[1].start - columns.start : part[1].stop - columns.start,
        ]
        np.minimum(view, away, out=view)
    return window, 2 * np.sqrt(np.float32(radius**2) - nearest)


@lru_cache(maxsize=32)
def smoother(size: int, knots: int) -> tuple[Array, Array]:
    """Matrices (knots, S), averaging, and (S, knots), interpolating smoothly: together a wide blur."""
    centres = (np.arange(knots) + 0.5) / knots
    pixels = (np.arange(size) + 0.5) / size
    weight = np.exp(-0.5 * np.square((pixels[:, None] - centres) * knots / 0.8))
    up = weight / weight.sum(axis=1, keepdims=True)
    down = (weight / weight.sum(axis=0, keepdims=True)).T
    return np.ascontiguousarray(down, np.float32), np.ascontiguousarray(up, np.float32)


def wide_blur(image: Array, knots: int) -> Array:
    """A blur of about size / knots pixels."""
    down, up = smoother(image.shape[0], knots)
    blurred: Array = up @ (down @ image @ down.T) @ up.T
    return blurred
