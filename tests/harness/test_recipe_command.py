"""`imax recipe`: what it prints, how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_recipes.errors import UserError
from harness.commands.recipe import app, parse_changes

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
    assert "calculation" in run("stats", str(out)).stdout
    result = run("check", str(out))
    assert result.exit_code == 0
    assert "sound; 10 images and 40 entries" in result.stdout

    image = next((out / "images").iterdir())
    image.write_bytes(image.read_bytes()[:-100])
    result = run("check", str(out))
    assert result.exit_code == 1
    assert f"images/{image.name} is truncated" in result.stdout
    assert (out / "rejected.jsonl").exists()


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
        (["build", "dmax", "--pixels", "skip"], "a source for each task"),
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
