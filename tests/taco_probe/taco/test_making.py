"""Pools: what is planned, how it is made, and where it lies."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data_recipes.errors import UserError
from taco_probe.taco import forked, making, pools, sources
from taco_probe.taco.data import from_arrays
from taco_probe.taco.making import cut, pixels, read_all
from taco_probe.taco.plan import PARTS, SWEEP, Part, Wanted, images_of, plan
from taco_probe.taco.pool import COLUMNS, open_pool
from taco_probe.taco.settings import Settings
from taco_probe.taco.tasks import TASKS
from taco_probe.taco.tasks.alter import STRENGTHS
from tests.taco_probe.taco.factories import TASKS_USED, dataset, tiny

SETS = {  # `two` has one image, `three` no masks
    "one": dataset("one", 8, seed=1),
    "two": dataset("two", 1, seed=2),
    "three": dataset("three", 3, masks=False, seed=3),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, where the datasets of SETS are installed."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sources, "offline", lambda: tuple(SETS))
    monkeypatch.setattr(pools, "open_source", lambda name, place: SETS[name])
    return tmp_path / "home"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Part, Path]]:
    """The pools of `tiny()`, made once. Only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        home.__wrapped__(tmp_path_factory.mktemp("pools"), patch)
        yield made(tiny())


def made(settings: Settings, *parts: Part, workers: int = 1) -> dict[Part, Path]:
    return pools.pools(settings, parts=parts or PARTS, workers=workers, quiet=True)


def test_pools_hold_what_is_asked_for(folders: dict[Part, Path]):
    asked = tiny()
    train, test, paths = (open_pool(folders[part]) for part in PARTS)
    counts = train.rows.filter(pl.col("failure") == "").group_by("dataset", "task").len()
    assert dict(zip(counts["dataset"] + " " + counts["task"], counts["len"], strict=True)) == {
        f"{name} {task}": asked.pool for name in asked.datasets for task in TASKS_USED
    }
    assert train.rows.filter(pl.col("failure") != "").height == 2 * len(TASKS_USED) * (asked.pool // 4)
    # of one image, `two` is for training alone; `three` has no masks
    pairs = test.rows.filter(pl.col("failure") == "").group_by("dataset").agg(pl.col("task").n_unique())
    assert dict(zip(pairs["dataset"], pairs["task"], strict=True)) == {"one": 5, "three": 3}
    kinds = {"", "other_image", "other_task", "blank", "eroded", "underdone"}
    assert set(test.rows.filter(pl.col("dataset") == "one")["failure"]) == kinds
    assert train.inputs.shape == (len(train), 32, 32, 3)
    assert list(paths.rows.columns) == list(COLUMNS)


def test_a_pool_is_held_in_memory_only_where_there_is_room(folders: dict[Part, Path]):
    pool = open_pool(folders["test"])
    held, left = pool.in_memory(), pool.in_memory(share=0)
    assert not isinstance(held.inputs, np.memmap)
    assert left is pool
    np.testing.assert_array_equal(held.targets, pool.targets)


def test_no_image_is_both_trained_on_and_tested_with(folders: dict[Part, Path]):
    trained, tested = (set(open_pool(folders[part]).rows["image"]) for part in ("train", "test"))
    assert trained == {*(f"one[{k}]" for k in range(6)), "two[0]"}
    assert tested == {"one[6]", "one[7]", "three[0]", "three[1]", "three[2]"}


@pytest.mark.parametrize("number", range(1, 12))
def test_images_are_split_whole(number: int):
    train, test = (images_of(part, number, trained_on=True) for part in ("train", "test"))
    assert sorted(train + test) == list(range(number))
    assert train
    assert images_of("test", number, trained_on=False) == list(range(number))
    assert not images_of("train", number, trained_on=False)


def test_trajectories_start_at_their_anchor_and_have_eleven_strengths(folders: dict[Part, Path]):
    asked = tiny()
    pool = open_pool(folders["paths"])
    numbered = pool.rows.with_row_index("row")
    anchors = numbered.filter(pl.col("anchor") < 0)
    assert dict(anchors.group_by("task").len().iter_rows()) == dict.fromkeys(TASKS_USED, asked.anchors)
    # held-out datasets come first
    assert set(anchors.filter(pl.col("task") == "inversion")["dataset"]) == {"three", "one"}
    for anchor in anchors.iter_rows(named=True):
        own = numbered.filter(pl.col("anchor") == anchor["row"])
        kinds = {"brightness", "rotation", "noise"}
        kinds |= {SWEEP} if TASKS[anchor["task"]].strengths else set()
        assert set(own["alteration"]) == kinds
        for kind in kinds:
            of_kind = own.filter(pl.col("alteration") == kind).sort("altered_by")
            assert of_kind["altered_by"].to_list() == list(STRENGTHS)
            start = int(of_kind["row"][0])
            if kind == SWEEP:
                assert np.array_equal(pool.inputs[start], pool.targets[start])
                continue
            assert np.array_equal(pool.targets[start], pool.targets[anchor["row"]])
            assert np.array_equal(pool.inputs[start + 10], pool.inputs[anchor["row"]])
            assert not np.array_equal(pool.targets[start + 10], pool.targets[anchor["row"]])


def test_pools_are_the_same_from_any_number_of_processes(
    home: Path, folders: dict[Part, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(making, "_CHUNK", 5)
    for part, folder in made(tiny(), "train", "test", workers=2).items():
        first, other = open_pool(folders[part]), open_pool(folder)
        assert folder != folders[part]
        assert np.array_equal(first.inputs, other.inputs)
        assert np.array_equal(first.targets, other.targets)
        assert first.rows.equals(other.rows)


def test_runs_share_pools_unless_what_they_hold_differs(home: Path):
    def named(part: Part, **changes: object) -> str:
        return pools.folder_of(part, tiny(**changes), {}).name

    for same in ({"seed": 5}, {"failures": "none"}, {"view": "input"}, {"steps": 9}, {"temperature": 1.0}):
        assert all(named(part, **same) == named(part) for part in PARTS)
    for change in ({"size": 48}, {"crop": 0.9}, {"pool_seed": 1}, {"datasets": ("one",)}):
        assert all(named(part, **change) != named(part) for part in PARTS)
    for part, size in (("train", "pool"), ("test", "test_pool"), ("paths", "anchors")):
        assert [other for other in PARTS if named(other, **{size: 7}) != named(other)] == [part]


def test_a_pool_is_made_once(home: Path, monkeypatch: pytest.MonkeyPatch):
    asked = tiny(tasks_used=("inversion", "flip_vertical"))
    first = made(asked, "train")
    monkeypatch.setattr(pools, "open_source", None)
    assert made(asked, "train") == first


def test_a_pool_that_is_cut_short_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    asked = tiny(tasks_used=("inversion", "flip_vertical"))
    with monkeypatch.context() as patch:
        patch.setattr(pools.pl.DataFrame, "write_parquet", broken)
        with pytest.raises(KeyboardInterrupt):
            made(asked, "train")
    assert not list((home / "taco").glob("[!.]*"))
    assert len(open_pool(made(asked, "train")["train"])) > 0


def test_a_pool_that_is_made_again_by_the_same_process_is_the_same(home: Path):
    asked = tiny(tasks_used=("inversion", "flip_vertical"))
    first = made(asked, "train")["train"]
    before = np.array(open_pool(first).targets)
    shutil.rmtree(first)
    assert np.array_equal(open_pool(made(asked, "train")["train"]).targets, before)


_WORKS = """
import sys, time
from pathlib import Path
from taco_probe.taco import forked, pools

def work(job):
    time.sleep(0.05)
    return job

with pools._alone(Path(sys.argv[1])):
    for job in forked.each(work, range(10_000), 2):
        print(job, flush=True)
"""


def test_a_command_that_is_killed_leaves_neither_its_lock_nor_processes(tmp_path: Path):
    lock = tmp_path / "lock"
    killed = subprocess.Popen([sys.executable, "-c", _WORKS, str(lock)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "0\n"
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    assert len(children) == 2
    waits = "from pathlib import Path\nfrom taco_probe.taco import pools\n"
    waits += f"with pools._alone(Path({str(lock)!r})): print('mine', flush=True)"
    other = subprocess.Popen(
        [sys.executable, "-c", waits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert other.stderr is not None
    assert other.stderr.readline().startswith(f"waiting for process {killed.pid}, which makes pools")
    killed.kill()
    killed.wait()
    assert other.communicate(timeout=60)[0] == "mine\n"
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_a_process_that_dies_ends_in_one_line(tmp_path: Path):
    with pytest.raises(UserError, match="a process died"):
        list(forked.each(os._exit, [1, 1, 1], 2))


def test_a_pool_says_what_could_not_be_made_and_why(folders: dict[Part, Path]):
    said = json.loads((folders["test"] / "pool.json").read_text(encoding="utf-8"))["not_made"]
    assert {
        "dataset": "three", "task": "boundary", "why": "needs an annotation, and the image has none",
    } in said  # fmt: skip
    assert {"dataset": "two", "task": "inversion", "why": "no image is left for this part"} in said


def test_broken_images_are_left_out_by_name_and_a_broken_dataset_is_refused():
    good = dataset("good", 3)

    def read(index: int) -> tuple[np.ndarray, None]:
        return (np.zeros((2, 2, 7, 7)) if index == 1 else good.read(index)[0]), None

    part = good.__class__("part", "noise", "none", ["a.png", "b.png", "c.png"], read)
    found = read_all([part], tiny(), quiet=True)["part"]
    assert [picture is None for picture in found.pictures] == [False, True, False]
    assert "b.png" in found.unreadable[0]
    wanted = plan("train", tiny(datasets=("part",)), {"part": found.allows})
    assert {one.image for one in wanted} == {0}  # c.png is for testing
    with pytest.raises(UserError, match=r"dataset none: none of 1 images can be used; the first: b\.png"):
        read_all([part.only([1]).__class__("none", "noise", "none", ["b.png"], lambda _: read(1))], tiny())


def test_a_piece_of_an_image_keeps_image_and_labels_together():
    image = np.zeros((40, 60), np.float32)
    image[10:20, 30:50] = 1
    part, labels = cut(image, image.astype(np.int32) * 7, (10.0, 30.0, 20.0, 50.0), (5, 10))
    assert part.shape == labels.shape == (5, 10)
    assert np.allclose(part[1:-1, 1:-1], 1)  # at its edge an average reaches beyond the piece
    assert (labels == 7).all()
    half, _ = cut(np.indices((8, 8))[0].astype(np.float32) / 7, None, (0, 0, 8, 8), (4, 4))
    assert np.allclose(half[:, 0], half[:, 3])
    assert (np.diff(half[:, 0]) > 0).all()


def test_pixels_are_means_of_two_by_two():
    image = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    expected = image.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3)) * 255
    assert np.abs(pixels(image, 32) - expected).max() <= 0.501
    grey = pixels(image[..., 0], 32)
    assert (grey[..., 0] == grey[..., 2]).all()


def test_no_failed_instance_is_a_right_one_of_any_task(home: Path):
    """Whole images, so that tasks without chance give the same pair wherever they are made."""
    tasks = ("foreground_mask", "boundary", "denoise_gaussian", "deblur", "flip_vertical", "inversion")
    for folder in made(tiny(crop=1.0, tasks_used=tasks, pool=24), "train", "test").values():
        pool = open_pool(folder)
        pairs = [a.tobytes() + b.tobytes() for a, b in zip(pool.inputs, pool.targets, strict=True)]
        failed = (pool.rows["failure"] != "").to_list()
        right = {pair for pair, wrong in zip(pairs, failed, strict=True) if not wrong}
        assert set(pool.rows["failure"]) >= {"", "other_task"}
        assert not [pair for pair, wrong in zip(pairs, failed, strict=True) if wrong and pair in right]


def test_a_failure_that_changes_nothing_of_any_piece_is_an_instance_as_it_should_be(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of a black image a black target is right."""
    black = from_arrays("one", "noise", np.zeros((4, 40, 40), np.uint8))
    monkeypatch.setattr(pools, "open_source", lambda name, place: black)
    asked = tiny(datasets=("one",), held_out=(), tasks_used=("denoise_gaussian", "inversion"), pool=12)
    rows = open_pool(made(asked, "train")["train"]).rows
    assert set(rows.filter(pl.col("task") == "denoise_gaussian")["failure"]) == {"", "other_task"}
    assert "blank" in set(rows.filter(pl.col("task") == "inversion")["failure"])


def test_only_so_many_images_of_a_large_dataset_are_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(making, "IMAGES", 3)
    found = read_all([dataset("big", 9)], tiny(), quiet=True)["big"]
    assert found.dataset.names == ["big[0]", "big[4]", "big[8]"]


def test_a_plan_row_counts_what_it_becomes():
    assert Wanted("a", 0, "rotation", 1).rows == 1
    assert Wanted("a", 0, "rotation", 1, follow=True).rows == 1 + 4 * 11
    assert Wanted("a", 0, "inversion", 1, follow=True).rows == 1 + 3 * 11


def test_rows_say_of_which_pictures_they_are(home: Path, monkeypatch: pytest.MonkeyPatch):
    of_two = replace(SETS["one"], origin="both")
    monkeypatch.setattr(pools, "open_source", lambda name, place: of_two if name == "one" else SETS[name])
    asked = tiny(tasks_used=("inversion", "flip_vertical"))
    rows = open_pool(made(asked, "test")["test"]).rows
    assert set(rows.select("dataset", "origin").iter_rows()) == {("one", "both"), ("three", "three")}
