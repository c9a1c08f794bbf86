"""From a body and a pose to depths at each pixel: what lies along every ray when nothing is abnormal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_recipes.sources.phantom.patient import Body, Pose
from data_recipes.sources.phantom.projection import (
    Array,
    Ellipsoid,
    Grid,
    Interval,
    cross_section_depth,
    ellipsoid_depth,
    magnification,
    tube_depth,
    uncovered,
)

# A lung field is where a healthy lung is at least this thick (cm) and no great vessel is in the way; lung
# behind the heart belongs to it, the thin recess behind the dome does not.
LUNG_VISIBLE = 2.5
SIDES = ("right", "left")
_DOME_DROP, _DOME_REACH = 5.2, 9.0


@dataclass(eq=False)
class Chest:
    """Depths (cm) on one grid. Lung quantities change as abnormalities are put in; `healthy` does not."""

    body: Body
    pose: Pose
    grid: Grid
    torso: Array  # path through the whole patient
    width: Array  # (S, 1) inner half-width of the thorax
    depth: Array  # (S, 1) inner half-depth
    cavity: Array  # half path through the thoracic cavity
    covers: list[Interval]  # heart, mediastinum, what lies under the diaphragm
    healthy: Array  # path through lung
    heart: tuple[Ellipsoid, ...]  # as projected
    heart_mask: Array
    middle: int  # first column of the left half

    def columns(self, side: str) -> slice:
        """The columns of one lung; the patient's right is at the left of the image."""
        return slice(0, self.middle) if side == "right" else slice(self.middle, self.grid.size)

    @property
    def apex(self) -> float:
        return self.body.apex

    @property
    def lung_fields(self) -> Array:
        """Mask (S, S) of both lungs as they are seen on a radiograph, without abnormalities."""
        low, high = self.covers[1]
        return (self.healthy > LUNG_VISIBLE) & (high <= low)

    def dome(self, side: str) -> float:
        """y of the highest point of the diaphragm on one side."""
        return dome_top(self.body, self.pose, side)


def dome_top(body: Body, pose: Pose, side: str) -> float:
    return body.dome - pose.breath + (body.dome_step if side == "left" else 0.0)


def thorax_profile(y: Array, body: Body) -> tuple[Array, Array]:
    """Inner half-width and half-depth at heights y: a rounded cone above, slowly narrowing below."""
    t = (y - np.float32(body.apex)) / np.float32(25.0)
    s = 1 - np.clip(t / 0.82, 0, 1)
    width = np.sqrt(1 - s**2.5) * (1 - 0.25 * np.square(np.maximum(t - 0.82, 0)))
    depth = np.sqrt(1 - s**1.8)
    return (np.float32(body.width) * width).astype(np.float32), (np.float32(body.depth) * depth).astype(
        np.float32
    )


def spine_x(y: Array, body: Body, pose: Pose) -> Array:
    """x of the spine's axis at heights y, with curvature and the shift of a rotated patient (z = -7)."""
    return (body.curve * np.sin((y + 10) / 8.5) - 7 * pose.rotation).astype(np.float32)


def heart_shapes(body: Body, pose: Pose) -> tuple[Ellipsoid, ...]:
    """Left ventricle and right atrium as projected; an unrotated PA exposure shows the body's CTR."""
    total = 2 * body.width * body.ctr / magnification("PA", 3.5)  # true width of the heart
    left = total * (1 - body.heart_offset)
    turn = body.heart_turn - 0.05 * pose.breath
    floor = (dome_top(body, pose, "left") + dome_top(body, pose, "right")) / 2
    long = 0.60 * left / np.hypot(np.cos(turn), body.heart_tall * np.sin(turn))
    short = body.heart_tall * long
    high = float(np.hypot(long * np.sin(turn), short * np.cos(turn)))
    ventricle_y = floor + 0.9 - 0.72 * high
    ventricle = Ellipsoid(
        0.4 * left, ventricle_y, 3.5, long, short, min(1.3 * short, 0.68 * body.depth), turn
    )
    atrium_a = 0.62 * total * body.heart_offset + 0.8
    atrium = Ellipsoid(
        -total * body.heart_offset + atrium_a,
        floor - 0.55 * high - 0.6,
        3.5,
        atrium_a,
        max(3.4, 0.62 * high),
        min(1.1 * short, 0.6 * body.depth),
    )
    return ventricle.projected(pose.view, pose.rotation), atrium.projected(pose.view, pose.rotation)


def heart_extent(heart: tuple[Ellipsoid, ...]) -> tuple[float, float]:
    """Leftmost and rightmost x of the projected heart."""
    return min(e.x - e.half_width for e in heart), max(e.x + e.half_width for e in heart)


def _torso(grid: Grid, body: Body) -> Array:
    wall, top = body.width + body.wall, body.shoulder
    knots = np.array([-24, -19.5, -17.5, -16, -14.2, -12, -8.5, -4.5, 0, 8, 30]) + np.array(
        [top] * 6 + [0] * 5
    )
    widths = [6.0, 6.6, 9.0, 13.0, wall + 2.5, wall + 4.0, wall + 3.6, wall + 1.2, wall, wall, wall]
    depths = [6.0, 6.2, 6.4, 6.8, 7.4, 8.3, 10.0, body.depth + 2.4, *[body.depth + 1.2 + 0.5 * body.wall] * 3]
    reach = max(1, round(1.6 / grid.pixel))
    kernel = np.ones(reach, np.float32) / reach
    beyond = (np.arange(grid.size + reach - 1) - reach // 2) * grid.pixel + grid.top

    def smooth(values: list[float]) -> Array:
        return np.convolve(np.interp(beyond, knots, values), kernel, "valid").astype(np.float32)[:, None]

    path = 2 * cross_section_depth(grid.x, smooth(widths), smooth(depths))
    if body.breast > 0:
        for side in (-1, 1):
            shape = Ellipsoid(side * 0.56 * body.width, 6.4, 8.0, 6.6, 5.4 + 0.3 * body.breast, body.breast)
            if drawn := ellipsoid_depth(grid, shape):
                path[drawn[0]] += drawn[1]
    return path


def _mediastinum(grid: Grid, body: Body, pose: Pose) -> Interval:
    """Great vessels and connective tissue between the lungs, as one interval a ray."""
    y = grid.y
    half = body.mediastinum * (0.8 + 0.12 * np.sin((y + 9) / 2.6)) + 3.2 * np.exp(-(y - body.apex) / 1.7)
    axis = spine_x(y, body, pose) * np.float32(0.6)
    half = np.minimum(half, 9.0).astype(np.float32)
    reach = 9.0 + float(np.abs(axis).max())
    columns = slice(*np.searchsorted(grid.x[0], (-reach, reach)))  # nothing lies outside
    x = grid.x[:, columns] - axis
    core = np.maximum(1 - np.square(np.square(x / half)), 0)
    core = np.sqrt(np.sqrt(core)) * np.float32(5.6)
    # sternum and spine leave no lung in the midline itself
    core *= 1 + 0.9 * np.exp(-np.square(x / np.float32(1.2)))
    high = np.zeros((grid.size, grid.size), np.float32)
    high[:, columns] = core
    low = -1.3 * high
    trunk = (
        Ellipsoid(body.mediastinum - 0.1, -6.6, -2.0, body.knob, body.knob * 1.1, 3.0),  # aortic knob
        Ellipsoid(body.mediastinum - 0.2, -3.3, 1.0, 1.5, 2.0, 2.6),  # pulmonary trunk
        Ellipsoid(-body.mediastinum + 0.5, -4.5, 1.0, 1.2, 5.5, 1.6),  # superior vena cava
        Ellipsoid(1.9, 3.5, -6.0, 1.35, 11.0, 1.4),  # descending aorta
    )
    for shape in trunk:
        seen = shape.projected(pose.view, pose.rotation)
        if drawn := ellipsoid_depth(grid, seen):
            window, depth = drawn
            ends = np.where(depth > 0, depth, -99)
            np.maximum(high[window], seen.z + ends, out=high[window])
            np.minimum(low[window], seen.z - ends, out=low[window])
    return low, high


def _diaphragm(grid: Grid, body: Body, pose: Pose, middle: int) -> Interval:
    """Where a ray is under a dome: paraboloids, highest a little in front, falling off behind."""
    x = grid.x
    centre, reach, top = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    for columns, sign, side in ((slice(0, middle), -1, "right"), (slice(middle, None), 1, "left")):
        centre[:, columns] = sign * 0.47 * body.width
        reach[:, columns] = 0.56 * body.width
        top[:, columns] = dome_top(body, pose, side)
    # towards the midline the two domes meet under the heart
    inner = np.abs(x) < np.abs(centre)
    reach = np.where(inner, reach * 1.5, reach)
    below = (grid.y - (top + _DOME_DROP * np.square((x - centre) / reach))) / np.float32(_DOME_DROP)
    half = np.sqrt(np.maximum(below, 0)) * np.float32(_DOME_REACH)
    return np.where(half > 0, 1 - half, np.float32(99)), np.where(half > 0, 1 + half, np.float32(-99))


def project(body: Body, pose: Pose, grid: Grid) -> Chest:
    """The healthy chest on a grid."""
    width, depth = thorax_profile(grid.y, body)
    cavity = cross_section_depth(grid.x, width, depth)
    middle = int(np.clip(np.searchsorted(grid.x[0], 0.0), 1, grid.size - 1))
    heart = heart_shapes(body, pose)
    front = np.full(cavity.shape, -99, np.float32)
    back = np.full(cavity.shape, 99, np.float32)
    for shape in heart:
        if drawn := ellipsoid_depth(grid, shape):
            window, half = drawn
            ends = np.where(half > 0, half, np.float32(-99))
            np.maximum(front[window], shape.z + ends, out=front[window])
            np.minimum(back[window], shape.z - ends, out=back[window])
    covers = [(back, front), _mediastinum(grid, body, pose), _diaphragm(grid, body, pose, middle)]
    return Chest(
        body=body,
        pose=pose,
        grid=grid,
        torso=_torso(grid, body),
        width=width,
        depth=depth,
        cavity=cavity,
        covers=covers,
        healthy=uncovered(-cavity, cavity, covers),
        heart=heart,
        heart_mask=front > back,
        middle=middle,
    )


def airways(chest: Chest) -> Array:
    """Path (cm) of air in trachea, main bronchi and stomach; in place of soft tissue."""
    body, grid, pose = chest.body, chest.grid, chest.pose
    air = np.zeros_like(chest.cavity)
    carina, x = carina_of(body, pose)
    scale = magnification(pose.view, 1.0)
    for points, radius in (
        (((0.2, -26), (x, -14), (x, carina + 0.4)), 1.05),
        (((x, carina), (x - 1.6, carina + 1.8), (x - 2.9, carina + 3.1)), 0.7),
        (((x, carina), (x + 2.2, carina + 1.6), (x + 3.8, carina + 2.5)), 0.62),
    ):
        if drawn := tube_depth(grid, np.array(points) * scale, radius):
            np.maximum(air[drawn[0]], drawn[1], out=air[drawn[0]])
    if body.stomach:
        top = dome_top(body, pose, "left") + 1.0
        bubble = Ellipsoid(0.42 * body.width, top + body.stomach, 2.0, 1.5 * body.stomach, body.stomach, 2.4)
        if drawn := ellipsoid_depth(grid, bubble.projected(pose.view, pose.rotation)):
            air[drawn[0]] += 2 * drawn[1]
    return air


def carina_of(body: Body, pose: Pose) -> tuple[float, float]:
    """y and x of the tracheal bifurcation."""
    return -4.6, -0.25 + 1.0 * pose.rotation + 0.3 * body.curve
