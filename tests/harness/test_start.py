"""`--start`: weights of a saved adapter, and nothing else of it; `--mix`: entries of more mixtures."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from data_recipes.store import read_mixture, write_mixture
from harness import peft_model, train
from harness.arguments import ModelArguments
from harness.config import parse
from harness.provenance import hash_weights
from harness.runs import RunFolder
from model_adapters.registry import load_adapter
from tests.harness.staged import FLAGS, make_two

STEPS = ["--max_steps", "2", "--seed", "3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    make_two(folder)
    return folder


@pytest.fixture(scope="module")
def job(place, flavour_folder):
    def of(run, *more, mixture="first", family="llava"):
        flags = ["--recipe", str(place / mixture), "--model", str(flavour_folder(family))]
        return train.main([*flags, "--output_dir", str(run), *FLAGS, *STEPS, *more])

    return of


@pytest.fixture(scope="module")
def first(job, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "first"
    assert job(run, "--train_projector", "true") == 0
    return RunFolder(run)


@pytest.mark.parametrize("name", ["", "adapter"])
def test_a_run_starts_from_the_weights_of_a_run_or_an_adapter_folder(first, flavour_folder, name):
    adapter = load_adapter(str(flavour_folder("llava")))
    arguments = ModelArguments(train_projector=True, start=str(first.path / name), lora_dropout=0.3)
    model = peft_model.prepare(adapter, arguments, parse([]).training)
    state = model.state_dict()
    saved = load_file(first.adapter / "adapter_model.safetensors")
    assert any("multi_modal_projector" in key for key in saved)
    for key, value in saved.items():
        assert torch.equal(state[key.replace(".weight", ".default.weight")], value)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == len(saved)


def test_the_start_is_on_record_and_decides_the_outcome(first, job, tmp_path):
    more = ["--train_projector", "true"]
    assert job(tmp_path / "run", *more, "--start", str(first.path)) == 0
    run = RunFolder(tmp_path / "run")
    digest = hash_weights(str(first.adapter))
    assert run.settings()["start"] == str(first.path)
    assert run.settings()["start_hash"] == run.provenance()["start_hash"] == digest
    assert run.log()[-1]["step"] == 2
    assert hash_weights(str(run.adapter)) != digest
    copy = shutil.copytree(first.adapter, tmp_path / "copy")
    assert job(tmp_path / "run", *more, "--start", str(copy)) == 0  # the same weights elsewhere: finished
    weights = load_file(copy / "adapter_model.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, copy / "adapter_model.safetensors")
    assert job(tmp_path / "run", *more, "--start", str(copy)) == 2


@pytest.mark.parametrize(
    ("flags", "family", "message"),
    [
        (["--lora_r", "4"], "llava", "lora_r is 16 there and 4 here"),
        (["--lora_alpha", "1"], "llava", "lora_alpha is 32"),
        (["--train_projector", "false"], "llava", "lora_targets (or train_projector) is"),
        ([], "qwen2_vl", "it is an adapter of"),
    ],
)
def test_other_lora_settings_or_another_model_are_one_line(
    first, job, tmp_path, capfd, flags, family, message
):
    given = ["--train_projector", "true", "--start", str(first.path), *flags]
    assert job(tmp_path / "run", *given, family=family) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_a_start_that_cannot_be_used_is_one_line(first, job, tmp_path, capfd):
    def said(start):
        assert job(tmp_path / "run", "--train_projector", "true", "--start", str(start)) == 2
        return next(line for line in capfd.readouterr().err.splitlines() if line.startswith("error: "))

    assert "no adapter_config.json there: name a run folder or an adapter folder" in said(tmp_path / "none")
    half = tmp_path / "half"
    half.mkdir()
    shutil.copy(first.settings_file, half)
    assert "the run is not finished" in said(half)
    copy = shutil.copytree(first.adapter, tmp_path / "copy")
    weights = (copy / "adapter_model.safetensors").read_bytes()
    (copy / "adapter_model.safetensors").write_bytes(weights[:500])
    assert "the adapter is broken" in said(copy)
    (copy / "adapter_model.safetensors").write_bytes(weights)
    settings = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**settings, "use_dora": True}))
    assert "use_dora is True there" in said(copy)


def test_entries_of_more_mixtures_are_trained_on_where_their_files_lie(place, job, tmp_path):
    assert job(tmp_path / "run", "--mix", str(place / "second")) == 0
    run = RunFolder(tmp_path / "run")
    (added,) = run.provenance()["mix"]
    assert (added["images"], added["entries"]) == (6, 18)
    assert run.settings()["mix_hashes"] == [added["mixture_hash"]]
    assert run.settings()["mixture"] == str(place / "first")
    assert job(tmp_path / "run", "--mix", str(place / "second")) == 0
    assert job(tmp_path / "run") == 2  # without is another run


@pytest.fixture
def again(place, tmp_path):
    """The images of `first`, with its held-out ones among those to train on."""
    whole = read_mixture(place / "first")
    shutil.copytree(place / "first", tmp_path / "again")
    images = tuple(replace(image, split="train") for image in whole.images)
    meta = {**whole.meta, "name": "again", "mixture_hash": "again"}
    write_mixture(replace(whole, images=images, meta=meta), tmp_path / "again")
    return tmp_path / "again"


def test_mixing_a_held_out_patient_in_is_refused(again, job, tmp_path, capfd):
    assert job(tmp_path / "run", "--mix", str(again)) == 2
    said = capfd.readouterr().err
    assert "leakage: 2 patients of the validation or test split of random are in" in said
    assert "the training split of again" in said


def test_going_on_from_weights_that_know_a_held_out_patient_is_refused(first, again, job, tmp_path, capfd):
    flags = ["--recipe", str(again), "--train_projector", "true"]  # the last --recipe counts
    assert job(tmp_path / "know", *flags) == 0
    assert job(tmp_path / "run", "--train_projector", "true", "--start", str(tmp_path / "know")) == 2
    said = capfd.readouterr().err
    assert "leakage: 2 patients of the validation or test split of mixture" in said
    assert "the training split of the mixture again of run know" in said


def test_weights_whose_mixture_is_gone_are_started_from_with_a_word(first, job, tmp_path, capfd):
    copy = shutil.copytree(first.path, tmp_path / "copy")
    text = (copy / "run.yaml").read_text()
    settings = yaml.safe_load(text) | {
        "mixture": str(tmp_path / "gone"),
        "recipe": str(tmp_path / "gone.yaml"),
    }
    (copy / "run.yaml").write_text(yaml.safe_dump(settings))
    assert job(tmp_path / "run", "--train_projector", "true", "--start", str(copy)) == 0
    assert "is not checked for leakage: no recipe file" in capfd.readouterr().err
