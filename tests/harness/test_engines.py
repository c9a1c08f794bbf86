"""Ways to train: quantised bases, DeepSpeed with two processes, a rank that dies. All on a CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from harness import peft_model, train
from harness.config import parse
from model_adapters.registry import FAMILIES, load_adapter
from taco_probe.dynamics.measurement import series

# Several processes of one run meet at one port: never two such tests at a time.
pytestmark = pytest.mark.xdist_group("one port")

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "harness" / "configs"


@pytest.fixture(scope="module")
def flavour(flavour_folder):
    return flavour_folder("qwen2_5_vl")


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "train.jsonl").read_text().splitlines()]


# Precision and memory


def short(run: Path, mixture: Path, model: Path, *more: str) -> list[float]:
    flags = ["--max_steps", "3", "--logging_steps", "1", "--threads", "1", "--learning_rate", "1e-2"]
    flags += ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "1", *more]
    flags += ["--lora_dropout", "0", "--train_projector", "true"]
    assert (
        train.main(["--recipe", str(mixture), "--model", str(model), "--output_dir", str(run), *flags]) == 0
    )
    return losses(run)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_checkpointing_changes_nothing_and_bfloat16_little(
    tmp_path, mixture_folder, flavour_folder, name
):
    base = mixture_folder, flavour_folder(name)
    plain = short(tmp_path / "plain", *base)
    again = short(tmp_path / "checkpointed", *base, "--gradient_checkpointing", "true")
    assert again == pytest.approx(plain, abs=1e-5)
    coarse = short(tmp_path / "bf16", *base, "--bf16", "true")
    assert coarse != plain
    assert coarse == pytest.approx(plain, abs=0.1)


def test_float16_without_a_gpu_is_refused(tmp_path, mixture_folder, flavour, capfd):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    flags = ["--recipe", str(mixture_folder), "--model", str(flavour), "--output_dir", str(tmp_path / "run")]
    assert train.main([*flags, "--fp16", "true"]) == 2
    assert "--fp16 needs a GPU" in capfd.readouterr().err


# Quantised bases


@pytest.mark.slow
@pytest.mark.parametrize("kept", ["8bit", "4bit"])
def test_a_quantised_base_trains_is_measured_and_its_adapter_loads_on_the_base_as_published(
    tmp_path, mixture_folder, flavour, kept
):
    pytest.importorskip("bitsandbytes")
    run = tmp_path / kept
    flags = f"--quantization {kept} --max_steps 12 --logging_steps 3 --learning_rate 1e-2 --threads 1".split()
    flags += ["--recipe", str(mixture_folder), "--model", str(flavour), "--output_dir", str(run)]
    flags += ["--batching", "image", "--sharing", "image", "--per_device_train_batch_size", "4"]
    flags += ["--dynamics_steps", "0,end", "--dynamics_entries", "14", "--dynamics_split", "train"]
    assert train.main(flags) == 0
    assert losses(run)[-1] < losses(run)[0]
    assert [one.step for one in series(run)] == [0, 12]  # gradients through it add up to autograd's
    base = load_adapter(str(flavour)).load_model(dtype=torch.float32)
    loaded = PeftModel.from_pretrained(base, run / "adapter")
    assert any(p.abs().sum() > 0 for name, p in loaded.named_parameters() if "lora_B" in name)


def test_only_the_language_model_is_quantised(flavour):
    pytest.importorskip("bitsandbytes")
    adapter = load_adapter(str(flavour))
    settings = parse(["--quantization", "4bit", "--output_dir", "unused"])
    model = peft_model.load_base(adapter, settings.model, settings.training)
    quantised = {name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"}
    layers = model.config.get_text_config().num_hidden_layers
    assert len(quantised) == 7 * layers
    assert all("language_model" in name for name in quantised)


def test_without_bitsandbytes_one_line_says_what_to_install(
    flavour, tmp_path, mixture_folder, monkeypatch, capfd
):
    real = peft_model.importlib.util.find_spec
    monkeypatch.setattr(
        peft_model.importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else real(name)
    )
    flags = ["--recipe", str(mixture_folder), "--model", str(flavour), "--output_dir", str(tmp_path / "run")]
    assert train.main([*flags, "--quantization", "4bit"]) == 2
    assert "pip install 'imax-harness[engines]'" in capfd.readouterr().err


# DeepSpeed

FLAGS = [
    *("--max_steps", "10", "--save_steps", "4", "--logging_steps", "1"),
    *("--learning_rate", "5e-3", "--lora_dropout", "0", "--threads", "1"),
]


def launcher(stage: str) -> list[str]:
    """One process without a stage, two under DeepSpeed's, or under "ddp"."""
    if stage == "ddp":
        return [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    name, _, offload = stage.partition("_")
    command = [str(Path(sys.executable).parent / "accelerate"), "launch"]
    command += ["--config_file", str(CONFIGS / f"{name}_cpu.yaml" if stage else CONFIGS / "cpu.yaml")]
    return command + (["--deepspeed_config_file", str(CONFIGS / f"{stage}.json")] if offload else [])


def start(run: Path, mixture: Path, model: Path, stage: str = "", *more: str) -> subprocess.Popen[str]:
    """The job by `launcher`; eight entries a step in one process or two, unless told otherwise."""
    command = launcher(stage)
    command += [str(ROOT / "harness" / "train.py"), "--recipe", str(mixture), "--model", str(model)]
    command += ["--output_dir", str(run), "--per_device_train_batch_size", "2"]
    command += ["--gradient_accumulation_steps", "2" if stage else "4", *FLAGS, *more]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    said = process.communicate(timeout=600)[0]
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.fixture
def deepspeed():
    pytest.importorskip("deepspeed")
    if not shutil.which(os.environ.get("CXX", "c++")):
        pytest.skip("DeepSpeed compiles its communication op, and there is no C++ compiler")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["zero2", "zero3", "zero3_offload"])
def test_two_processes_under_deepspeed_are_one_run(tmp_path, mixture_folder, flavour, deepspeed, stage):
    end(start(tmp_path / "one", mixture_folder, flavour))
    end(start(tmp_path / "two", mixture_folder, flavour, stage))
    assert len(losses(tmp_path / "one")) == 10
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    one, two = (
        load_file(tmp_path / name / "adapter" / "adapter_model.safetensors") for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    assert all(torch.allclose(one[key], two[key], atol=2e-3) for key in one)
    base = load_adapter(str(flavour)).load_model(dtype=torch.float32)
    PeftModel.from_pretrained(base, tmp_path / "two" / "adapter").merge_and_unload()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["ddp", "zero2"])
def test_two_processes_share_images_as_one_does(tmp_path, mixture_folder, flavour, deepspeed, stage):
    """A step is an epoch: ten images, in two processes or one."""
    shared = ["--batching", "image", "--sharing", "image", "--per_device_train_batch_size", "1"]
    end(start(tmp_path / "one", mixture_folder, flavour, "", *shared, "--gradient_accumulation_steps", "10"))
    two = [*shared, "--gradient_accumulation_steps", "5"]
    end(start(tmp_path / "two", mixture_folder, flavour, stage, *two))
    assert len(losses(tmp_path / "one")) == 10
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-4)


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job_and_the_same_command_goes_on(
    tmp_path, mixture_folder, flavour, deepspeed
):
    run, long = tmp_path / "run", ("--max_steps", "40")
    job = start(run, mixture_folder, flavour, "zero2", *long)
    while job.poll() is None and not (run / "checkpoints" / "checkpoint-4" / "whole.json").exists():
        time.sleep(0.05)
    children = psutil.Process(job.pid).children(recursive=True)
    (second,) = (child for child in children if child.environ().get("RANK") == "1")
    second.send_signal(signal.SIGKILL)
    said = job.communicate(timeout=300)[0]
    assert job.returncode != 0
    assert "SIGKILL" in said or "Signal 9" in said
    assert "going on from step" in end(start(run, mixture_folder, flavour, "zero2", *long))
    end(start(tmp_path / "whole", mixture_folder, flavour, "zero2", *long))
    assert losses(run) == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)
