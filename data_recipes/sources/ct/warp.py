"""Anatomical warps: other chests from one. Volume and masks move together: what is measured stays exact.

A warp is a map from each voxel of the new chest back to a place in the old one. Whole-chest scaling only
changes the size of a voxel; inspiration, heart size and a smooth random field move places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_recipes.sources.ct.anatomy import Anatomy

REACH = 1.6  # the heart's warp fades at this many half widths of the heart
FIELD_GRID = (4, 4, 5)  # control points of the random field
FIELD_FINE = (16, 16, 20)  # ... after cubic interpolation; linear from there to the voxels


@dataclass(frozen=True)
class Warp:
    """width, depth, height: scales of the whole chest; heart: scale of the heart's width at its centre;
    inspiration: mm by which the diaphragm sinks; roughness: standard deviation in mm of the random field."""

    width: float = 1.0
    depth: float = 1.0
    height: float = 1.0
    heart: float = 1.0
    inspiration: float = 0.0
    roughness: float = 0.0


def draw_warp(rng: np.random.Generator) -> Warp:
    """A random plausible warp. The heart's scale spreads the cardiothoracic ratio over about 0.4 to 0.65."""
    return Warp(
        width=float(rng.uniform(0.92, 1.08)),
        depth=float(rng.uniform(0.88, 1.12)),
        height=float(rng.uniform(0.94, 1.08)),
        heart=float(np.exp(rng.uniform(np.log(0.85), np.log(2.5)))),
        inspiration=float(rng.uniform(-18, 22)),
        roughness=float(rng.uniform(2, 5)),
    )


def apply_warp(anatomy: Anatomy, warp: Warp, rng: np.random.Generator) -> Anatomy:
    """The warped chest, on a grid of as many voxels."""
    import torch
    from torch.nn.functional import grid_sample, interpolate

    shape = anatomy.attenuation.shape
    x, y, z = anatomy.axes()
    places = list(np.broadcast_arrays(x, y, z))
    if warp.roughness:
        coarse = rng.normal(0, warp.roughness, (3, *FIELD_GRID))
        zooms = np.array(FIELD_FINE) / FIELD_GRID
        fine = np.stack([ndimage.zoom(part, zooms, order=3, mode="nearest") for part in coarse])
        field = interpolate(
            torch.from_numpy(fine[None].astype(np.float32)), size=shape, mode="trilinear", align_corners=True
        )
        places = [place + move for place, move in zip(places, field[0].numpy(), strict=True)]
    places[2] = places[2] + warp.inspiration * _below_apex(anatomy, places[2])
    places = _around_heart(anatomy, places, warp.heart)

    half = (np.array(shape) / 2) * anatomy.spacing
    unit = [place / size for place, size in zip(places, half, strict=True)]
    # grid_sample names the last axis first
    grid = torch.from_numpy(np.stack(unit[::-1], axis=-1).astype(np.float32))
    names = sorted(anatomy.masks)
    stack = torch.from_numpy(np.stack([anatomy.attenuation, *(anatomy.masks[name] for name in names)]))
    moved = grid_sample(stack[None], grid[None], padding_mode="border", align_corners=False)[0].numpy()
    return Anatomy(
        moved[0],
        dict(zip(names, moved[1:], strict=True)),
        anatomy.spacing * np.array([warp.width, warp.depth, warp.height]),
    )


def _below_apex(anatomy: Anatomy, z: np.ndarray) -> np.ndarray:
    """0 at the lung apices, rising smoothly to 1 at the lung bases and below."""
    ends = [anatomy.extent(f"{side} lung") for side in ("left", "right")]
    base, apex = min(low[2] for low, _ in ends), max(high[2] for _, high in ends)
    t = np.clip((apex - z) / (apex - base), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _around_heart(anatomy: Anatomy, places: list[np.ndarray], scale: float) -> list[np.ndarray]:
    """Places pulled towards the heart's centre where the heart is to grow: fully in width, else half.

    r(1 - a exp(-r^4)) rises with r for -0.87 < a < 1, so that nothing folds for scales above 0.54.
    """
    low, high = anatomy.extent("heart")
    centre, half = (low + high) / 2, (high - low) / 2
    centre[0] += 0.3 * half[0]  # a large heart grows to the left: keep the right border nearly in place
    r2 = sum(((p - c) / (REACH * h)) ** 2 for p, c, h in zip(places, centre, half, strict=True))
    pull = (1 - 1 / scale) * np.exp(-(np.asarray(r2) ** 2))
    return [
        c + (p - c) * (1 - share * pull) for p, c, share in zip(places, centre, (1.0, 0.5, 0.5), strict=True)
    ]
