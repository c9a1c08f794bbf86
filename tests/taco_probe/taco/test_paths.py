"""Trajectories and sensitivity on paths whose shape is known."""

import math

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from taco_probe.taco.analysis import paths, sensitivity, shapes
from taco_probe.taco.analysis.trajectories import trajectories
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.planted_map import joined, rows, unit
from tests.taco_probe.taco.planted_map import trajectories as planted

WIDTH = 256


def measure(points):
    return {name: values[0] for name, values in shapes.measure(shapes.grams(np.array(points)[None])).items()}


def line(rng, points=11, width=WIDTH, span=0.2):
    """A short straight way on the unit sphere."""
    start, to = np.linalg.qr(rng.standard_normal((width, 2)))[0].T
    return start + span * np.linspace(0, 1, points)[:, None] * to


def cloud(rng, points=11, width=WIDTH):
    """Points that do not know of each other around one on the sphere."""
    return 10 * unit(rng.standard_normal(width)) + rng.standard_normal((points, width)) / 16


def test_a_straight_line_at_even_pace_is_straight_smooth_and_monotone():
    found = measure(np.outer(np.arange(11), np.ones(5)))
    expected = {
        "straightness": 1,
        "turning": 0,
        "uniformity": 1,
        "monotony": 1,
        "monotone": 1,
        "roughness": 0,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-5), name


def test_a_circle_comes_back():
    angle = np.linspace(0, 2 * np.pi, 11)
    found = measure(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert found["straightness"] == pytest.approx(0, abs=1e-6)
    assert found["turning"] == pytest.approx(36)
    assert found["uniformity"] == pytest.approx(1)
    assert found["roughness"] == pytest.approx(2 * math.sin(math.pi / 10))
    assert found["monotone"] == 0


def test_half_a_circle_is_as_straight_as_its_chord_says():
    angle = np.linspace(0, np.pi, 101)
    found = measure(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    assert found["straightness"] == pytest.approx(2 / math.pi, abs=1e-3)
    assert found["monotony"] == pytest.approx(1)


def test_a_random_walk_and_random_points_have_their_known_turning_and_roughness():
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((200, 11, 400))
    walk = shapes.measure(shapes.grams(steps.cumsum(axis=1)))
    assert walk["turning"].mean() == pytest.approx(90, abs=1)
    assert walk["roughness"].mean() == pytest.approx(math.sqrt(2), abs=0.02)
    assert walk["straightness"].mean() == pytest.approx(1 / math.sqrt(10), abs=0.02)
    loose = shapes.measure(shapes.grams(steps))
    assert loose["turning"].mean() == pytest.approx(120, abs=1)
    assert loose["roughness"].mean() == pytest.approx(math.sqrt(3), abs=0.02)
    assert abs(loose["monotony"].mean()) < 0.1


def test_one_jump_is_as_uneven_as_can_be():
    found = measure([[0.0]] * 5 + [[1.0]] * 6)
    assert found["uniformity"] == pytest.approx(1 / 10)
    assert found["monotone"] == 0


def test_a_path_that_stands_still_has_no_shape():
    assert all(math.isnan(value) for value in measure(np.ones((11, 3))).values())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 12), st.floats(0.01, 100))
def test_shape_knows_nothing_of_place_turn_and_size(seed, points, size):
    rng = np.random.default_rng(seed)
    path = rng.standard_normal((points, 6))
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    moved = measure(size * path @ turn + rng.standard_normal(6))
    for name, value in measure(path).items():
        assert moved[name] == pytest.approx(value, abs=1e-5), name
    assert 0 <= moved["straightness"] <= 1 + 1e-9
    assert 1 / (points - 1) - 1e-9 <= moved["uniformity"] <= 1 + 1e-9
    away = np.linalg.norm(path - path[0], axis=1)[1:]
    assert moved["monotony"] == pytest.approx(scipy.stats.spearmanr(away, np.arange(points - 1))[0])


def test_shuffling_inner_products_is_shuffling_points():
    points = np.random.default_rng(2).standard_normal((4, 7, 5))
    orders = shapes.drawn_orders(7, 3)
    assert (orders[:, 0] == 0).all()
    for order, found in zip(orders, shapes.shuffled(shapes.grams(points), orders), strict=True):
        again = shapes.measure(shapes.grams(points[:, order]))
        for name, values in found.items():
            np.testing.assert_allclose(values, again[name], atol=1e-6)


def value(found, measure, alteration="noise", category="all"):
    (row,) = [
        row
        for row in found["paths"]["rows"]
        if (row["measure"], row["alteration"], row["category"]) == (measure, alteration, category)
    ]
    return row


def test_lines_stand_out_of_the_null_and_clouds_do_not():
    straight = planted(line, alteration="brightness")
    loose = planted(cloud, alteration="noise", first=len(straight.rows))
    found = paths.measured([joined([straight, loose])], resamples=20, orders=99)
    for name in ("straightness", "roughness", "monotony", "turning"):
        assert value(found, name, "brightness")["p"] == pytest.approx(0.01), name
        assert value(found, name, "noise")["p"] > 0.05, name
    row = value(found, "straightness", "brightness")
    assert row["value"] == pytest.approx(1, abs=0.01)
    assert row["low"] <= row["value"] <= row["high"]
    assert (row["n"], row["paths"]) == (3, 18)
    assert row["null_low"] < row["null"] < row["null_high"] < 0.5
    assert value(found, "monotone", "brightness")["value"] == pytest.approx(1)
    assert found["paths"]["n"] == 36


def test_the_curve_says_how_far_from_the_start_each_strength_is():
    curve = paths.measured([planted(line)], resamples=10, orders=9)["paths"]["curves"][0]
    away = [point["value"] for point in curve["distance"]]
    angle = np.arctan(0.2 * np.linspace(0, 1, 11))
    np.testing.assert_allclose(away, 2 * np.sin(angle / 2), atol=1e-5)
    assert curve["strengths"][-1] == 1


def test_categories_are_judged_apart_and_together():
    both = [planted(line), planted(cloud, task="b", category="generative", first=3 * 6 * 11)]
    found = paths.measured([joined(both)], resamples=10, orders=19)
    straight, bent, all_of_them = (
        value(found, "straightness", category=name)["value"] for name in ("semantic", "generative", "all")
    )
    assert all_of_them == pytest.approx((straight + bent) / 2)


def test_datasets_count_alike_and_one_alone_has_no_interval():
    parts = [
        planted(line, datasets=["many"], anchors=20),
        planted(cloud, datasets=["few"], anchors=2, first=220),
    ]
    together = value(paths.measured([joined(parts)], resamples=10, orders=9), "straightness")["value"]
    alone = [
        value(paths.measured([planted(p, datasets=["d"], anchors=n)], resamples=10, orders=9), "straightness")
        for p, n in ((line, 20), (cloud, 2))
    ]
    assert together == pytest.approx(np.mean([one["value"] for one in alone]), abs=0.01)
    assert alone[0]["low"] is None


def test_the_anchor_is_the_start_and_paths_that_are_not_whole_are_left_out():
    anchor = {"image": "x"}
    found = [anchor, *({"anchor": 0, "alteration": "noise", "altered_by": s / 4} for s in range(1, 5))]
    found += [{"anchor": 0, "alteration": "rotation", "altered_by": s / 4} for s in range(1, 5)]
    found += [anchor, *({"anchor": 9, "alteration": "noise", "altered_by": s / 4} for s in range(1, 4))]
    whole, left_out = trajectories(rows(found))
    assert [(one.alteration, one.numbers.tolist()) for one in whole] == [
        ("noise", [[0, 1, 2, 3, 4]]),
        ("rotation", [[0, 5, 6, 7, 8]]),
    ]
    assert left_out == 1
    assert whole[0].strengths == (0, 0.25, 0.5, 0.75, 1)


def test_a_strength_twice_and_no_path_at_all_are_refused():
    twice = [{"anchor": 0, "alteration": "noise", "altered_by": by} for by in (0, 0.5, 0.5, 1)]
    with pytest.raises(UserError, match="a strength twice"):
        trajectories(rows(twice))
    with pytest.raises(UserError, match="no trajectory"):
        paths.measured([Embeddings(np.ones((3, 4), np.float32), rows([{}] * 3))])


def test_drawn_paths_keep_distances_that_lie_in_a_plane():
    drawn = paths.measured([planted(line)], resamples=5, orders=9)["paths"]["drawn"]
    assert len(drawn) == 3
    for one in drawn:
        assert one["explained"] == pytest.approx(1, abs=1e-3)
        points = np.array(one["points"])
        assert np.linalg.norm(points[-1] - points[0]) == pytest.approx(
            2 * math.sin(math.atan(0.2) / 2), abs=1e-3
        )
        assert points[-1, 0] >= points[0, 0]


def test_typical_distance_is_the_mean_over_pairs():
    points = np.random.default_rng(3).standard_normal((40, 5))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    pairs = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    assert sensitivity.typical(points.mean(axis=0)) == pytest.approx(math.sqrt(pairs.mean()))


def test_a_task_that_an_alteration_carries_into_another_is_seen_to_cross():
    """Task a walks from its own centre to that of b; b and c stay where they are."""
    axes = np.eye(WIDTH)

    def way(start, end):
        return lambda rng: (
            np.linspace(1, 0, 11)[:, None] * axes[start]
            + np.linspace(0, 1, 11)[:, None] * axes[end]
            + 0.3 * rng.standard_normal((11, WIDTH)) / 16
        )

    size = 3 * 6 * 11
    walks = joined(
        [
            planted(way(0, 1)),
            planted(way(1, 1), task="b", first=size),
            planted(way(2, 2), task="c", first=2 * size),
        ]
    )
    starts = walks.rows["altered_by"].to_numpy() == 0
    plain = Embeddings(
        walks.vectors[starts],
        walks.rows.filter(pl.Series(starts)).with_columns(alteration=pl.lit(""), anchor=pl.lit(-1, pl.Int64)),
    )
    for test in ([plain], []):
        found = {
            row["task"]: row
            for row in paths.measured([walks], test, resamples=10, orders=9)["sensitivity"]["rows"]
        }
        assert found["a"]["crossed"] == 1
        assert found["a"]["into"] == {"b": 1}
        assert found["a"]["of"] == 18
        assert found["a"]["value"] > 2
        assert found["a"]["value"] == pytest.approx(found["a"]["shift"] / found["a"]["typical"])
        assert found["b"]["crossed"] == found["c"]["crossed"] == 0
        # Where noise alone moves an instance, it moves as far as to another instance.
        assert found["b"]["value"] == pytest.approx(1, abs=0.1)


def test_a_sweep_over_the_tasks_own_strength_is_a_path_and_no_sensitivity():
    """At strength 0 input and target are equal: it is no instance of the task that could be moved."""
    found = paths.measured([planted(line, alteration="strength")], resamples=5, orders=9)
    assert value(found, "straightness", "strength")["paths"] == 18
    assert found["sensitivity"]["rows"] == []
