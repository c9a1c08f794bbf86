"""Estimates: means that count tasks alike, pairing by seed, and what intervals cover."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taco_probe.taco.analysis.intervals import Measured, average, contrast, measured, over_seeds

# (task, dataset, image, value)
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.floats(-1, 1)),
    min_size=1,
    max_size=60,
)


def frame(rows: list[tuple[int, int, int, float]]) -> tuple[np.ndarray, pl.DataFrame]:
    found = pl.DataFrame(
        [(f"t{t}", f"d{d}", f"d{d}", f"i{i}") for t, d, i, _ in rows],
        schema=["task", "dataset", "origin", "image"],
        orient="row",
    )
    return np.array([[row[3]] for row in rows]), found


def slow(rows: list[tuple[int, int, int, float]]) -> float:
    tasks = []
    for task in {row[0] for row in rows}:
        mine = [row for row in rows if row[0] == task]
        datasets = {row[1] for row in mine}
        tasks.append(np.mean([np.mean([row[3] for row in mine if row[1] == name]) for name in datasets]))
    return float(np.mean(tasks))


@settings(max_examples=60, deadline=None)
@given(ROWS)
def test_tasks_and_their_datasets_count_alike_also_without_each_unit(rows: list) -> None:
    values, about = frame(rows)
    found = measured(values, ["x"], about)
    assert found.values[0] == pytest.approx(slow(rows), abs=1e-9)
    datasets = sorted({row[1] for row in rows})
    place = slice(1, 2) if len(datasets) >= 3 else slice(1, 3)
    units = sorted({row[place] for row in rows})
    assert found.over == ("datasets" if len(datasets) >= 3 else "images")
    if len(units) > 1:
        expected = [slow([row for row in rows if row[place] != unit]) for unit in units]
        assert found.without[:, 0] == pytest.approx(np.array(expected), abs=1e-9)
    else:
        assert not len(found.without)


def run(value: float, without: list[float], seed: int | None) -> Measured:
    return Measured(("x",), np.array([value]), np.array(without)[:, None], "datasets", seed)


def test_an_interval_is_the_jackknifes_and_students_and_ends_with_shares() -> None:
    one = average([run(0.9, [0.8, 0.9, 1.0], 1)], "x")
    error = np.sqrt(2 / 3 * 0.02)
    assert one is not None
    assert one["low"] == pytest.approx(0.9 - 4.302653 * error)
    assert one["high"] == 1
    assert average([run(0.9, [0.8, 0.9, 1.0], 1)], "x", within=False)["high"] > 1  # type: ignore[index]


def test_seeds_widen_an_interval_and_their_own_is_students() -> None:
    without = list(np.linspace(0.49, 0.51, 11))
    same = average([run(0.5, without, seed) for seed in (1, 2, 3)], "x")
    apart = average([run(value, without, seed) for seed, value in ((1, 0.4), (2, 0.5), (3, 0.6))], "x")
    assert same is not None
    assert apart is not None
    assert apart["high"] - apart["low"] > same["high"] - same["low"]
    assert over_seeds([1.0]) is None
    assert over_seeds([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.484138, 2 + 2.484138))


def test_differences_pair_common_seeds_and_what_has_no_seed() -> None:
    first = [
        run(0.5 + shift, [0.4 + shift, 0.5 + shift, 0.6 + shift], seed)
        for seed, shift in ((1, 0.1), (2, 0.2), (3, 0.3))
    ]
    second = [
        run(one.values[0] - 0.2, list(one.without[:, 0] - [0.2, 0.21, 0.19]), one.seed) for one in first
    ]
    paired = contrast(first, second, "x")
    assert paired is not None
    assert paired["value"] == pytest.approx(0.2)
    assert paired["low"] > 0.15  # seeds differ by 0.1 from each other, and by nothing within a pair
    assert contrast(first, second[:2], "x")["seeds"] == 2  # type: ignore[index]
    alone = contrast(first, [run(0.1, [0.1, 0.1, 0.1], None)], "x")
    assert alone is not None
    assert alone["value"] == pytest.approx(0.6)
    assert alone["seeds"] == 3
    unlike = contrast(first, [run(0.1, [0.1, 0.1, 0.2], 8), run(0.1, [0.1, 0.1, 0.2], 9)], "x")
    assert unlike is not None
    assert unlike["low"] < unlike["value"] < unlike["high"]


def test_what_cannot_be_known_is_none() -> None:
    nothing = measured(np.full((2, 1), np.nan), ["x"], frame([(0, 0, 0, 0.0), (0, 1, 0, 0.0)])[1])
    assert average([nothing], "x") is None
    assert contrast([nothing], [nothing], "x") is None
    alone = average([measured(np.ones((1, 1)), ["x"], frame([(0, 0, 0, 1.0)])[1])], "x")
    assert alone is not None
    assert (alone["value"], alone["low"]) == (1, None)


@pytest.mark.slow
@pytest.mark.parametrize(("datasets", "least"), [(4, 0.87), (6, 0.87), (11, 0.89)])
def test_intervals_hold_the_truth_for_other_datasets_and_seeds(datasets: int, least: float) -> None:
    # Right or wrong, easier in some datasets and for some tasks; a third of the tasks is in three sets only.
    rng = np.random.default_rng(datasets)
    tasks, each, seeds = 18, 8, 3

    def ability(sets: int) -> np.ndarray:
        hard = np.linspace(-1, 2, tasks)[:, None]
        return hard + rng.normal(0, 0.8, sets) + rng.normal(0, 0.7, (tasks, sets))

    def share(ease: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-ease))

    of_seed = 0.3
    truth = float(share(ability(4000) + rng.normal(0, of_seed, 4000)).mean())
    cells = [(t, d) for t in range(tasks) for d in range(datasets) if t >= tasks // 3 or d < 3]
    frame_of = pl.DataFrame(
        [(f"t{t}", f"d{d}", f"d{d}", f"i{i}") for t, d in cells for i in range(each)],
        schema=["task", "dataset", "origin", "image"],
        orient="row",
    )
    held, trials = 0, 300
    for _ in range(trials):
        ease = ability(datasets)
        runs = []
        for seed in range(seeds):
            chance = share(ease + rng.normal(0, of_seed))
            right = np.array([rng.random(each) < chance[cell] for cell in cells], float).reshape(-1, 1)
            runs.append(measured(right, ["x"], frame_of, seed))
        found = average(runs, "x")
        assert found is not None
        held += found["low"] < truth < found["high"]
    assert least <= held / trials <= 0.99
