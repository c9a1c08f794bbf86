"""Settings: command line over YAML over presets, typed the same way, mistakes in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_recipes.errors import UserError
from harness.config import as_dict, parse, presets


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return str(path)


def test_command_line_over_yaml_over_presets(tmp_path):
    path = write(tmp_path, "learning_rate: 3e-4\nmax_steps: 7\ntasks: [rec, vqa]\n")
    settings = parse([path, "--max_steps", "9"])
    assert settings.training.learning_rate == pytest.approx(3e-4)  # PyYAML reads 3e-4 as a string
    assert settings.training.max_steps == 9
    assert settings.data.tasks == ["rec", "vqa"]
    assert settings.training.lr_scheduler_type == "cosine"  # the preset, not the library's "linear"
    assert {"learning_rate", "max_steps", "tasks"} <= settings.chosen.keys()
    assert "lr_scheduler_type" not in settings.chosen


def test_presets_follow_model_and_recipe():
    tiny, real = parse([]), parse(["--model", "owner/name", "--recipe", "dmax"])
    assert tiny.training.learning_rate > 5 * real.training.learning_rate
    assert tiny.training.output_dir == "runs/imax"
    assert real.training.output_dir == "runs/dmax"
    assert tiny.training.report_to == []
    assert tiny.training.remove_unused_columns is False


def test_a_pretrained_flavour_trains_with_the_settings_of_tiny(tmp_path):
    bare, pretrained = tmp_path / "bare", tmp_path / "pretrained"
    for folder in (bare, pretrained):
        folder.mkdir()
    (pretrained / "pretraining.json").write_text("{}")
    assert presets(str(pretrained), "imax") == presets("tiny", "imax") != presets(str(bare), "imax")


def test_an_image_is_a_sample_and_shared_where_the_mixture_is_image_centric():
    def drawn(*arguments):
        data, _, _, training, _ = parse(list(arguments))
        return data.batching, data.sharing, training.per_device_train_batch_size

    assert drawn("--recipe", "imax") == ("image", "image", 2)
    assert drawn("--recipe", "dmax") == ("entry", "none", 8)
    assert drawn("--recipe", "imax", "--batching", "entry") == ("entry", "none", 8)
    assert drawn("--recipe", "imax", "--sharing", "none") == ("image", "none", 2)
    assert drawn("--recipe", "dmax", "--sharing", "image") == ("entry", "image", 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rat", "1"], "unknown flag '--learning_rat': did you mean '--learning_rate'?"),
        (["--reciep=imax"], "did you mean '--recipe'?"),
        (["imax"], "unexpected argument 'imax'"),
        (["--learning_rate", "fast"], "--learning_rate: invalid float value: 'fast'"),
        (["--learning_rate", "-1"], "--learning_rate must be at least 0, not -1"),
        (["--lora_r", "0"], "--lora_r must be at least 1, not 0"),
        (["--lora_dropout", "1.5"], "--lora_dropout must be from 0 to 0.99, not 1.5"),
        (["--lora_targets", "("], "--lora_targets '(' is not a regular expression"),
        (["--tasks", "vqaa"], "unknown task 'vqaa': did you mean 'vqa'?"),
        (["--warmup_steps", "-3"], "warmup_steps"),
        (["--sharing", "images"], "unknown sharing 'images': did you mean 'image'?"),
        (["--loss_weighting", "toke"], "unknown loss_weighting 'toke': did you mean 'token'?"),
        (["--attention", "flash"], "unknown attention 'flash'"),
        (["--attention", "flex", "--use_cpu", "true"], "--attention flex needs a GPU"),
        (["--attention", "flex", "--use_cpu", "false", "--recipe", "dmax"], "it needs --sharing image"),
        (["absent.yaml"], "absent.yaml: can't read: No such file"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: 1\n", "unknown key 'learning_rat': did you mean 'learning_rate'?"),
        ("model: no\n", "model: YAML reads the value as false; write it in quotes"),
        ("max_steps: many\n", "--max_steps: invalid int value: 'many'"),
        ("max_steps: 1.5\n", "--max_steps: invalid int value: '1.5'"),
        ("- a\n", "key: value"),
        ("a: [\n", "is no YAML"),
    ],
)
def test_a_mistake_in_the_file_names_the_file(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        parse([write(tmp_path, text)])
    assert "config.yaml: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_settings_of_a_run_make_the_same_settings_again(tmp_path):
    first = as_dict(
        parse(["--learning_rate", "1e-4", "--tasks", "rec", "--hub_token", "secret", "--overwrite"])
    )
    assert "secret" not in str(first)
    assert "overwrite" not in first
    facts = {"mixture": "/somewhere", "mixture_hash": "abc"}
    again = as_dict(parse([write(tmp_path, yaml.safe_dump(first | facts))]))
    assert again == first
