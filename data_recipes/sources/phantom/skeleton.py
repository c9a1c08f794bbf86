"""Bones: both arcs of all ribs at once, spine, clavicles, shoulder blades."""

from __future__ import annotations

import numpy as np

from data_recipes.sources.phantom.anatomy import Chest, spine_x
from data_recipes.sources.phantom.patient import Body, Pose
from data_recipes.sources.phantom.projection import (
    Array,
    Ellipsoid,
    Grid,
    cross_section_depth,
    ellipsoid_depth,
    magnification,
)


def bones(chest: Chest) -> Array:
    """Path (cm) through compact bone: both arcs of all ribs, spine, clavicles."""
    body, grid, pose = chest.body, chest.grid, chest.pose
    shell = cross_section_depth(grid.x, chest.width + np.float32(0.7), chest.depth + np.float32(0.6))
    tilt = shell * np.float32(body.rib_tilt)
    shell -= chest.cavity
    np.minimum(shell, 2.2, out=shell)
    phase = (grid.y - np.float32(body.apex + 1.2)) / np.float32(body.rib_pitch) - np.float32(
        body.rib_phase * 0.4
    )
    tilt /= np.float32(body.rib_pitch)
    away = np.abs(grid.x)
    path = np.zeros_like(shell)
    arcs = (
        (phase + tilt, np.clip((away - 1.8) / 1.5, 0, 1)),
        (phase - tilt, np.clip((away - 4.2) / 2.6, 0, 0.85)),
    )
    for ring, fade in arcs:
        near = np.rint(ring)
        known = np.clip(ring + 0.5, 0, 1) * (ring < 10.4)
        near -= ring
        np.square(near, out=near)
        near /= np.float32(body.rib_width**2)  # 0 at the middle of a rib, 1 at its edge
        rim = np.clip((1 - near) * 3.2, 0, 1)
        rim *= 0.62 + 0.38 * near
        path += rim * known * fade
    path *= shell
    _add_spine(path, grid, body, pose)
    for side in (-1, 1):
        _add_clavicle(path, grid, body, pose, side)
        scapula = Ellipsoid(
            side * (body.width + 0.4), -5.6 + 0.5 * body.shoulder, -9.0, 2.6, 6.2, 0.22, side * -0.16
        )
        if drawn := ellipsoid_depth(grid, scapula.projected(pose.view, pose.rotation)):
            path[drawn[0]] += drawn[1]
    path *= np.float32(body.bone)
    return path


def _add_spine(path: Array, grid: Grid, body: Body, pose: Pose) -> None:
    axis = spine_x(grid.y, body, pose)
    window = grid.window(
        float(axis.min()) - 4.6, float(grid.y[0, 0]), float(axis.max()) + 4.6, float(grid.y[-1, 0])
    )
    if window is None:
        return
    columns = window[1]
    y = grid.y
    x = grid.x[:, columns] - axis
    step = np.float32(2.05) + np.float32(0.02) * y
    level = np.abs(y / step - np.rint(y / step))  # 0 in the middle of a vertebra, 0.5 in a disc
    body_part = np.clip((0.44 - level) * 14, 0.45, 1)
    across = np.clip((1.85 - np.abs(x)) * 2.2, 0, 1)
    pedicle = np.exp(-np.square((np.abs(x) - 1.15) / 0.35)) * np.exp(-np.square(level * 2.05 / 0.45))
    process = np.exp(-np.square(x / 0.3)) * np.clip((level - 0.15) * 5, 0, 1)
    wide = np.exp(-np.square((np.abs(x) - 2.5) / 0.9)) * np.exp(-np.square(level * 2.05 / 0.4))
    path[:, columns] += 0.75 * across * body_part + 0.4 * pedicle + 0.35 * process + 0.25 * wide


def _add_clavicle(path: Array, grid: Grid, body: Body, pose: Pose, side: int) -> None:
    """A tube along y(x); its distance is closed-form: the vertical one times the cosine of the slope."""
    scale, reach = magnification(pose.view, 5.0), body.width + 3.2
    start, radius = side * 1.9 + 6 * pose.rotation, 0.62 * scale
    ends = sorted((start * scale, (start + side * reach) * scale))
    top = (body.apex + 2.6 + body.clavicle) * scale
    window = grid.window(ends[0], top - 3.6, ends[1], top + 1.4)
    if window is None:
        return
    along = (grid.x[:, window[1]] / np.float32(scale) - np.float32(start)) * np.float32(side / reach)
    wave = np.float32(2 * np.pi * 0.8)
    y = top - np.float32(scale) * (1.9 * along + np.sin(along * wave))
    slope = (1.9 + wave * np.cos(along * wave)) / np.float32(reach)
    inside = 1 - np.square((grid.y[window[0]] - y) / (radius * np.sqrt(1 + np.square(slope))))
    inside *= np.clip(np.minimum(along, 1 - along) * 25, 0, 1)  # rounded ends
    path[window] += 0.84 * np.sqrt(np.sqrt(np.maximum(inside, 0)))
