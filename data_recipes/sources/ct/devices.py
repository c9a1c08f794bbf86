"""Support devices. A line is thinner than a voxel: its course lies in the chest in 3-D, and is drawn where
the rays of the projection put it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import make_interp_spline

from data_recipes.sources.ct.anatomy import Anatomy
from data_recipes.sources.ct.project import Projector

FINE = 4  # sub-pixels along an edge
SEEN = 0.25  # a pixel belongs to the device from this coverage on


@dataclass(frozen=True, eq=False)
class Device:
    """path: (H, W) mm of water that it adds; mask: (H, W) bool."""

    kind: str
    side: str
    path: np.ndarray
    mask: np.ndarray


def draw_device(chest: Anatomy, projector: Projector, rng: np.random.Generator) -> Device:
    """A central line, an endotracheal tube (when the map has a trachea) or a pacemaker."""
    kinds = ["central line", "pacemaker"] + ["endotracheal tube"] * ("trachea" in chest.masks)
    kind = str(rng.choice(kinds))
    case = None
    if kind == "endotracheal tube":
        course, width, dense, side = _tube_course(chest, rng), 4.5, 22.0, ""
    elif kind == "central line":
        course, width, dense, side = _line_course(chest, rng), 2.6, 45.0, "right"
    else:
        course, case = _pacemaker_course(chest, rng)
        width, dense, side = 2.4, 70.0, "left"
    canvas = Image.new("L", (projector.size * FINE,) * 2)
    draw = ImageDraw.Draw(canvas)
    points = projector.pixels(course) * FINE
    thick = max(FINE, round(width * projector.pixels_per_mm * FINE))
    draw.line([tuple(p) for p in points.tolist()], fill=255, width=thick, joint="curve")
    line = _coverage(canvas, projector.size)
    path = line * np.float32(dense)
    mask = line >= SEEN
    if case is not None:
        canvas = Image.new("L", canvas.size)
        outline = projector.pixels(case) * FINE
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in outline.tolist()], fill=255)
        cover = _coverage(canvas, projector.size)
        path = np.maximum(path, cover * np.float32(190))
        mask |= cover >= SEEN
    return Device(kind, side, path, mask)


def _coverage(canvas: Image.Image, size: int) -> np.ndarray:
    """(H, W) share of each pixel that is drawn."""
    fine = np.asarray(canvas, dtype=np.float32) / 255
    return np.asarray(fine.reshape(size, FINE, size, FINE).mean(axis=(1, 3)), dtype=np.float32)


def _landmarks(chest: Anatomy) -> tuple[float, float, np.ndarray, np.ndarray]:
    """x of the midline, z of the apices, and the heart's corners, in mm."""
    left, right = chest.extent("left lung"), chest.extent("right lung")
    heart = chest.extent("heart")
    return float((left[1][0] + right[0][0]) / 2), float(max(left[1][2], right[1][2])), *heart


def _tube_course(chest: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Down the trachea's centre line, ending above the carina."""
    trachea = chest.masks["trachea"] >= 0.5
    low, high = chest.extent("trachea")
    x, y, z = (axis.ravel() for axis in chest.axes())
    tip = low[2] + rng.uniform(0.35, 0.75) * (high[2] - low[2])
    levels = [k for k in range(len(z)) if z[k] >= tip and trachea[:, :, k].any()]
    centres = [np.argwhere(trachea[:, :, k]).mean(axis=0) for k in levels]
    points = np.array(
        [
            [x[0] + c[0] * chest.spacing[0], y[0] + c[1] * chest.spacing[1], z[k]]
            for c, k in zip(centres, levels, strict=True)
        ]
    )
    if len(points) < 4:
        return np.array([[*points[0][:2], tip], [*points[0][:2], z[-1]]])
    points[:, :2] = np.stack(
        [np.convolve(np.pad(v, 4, mode="edge"), np.ones(9) / 9, "valid") for v in points[:, :2].T], axis=1
    )
    return points


def _line_course(chest: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """From the right subclavian vein down the superior vena cava to the top of the heart."""
    middle, apex, low, high = _landmarks(chest)
    cava = middle + 22 + rng.uniform(-3, 3)
    y, top = (low[1] + high[1]) / 2, float(high[2])
    tip = top - rng.uniform(0.05, 0.4) * (top - low[2])
    return _smooth(
        [
            (middle + rng.uniform(95, 120), y, apex - rng.uniform(10, 30)),
            (middle + 60, y, apex - 18),
            (middle + 26, y, apex - 38),
            (cava, y, (apex + top) / 2 - 12),
            (cava + 2, y, tip),
        ]
    )


def _pacemaker_course(chest: Anatomy, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The lead, from below the left clavicle to the apex of the right ventricle, and the case's outline."""
    middle, apex, low, high = _landmarks(chest)
    front = float(chest.extent("left lung")[1][1])
    y = float((low[1] + high[1]) / 2)
    centre = np.array([middle - rng.uniform(80, 95), front, apex - rng.uniform(35, 55)])
    angle = np.linspace(0, 2 * np.pi, 40)
    corner = (
        np.abs(np.cos(angle)) ** 0.5 * np.sign(np.cos(angle)),
        np.abs(np.sin(angle)) ** 0.5 * np.sign(np.sin(angle)),
    )
    case = centre + np.stack([corner[0] * 19, 0 * angle, corner[1] * 22], axis=1)
    course = _smooth(
        [
            (centre[0] + 8, front, centre[2] + 20),
            (middle - 50, y, apex - 18),
            (middle + 4, y, apex - 42),
            (middle + 22, y, (apex + high[2]) / 2 - 12),
            (middle + 18, y, 0.6 * high[2] + 0.4 * low[2]),
            (middle + 0.55 * (low[0] - middle), y + 15, low[2] + 0.16 * (high[2] - low[2])),
        ]
    )
    return course, case


def _smooth(points: list[tuple[float, float, float]]) -> np.ndarray:
    """A curve (80, 3) through the points."""
    given = np.array(points, dtype=float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(given, axis=0), axis=1))])
    return np.asarray(make_interp_spline(along, given, k=3)(np.linspace(0, along[-1], 80)))
