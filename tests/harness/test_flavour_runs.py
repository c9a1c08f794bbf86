"""The main job on each family's tiny flavour: it trains, its adapter comes back, it merges, it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel

from data_recipes.recipe import mixture_folder as build
from data_recipes.store import open_image, read_mixture
from data_recipes.tasks import TASKS
from harness import train
from model_adapters.base import LANGUAGE_MODEL
from model_adapters.registry import FAMILIES, load_adapter

ROOT = Path(__file__).resolve().parents[2]
IMAX = Path(sys.executable).parent / "imax"


@pytest.fixture(scope="module")
def imax(tmp_path_factory):
    """The recipe `imax` with few images, built."""
    folder = tmp_path_factory.mktemp("imax")
    recipe = yaml.safe_load((ROOT / "data_recipes" / "recipes" / "imax.yaml").read_text())
    recipe["images"] = {"train": 40, "validation": 4, "test": 8}
    (folder / "imax.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAX_HOME", str(folder / "home"))
        return build(str(folder / "imax.yaml"), progress=False)


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_thirty_steps_and_what_comes_of_them(tmp_path, imax, name):
    flavour, folder = tmp_path / name, tmp_path / "run"
    run(IMAX, "tiny", name, flavour)
    flags = ["--recipe", imax, "--model", flavour, "--output_dir", folder, "--max_steps", 30]
    flags += ["--learning_rate", "1e-2", "--train_projector", "true", "--logging_steps", 5]
    flags += ["--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1]
    flags += ["--lora_dropout", 0]
    assert train.main(list(map(str, flags))) == 0
    log = [json.loads(line)["loss"] for line in (folder / "train.jsonl").read_text().splitlines()]
    assert len(log) == 6
    assert log[-1] < 0.8 * log[0]

    # The saved adapter on a base loaded anew gives what the merged checkpoint gives.
    run(IMAX, "merge", folder, tmp_path / "merged")
    adapter, merged = load_adapter(str(flavour)), load_adapter(str(tmp_path / "merged"))
    mixture = read_mixture(imax)
    pairs = list(mixture.of_split("test"))
    chosen = [next(pair for pair in pairs if pair[1].task == task) for task in TASKS]
    features = [adapter.encode(entry, open_image(imax, image), with_target=True) for image, entry in chosen]
    inputs = adapter.collate(features, padding_side="right")
    base = adapter.load_model(dtype=torch.float32).eval()
    with torch.inference_mode():
        bare = base(**inputs).logits
        tuned = PeftModel.from_pretrained(base, folder / "adapter").eval()(**inputs).logits
        folded = merged.load_model(dtype=torch.float32).eval()(**inputs).logits
    assert torch.allclose(tuned, folded, atol=1e-4)
    assert not torch.allclose(tuned, bare, atol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_answers_parse_in_the_formats_of_all_tasks(tmp_path, imax, flavour_folder, name):
    """The base has random weights, so its words are new to it too: LoRA on the output embedding as well,
    except where that is the input embedding (Gemma)."""
    folder = tmp_path / "run"
    flags = ["--recipe", imax, "--model", flavour_folder(name), "--output_dir", folder]
    flags += ["--max_steps", 500, "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1]
    flags += ["--lora_r", 48, "--lora_alpha", 48, "--lora_dropout", 0, "--train_projector", "true"]
    if name == "gemma3":
        flags += ["--learning_rate", "1e-2"]
    else:
        flags += ["--learning_rate", "7e-3", "--lora_targets", rf"({LANGUAGE_MODEL})|lm_head"]
    assert train.main(list(map(str, flags))) == 0
    run(IMAX, "eval", folder, "--no-blind")
    answers = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    parsed = {task: [a["parsed"] is not None for a in answers if a["task"] == task] for task in TASKS}
    assert all(any(said) for said in parsed.values()), parsed
    assert sum(map(sum, parsed.values())) >= 0.8 * len(answers), parsed
