"""`imax recipe`: what it prints, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_recipes.errors import UserError
from data_recipes.sources import source_of
from harness.commands.doctor import data_lines
from harness.commands.recipe import app, parse_changes
from tests.data_recipes.datasets import needs_data, picture, write

SMALL = [
    f"--set={change}"
    for change in ("images.train=6", "images.validation=2", "images.test=2", "options.size=64",
                   "density.tasks_per_image=3", "density.entries_per_image=4")
]  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("IMAX_WORKERS", "1")


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_build_stats_check(tmp_path):
    out = tmp_path / "small"
    result = run("build", "imax", *SMALL, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    found = json.loads(run("stats", str(out), "--json").stdout)
    assert found["counts"]["train"]["images"] == 6
    assert found["density"] == {"tasks_per_image": 3.0, "entries_per_image": 4.0}
    shown = run("stats", str(out)).stdout
    assert "calculation" in shown
    assert "what the text alone answers" in shown
    assert "Pairs of near-duplicates among 10 images: 0 in two splits" in shown
    common = json.loads(run("overlap", str(out), str(out), "--json").stdout)
    assert common["shared"]["same pixels"]["train"] == {"train": 6, "validation": 0, "test": 0}
    assert "train and train" in run("overlap", str(out), str(out)).stdout
    result = run("check", str(out))
    assert result.exit_code == 0
    assert "sound; 10 images and 40 entries" in result.stdout

    image = next((out / "images").iterdir())
    image.write_bytes(image.read_bytes()[:-100])
    result = run("check", str(out))
    assert result.exit_code == 1
    assert f"images/{image.name} is truncated" in result.stdout
    assert (out / "rejected.jsonl").exists()


def test_gallery_writes_one_page_and_stats_and_list_say_the_licences(tmp_path):
    page = tmp_path / "g.html"
    result = run("gallery", "imax", *SMALL, "--out", str(page), "--images", "4", "--split", "test")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(page)
    assert "2 images, 8 entries, pictures of up to 768 pixels" in result.stderr
    assert page.read_text().count("<article") == 2
    assert "licence of phantom: Apache-2.0" in run("stats", "imax", *SMALL).stdout
    assert "licence of nih: no restriction on use" in run("list").stdout


def test_list_and_help_teach():
    assert run("list").stdout.startswith("dmax\n")
    assert "imax recipe build imax --set images.train=64" in run("build", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "imaxx"], "did you mean 'imax'"),
        (["build", "imax", "--set", "images.trian=3"], "did you mean 'images.train'"),
        (["build", "imax", "--set", "images.train"], "write KEY=VALUE"),
        (["build", "imax", "--set", "images.train=many"], "images.train is 'many'"),
        (["build", "imax", "--root", "x"], "source phantom makes its images"),
        (["build", "dmax", "--pixels", "skip"], "its sources make their images"),
        (["stats", "nowhere/at/all"], "no recipe file"),
    ],
)
def test_mistakes_are_user_errors(arguments, message):
    result = run(*arguments)
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)


def test_changes_are_typed():
    assert parse_changes(["a.b=3", "c=text", "d=[1, 2]", "e=1.5"]) == {
        "a.b": 3,
        "c": "text",
        "d": [1, 2],
        "e": 1.5,
    }


@needs_data
def test_build_without_pixels_says_so_and_stats_shows_the_funnel(tmp_path):
    out = tmp_path / "siim"
    recipe = tmp_path / "siim.yaml"
    recipe.write_text("source: siim\noptions: {caps: {reg: 1}}\n")
    result = run("build", str(recipe), "--pixels", "skip", "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "without pixels" in result.stderr
    assert "torchxrayvision" in result.stderr
    shown = run("stats", str(out)).stdout
    assert "where rows went" in shown
    assert "images without pixels: 5338" in shown
    assert "patients in two splits: 0" in shown
    found = json.loads(run("stats", str(out), "--json").stdout)
    (step,) = [step for step in found["funnel"] if step["step"] == "rows with a mask"]
    assert (step["came"], step["kept"], step["dropped"]) == (12_954, 3_576, {"no mask: -1": 9_378})
    assert run("check", str(out)).exit_code == 0


def test_doctor_says_which_files_are_there_and_what_the_missing_ones_would_add(tmp_path):
    (tmp_path / "nih").mkdir()
    (tmp_path / "nih/Data_Entry_2017.csv").write_text("Image Index\n")
    (tmp_path / "nih/x.png").write_bytes(b"")
    (tmp_path / "train_meta.csv").write_text("image_id\n")
    text = "\n".join(data_lines(tmp_path))
    assert "nih: can be built; no restriction on use" in text
    assert "there     nih/Data_Entry_2017.csv: labels: findings, vqa" in text
    assert "missing   BBox_List_2017.csv: would add boxes: rec, reg" in text
    assert "vindr: CANNOT be built" in text
    assert "1 image files" in text
    assert "padchest (PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv)" in text.splitlines()[-1]
    with pytest.raises(UserError, match="is no folder"):
        data_lines(tmp_path / "nowhere")


def test_a_folder_of_ones_own_is_built_by_what_lies_in_it_and_exported(tmp_path):
    folder = tmp_path / "mine"
    for name in "abcd":
        picture(folder, f"pngs/{name}.png", 20, 10)
    rows = "".join(f"{name}.png,Mass,5,1,10,6\n" for name in "abcd")
    write(folder, {"boxes.csv": "image,class,xmin,ymin,xmax,ymax\n" + rows})
    result = run("build", str(folder), "--out", str(tmp_path / "mixture"))
    assert result.exit_code == 0, result.output
    assert "note: Columns of boxes.csv: image = 'image'" in result.stderr
    out = tmp_path / "export"
    result = run(
        "export", str(tmp_path / "mixture"), "--to", "llava", "--notation", "qwen3_vl", "--out", str(out)
    )
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    texts = "".join(path.read_text() for path in out.glob("*.json"))
    assert "<box>[[250, 100, 500, 600]]</box>" in texts


def test_which_source_a_folder_is_for(tmp_path):
    assert source_of(tmp_path) == "folder"
    write(tmp_path, {"notes.csv": "image,labels\n"})
    assert source_of(tmp_path) == "csv"
    write(tmp_path, {"rows.jsonl": '{"messages": [], "images": []}\n'})
    assert source_of(tmp_path) == "messages"
    write(tmp_path, {"coco.json": '{"images": [], "annotations": [], "categories": []}'})
    assert source_of(tmp_path) == "coco"
    write(tmp_path, {"entries.jsonl": ""})
    assert source_of(tmp_path) == "folder"
