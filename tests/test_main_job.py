"""The main job as a user runs it, small: two recipes, two runs, scores, one page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_recipes.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "data_recipes" / "recipes"


def small_recipes(folder: Path) -> list[Path]:
    """The shipped recipes with few images."""
    imax = yaml.safe_load((RECIPES / "imax.yaml").read_text())
    imax["images"] = {"train": 24, "validation": 6, "test": 12}
    dmax = yaml.safe_load((RECIPES / "dmax.yaml").read_text())
    dmax["match"]["to"] = str(folder / "imax.yaml")
    paths = [folder / "imax.yaml", folder / "dmax.yaml"]
    for path, recipe in zip(paths, (imax, dmax), strict=True):
        path.write_text(yaml.safe_dump(recipe))
    return paths


@pytest.mark.slow
def test_from_recipes_to_one_page(tmp_path: Path):
    tools = Path(sys.executable).parent
    environment = {**os.environ, "IMAX_HOME": str(tmp_path / "home")}

    def run(*command: object) -> None:
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]

    runs = []
    for path in small_recipes(tmp_path):
        runs.append(tmp_path / "runs" / path.stem)
        flags = ["--recipe", path, "--output_dir", runs[-1], "--max_steps", 3]
        run(tools / "accelerate", "launch", ROOT / "harness" / "train.py", *flags)
        run(tools / "imax", "eval", runs[-1])
    run(tools / "imax", "leaderboard", *runs, "--output_dir", tmp_path / "board")

    for folder in runs:
        scores = json.loads((folder / "scores.json").read_text())
        assert list(scores["tasks"]) == list(TASKS)
        assert set(scores["baselines"]) == set(TASKS)
        answers = (folder / "predictions.jsonl").read_text().splitlines()
        assert len(answers) == scores["entries"] == round(7.46 * 12)
    first, second = (json.loads((folder / "scores.json").read_text()) for folder in runs)
    assert first["test_hash"] == second["test_hash"]  # one and the same held-out set
    assert first["mixture_hash"] != second["mixture_hash"]
    page = (tmp_path / "board" / "index.html").read_text()
    assert "Multi-task average: imax − dmax" in page
    assert page.count("<script") == 1  # its own
    assert 'src="http' not in page
