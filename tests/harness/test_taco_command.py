"""`imax taco train`: from flags to finished runs."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from harness.cli import run
from taco_probe.taco.embed import embed
from taco_probe.taco.pools import pool_of
from taco_probe.taco.settings import Settings, read_settings
from tests.taco_probe.taco.factories import dataset

SMALL = {
    "size": 32, "tasks": 2, "per_task": 2, "steps": 3, "projection": 4, "pool": 4, "test_pool": 1,
    "anchors": 1, "tasks_used": "inversion,flip_vertical,boundary", "mixed_precision": "no",
    "failure_share": 0.4, "datasets": "left", "held_out": "right",
}  # fmt: skip


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two folders of images with masks."""
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    places = {}
    for seed, name in enumerate(("left", "right")):
        places[name] = tmp_path / name
        for kind in ("images", "masks"):
            (places[name] / kind).mkdir(parents=True)
        made = dataset(name, 4, seed=seed)
        for number in range(len(made)):
            pixels, labels = made.read(number)
            PIL.Image.fromarray(pixels).save(places[name] / "images" / f"{number}.png")
            PIL.Image.fromarray(np.asarray(labels)).save(places[name] / "masks" / f"{number}.png")
    return places


def command(mine: dict[str, Path], *more: str) -> list[str]:
    data = [part for name, place in mine.items() for part in ("--data", f"{name}={place}")]
    small = [part for name, value in SMALL.items() for part in (f"--{name}", str(value))]
    return ["taco", "train", "--output_dir", "out", "--threads", "1", *data, *small, *more]


def test_one_command_trains_every_variant_and_seed_and_a_second_one_nothing(
    mine: dict[str, Path], capsys: pytest.CaptureFixture[str]
):
    asked = command(mine, "--variants", "main,no_failures,shuffled", "--seeds", "1,2", "--control_seeds", "1")
    assert run(asked) == 0
    names = {"main-s1", "main-s2", "no_failures-s1", "no_failures-s2", "shuffled-s1"}
    assert {path.name for path in Path("out").iterdir()} == names
    settings = {name: read_settings(Path("out") / name / "settings.yaml") for name in names}
    assert settings["shuffled-s1"].view == "shuffled"
    assert settings["no_failures-s2"].failures == "none"
    assert settings["main-s2"].seed == 2
    main = Path("out/main-s1")
    files = {"settings.yaml", "pools.json", "provenance.json", "train.jsonl", "encoder.safetensors"}
    assert {path.name for path in main.iterdir()} == files
    said = json.loads((main / "provenance.json").read_text())
    assert said["command"][0] == "imax taco train"
    assert said["finished"]
    assert len({(Path("out") / name / "pools.json").read_text() for name in names}) == 1
    found = embed(main, pool_of(main, "test"))
    assert set(found.rows["dataset"]) == {"left", "right"}

    before = (main / "encoder.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert run(asked) == 0
    assert capsys.readouterr().out.count("finished already") == 5
    assert (main / "encoder.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--variants", "mian"], "unknown variant 'mian': did you mean 'main'"),
        (["--seeds", "1,x"], "seeds: whole numbers"),
        (["--seeds", ""], "nothing to train"),
        (["--encoder", "resnet19"], "unknown encoder 'resnet19': did you mean 'resnet18'"),
        (["--steps", "0"], "steps is 0: it should be greater"),
        (["--held_out", "left"], "trained on and held out"),
        (["--held_out", "nowhere"], "unknown dataset 'nowhere'"),
        (["--tasks_used", "inversion"], "at least two tasks"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_is_written(
    mine: dict[str, Path], more: list[str], message: str
):
    with pytest.raises(ValueError, match=message):
        run(command(mine, *more))
    assert not Path("out").exists()


def test_a_folder_of_other_settings_or_things_is_refused(mine: dict[str, Path]):
    run(command(mine))
    with pytest.raises(
        ValueError, match=r"main-s1 holds a run with other settings: temperature is 0\.1 there"
    ):
        run(command(mine, "--temperature", "0.2"))
    Path("out/main-s7").mkdir()
    Path("out/main-s7/letter.txt").touch()
    with pytest.raises(ValueError, match="holds no run of imax taco train"):
        run(command(mine, "--seeds", "7"))


def test_runs_of_other_instances_are_not_mixed(mine: dict[str, Path]):
    run(command(mine))
    PIL.Image.new("L", (48, 40), 9).save(mine["left"] / "images" / "0.png")
    with pytest.raises(ValueError, match="main-s1 was trained with other instances"):
        run(command(mine, "--seeds", "1,2"))
    assert not Path("out/main-s2").exists()


def test_every_setting_is_a_flag_with_its_help(capsys: pytest.CaptureFixture[str]):
    run(["taco", "train", "--help"])
    shown = capsys.readouterr().out
    for name, field in Settings.model_fields.items():
        if name != "seed":
            assert f"--{name}" in shown, name
        assert field.description, name
