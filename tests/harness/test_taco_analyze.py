"""`imax taco analyze` on runs with planted embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_recipes.errors import UserError
from harness.cli import run as imax
from tests.taco_probe.taco.analysis.run_folders import planted_rows, planted_run, pools


@pytest.fixture
def run(tmp_path: Path) -> Path:
    places = pools(tmp_path / "pools", planted_rows())
    return planted_run(tmp_path / "main-s1", places, {"task": 1.0}, seed=1)


def test_analyze_writes_numbers_and_says_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    imax(["taco", "analyze", str(run), "--output_dir", str(out), "--permutations", "0"])
    found = json.loads((out / "analysis.json").read_text())
    shown = capsys.readouterr().out
    assert all(sentence in shown for sentence in found["summary"])
    assert "never seen in training" in shown


def test_what_is_no_run_or_network_is_refused(run: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([str(tmp_path)], "is no run of imax taco train"),
        ([str(run), "--weights", "resnet50=nowhere.pth"], r"nowhere\.pth does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            imax(["taco", "analyze", *arguments, "--output_dir", str(tmp_path / "out")])
