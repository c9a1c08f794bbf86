"""Pulmonary edema, grades 0 to 3, and the lungs' own markings: a diffuse change of density.

1: fuller vessels, above all in the upper lobes, and larger hila; 2: also a fine net of thickened septa with
short horizontal (Kerley B) lines at the bases, and a light veil; 3: also perihilar clouds (bat wings).
"""

from __future__ import annotations

import numpy as np

from data_recipes.sources.phantom.acquisition import SOFT
from data_recipes.sources.phantom.anatomy import Chest
from data_recipes.sources.phantom.fields import HILUM, clouds, resample, reticulation, vessels
from data_recipes.sources.phantom.projection import Array

_LOWER_GAIN = (0.95, 1.55, 1.6, 1.5)
_UPPER_GAIN = (0.70, 2.1, 2.0, 1.8)
_HILUM_GAIN = (0.0, 0.9, 1.1, 1.2)
_NET = (0.0, 0.0, 0.085, 0.06)
_VEIL = (0.0, 0.0, 0.10, 0.22)
_CLOUD = (0.0, 0.0, 0.0, 1.15)


def markings(chest: Chest, air: Array, grade: int, rng: np.random.Generator) -> Array:
    """Optical path (S, S) that vessels and edema add; `air` is the path (cm) of aerated lung."""
    body = chest.body
    x, y = chest.grid.x[0], chest.grid.y[:, 0]
    across = (x - 2.5 * chest.pose.rotation) * np.float32(13.5 / body.width)
    span = (chest.dome("right") - chest.apex) / 20.0
    down = (y - chest.apex) / np.float32(span) - 13.2
    tree = resample(vessels(body.vessels), across, down)
    upper = 1 / (1 + np.exp((down + 1.0) / 1.2))
    jitter = rng.uniform(0.92, 1.08)
    gain = (_LOWER_GAIN[grade] * (1 - upper) + _UPPER_GAIN[grade] * upper) * body.vessel_gain * jitter
    tree *= gain[:, None].astype(np.float32)
    out = tree
    out *= np.float32(2.4 * SOFT)
    if grade:
        wing_x = (np.abs(across) - HILUM[0]).astype(np.float32)
        wing_y = (down - HILUM[1] - 0.5).astype(np.float32)
        hilum = np.exp(-np.square(wing_y / 2.4))[:, None] * np.exp(-np.square(wing_x / 1.3))
        out += hilum * np.float32(_HILUM_GAIN[grade] * SOFT * 1.6 * jitter)
    if grade >= 2:
        net = resample(reticulation(int(rng.integers(4))), across, down)
        out += net * np.float32(_NET[grade] * jitter) + np.float32(_VEIL[grade] * jitter)
        base = np.clip((down - 1.5) / 3, 0, 1)[:, None] * np.clip((np.abs(across) - 8.3) / 0.8, 0, 1)
        lines = np.square(np.maximum(np.cos(down * np.float32(2 * np.pi / 1.05)), 0))[:, None]
        out += (base * lines).astype(np.float32) * np.float32(0.30 * jitter)
    if grade == 3:
        wing = np.exp(-np.square(wing_y / 4.6))[:, None] * np.exp(-np.square((wing_x - 1.2) / 3.3))
        patchy = 0.55 + 0.9 * resample(clouds(int(rng.integers(4))), across, down)
        out += wing * patchy * np.float32(_CLOUD[3] * jitter)
    thickness = np.minimum(air * np.float32(1 / 12), 1)
    out *= thickness
    return out
