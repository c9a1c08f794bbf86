"""`kill -9` in each stage and in annotation, then the same command: as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from harness.runs import RunFolder

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    *("--save_steps", "2", "--logging_steps", "2", "--threads", "1", "--lora_dropout", "0.1"),
    *("--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"),
    *("--dynamics_steps", "0,50%,end", "--dynamics_entries", "14", "--dynamics_fisher", "empirical"),
]


def write(folder: Path) -> Path:
    """Small phantom mixtures, and three stages on them with real annotation."""
    recipes = ROOT / "data_recipes" / "recipes"
    imax = yaml.safe_load((recipes / "imax.yaml").read_text())
    imax["images"] = {"train": 12, "validation": 6, "test": 4}
    dmax = yaml.safe_load((recipes / "dmax.yaml").read_text())
    dmax["match"]["to"] = "imax.yaml"
    stages = [
        {"name": "decentralised", "mixture": "dmax.yaml", "steps": 8},
        {"name": "pseudo", "annotate": {"mixture": "dmax.yaml", "images": 10}, "steps": 6},
        {"name": "clean", "mixture": "dmax.yaml", "steps": 6},
    ]
    for name, content in (("imax", imax), ("dmax", dmax), ("three", {"style": "staged", "stages": stages})):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "three.yaml"


def start(recipe: Path, run: Path, *launcher: str) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(ROOT / "harness" / "train.py"), "--recipe", str(recipe)]
    environment = {**os.environ, "IMAX_HOME": str(recipe.parent / "home")}
    return subprocess.Popen(
        [*command, "--output_dir", str(run), *FLAGS], env=environment, stderr=subprocess.PIPE, text=True
    )


def kill_when(process: subprocess.Popen[str], there: Path, said: str = "") -> None:
    """kill -9 as soon as a file is there and says something."""
    while process.poll() is None:
        if there.exists() and said in there.read_text():
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()
    assert process.returncode == -signal.SIGKILL, process.communicate()[1]


def lines(run: Path) -> list[dict[str, object]]:
    log = map(json.loads, (run / "train.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if "second" not in key} for line in log]


@pytest.mark.slow
def test_a_run_killed_in_every_stage_and_in_annotation_ends_as_an_unbroken_one(tmp_path):
    recipe = write(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(recipe, whole)
    said = process.communicate()[1]
    assert process.returncode == 0, said

    stages = broken / "stages"
    answers = stages / "2-pseudo" / ".mixture.answers" / "round-1.jsonl"
    kill_when(start(recipe, broken), stages / "1-decentralised" / "train.jsonl", '"step": 4')
    kill_when(start(recipe, broken), answers)
    kill_when(start(recipe, broken), stages / "2-pseudo" / "train.jsonl", '"step": 4')
    kill_when(start(recipe, broken), stages / "3-clean" / "train.jsonl", '"step": 4')
    process = start(recipe, broken)
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert "stage 1 of 3, decentralised: finished before" in said
    assert "stage 2 of 3, pseudo: finished before" in said
    assert "going on from step" in said

    for part in ("", "stages/1-decentralised", "stages/2-pseudo", "stages/3-clean"):
        one, other = (run / part / "adapter" / "adapter_model.safetensors" for run in (broken, whole))
        assert one.read_bytes() == other.read_bytes(), part
    assert lines(broken) == lines(whole)
    names = sorted(path.name for path in (whole / "dynamics").glob("*.json"))
    assert names == sorted(path.name for path in (broken / "dynamics").glob("*.json"))
    assert names == ["step-0.json", "step-10.json", "step-20.json"]
    assert len(RunFolder(broken).provenance()["sessions"]) >= 2
    again = start(recipe, broken)
    assert "nothing to do" in again.communicate()[1]
    assert again.returncode == 0


@pytest.mark.slow
def test_several_processes_run_the_stages_together(tmp_path):
    recipe, run = write(tmp_path), tmp_path / "run"
    process = start(recipe, run, "-m", "torch.distributed.run", "--nproc_per_node", "2")
    said = process.communicate()[1]
    assert process.returncode == 0, said
    assert RunFolder(run).finished()
    assert RunFolder(run).settings()["world_size"] == 2
    assert said.count("stage 2 of 3, pseudo: annotates dmax") == 1
    assert [line["step"] for line in lines(run)][-1] == 20
    again = start(recipe, run, "-m", "torch.distributed.run", "--nproc_per_node", "2")
    assert again.communicate()[1].count("nothing to do") == 1
