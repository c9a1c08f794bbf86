"""`imax taco transfer` and `imax taco nearest` from a run folder to files and tables."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest

from data_recipes.errors import UserError
from harness.cli import run as imax
from harness.commands.taco_use import read_transfer
from taco_probe.taco.encoder import TaskEncoder
from taco_probe.taco.settings import Settings, write_settings
from tests.taco_probe.taco import planted

TASKS = ("foreground_mask", "boundary", "deblur", "inversion")


def make_run(folder, *, pools, view="both"):
    """A finished run with random weights."""
    from safetensors.torch import save_file

    settings = Settings(
        size=64, tasks_used=TASKS, datasets=("a", "b"), held_out=("c",), mixed_precision="no", view=view
    )
    folder.mkdir(parents=True)
    write_settings(settings, folder / "settings.yaml")
    encoder = TaskEncoder(settings)
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, folder / "encoder.safetensors")
    (folder / "pools.json").write_text(json.dumps({name: str(at) for name, at in pools.items()}))
    return folder


def write_pool(folder, pool):
    folder.mkdir(parents=True)
    np.save(folder / "inputs.npy", pool.inputs)
    np.save(folder / "targets.npy", pool.targets)
    pool.rows.write_parquet(folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    home = tmp_path_factory.mktemp("pools")
    return {
        "train": write_pool(home / "train", planted.pool(planted.rows(TASKS, ("a", "b"), 3))),
        "test": write_pool(home / "test", planted.pool(planted.rows(TASKS, ("a", "b", "c"), 4))),
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory, pools):
    return make_run(tmp_path_factory.mktemp("runs") / "main-s0", pools=pools)


def test_transfer_writes_its_files_and_says_what_it_found(run, tmp_path, capsys):
    out = tmp_path / "out"
    few = ["--pretrain_steps", "2", "--fine_tune_steps", "1", "--seeds", "1", "--workers", "1"]
    assert (
        imax(["taco", "transfer", str(run), "--output_dir", str(out), "--tasks", ",".join(TASKS), *few]) == 0
    )
    said = capsys.readouterr().out
    found = read_transfer(out / "transfer.json")
    assert found["tasks"] == list(TASKS)
    assert list(found["by_run"]) == ["main-s0"]
    for line in found["summary"]:
        assert f"- {line}" in said
    assert "min left" in said


def test_nearest_shows_tables_and_writes_json(run, tmp_path, capsys):
    for k in range(3):
        for part, seed in (("images", k), ("masks", None)):
            (tmp_path / "new" / part).mkdir(parents=True, exist_ok=True)
            pixels = (
                np.zeros((32, 32)) if seed is None else np.random.default_rng(k).integers(0, 255, (32, 32))
            )
            pixels[8:20, 8 + k : 20] = 255
            PIL.Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "new" / part / f"[red]{k}.png")
    file = tmp_path / "found.json"
    assert imax(["taco", "nearest", str(tmp_path / "new"), "--run", str(run), "--json", str(file)]) == 0
    said = capsys.readouterr().out
    found = json.loads(file.read_text())
    assert found["kind"] == "masks"
    assert {one["task"] for one in found["tasks"]} == set(TASKS)
    assert {one["dataset"]: one["held_out"] for one in found["datasets"]} == {
        "a": False,
        "b": False,
        "c": True,
    }
    assert found["threshold_from"] == ["c"]
    assert "foreground_mask" in said
    assert all(line in said for line in found["summary"])


def test_the_distances_are_those_of_the_main_variant_and_controls_are_named_as_left_out(
    run, pools, tmp_path, capsys
):
    control = make_run(tmp_path / "input-s0", pools=pools, view="input")
    few = ["--pretrain_steps", "1", "--fine_tune_steps", "1", "--seeds", "1", "--workers", "1"]
    where = ["--output_dir", str(tmp_path), "--tasks", ",".join(TASKS)]
    imax(["taco", "transfer", str(control), str(run), *where, *few])
    assert "distances of both+negatives alone, not of input+negatives" in capsys.readouterr().out
    assert list(read_transfer(tmp_path / "transfer.json")["by_run"]) == ["main-s0"]


def test_a_control_alone_is_refused(pools, tmp_path):
    control = make_run(tmp_path / "input-s0", pools=pools, view="input")
    with pytest.raises(UserError, match="only controls were named"):
        imax(["taco", "transfer", str(control), "--output_dir", str(tmp_path / "out")])
    with pytest.raises(UserError, match="input-s0 is a control"):
        imax(["taco", "nearest", str(tmp_path), "--run", str(control)])


def test_files_that_are_no_study_and_labels_that_are_none_are_refused(run, tmp_path):
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(UserError, match=r"x.json is no transfer.json"):
        read_transfer(tmp_path / "x.json")
    with pytest.raises(UserError, match=r"none.json"):
        read_transfer(tmp_path / "none.json")
    with pytest.raises(UserError, match="unknown labels 'instance': did you mean 'instances'"):
        imax(["taco", "nearest", str(tmp_path), "--run", str(run), "--labels", "instance"])
    with pytest.raises(UserError, match="is no run of imax taco train"):
        imax(["taco", "nearest", str(tmp_path), "--run", str(tmp_path)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no images"):
        imax(["taco", "nearest", str(tmp_path / "empty"), "--run", str(run)])
