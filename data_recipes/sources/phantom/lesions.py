"""Abnormalities as 3-D shapes in the chest, and what each does to the rays that pass it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data_recipes.sources.phantom.acquisition import LUNG, SOFT
from data_recipes.sources.phantom.anatomy import Chest
from data_recipes.sources.phantom.devices import draw_device
from data_recipes.sources.phantom.fields import clouds, resample
from data_recipes.sources.phantom.plans import Plan
from data_recipes.sources.phantom.projection import (
    Array,
    Ellipsoid,
    cross_section_depth,
    ellipsoid_depth,
    uncovered,
)

# An abnormality is visible with a mask of at least this share of the image and this mean optical contrast.
VISIBLE_AREA, VISIBLE_CONTRAST = 0.0012, 0.10


# optical change, aerated lung that is left, projected mask
Drawn = tuple[Array, Array, Array]


@dataclass(eq=False)
class Lesion:
    """An inserted abnormality: its plan and projected mask (S, S)."""

    plan: Plan
    mask: Array


def _place(chest: Chest, plan: Plan) -> tuple[float, float]:
    """x and y (cm) of a plan's centre in this pose, before magnification."""
    y = chest.apex + 1.5 + plan.v * (chest.dome(plan.side) - chest.apex - 1.5)
    row = int(np.clip(np.searchsorted(chest.grid.y[:, 0], y), 0, chest.grid.size - 1))
    outer = float(chest.width[row, 0])
    x = 3.0 + plan.u * (outer - 3.0)
    return (x if plan.side == "left" else -x), y


class Insertion:
    """Lungs with abnormalities: `air` is the path (cm) of aerated lung, `optical` the added optical path."""

    def __init__(self, chest: Chest) -> None:
        self.chest = chest
        self.air = chest.healthy.copy()
        self.optical = np.zeros_like(chest.healthy)
        self.lesions: list[Lesion] = []

    def insert(self, plan: Plan) -> None:
        """Puts one abnormality in, unless it would hardly be seen or lies over another one of its name."""
        draw = {
            "pleural effusion": self._effusion,
            "pneumothorax": self._pneumothorax,
            "support device": self._device,
        }.get(plan.name, self._filling)
        drawn = draw(plan)
        if drawn is None:
            return
        change, air, mask = drawn
        count = int(mask.sum())
        if count < VISIBLE_AREA * mask.size * (0.4 if plan.name == "support device" else 1):
            return
        if abs(float(change[mask].sum())) / count < VISIBLE_CONTRAST:
            return
        for other in self.lesions:
            if "support device" in (other.plan.name, plan.name):
                continue
            alike = {other.plan.name, plan.name} <= {"nodule", "mass"} or other.plan.name == plan.name
            shared = int((other.mask & mask).sum())
            if shared > (0.1 if alike else 0.3) * min(count, int(other.mask.sum())):
                return
        self.optical += change
        self.air = air
        self.lesions.append(Lesion(plan, mask))

    def _effusion(self, plan: Plan) -> Drawn | None:
        """Fluid around an upward-open bowl of aerated lung: level in the middle, rising at the walls."""
        chest, columns = self.chest, self.chest.columns(plan.side)
        dome = chest.dome(plan.side)
        bottom = dome + 4.7
        level = bottom - plan.extent * (bottom - chest.apex)
        x = chest.grid.x[:, columns]
        centre = (-1 if plan.side == "right" else 1) * 0.40 * chest.body.width
        q = (level - chest.grid.y) / np.float32(7.0) - np.square(
            np.square((x - centre) / np.float32(0.66 * chest.body.width))
        )
        bowl = np.sqrt(np.sqrt(np.maximum(q, 0))) * np.float32(1.05 * chest.body.depth)
        cavity = chest.cavity[:, columns]
        reach = np.minimum(cavity, bowl)
        covers = [(a[:, columns], b[:, columns]) for a, b in chest.covers]
        left = np.minimum(uncovered(-reach, reach, covers), self.air[:, columns])
        fluid = np.zeros_like(self.air)
        fluid[:, columns] = self.air[:, columns] - left
        air = self.air.copy()
        air[:, columns] = left
        fluid_mask = chest.lung_fields & (fluid > 0.35 * chest.healthy)
        return fluid * np.float32(SOFT - LUNG), air, fluid_mask

    def _pneumothorax(self, plan: Plan) -> Drawn | None:
        """Air between the chest wall and a lung that fell away, most at the apex, with a pleural line."""
        chest, columns = self.chest, self.chest.columns(plan.side)
        y = chest.grid.y
        down = np.clip((y - chest.apex) / (chest.dome(plan.side) - chest.apex), 0, 1.2)
        rim = np.float32(plan.extent) * (1 - np.clip((down - 0.1) / (0.3 + 0.7 * plan.v), 0, 1))
        lowered = chest.apex + 0.9 * plan.extent
        gate = np.sqrt(np.clip((y - lowered) / 3.5, 0, 1))
        width = (np.maximum(chest.width - rim, 0) * gate).astype(np.float32)
        x = chest.grid.x[:, columns]
        inner = np.minimum(cross_section_depth(x, width, chest.depth), chest.cavity[:, columns])
        covers = [(a[:, columns], b[:, columns]) for a, b in chest.covers]
        left = np.minimum(uncovered(-inner, inner, covers), self.air[:, columns])
        air = self.air.copy()
        air[:, columns] = left
        free = self.air - air
        mask = np.zeros(free.shape, bool)
        mask[:, columns] = (free[:, columns] > 1.0) & (left < 0.6)
        change = free * np.float32(-LUNG)
        # the collapsed lung is a little denser, and its pleura shows where the ray grazes it
        pleura = inner - cross_section_depth(x, np.maximum(width - 0.16, 0), chest.depth * np.float32(0.985))
        change[:, columns] += np.clip(pleura, 0, 2.2) * (left > 0) * np.float32(0.32)
        change[:, columns] += left * np.float32(0.018)
        if not mask.any():
            return None
        return change, air, mask

    def _filling(self, plan: Plan) -> Drawn | None:
        """Soft tissue for lung: ellipsoids for nodule, mass and consolidation, plates for atelectasis."""
        x, y = _place(self.chest, plan)
        rng = np.random.default_rng(plan.seed)
        if plan.name == "atelectasis":
            length, thick = plan.extent, rng.uniform(0.34, 0.55)
            shapes = [Ellipsoid(x, y, 0, length, thick, 4.2, plan.turn)]
            if rng.random() < 0.4:
                shapes.append(
                    Ellipsoid(
                        x, y - 1.9, 0, 0.8 * length, 0.8 * thick, 3.6, plan.turn + rng.uniform(-0.2, 0.2)
                    )
                )
        elif plan.name == "consolidation":
            shapes = [
                Ellipsoid(
                    x + rng.normal(0, 0.55) * plan.extent,
                    y + rng.normal(0, 0.6) * plan.extent,
                    0,
                    plan.extent * rng.uniform(0.5, 1.0),
                    plan.extent * rng.uniform(0.45, 0.9),
                    plan.extent * rng.uniform(0.8, 1.2),
                    rng.uniform(-1, 1),
                )
                for _ in range(6)
            ]
        else:
            shapes = [
                Ellipsoid(
                    x, y, 0, plan.extent, plan.extent * rng.uniform(0.88, 1.0), plan.extent, rng.uniform(0, 3)
                )
            ]
        z = float(rng.uniform(-3, 3))
        grid = self.chest.grid
        path = np.zeros_like(self.air)
        for shape in shapes:
            seen = replace(shape, z=z).projected(self.chest.pose.view, self.chest.pose.rotation)
            if drawn := ellipsoid_depth(grid, seen):
                path[drawn[0]] += 2 * drawn[1]
        if plan.name == "consolidation":  # uneven, with a soft margin
            reach = 4 * plan.extent
            if window := grid.window(x - reach, y - reach, x + reach, y + reach):
                rows, across = window
                at_x, at_y = grid.x[0, across] * 1.6 - x, grid.y[rows, 0] * 1.6 - y
                patchy = resample(clouds(plan.seed % 4), at_x, at_y)
                path[window] = 6.5 * (1 - np.exp(path[window] * -0.1)) * (0.45 + 0.75 * patchy)
        columns = self.chest.columns(plan.side)
        inside = np.zeros_like(path)
        inside[:, columns] = np.minimum(path[:, columns], self.air[:, columns])
        firm = {"nodule": 2.5, "mass": 1.4, "atelectasis": 1.0, "consolidation": 1.8}[plan.name]
        floor = 0.25 if plan.name in ("nodule", "mass") else 0.9
        return inside * np.float32((SOFT - LUNG) * firm), self.air - inside, inside > floor

    def _device(self, plan: Plan) -> Drawn | None:
        change, mask = draw_device(self.chest, plan)
        return change, self.air, mask
