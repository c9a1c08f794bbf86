"""Distances between tasks and their tree, on embeddings in which both are known."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from data_recipes.errors import UserError
from taco_probe.taco.analysis import cells, clusters, distances
from taco_probe.taco.analysis.resampling import Groups, estimate
from taco_probe.taco.embeddings import Embeddings
from tests.taco_probe.taco.planted_map import clusters as planted
from tests.taco_probe.taco.planted_map import rows, three_categories, unit


def orthogonal(tasks="abc", width=8):
    return {task: np.eye(width)[place] for place, task in enumerate(tasks)}


def test_orthogonal_tasks_are_1_apart_and_opposite_ones_2():
    centres = orthogonal("ab") | {"c": -np.eye(8)[0]}
    found = cells.matrix(planted(centres, dict.fromkeys("abc", "semantic"), noise=0))
    np.testing.assert_allclose(found, [[0, 1, 2], [1, 0, 1], [2, 1, 0]], atol=1e-6)


def test_every_dataset_counts_alike_however_many_instances_it_has():
    """One dataset has nine times the rows of the other: a centroid is still half way between them."""
    vectors = np.repeat(np.eye(4), [9, 1, 5, 5], axis=0)
    named = [("a", "big")] * 9 + [("a", "small")] + [("b", "big")] * 5 + [("c", "small")] * 5
    made = Embeddings(
        vectors.astype(np.float32),
        rows([{"task": t, "dataset": d, "image": str(i)} for i, (t, d) in enumerate(named)]),
    )
    tasks, centres = cells.centroids(made)
    assert tasks == ["a", "b", "c"]
    np.testing.assert_allclose(centres[0], [0.5, 0.5, 0, 0], atol=1e-6)


def test_tasks_are_compared_over_the_datasets_that_both_have():
    """A dataset moves its instances far; that one task lacks it does not set the task apart."""
    made = planted(
        orthogonal("abc", 64) | {"d": np.eye(64)[0]},
        dict.fromkeys("abcd", "semantic"),
        noise=0,
        of_dataset=3,
        missing={"d": ["d0", "d1"]},
    )
    found = cells.matrix(made)
    assert found[0, 3] < 1e-6  # equal tasks
    _, centres = cells.centroids(made)
    apart = 1 - unit(centres[0]) @ unit(centres[3])
    assert apart > 0.01  # which a centroid over each one's own datasets would hide


def test_tasks_that_share_no_dataset_are_compared_over_their_own():
    made = planted(
        orthogonal("abc"),
        dict.fromkeys("abc", "semantic"),
        noise=0,
        missing={"a": ["d0", "d1"], "b": ["d2", "d3"]},
    )
    np.testing.assert_allclose(cells.matrix(made), 1 - np.eye(3), atol=1e-6)
    found = distances.measured([made], resamples=5)["distances"]
    assert found["shared"][0][1] == 0
    assert found["low"][0][1] is None


def test_failures_and_alterations_are_left_out():
    made = planted(orthogonal(), dict.fromkeys("abc", "semantic"), noise=0)
    is_a = pl.col("task") == "a"
    wrong = Embeddings(
        -made.vectors,
        made.rows.with_columns(
            failure=pl.when(is_a).then(pl.lit("blank")).otherwise(pl.lit("")),
            alteration=pl.when(is_a).then(pl.lit("")).otherwise(pl.lit("noise")),
        ),
    )
    both = Embeddings(np.concatenate([made.vectors, wrong.vectors]), pl.concat([made.rows, wrong.rows]))
    np.testing.assert_allclose(cells.matrix(both), cells.matrix(made), atol=1e-6)


def test_energy_distance_is_the_textbook_sum_over_pairs():
    made = planted(orthogonal("abc", 6), dict.fromkeys("abc", "semantic"), datasets=["d"], images=7, noise=1)
    found = distances.energy(made, cells.Cells(made))
    x, y = made.unit[:7], made.unit[7:14]
    inner = [cdist(one, one).sum() / (7 * 6) for one in (x, y)]
    assert found[0, 1] == pytest.approx(2 * cdist(x, y).mean() - sum(inner), abs=1e-5)


def test_equal_distributions_lie_within_the_noise_and_others_beyond():
    centre, other = np.random.default_rng(0).standard_normal((2, 32))
    centres = dict.fromkeys("abcdef", unit(centre)) | {"far": unit(other)}
    equal = {(a, b) for a in "abcdef" for b in "abcdef" if a < b}
    shares = []
    for seed in range(4):
        made = planted(
            centres, dict.fromkeys(centres, "semantic"), noise=1.5, of_dataset=0.3, images=16, seed=seed
        )
        found = distances.measured([made], resamples=4)["distances"]
        blended = {tuple(pair["tasks"]) for pair in found["blends"] if not pair["reach"]}
        assert blended <= equal
        shares.append(len(blended) / len(equal))
        energy = np.array(found["energy"]["matrix"])
        assert np.abs(energy[:6, :6]).max() < 0.1 * energy[6, :6].min()
    assert np.mean(shares) > 0.8  # the floor is a 95 % quantile


def test_the_floor_of_datasets_shows_how_far_datasets_move_a_task():
    made = planted(
        orthogonal("abc", 32), dict.fromkeys("abc", "semantic"), noise=0.2, of_dataset=1, images=12
    )
    images, datasets = distances.floors(made.unit, cells.Cells(made))
    assert (datasets > 20 * images).all()


def test_an_interval_holds_the_value_and_widens_with_what_sets_datasets_apart():
    widths = []
    for moved in (0.0, 1.0):
        made, _ = three_categories(noise=0.5, of_dataset=moved, images=6)
        found = distances.measured([made], resamples=60)["distances"]
        low, value, high = (np.array(found[name], dtype=float) for name in ("low", "matrix", "high"))
        upper = np.triu_indices(len(value), 1)
        assert np.mean((low[upper] <= value[upper]) & (value[upper] <= high[upper])) > 0.9
        widths.append(np.mean((high - low)[upper]))
    assert widths[1] > 2 * widths[0]


def test_three_planted_categories_come_out_of_the_tree():
    made, category = three_categories(each=5, noise=0.3)
    found = distances.measured([made], resamples=30)
    cut = found["clusters"]
    assert cut["rand"]["value"] == pytest.approx(1)
    assert cut["rand"]["low"] == pytest.approx(1)
    assert cut["rand"]["p"] < 0.01
    assert cut["nearest"]["value"] == 1
    assert cut["nearest"]["chance"] == pytest.approx(4 / 14)
    assert cut["cophenetic"] > 0.9
    assert cut["stability"]["datasets"]["value"] == pytest.approx(1)
    assert cut["stability"]["seeds"] is None
    order = [category[found["distances"]["tasks"][place]] for place in cut["order"]]
    assert sum(a != b for a, b in itertools.pairwise(order)) == 2
    assert found["distances"]["sharpness"]["contrast"]["value"] > 2


def test_categories_that_say_nothing_agree_with_the_tree_as_chance_does():
    made, _ = three_categories(each=4, noise=0.3)
    turned = dict(zip(sorted(made.rows["task"].unique()), ["x", "y", "z"] * 4, strict=True))
    mixed = Embeddings(made.vectors, made.rows.with_columns(category=pl.col("task").replace_strict(turned)))
    cut = distances.measured([mixed], resamples=10)["clusters"]
    assert cut["rand"]["value"] < 0.2
    assert cut["rand"]["p"] > 0.2
    assert abs(cut["nearest"]["value"] - cut["nearest"]["chance"]) < 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=2, max_size=12))
def test_the_adjusted_rand_index_is_scikit_learns(pairs):
    first, second = np.array(pairs).T
    assert clusters.adjusted_rand(first, second) == pytest.approx(adjusted_rand_score(first, second))


def test_a_task_that_cannot_be_compared_is_nobodys_nearest_and_has_none():
    apart = np.array([[0, 0.1, 0.9, 0.9], [0.1, 0, 0.9, 0.9], [0.9, 0.9, 0, 0.1], [0.9, 0.9, 0.1, 0]])
    more = np.full((5, 5), np.nan)
    more[:4, :4] = apart
    assert clusters.nearest_shares(apart, np.array([0, 0, 1, 1])) == 1
    assert clusters.nearest_shares(more, np.array([0, 0, 1, 1, 1])) == 1
    assert np.isnan(clusters.nearest_shares(np.full((3, 3), np.nan), np.array([0, 1, 2])))


def test_merges_that_noise_decides_have_little_support():
    """Four tasks are equally far from each other: which two are joined first, each resample says anew."""
    centres = orthogonal("abcd", 32) | {"e": unit(np.eye(32)[0] + 0.1 * np.eye(32)[9])}
    made = planted(centres, dict.fromkeys("abcde", "semantic"), noise=3, images=20)
    found = distances.measured([made], resamples=60)["clusters"]
    sets = clusters.clades(np.array(found["linkage"]))
    support = dict(zip(sets, found["support"], strict=True))
    assert support[frozenset([0, 4])] > 0.95
    assert support[frozenset(range(5))] == 1
    assert min(found["support"]) < 0.7


def test_seeds_widen_intervals_and_their_agreement_is_said():
    made, _ = three_categories(noise=0.3)
    other, _ = three_categories(noise=0.3, seed=9)
    one = distances.measured([made], resamples=30)["distances"]
    two = distances.measured([made, other], resamples=30)["distances"]
    assert one["seeds"] == {"n": 1, "agreement": None}
    assert two["seeds"]["agreement"] > 0.9
    upper = np.triu_indices(12, 1)
    ends = [[np.array(x[end], dtype=float) for end in ("low", "high")] for x in (one, two)]
    width = [np.mean((high - low)[upper]) for low, high in ends]
    assert width[1] > width[0]  # two seeds: Student's t with one degree of freedom


def test_seeds_of_different_instances_and_too_few_tasks_are_refused():
    made, _ = three_categories(images=3)
    with pytest.raises(UserError, match="same instances"):
        distances.measured([made, three_categories(images=4)[0]], resamples=2)
    with pytest.raises(UserError, match="at least three tasks"):
        distances.measured([made.where(pl.col("task").is_in(["semantic0", "semantic1"]))], resamples=2)


def test_resamples_draw_datasets_and_within_them_images_and_keep_an_images_rows_together():
    groups = Groups(rows([{"dataset": d, "image": i, "task": t} for d in "xy" for i in "123" for t in "ab"]))
    for draw in groups.draws(20, seed=0):
        assert draw.datasets.sum() == 2
        assert [draw.rows[:6].sum(), draw.rows[6:].sum()] == [6, 6]
        assert (draw.rows[::2] == draw.rows[1::2]).all()
    for first, second in groups.halves(20, seed=0):
        assert (first.rows + second.rows == 1).all()
        assert first.rows[:6].sum() in (2, 4)


def test_datasets_of_one_origin_are_drawn_together_and_count_once():
    about = [{"dataset": d, "origin": d.strip("12"), "image": i} for d in ("x1", "x2", "y") for i in "ab"]
    groups = Groups(rows(about))
    assert groups.units == 2
    times = np.array([draw.datasets for draw in groups.draws(40, seed=0)])
    assert (times[:, 0] == times[:, 1]).all()
    assert set(times[:, [0, 2]].sum(axis=1)) == {2}
    made, _ = three_categories(datasets=("x1", "x2"))
    assert distances.measured([made], resamples=4)["distances"]["within"]["n"] == 2
    same = Embeddings(made.vectors, made.rows.with_columns(origin=pl.lit("x")))
    alone = distances.measured([same], resamples=4)
    assert (alone["distances"]["within"]["n"], alone["distances"]["within"]["low"]) == (1, None)
    assert (alone["clusters"]["rand"]["n"], alone["clusters"]["rand"]["low"]) == (1, None)


def test_no_interval_comes_from_a_single_dataset():
    assert estimate([1.0], [[0.5, 1.5]], 1) == {"value": 1.0, "low": None, "high": None, "n": 1}


def test_intervals_end_where_their_numbers_do():
    wide = estimate([0.9, 0.2], [[0.0, 1.0] * 50, [0.0, 1.0] * 50], 2)
    ended = estimate([0.9, 0.2], [[0.0, 1.0] * 50, [0.0, 1.0] * 50], 2, least=0, most=1)
    assert wide["low"] < 0
    assert wide["high"] > 1
    assert (ended["low"], ended["high"], ended["value"]) == (0, 1, wide["value"])
