"""A short real training on the tiny model, in this process."""

from __future__ import annotations

import json
import shutil

import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file

from data_recipes.records import Mixture
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from harness import checkpoints, peft_model, train
from harness.arguments import ModelArguments
from harness.config import parse, presets
from harness.dataset import Collator, Images, Samples
from harness.runs import RunFolder
from harness.trainer import sums_by_task
from model_adapters.losses import predicts, token_losses
from model_adapters.registry import FAMILIES, load_adapter

STEPS = "--max_steps 5 --logging_steps 2 --save_steps 3 --save_total_limit 1 --threads 1 --seed 7 "
FLAGS = (STEPS + "--per_device_train_batch_size 4 --gradient_accumulation_steps 2").split()


@pytest.fixture(scope="module")
def run(tmp_path_factory, mixture_folder):
    folder = tmp_path_factory.mktemp("runs") / "short"
    assert train.main(["--recipe", str(mixture_folder), "--output_dir", str(folder), *FLAGS]) == 0
    return RunFolder(folder)


@pytest.fixture(scope="module")
def adapter():
    return load_adapter("tiny")


def samples_of(mixture_folder, adapter):
    images = Images(mixture_folder, adapter, megabytes=64)
    return Samples(read_mixture(mixture_folder), "train", images, adapter)


EXTRA = ("entry", "task_id", "siblings", "tokens")  # what the Trainer takes out before the model is called


def loss_of(model, batch):
    batch = {key: value for key, value in batch.items() if key not in EXTRA}
    with torch.no_grad():
        return model(**batch)


def test_the_log_has_a_line_at_every_logging_step_and_checkpoint(run):
    log = run.log()
    assert [line["step"] for line in log] == [2, 3, 4, 5]
    assert set(log[0]) <= {"step", "loss", "learning_rate", "entries_per_second", "tokens_per_second"} | {
        "tokens",
        "tokens_unshared",
    } | {f"loss_{task}" for task in TASKS}
    assert log[0]["entries_per_second"] > 0
    assert log[-1]["tokens_per_second"] > log[-1]["entries_per_second"]
    assert log[-1]["loss"] < log[0]["loss"]


def test_the_first_loss_is_that_of_the_untrained_model(tmp_path, mixture_folder, adapter):
    """One step over the whole split; the oracle scores each sample alone with the model's own loss."""
    flags = "--max_steps 1 --logging_steps 1 --threads 1 "
    flags += "--per_device_train_batch_size 7 --gradient_accumulation_steps 6"
    folder = tmp_path / "run"
    assert train.main(["--recipe", str(mixture_folder), "--output_dir", str(folder), *flags.split()]) == 0
    (line,) = RunFolder(folder).log()

    model = adapter.load_model(dtype=torch.float32).eval()
    totals = {task: [0.0, 0] for task in TASKS}
    dataset = samples_of(mixture_folder, adapter)
    for sample in (dataset[i] for i in range(len(dataset))):
        batch = Collator(adapter)([sample])
        count = int((batch["labels"] != -100).sum())
        total = totals[TASKS[int(batch["task_id"])]]
        total[0] += loss_of(model, batch).loss.item() * count
        total[1] += count
    for task, (total, count) in totals.items():
        assert line[f"loss_{task}"] == pytest.approx(total / count, abs=2e-5)
    sums = [sum(column) for column in zip(*totals.values(), strict=True)]
    assert line["loss"] == pytest.approx(sums[0] / sums[1], abs=2e-5)


def test_the_token_losses_are_those_of_the_model(mixture_folder, adapter):
    dataset = samples_of(mixture_folder, adapter)
    batch = Collator(adapter)([dataset[i] for i in range(6)])
    outputs = loss_of(adapter.load_model(dtype=torch.float32).eval(), batch)
    places = predicts(batch["labels"])
    assert 0 < len(places) < batch["labels"].shape[1] - 1
    losses, entry = token_losses(
        outputs.logits[:, places], batch["labels"][:, places + 1], batch["entry"][:, places + 1]
    )
    assert losses.mean().item() == pytest.approx(outputs.loss.item(), abs=1e-5)
    assert torch.bincount(entry, minlength=6).tolist() == (batch["labels"] != -100).sum(1).tolist()
    sums = sums_by_task(losses, batch["task_id"][entry])
    assert sums[:, 0].sum().item() == pytest.approx(losses.sum().item(), rel=1e-5)


def test_the_adapter_reloads_with_plain_peft(run, adapter):
    model = adapter.load_model(dtype=torch.float32)
    loaded = peft.PeftModel.from_pretrained(model, run.adapter)
    weights = load_file(run.adapter / "adapter_model.safetensors")
    assert any("multi_modal_projector" in name for name in weights)
    assert not any("vision_tower" in name for name in weights)
    saved = {name.replace(".weight", ".default.weight"): value for name, value in weights.items()}
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    assert any(value.abs().sum() > 0 for name, value in saved.items() if "lora_B" in name)
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny"


def test_the_run_folder_says_what_it_is(run, mixture_folder):
    settings, meta = yaml.safe_load(run.settings_file.read_text()), read_mixture(mixture_folder).meta
    assert settings["mixture"] == str(mixture_folder)
    assert settings["mixture_hash"] == meta["mixture_hash"]
    assert (settings["model"], settings["seed"], settings["max_steps"]) == ("tiny", 7, 5)
    assert settings["learning_rate"] == presets("tiny", "dmax")["learning_rate"]
    facts = run.provenance()
    assert facts["parameters"]["trainable"] < 0.25 * facts["parameters"]["all"]
    assert len(facts["model_hash"]) == 64
    assert facts["finished"]
    assert run.finished()


def test_checkpoints_are_sealed_and_rotated(run):
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-5"]
    assert checkpoints.is_whole(run.checkpoints / "checkpoint-5")


def test_killed_between_the_last_step_and_the_end(run, mixture_folder, capfd):
    """All steps done, adapter/ not yet written: the command writes it, without training another step."""
    before = load_file(run.adapter / "adapter_model.safetensors")
    run.provenance_file.unlink()
    (run.adapter / "adapter_model.safetensors").unlink()
    (run.adapter / "adapter_config.json").unlink()
    log = run.log_file.read_text()
    assert train.main(["--recipe", str(mixture_folder), "--output_dir", str(run.path), *FLAGS]) == 0
    after = load_file(run.adapter / "adapter_model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert run.log_file.read_text() == log
    assert train.main(["--recipe", str(mixture_folder), "--output_dir", str(run.path), *FLAGS]) == 0
    assert "nothing to do" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "8"], "seed is 7 there, 8 here"),
        (["--model", "tinny"], "unknown model 'tinny': did you mean 'tiny'?"),
        (["--recipe", "imaxx"], "unknown recipe 'imaxx': did you mean 'imax'?"),
        (
            ["--lora_targets", "nothing", "--output_dir", "{tmp}"],
            "--lora_targets 'nothing' matches no module",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(run, mixture_folder, tmp_path, capfd, flags, message):
    given = [flag.replace("{tmp}", str(tmp_path / "new")) for flag in flags]
    given = ["--recipe", str(mixture_folder), "--output_dir", str(run.path), *FLAGS, *given]
    assert train.main(given) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bad_checkpoint_is_exit_code_2_and_stands_in_nobodys_way(
    tmp_path, mixture_folder, flavour_folder, capfd, name
):
    model, run = shutil.copytree(flavour_folder(name), tmp_path / "model"), tmp_path / "run"
    weights = (model / "model.safetensors").read_bytes()
    flags = ["--recipe", str(mixture_folder), "--model", str(model), "--output_dir", str(run)]
    flags += ["--max_steps", "1", "--threads", "1", "--per_device_train_batch_size", "2"]
    (model / "model.safetensors").write_bytes(weights[:5000])
    assert train.main(flags) == 2
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if "error" in line.lower()] == said[-1:]
    assert f"cannot load the weights in {model}" in said[-1]
    assert [path.name for path in run.iterdir()] == ["run.yaml"]
    (model / "model.safetensors").write_bytes(weights)  # mended, the same command trains
    assert train.main(flags) == 0


def test_an_embedding_that_is_two_weights_in_one_gets_no_lora(
    tmp_path, mixture_folder, flavour_folder, capfd
):
    flags = ["--recipe", str(mixture_folder), "--model", str(flavour_folder("gemma3"))]
    assert train.main([*flags, "--lora_targets", "lm_head", "--output_dir", str(tmp_path / "run")]) == 2
    assert "which are one weight" in capfd.readouterr().err


def test_a_process_uses_one_gpu(capfd):
    training = parse([]).training
    training._n_gpu = 4
    train.use_one_gpu(training)
    assert training.n_gpu == 1
    assert "4 GPUs are visible and one is used" in capfd.readouterr().err


def test_a_budget_sets_the_steps_unless_the_user_does():
    mixture = Mixture((), (), {"budget": {"train_entries": 100}})
    flags = ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2"]
    flags += ["--batching", "entry"]
    free, set_by_user = parse(flags), parse([*flags, "--num_train_epochs", "2"])
    for settings in (free, set_by_user):
        train.take_budget(settings, mixture)
    assert free.training.num_train_epochs == 1.5  # of the mixture that it is matched to
    assert free.training.max_steps == 19  # ceil(1.5 * 100 / 8)
    assert set_by_user.training.max_steps == -1


def test_the_vision_tower_is_frozen_and_builds_no_graph(mixture_folder, adapter):
    model = peft_model.with_lora(
        adapter.load_model(dtype=torch.float32), adapter, ModelArguments(train_projector=True)
    )
    seen = []
    model.get_submodule("base_model.model.model.vision_tower").register_forward_hook(
        lambda module, inputs, outputs: seen.append(outputs.last_hidden_state.requires_grad)
    )
    dataset = samples_of(mixture_folder, adapter)
    batch = Collator(adapter)([dataset[0]])
    batch.pop("task_id")
    model(**batch).loss.backward()
    assert seen == [False]
    trained = [name for name, p in model.named_parameters() if p.grad is not None]
    assert trained
    assert all("lora_" in name and "vision_tower" not in name for name in trained)
