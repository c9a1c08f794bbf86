"""Abnormalities put into a warped chest in 3-D: the attenuation changes in place, and a soft mask says where.

Each function takes the chest, a side and a generator, and returns the Lesion, or None when there is no room.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_recipes.sources.ct.anatomy import Anatomy

FLUID = 1.03  # attenuation relative to water
TISSUE = 1.05
PLAIN_LUNG = 0.3  # above this a voxel of the lung holds a vessel
MARGIN = 3.0  # mm between a nodule and the surface of the lung
MENISCUS = 8.0  # mm over which the surface of an effusion fades
GRAIN = 2.5  # mm over which an edge goes from 0 to 1


@dataclass(frozen=True, eq=False)
class Lesion:
    """extent: radius, half length or rim in cm, for an effusion the share of the lung's height;
    mask: (X, Y, Z) soft."""

    name: str
    side: str
    extent: float
    mask: np.ndarray


# name -> chance on one image that is not normal
CHANCES = {
    "pneumothorax": 0.14,
    "pleural effusion": 0.32,
    "consolidation": 0.26,
    "atelectasis": 0.18,
    "nodule": 0.28,
    "mass": 0.16,
}
NORMAL = 0.2  # share of images without any of them
EDEMA = (0.5, 0.18, 0.16, 0.16)  # chances of the grades, of images that are not normal


def insert(chest: Anatomy, rng: np.random.Generator) -> tuple[list[Lesion], int]:
    """Random abnormalities and the grade of edema. A lung with a pneumothorax gets nothing else."""
    if rng.random() < NORMAL:
        return [], 0
    grade = int(rng.choice(4, p=EDEMA))
    add_edema(chest, grade, rng)
    free = ["left", "right"]
    found: list[Lesion | None] = []
    for name, chance in CHANCES.items():
        if rng.random() >= chance or not free:
            continue
        side = str(rng.choice(free))
        found.append(MAKERS[name](chest, side, rng))
        if name == "pneumothorax":
            free.remove(side)
    return [lesion for lesion in found if lesion is not None], grade


def add_nodule(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    return _blob(chest, "nodule", side, rng, rng.uniform(8, 14.5), bumps=0.06, strength=1.0)


def add_mass(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    return _blob(chest, "mass", side, rng, rng.uniform(17, 30), bumps=0.14, strength=1.0)


def add_consolidation(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    return _blob(
        chest, "consolidation", side, rng, rng.uniform(18, 34), bumps=0.3, strength=0.65, inside=False
    )


def add_atelectasis(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    """A plate: long across, deep, thin from top to bottom, in the lower half of the lung."""
    half = rng.uniform(25, 46)
    low, high = chest.extent(f"{side} lung")
    centre = _place(chest, side, rng, 0.0, highest=low[2] + 0.45 * (high[2] - low[2]))
    if centre is None:
        return None
    x, y, z = (axis - c for axis, c in zip(chest.axes(), centre, strict=True))
    slope = rng.uniform(-0.35, 0.35)
    distance = np.sqrt((x / half) ** 2 + (y / 32) ** 2 + ((z - slope * x) / 4.5) ** 2)
    mask = np.clip((1 - distance) * 4.5 / chest.spacing[2] + 0.5, 0, 1) * chest.masks[f"{side} lung"]
    _fill(chest, mask, TISSUE, 0.85)
    return Lesion("atelectasis", side, half / 10, mask)


def add_effusion(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    """Fluid at the base of an upright lung, its surface rising towards the chest wall."""
    share = rng.uniform(0.24, 0.6)
    lung = chest.masks[f"{side} lung"]
    low, high = chest.extent(f"{side} lung")
    x, _, z = chest.axes()
    lateral = (x - low[0]) / (high[0] - low[0]) if side == "right" else (high[0] - x) / (high[0] - low[0])
    level = low[2] + (high[2] - low[2]) * share * (0.75 + 0.45 * np.clip(lateral, 0, 1) ** 3)
    mask = lung * np.clip((level - z) / MENISCUS + 0.5, 0, 1)
    _fill(chest, mask, FLUID, 1.0)
    return Lesion("pleural effusion", side, float(share), mask)


def add_pneumothorax(chest: Anatomy, side: str, rng: np.random.Generator) -> Lesion | None:
    """Air where the lung was: the lung shrinks in the frontal plane towards its medial base, so that an
    apical and lateral rim is left over the whole depth."""
    scale = rng.uniform(0.8, 0.93)
    lung = chest.masks[f"{side} lung"]
    low, high = chest.extent(f"{side} lung")
    anchor_x = low[0] if side == "right" else high[0]
    origin = chest.affine[:3, 3]
    column = lung.max(axis=1)  # (X, Z)
    steps, start = chest.spacing[[0, 2]], origin[[0, 2]]
    anchor = (np.array([anchor_x, low[2]]) - start) / steps
    shrunk = ndimage.affine_transform(column, np.full(2, 1 / scale), anchor * (1 - 1 / scale), order=1)
    mask = lung * (1 - np.clip(shrunk, 0, 1))[:, None, :]
    line = np.clip(shrunk - ndimage.grey_erosion(shrunk, size=(3, 3)), 0, 1)[:, None, :] * lung * (1 - mask)
    _fill(chest, line.astype(np.float32), TISSUE, 0.25)  # the visceral pleura, thinner than a voxel
    _fill(chest, mask, 0.0, 1.0)
    return Lesion("pneumothorax", side, float((1 - scale) * (high[2] - low[2]) / 10), mask)


def add_edema(chest: Anatomy, grade: int, rng: np.random.Generator) -> None:
    """Fluid of heart failure in both lungs: 1 wider vessels, 2 a fine network too, 3 a perihilar haze too."""
    if not grade:
        return
    x, y, z = chest.axes()
    fine = _texture(chest.attenuation.shape, 2, rng)
    coarse = _texture(chest.attenuation.shape, 9, rng)
    for side in ("left", "right"):
        lung = chest.masks[f"{side} lung"]
        low, high = chest.extent(f"{side} lung")
        hilum = np.array([low[0] if side == "right" else high[0], *((low + high) / 2)[1:]])
        hilum[0] += (0.3 if side == "right" else -0.3) * (high[0] - low[0])
        r2 = ((x - hilum[0]) / 60) ** 2 + ((y - hilum[1]) / 80) ** 2 + ((z - hilum[2]) / 80) ** 2
        near = np.exp(-r2).astype(np.float32)
        vessels = np.clip(chest.attenuation - PLAIN_LUNG, 0, 1)
        added = (0.3, 0.5, 0.5)[grade - 1] * vessels + (0.03, 0.07, 0.1)[grade - 1]
        if grade >= 2:
            added = added + 0.13 * np.abs(fine)
        if grade == 3:
            added = added + 0.5 * near * np.clip(0.8 + 0.6 * coarse, 0, 2)
        chest.attenuation[...] = np.where(
            lung > 0,
            np.minimum(chest.attenuation + lung * added, np.maximum(chest.attenuation, TISSUE)),
            chest.attenuation,
        )


MAKERS: dict[str, Callable[[Anatomy, str, np.random.Generator], Lesion | None]] = {
    "pneumothorax": add_pneumothorax,
    "pleural effusion": add_effusion,
    "consolidation": add_consolidation,
    "atelectasis": add_atelectasis,
    "nodule": add_nodule,
    "mass": add_mass,
}


def _blob(
    chest: Anatomy,
    name: str,
    side: str,
    rng: np.random.Generator,
    radius: float,
    *,
    bumps: float,
    strength: float,
    inside: bool = True,
) -> Lesion | None:
    """A ball (radius in mm) with waves of relative height `bumps` on it, cut to the lung; with `inside` it
    lies where it fits into the lung."""
    centre = _place(chest, side, rng, radius + MARGIN if inside else 5.0)
    if centre is None:
        return None
    window = _window(chest, centre, 1.8 * radius)
    offsets = [
        a.reshape(-1)[w].reshape(s)
        for a, w, s in zip(chest.axes(), window, ((-1, 1, 1), (1, -1, 1), (1, 1, -1)), strict=True)
    ]
    offsets = [o - np.float32(c) for o, c in zip(offsets, centre, strict=True)]
    distance = np.sqrt(sum(o**2 for o in offsets))
    waves = np.float32(0)
    for _ in range(4):
        direction = rng.normal(0, 1.6 / radius, 3).astype(np.float32)
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        waves = waves + np.sin(sum(d * o for d, o in zip(direction, offsets, strict=True)) + phase)
    ball = np.clip((radius * (1 + bumps * waves / 2) - distance) / GRAIN + 0.5, 0, 1)
    mask = np.zeros_like(chest.attenuation)
    mask[window] = ball * chest.masks[f"{side} lung"][window]
    if mask.max() < 0.5:
        return None
    _fill(chest, mask, TISSUE, strength)
    return Lesion(name, side, float(radius) / 10, mask)


def _window(chest: Anatomy, centre: np.ndarray, reach: float) -> tuple[slice, slice, slice]:
    """The voxels up to `reach` mm from a point, along each axis."""
    at = (centre - chest.affine[:3, 3]) / chest.spacing
    steps = reach / chest.spacing
    low, high = np.maximum(0, np.floor(at - steps)), np.ceil(at + steps) + 1
    first, second, third = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return first, second, third


def _place(
    chest: Anatomy, side: str, rng: np.random.Generator, depth: float, highest: float = np.inf
) -> np.ndarray | None:
    """A random point (3,) mm at least `depth` mm inside a lung, in air, not before or behind the heart."""
    step = 2  # every second voxel will do, and is eight times as fast
    lung = chest.masks[f"{side} lung"][::step, ::step, ::step] >= 0.5
    aerated = chest.attenuation[::step, ::step, ::step] < 0.7
    free = lung & aerated & ~(chest.masks["heart"][::step, ::step, ::step] >= 0.5).any(axis=1, keepdims=True)
    deep = ndimage.distance_transform_edt(lung, sampling=chest.spacing * step) >= depth
    choices = np.argwhere(free & deep) * step * chest.spacing + chest.affine[:3, 3]
    choices = choices[choices[:, 2] <= highest]
    return None if not len(choices) else np.asarray(choices[rng.integers(len(choices))])


def _fill(chest: Anatomy, mask: np.ndarray, value: float, strength: float) -> None:
    """Blends the attenuation towards `value` where the mask is; vessels and ribs denser than tissue stay."""
    blended = chest.attenuation + strength * mask * (value - chest.attenuation)
    chest.attenuation[...] = blended if value == 0 else np.maximum(chest.attenuation, blended)


def _texture(shape: tuple[int, ...], grain: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (X, Y, Z) of mean 0 and about unit deviation; features of about `grain` voxels."""
    noise = rng.standard_normal(tuple(-(-n * 2 // grain) for n in shape), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, 1.2, mode="nearest")
    if smooth.shape != shape:
        scales = [n / m for n, m in zip(shape, smooth.shape, strict=True)]
        smooth = ndimage.zoom(smooth, scales, order=1, mode="nearest")
    return np.asarray(smooth) / max(float(smooth.std()), 1e-6)
