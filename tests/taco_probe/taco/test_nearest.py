"""Ranking of tasks and datasets for a new folder, with planted directions in place of an encoder."""

from __future__ import annotations

import numpy as np
import PIL.Image
import polars as pl
import pytest

from data_recipes.errors import UserError
from taco_probe.taco import making
from taco_probe.taco.data.folder import Pairs
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.known import Known, leave_one_dataset_out, ranks
from taco_probe.taco.nearest import nearest
from taco_probe.taco.newcomer import OWN, newcomer
from taco_probe.taco.recommend import pretrain_on, public, sentences
from taco_probe.taco.settings import Settings
from tests.taco_probe.taco import planted

TASKS = ("foreground_mask", "class_mask", "boundary", "deblur", "inpainting", "rotation", "inversion")
DATASETS = ("a", "b", "c", "d")
SETTINGS = Settings(size=32, tasks_used=TASKS, mixed_precision="no")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)


def image(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6))
    return np.kron(coarse, np.ones((8, 8)))


def mask(seed, classes=1):
    found = np.zeros((48, 48))
    for number in range(classes):
        found[8 + 12 * number : 16 + 12 * number, 10 + seed % 5 : 30] = number + 1
    return found


@pytest.fixture
def masked(tmp_path):
    for k in range(6):
        save(tmp_path / "new/images" / f"{k}.png", image(k))
        save(tmp_path / "new/masks" / f"{k}.png", 255 * mask(k))
    return tmp_path / "new"


@pytest.fixture
def paired(tmp_path):
    for k in range(6):
        save(tmp_path / "pairs/inputs" / f"{k}.png", image(k))
        save(tmp_path / "pairs/targets" / f"{k}.png", 255 - image(k))
    return tmp_path / "pairs"


@pytest.fixture(scope="module")
def known():
    return planted.embeddings(planted.rows(TASKS, DATASETS, 5))


def as_seen(new, *, own="", dataset="a", noise=0.2, task=1.0):
    """Embeddings of a newcomer as planted ones of a known dataset's look; its own pairs as those of `own`."""
    rows = new.pool.rows.with_columns(
        dataset=pl.lit(dataset), task=pl.when(pl.col("task") == OWN).then(pl.lit(own)).otherwise("task")
    )
    found = planted.embeddings(rows, noise=noise, task=task)
    return Embeddings(found.vectors, new.pool.rows)


def test_masks_are_drawn_as_every_semantic_task_they_allow_and_images_made_into_tasks_without_needs(masked):
    new = newcomer(masked, SETTINGS)
    assert (new.kind, new.images, new.reading) == ("masks", 6, "foreground_mask")
    assert set(new.pool.rows["task"]) == set(TASKS) - {"class_mask"}
    assert new.pool.rows.group_by("task").len()["len"].to_list() == [6] * 6
    assert new.pool.inputs.shape == (36, 32, 32, 3)
    own = new.pool.rows.with_row_index("row").filter(pl.col("task") == "foreground_mask")
    targets = new.pool.targets[own["row"].to_numpy()]
    assert targets.min() == 0
    assert targets.max() == 255


def test_masks_of_several_classes_are_read_as_class_masks_unless_they_are_instances(tmp_path):
    for k in range(3):
        save(tmp_path / "images" / f"{k}.png", image(k))
        save(tmp_path / "masks" / f"{k}.png", mask(k, classes=2))
    assert newcomer(tmp_path, SETTINGS).reading == "class_mask"
    assert newcomer(tmp_path, SETTINGS, labels="instances").reading == "foreground_mask"


def test_pairs_show_the_same_piece_of_input_and_target(paired):
    new = newcomer(paired, SETTINGS)
    assert (new.kind, new.images, new.reading) == ("pairs", 6, "")
    rows = new.pool.rows.with_row_index("row").filter(pl.col("task") == OWN)["row"].to_numpy()
    assert len(rows) == 6
    total = new.pool.inputs[rows].astype(int) + new.pool.targets[rows]
    assert np.abs(total - 255).max() <= 1


def test_pairs_of_a_large_folder_are_of_the_images_that_its_tasks_are_made_of(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "IMAGES", 5)
    for k in range(9):
        for part in ("inputs", "targets"):
            save(tmp_path / part / f"{k}.png", np.full((16, 16), 20 * k))
    new = newcomer(tmp_path, Settings(size=32, tasks_used=("flip_vertical", "inversion")), images=9)
    rows = new.pool.rows.with_columns(grey=pl.Series([int(one.mean()) for one in new.pool.inputs]))
    assert new.images == 5
    assert rows.group_by("image").agg(pl.col("grey").n_unique())["grey"].to_list() == [1] * 5
    assert sorted(rows.filter(pl.col("task") == OWN)["grey"]) == [0, 40, 80, 120, 160]


def test_the_planted_task_and_dataset_are_first_and_sure(masked, paired, known):
    new = newcomer(paired, SETTINGS)
    found = nearest(new, as_seen(new, own="inversion", dataset="c"), known)
    assert found["tasks"][0]["task"] == "inversion"
    assert found["tasks"][0]["first"] > 0.95
    assert found["datasets"][0]["dataset"] == "c"
    assert found["unlike"] is False
    assert found["readings"] == []
    new = newcomer(masked, SETTINGS)
    found = nearest(new, as_seen(new, dataset="b"), known)
    assert found["tasks"][0]["task"] == "foreground_mask"
    assert found["datasets"][0]["dataset"] == "b"
    assert {one["task"]: one["rank"] for one in found["readings"]} == {"foreground_mask": 1, "boundary": 1}
    first = found["tasks"][0]["distance"]
    assert first["low"] < first["value"] < first["high"]


def test_what_lies_elsewhere_is_called_unlike_anything_known(paired, known):
    new = newcomer(paired, SETTINGS)
    strange = as_seen(new, own="skeleton")  # a direction that no known task has
    found = nearest(new, strange, known)
    assert found["unlike"] is True
    assert found["images_beyond"] == 1
    assert any(line.startswith("Unlike anything known") for line in found["summary"])


def test_few_folders_that_are_like_what_is_known_are_called_unlike(known):
    """The limit is the 95th percentile of left-out groups: of 28 at most two lie beyond."""
    what = Known(known)
    limits = what.limits(DATASETS)
    beyond = 0
    for name in DATASETS:
        apart, task = what.left_out(name)
        own = apart[np.arange(len(task)), task]
        beyond += sum(own[task == one].mean() > limits.group for one in np.unique(task))
    assert 1 <= beyond <= 2


def test_tasks_that_lie_at_one_place_are_not_named_right():
    """Ties are half above: equal distances to T tasks are rank (T + 1) / 2, not 1."""
    known = planted.embeddings(planted.rows(TASKS, DATASETS, 5))
    collapsed = Embeddings(np.ones_like(known.vectors), known.rows)
    assert set(ranks(collapsed, DATASETS)["rank"]) == {(len(TASKS) + 1) / 2}
    found = leave_one_dataset_out(collapsed, DATASETS)
    assert found["top1"]["value"] == 0
    assert found["top5"]["value"] == 1


def test_datasets_of_one_origin_are_left_out_together_and_counted_once():
    known = planted.embeddings(planted.rows(TASKS, DATASETS, 5))
    rows = known.rows.with_columns(origin=pl.col("dataset").replace({"b": "a"}))
    same = Embeddings(known.vectors, rows)
    others = known.where(pl.col("dataset").is_in(["c", "d"]))
    assert Known(same).centres(without="a") == pytest.approx(Known(others).centres())
    assert leave_one_dataset_out(same, DATASETS)["top1"]["n"] == 3
    assert leave_one_dataset_out(known, DATASETS)["top1"]["n"] == 4


def test_distances_are_of_cosine_to_the_mean_of_the_datasets_means():
    known = planted.embeddings(planted.rows(TASKS[:3], ("a", "b"), 3))
    more = known.where((pl.col("dataset") == "a") | pl.col("image").str.ends_with("[0]"))  # fewer rows of b
    unit = more.vectors / np.linalg.norm(more.vectors, axis=1, keepdims=True)
    at = {(r["task"], r["dataset"]): [] for r in more.rows.iter_rows(named=True)}
    for row, vector in zip(more.rows.iter_rows(named=True), unit, strict=True):
        at[row["task"], row["dataset"]].append(vector)
    what = Known(more)
    for number, task in enumerate(what.tasks):
        mean = np.mean(at[task, "a"], axis=0) + np.mean(at[task, "b"], axis=0)
        assert what.centres()[number] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert what.centres(without="a")[0] == pytest.approx(np.mean(at[what.tasks[0], "b"], axis=0), abs=1e-5)


def test_a_left_out_datasets_tasks_are_named_where_tasks_decide_and_by_chance_where_datasets_do():
    rows = planted.rows(TASKS, [f"d{k}" for k in range(8)], 3)
    good = leave_one_dataset_out(planted.embeddings(rows), [f"d{k}" for k in range(8)])
    assert good["top1"]["value"] == 1
    assert (good["chance1"], good["chance5"], good["folders"]) == (1 / 7, 5 / 7, 56)
    blind = planted.embeddings(rows, task=0.0, dataset=0.0)
    blind = leave_one_dataset_out(blind, [f"d{k}" for k in range(8)])
    assert blind["top1"]["value"] == pytest.approx(1 / 7, abs=4 * np.sqrt(1 / 7 * 6 / 7 / 56))
    assert blind["top5"]["value"] == pytest.approx(5 / 7, abs=4 * np.sqrt(5 / 7 * 2 / 7 / 56))
    assert set(blind["by_dataset"]) == {f"d{k}" for k in range(8)}


def test_datasets_of_one_patient_are_left_out_together():
    """A task that looks alike in both datasets of a patient, and nowhere else, is not named by that."""
    names = ["chest_ct", "ct_radiographs", "mni_brain", "retina"]
    alike = planted.embeddings(planted.rows(TASKS, names[:2], 3), seed=1)
    others = planted.embeddings(planted.rows(TASKS, names[2:], 3), task=0.0, dataset=0.0, seed=2)
    both = Embeddings(np.concatenate([alike.vectors, others.vectors]), pl.concat([alike.rows, others.rows]))
    of_patient = leave_one_dataset_out(both, ["chest_ct"])["top1"]["value"]
    assert of_patient > 0.9
    of_one = both.rows.with_columns(pl.col("origin").replace({"ct_radiographs": "chest_ct"}))
    of_patient = leave_one_dataset_out(Embeddings(both.vectors, of_one), ["chest_ct"])["top1"]["value"]
    assert of_patient < 0.5


def test_one_left_out_dataset_gives_no_interval_and_a_task_known_nowhere_else_is_not_counted(known):
    alone = leave_one_dataset_out(known, ["a"])
    assert alone["top1"]["low"] is None
    only_a = known.where((pl.col("task") != "deblur") | (pl.col("dataset") == "a"))
    assert leave_one_dataset_out(only_a, ["a"])["by_dataset"]["a"]["n"] == len(TASKS) - 1
    with pytest.raises(UserError, match="no embeddings of dataset e"):
        leave_one_dataset_out(known, ["e"])
    with pytest.raises(UserError, match="known from another"):
        leave_one_dataset_out(known.where(pl.col("dataset") == "a"), ["a"])


def test_limits_come_from_held_out_datasets_alone_where_there_are_some(masked, known):
    new = newcomer(masked, SETTINGS)
    found = nearest(new, as_seen(new), known, held_out=["d", "not there"])
    assert found["threshold_from"] == ["d"]
    assert [one["held_out"] for one in sorted(found["datasets"], key=lambda one: one["dataset"])] == [
        False, False, False, True,
    ]  # fmt: skip
    assert nearest(new, as_seen(new), known)["threshold_from"] == list(DATASETS)


def test_a_single_image_gives_a_ranking_without_intervals(tmp_path, known):
    save(tmp_path / "images" / "only.png", image(1))
    save(tmp_path / "masks" / "only.png", 255 * mask(1))
    new = newcomer(tmp_path, SETTINGS)
    found = nearest(new, as_seen(new, noise=0.0), known)
    assert found["tasks"][0]["task"] == "foreground_mask"
    assert (found["tasks"][0]["first"], found["tasks"][0]["distance"]["low"]) == (None, None)


def test_images_alone_are_ranked_by_dataset_only(tmp_path, known):
    for k in range(3):
        save(tmp_path / f"{k}.png", image(k))
    new = newcomer(tmp_path, SETTINGS)
    assert (new.kind, new.reading) == ("images", "")
    found = nearest(new, as_seen(new, dataset="d"), known)
    assert (found["tasks"], found["unlike"], found["pretrain_on"]) == ([], None, None)
    assert found["datasets"][0]["dataset"] == "d"


def test_pretraining_is_recommended_by_the_gains_that_were_measured(masked, known):
    new = newcomer(masked, SETTINGS)
    transfer = {
        "tasks": ["deblur", "foreground_mask", "boundary"],
        "gain": [[0.3, 0.1, 0.0], [0.1, 0.5, 0.2], [0.0, 0.4, 0.2]],
        "gain_low": None,
        "gain_high": None,
        "settings": {"seeds": 1},
    }
    on = nearest(new, as_seen(new), known, transfer=transfer)["pretrain_on"]
    assert on["target"] == "foreground_mask"
    assert [one["task"] for one in on["sources"]] == ["boundary", "deblur"], "not the target itself"
    assert on["sources"][0]["gain"] == {"value": 0.4, "low": None, "high": None, "n": 1}
    without = transfer | {"tasks": ["deblur", "inpainting", "boundary"]}
    other = nearest(new, as_seen(new), known, transfer=without)["pretrain_on"]
    assert other["target"] != other["nearest_task"] == "foreground_mask"


@pytest.mark.parametrize(
    ("gain", "low", "high", "said"),
    [
        (0.3, 0.1, 0.5, "boundary helped most in the transfer study: 30% less error than from scratch (95 % "
         "interval 10% to 50%)."),
        (0.3, None, None, "boundary helped most in the transfer study: 30% less error than from scratch (one "
         "seed, so no interval)."),
        (0.3, -0.1, 0.7, "no source clearly helped in the transfer study; the best was boundary: 30% less"),
        (-0.05, -0.2, 0.1, "no source helped in the transfer study; the best was boundary: 5% more error"),
    ],
)  # fmt: skip
def test_what_pretraining_is_said_to_do_is_what_was_measured(gain, low, high, said):
    def table(value):
        return None if value is None else [[0.9, -0.9], [value, 0.9]]

    transfer = {
        "tasks": ["foreground_mask", "boundary"], "gain": table(gain), "gain_low": table(low),
        "gain_high": table(high), "settings": {"seeds": 1 if low is None else 3},
    }  # fmt: skip
    on = pretrain_on([{"task": "foreground_mask"}], transfer, 5)
    nothing = dict.fromkeys(("unlike", "right", "accuracy", "readings", "datasets"))
    (told,) = sentences({"images": 3, "tasks": [], "pretrain_on": on} | nothing)
    assert told.startswith("For foreground_mask, ")
    assert said in told


def test_accuracy_on_datasets_that_were_trained_on_is_said_to_flatter(paired, known):
    new = newcomer(paired, SETTINGS)
    seen = as_seen(new, own="inversion")
    for held_out, words in (
        (["d"], "On 1 left-out dataset this run"),
        ([], "On the 4 datasets that it was trained on"),
    ):
        found = nearest(new, seen, known, held_out=held_out)
        assert found["threshold_held_out"] is bool(held_out)
        (told,) = [line for line in found["summary"] if "names the task right" in line]
        assert words in told
        assert ("which flatters" in told) is not bool(held_out)
        assert any("left-out datasets" in line for line in found["summary"]) is bool(held_out)


def test_public_datasets_are_of_the_nearest_modalities_in_their_order_and_feed_the_task():
    found = public(["fundus photography", "histology, H&E"], "region_count")
    assert found
    assert all("region_count" in row.feeds for row in found)
    kinds = [row.modality.partition(",")[0] for row in found]
    assert kinds == sorted(kinds)
    assert public(["no such modality"], None) == []


def test_broken_images_are_left_out_with_their_names_and_the_rest_is_used(masked):
    (masked / "images/2.png").write_bytes(b"no image")
    new = newcomer(masked, SETTINGS)
    assert new.images == 5
    assert "2.png" in new.left_out[0]
    assert sorted(set(new.pool.rows["image"].cast(pl.Int64))) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda at: (at / "targets/0.png").unlink(), "1 of 6 inputs have no target and 0 of 5 targets no"),
        (lambda at: [one.unlink() for one in (at / "targets").iterdir()], "6 of 6 inputs have no target"),
        (lambda at: save(at / "targets/0.png", np.zeros((20, 20))), "but its target 0.png has 20 x 20"),
        (lambda at: (at / "targets/3.png").write_bytes(b""), "targets/3.png: broken or no image"),
        (lambda at: (at / "targets").rename(at / "x"), "pairs need a folder inputs and a folder targets"),
        (lambda at: [one.unlink() for one in (at / "inputs").iterdir()], "inputs: no images"),
    ],
)  # fmt: skip
def test_bad_folders_of_pairs_are_refused_in_one_line(paired, break_it, message):
    break_it(paired)
    with pytest.raises(UserError, match=message) as error:
        newcomer(paired, SETTINGS)
    assert "\n" not in str(error.value)


def test_bad_folders_of_masks_are_refused_in_one_line(masked, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        newcomer(tmp_path / "none", SETTINGS)
    for k in range(6):
        save(masked / "masks" / f"{k}.png", np.zeros((48, 48)))
    with pytest.raises(UserError, match="no mask of the 6 images looked at has foreground and background"):
        newcomer(masked, SETTINGS)


def test_pairs_are_matched_by_stem_without_their_endings(tmp_path):
    save(tmp_path / "input/x_input.png", image(1))
    save(tmp_path / "output/x_target.png", image(2))
    pairs = Pairs(tmp_path)
    assert len(pairs) == 1
    assert pairs[0].input.shape == pairs[0].target.shape == (48, 48)


def test_how_sure_the_first_task_is_depends_on_the_known_datasets_too(paired):
    """Two tasks that are alike but for which dataset shows them: each resample of datasets may turn them."""
    known = planted.embeddings(planted.rows(TASKS, DATASETS, 5), dataset=0.0, noise=0.0)
    rng = np.random.default_rng(3)
    vectors = known.vectors.copy()
    rows = known.rows.with_row_index("row")
    middle = vectors[rows.filter(pl.col("task") == "inversion")["row"][0]]
    for task in ("inversion", "deblur"):
        for name in DATASETS:
            at = rows.filter((pl.col("task") == task) & (pl.col("dataset") == name))["row"].to_numpy()
            vectors[at] = middle + 0.1 * rng.standard_normal(middle.shape)
    new = newcomer(paired, SETTINGS)
    seen = as_seen(new, own="inversion", noise=0.0)
    own = (new.pool.rows["task"] == OWN).to_numpy()
    seen.vectors[own] = middle
    found = nearest(new, seen, Embeddings(vectors, known.rows))["tasks"]
    assert {one["task"] for one in found[:2]} == {"inversion", "deblur"}
    assert 0.02 < found[0]["first"] < 0.98


def test_readings_are_ordered_by_rank_and_then_beside_what_is_typical_of_the_task(masked, known):
    new = newcomer(masked, SETTINGS)
    readings = nearest(new, as_seen(new), known)["readings"]
    ratios = [one["distance"]["value"] / one["typical"] for one in readings]
    assert [one["rank"] for one in readings] == [1, 1]
    assert ratios == sorted(ratios)


def test_how_often_the_nearest_was_right_is_counted_among_cases_of_a_like_lead(paired):
    """On half of the datasets tasks are told apart; on the others all lies in one heap, where a lead is small
    and right by chance."""
    clear, heap = [f"d{k}" for k in range(8)], [f"e{k}" for k in range(8)]
    good = planted.embeddings(planted.rows(TASKS, clear, 3), dataset=0.0)
    bad = planted.embeddings(planted.rows(TASKS, heap, 3), task=0.0, dataset=0.0, seed=1)
    both = Embeddings(np.concatenate([good.vectors, bad.vectors]), pl.concat([good.rows, bad.rows]))
    new = newcomer(paired, SETTINGS)
    sure = nearest(new, as_seen(new, own="inversion", noise=0.1), both)["right"]
    unsure = nearest(new, as_seen(new, own="inversion", task=0.0, dataset="e", noise=1.0), both)["right"]
    assert sure["value"] > 0.9
    assert unsure["value"] < 0.5
    assert sure["lead"] > unsure["lead"]
    assert sure["n"] == 16 * len(TASKS) // 5
