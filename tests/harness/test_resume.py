"""`kill -9` in the middle of training, then the same command: as if nothing had happened."""

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
from safetensors.torch import load_file

from harness.config import presets

# Several processes of one run meet at one port: never two such tests at a time.
pytestmark = pytest.mark.xdist_group("one port")

ROOT = Path(__file__).resolve().parents[2]
RATES = ("entries_per_second", "tokens_per_second")


# Several epochs, an epoch that does not divide into steps, dropout, and a log that the saves do not fall on.
FLAGS = (
    "--max_steps 40 --save_steps 7 --logging_steps 3 --lora_dropout 0.1 --threads 1 "
    "--per_device_train_batch_size 3 --gradient_accumulation_steps 2"
)


def start(run: Path, mixture: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "harness" / "train.py"), "--recipe", str(mixture)]
    command += ["--output_dir", str(run), *FLAGS.split(), *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]


def without_rates(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in line.items() if key not in RATES} for line in log]


def kill_at(process: subprocess.Popen[str], run: Path, step: int) -> None:
    """kill -9 as soon as the log has come to `step`."""
    log = run / "train.jsonl"
    while process.poll() is None:
        if log.exists() and any(f'"step": {n},' in log.read_text() for n in range(step, 40)):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.02)
    process.wait()
    assert process.returncode == -signal.SIGKILL, process.communicate()[1]


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, mixture_folder):
    whole = start(tmp_path / "whole", mixture_folder)
    assert whole.wait() == 0, whole.communicate()[1]

    broken = tmp_path / "broken"
    kill_at(start(broken, mixture_folder), broken, 12)
    # What a kill while saving leaves behind: a newer folder, half written.
    torn = broken / "checkpoints" / "checkpoint-39"
    torn.mkdir()
    (torn / "trainer_state.json").write_text("{")
    kill_at(start(broken, mixture_folder), broken, 30)
    last = start(broken, mixture_folder)
    said = last.communicate()[1]
    assert last.returncode == 0, said
    assert "going on from step" in said

    expected, found = without_rates(lines(tmp_path / "whole")), without_rates(lines(broken))
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    assert expected[-1]["step"] == 40
    for left, right in zip(expected, found, strict=True):
        assert right == pytest.approx(left, abs=1e-6)
    ours, theirs = (
        load_file(run / "adapter" / "adapter_model.safetensors") for run in (broken, tmp_path / "whole")
    )
    assert ours.keys() == theirs.keys()
    assert all((ours[key] - theirs[key]).abs().max() <= 1e-6 for key in ours)
    sessions = json.loads((broken / "provenance.json").read_text())["sessions"]
    assert len(sessions) == 3
    assert sessions[-1]["from_step"] > 0

    again = start(broken, mixture_folder)
    assert "nothing to do" in again.communicate()[1]
    assert again.returncode == 0
    other = start(broken, mixture_folder, "--learning_rate", "0.5")
    said = other.communicate()[1]
    assert other.returncode == 2
    rate = presets("tiny", "dmax")["learning_rate"]
    assert f"learning_rate is {rate} there, 0.5 here" in said
    assert yaml.safe_load((broken / "run.yaml").read_text())["learning_rate"] == rate


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, mixture_folder):
    """The same entries in each step, shared out: the same loss, in total and for each task."""
    flags = "--max_steps 4 --logging_steps 1 --lora_dropout 0 --threads 1 --per_device_train_batch_size 4"
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
    for name, launcher, accumulate in (("one", [], "2"), ("two", torchrun, "1")):
        command = [
            sys.executable,
            *launcher,
            str(ROOT / "harness" / "train.py"),
            "--recipe",
            str(mixture_folder),
        ]
        command += ["--output_dir", str(tmp_path / name), "--gradient_accumulation_steps", accumulate]
        done = subprocess.run([*command, *flags.split()], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for one, two in zip(*(without_rates(lines(tmp_path / name)) for name in ("one", "two")), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
