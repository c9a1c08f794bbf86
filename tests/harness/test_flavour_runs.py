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
    flags += ["--per_device_train_batch_size", 16, "--gradient_accumulation_steps", 1]
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

    run(IMAX, "eval", folder, "--limit", 4, "--no-blind", "--output_dir", tmp_path / "scores")
    answers = [
        json.loads(line) for line in (tmp_path / "scores" / "predictions.jsonl").read_text().splitlines()
    ]
    assert {answer["task"] for answer in answers} == set(TASKS)
