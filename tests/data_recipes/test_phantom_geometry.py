"""The phantom's projection algebra against ray marching through the shapes' own inequalities."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.sources.phantom.anatomy import (
    dome_top,
    heart_extent,
    heart_shapes,
    project,
    thorax_profile,
)
from data_recipes.sources.phantom.edema import markings
from data_recipes.sources.phantom.patient import Pose, sample_body
from data_recipes.sources.phantom.projection import (
    Ellipsoid,
    ellipsoid_depth,
    magnification,
    make_grid,
    tube_depth,
    uncovered,
)

STRAIGHT = Pose("PA", 34.0, 0.0, -0.6, 0.0, 0.0, 0)


def body_of(seed: int, large_heart: bool = False):
    return sample_body(np.random.default_rng(seed), large_heart=large_heart)


place, axis = st.floats(-4, 4), st.floats(0.8, 4.5)
ends = st.tuples(st.floats(-10, 10), st.floats(-10, 10))


@given(ends.map(sorted), st.lists(ends, min_size=3, max_size=3))
def test_uncovered_length_is_what_sampling_the_ray_finds(span, covers):
    steps = np.linspace(-10, 10, 20001)
    free = (steps >= span[0]) & (steps < span[1])
    for a, b in covers:
        free &= ~((steps >= a) & (steps < b))
    pack = [(np.array([a]), np.array([b])) for a, b in covers]
    got = uncovered(np.array([span[0]]), np.array([span[1]]), pack)
    assert got[0] == pytest.approx(free.sum() * 0.001, abs=0.01)


@settings(max_examples=20)
@given(
    st.floats(-4, 4),
    st.floats(-4, 4),
    st.floats(0.8, 5),
    st.floats(0.8, 5),
    st.floats(0.5, 4),
    st.floats(-3, 3),
)
def test_ellipsoid_path_is_what_marching_finds(x, y, a, b, c, turn):
    grid = make_grid(24, 12.0, (0.0, 0.0))
    path = np.zeros((24, 24))
    if drawn := ellipsoid_depth(grid, Ellipsoid(x, y, 0.0, a, b, c, turn)):
        path[drawn[0]] = 2 * drawn[1]
    z = np.linspace(-5, 5, 1001)
    dx, dy = grid.x[..., None] - x, grid.y[..., None] - y
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    marched = ((u / a) ** 2 + (v / b) ** 2 + (z / c) ** 2 < 1).sum(axis=-1) * 0.01
    assert np.abs(path - marched).max() < 0.05


def test_tube_path_is_the_chord_of_its_circle():
    grid = make_grid(40, 10.0, (0.0, 0.0))
    window, path = tube_depth(grid, np.array([[-3.0, 1.0], [3.0, 1.0]]), 1.5)
    full = np.zeros((40, 40))
    full[window] = path
    column = 20  # x is inside the tube's length there
    distance = np.abs(grid.y[:, 0] - 1.0)
    assert full[:, column] == pytest.approx(2 * np.sqrt(np.maximum(1.5**2 - distance**2, 0)), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_lung_path_is_what_marching_through_the_shapes_finds(seed):
    body = body_of(seed, large_heart=seed == 1)
    grid = make_grid(96, STRAIGHT.field, (STRAIGHT.x, STRAIGHT.y))
    chest = project(body, STRAIGHT, grid)
    z = np.linspace(-13, 13, 2601)
    dz = z[1] - z[0]
    hearts = heart_shapes(body, STRAIGHT)
    rng = np.random.default_rng(seed)
    checked = 0
    for row, column in zip(rng.integers(96, size=400), rng.integers(96, size=400), strict=True):
        low, high = (float(v[row, column]) for v in chest.covers[1])
        x, y = float(grid.x[0, column]), float(grid.y[row, 0])
        width, depth = (float(v[0]) for v in thorax_profile(np.array([y], np.float32), body))
        if width == 0:
            continue
        inside = (x / width) ** 2 + (z / depth) ** 2 < 1
        for e in hearts:
            u = (x - e.x) * np.cos(e.turn) + (y - e.y) * np.sin(e.turn)
            v = (y - e.y) * np.cos(e.turn) - (x - e.x) * np.sin(e.turn)
            inside &= (u / e.a) ** 2 + (v / e.b) ** 2 + ((z - e.z) / e.c) ** 2 >= 1
        side = "right" if column < chest.middle else "left"
        centre, reach = (-1 if side == "right" else 1) * 0.47 * body.width, 0.56 * body.width
        if abs(x) < abs(centre):
            reach *= 1.5
        # the dome as a surface over (x, z): highest at its centre, lower the farther away
        surface = dome_top(body, STRAIGHT, side) + 5.2 * (((x - centre) / reach) ** 2 + ((z - 1) / 9.0) ** 2)
        inside &= y < surface
        inside &= ~((z > low) & (z < high))
        assert chest.healthy[row, column] == pytest.approx(inside.sum() * dz, abs=0.06)
        checked += inside.any()
    assert checked > 100  # rays that meet lung


@pytest.mark.parametrize("seed", range(6))
def test_an_unrotated_pa_exposure_shows_the_planned_ratio(seed):
    body = body_of(seed, large_heart=seed % 2 == 0)
    left, right = heart_extent(heart_shapes(body, STRAIGHT))
    assert (right - left) / (2 * body.width) == pytest.approx(body.ctr, abs=1e-6)


def test_an_ap_exposure_widens_the_heart():
    body = body_of(3)
    widths = {}
    for view in ("PA", "AP"):
        left, right = heart_extent(heart_shapes(body, Pose(view, 34.0, 0, 0, 0, 0, 0)))
        widths[view] = right - left
    # by hand, for the heart's depth of 3.5 cm: (92 / 88.5) / (168 / 171.5)
    assert widths["AP"] / widths["PA"] == pytest.approx((92 / 88.5) / (168 / 171.5), abs=1e-6)
    assert magnification("PA", 0) == magnification("AP", 0) == 1


@pytest.mark.parametrize("seed", range(4))
def test_edema_grades_add_ever_more_density(seed):
    grid = make_grid(112, STRAIGHT.field, (STRAIGHT.x, STRAIGHT.y))
    chest = project(body_of(seed), STRAIGHT, grid)
    field = chest.lung_fields
    means = [
        float(markings(chest, chest.healthy, grade, np.random.default_rng(seed))[field].mean())
        for grade in range(4)
    ]
    assert all(after > 1.15 * before for before, after in pairwise(means)), means
