"""Support devices: radiopaque tubes along curves, and a pacemaker with its lead."""

from __future__ import annotations

import numpy as np

from data_recipes.sources.phantom.acquisition import METAL
from data_recipes.sources.phantom.anatomy import Chest, carina_of, heart_extent
from data_recipes.sources.phantom.plans import Plan
from data_recipes.sources.phantom.projection import (
    Array,
    Ellipsoid,
    ellipsoid_depth,
    magnification,
    tube_depth,
)


def draw_device(chest: Chest, plan: Plan) -> tuple[Array, Array]:
    """Optical path (S, S) and mask (S, S) of the device that `plan.attributes["kind"]` names."""
    kind = plan.attributes["kind"]
    body, pose = chest.body, chest.pose
    carina, axis = carina_of(body, pose)
    change = np.zeros_like(chest.healthy)
    mask = np.zeros(chest.healthy.shape, bool)

    def tube(points: list[tuple[float, float]], radius: float, strength: float) -> None:
        if drawn := tube_depth(chest.grid, _curve(points) * magnification(pose.view, 3.0), radius):
            change[drawn[0]] += drawn[1] * np.float32(strength)
            mask[drawn[0]] |= drawn[1] > 0.5 * radius

    superior = -body.mediastinum + 0.6 + 3 * pose.rotation
    if kind == "central line":
        s = -1 if plan.side == "right" else 1
        tip = (superior, carina + 1.0 + 3.2 * plan.extent)
        start = (s * 10.5, body.apex + 0.3) if plan.extent < 0.5 else (s * 4.2, body.apex - 4.5)
        turn = (s * 4.6, body.apex + 1.6) if plan.extent < 0.5 else (s * 3.2, body.apex + 0.5)
        tube(
            [start, turn, (superior if s < 0 else 0.4, body.apex + 4.6), (superior, carina - 0.6), tip],
            0.2,
            1.6,
        )
    elif kind == "endotracheal tube":
        end = carina - 1.6 - 3.0 * plan.extent
        tube([(0.3 + axis, -25.0), (axis, -14.0), (axis, end)], 0.36, 0.55)
        tube([(0.3 + axis, -25.0), (axis, -14.0), (axis, end)], 0.14, 2.2)
    else:
        x, y = 9.3 + 1.0 * plan.extent, body.apex + 4.6
        box = Ellipsoid(x, y, 8.0, 2.5, 2.0, 0.5, 0.3).projected(pose.view, pose.rotation)
        if drawn := ellipsoid_depth(chest.grid, box):
            change[drawn[0]] += np.minimum(drawn[1] * 4, 0.8) * np.float32(METAL)
            mask[drawn[0]] |= drawn[1] > 0
        _, left = heart_extent(chest.heart)
        floor = chest.dome("left") - 0.6
        lead = [(x - 2.0, y - 0.8), (5.0, y - 2.6), (0.8, y - 0.5), (superior + 0.2, carina + 2.0)]
        tube([*lead, (superior + 0.8, floor - 3.2), (0.45 * left, floor)], 0.2, 1.8)
    return change, mask


def _curve(points: list[tuple[float, float]]) -> Array:
    """A smooth polyline through or near control points: Chaikin's corner cutting, twice, ends kept."""
    line = np.array(points, dtype=np.float64)
    for _ in range(2):
        cut = np.empty((2 * len(line), 2))
        cut[0], cut[-1] = line[0], line[-1]
        cut[1:-1:2] = 0.75 * line[:-1] + 0.25 * line[1:]
        cut[2::2] = 0.25 * line[:-1] + 0.75 * line[1:]
        line = cut
    return line
