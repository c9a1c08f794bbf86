"""`imax models`, `imax tiny` and `imax merge`, and the ready configurations."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from harness.cli import main
from model_adapters.registry import load_adapter

CONFIGS = Path(__file__).resolve().parents[2] / "harness" / "configs"


def imax(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


def test_models_are_listed(capsys):
    assert imax("models") == 0
    said = capsys.readouterr().out
    assert "lingshu" in said
    assert "--model HUB_ID" in said


def test_tiny_writes_a_checkpoint_and_never_over_another(tmp_path, capsys):
    assert imax("tiny", "gemma3", tmp_path / "flavour") == 0
    load_adapter(str(tmp_path / "flavour")).load_model(dtype=torch.float32)
    assert imax("tiny", "gemma3", tmp_path / "flavour") == 2
    assert imax("tiny", "gemma", tmp_path / "other") == 2
    errors = capsys.readouterr().err.splitlines()
    lines = [line for line in errors if line.startswith("error: ")]
    assert "exists already" in lines[0]
    assert "did you mean 'gemma3'?" in lines[1]
    assert not (tmp_path / "other").exists()


def test_merge_of_what_is_no_run_is_one_line(tmp_path, capsys):
    assert imax("merge", tmp_path, tmp_path / "merged") == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_configurations_name_what_is_there(path):
    config = yaml.safe_load(path.read_text())
    assert config["num_processes"] >= 1
    if config["distributed_type"] == "DEEPSPEED":
        settings = json.loads(
            (CONFIGS.parents[1] / config["deepspeed_config"]["deepspeed_config_file"]).read_text()
        )
        stage = settings["zero_optimization"]["stage"]
        assert config["deepspeed_config"]["zero3_init_flag"] == (stage == 3)
        assert path.stem.startswith(f"zero{stage}")
