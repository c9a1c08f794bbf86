"""`imax eval` as people start it: killed and started again, in one process and in several; its mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from peft import LoraConfig, get_peft_model

from harness import cli
from model_adapters.registry import load_adapter
from tests.harness.conftest import make_mixture

# Several processes of one run meet at one port: never two such tests at a time.
pytestmark = pytest.mark.xdist_group("one port")

ACCELERATE = (str(Path(sys.executable).parent / "accelerate"), "launch", "--quiet", "--multi_gpu")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    """180 entries about 40 images, 1 to 8 each."""
    folder = tmp_path_factory.mktemp("generation")
    make_mixture(folder, images=42, entries_each=lambda image: 1 + image * 5 % 8)
    return folder


def start(mixture: Path, out: Path, processes: int = 1) -> subprocess.Popen[str]:
    launcher = [sys.executable]
    if processes > 1:  # on a CPU, --multi_gpu is how accelerate starts several processes
        launcher = [*ACCELERATE, "--num_processes", str(processes)]
    command = [*launcher, "-m", "harness.cli", "eval", "tiny", "--mixture", str(mixture), "--split", "train"]
    command += ["--output_dir", str(out), "--batch_size", "8", "--resamples", "100"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def end(process: subprocess.Popen[str]) -> None:
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said[-3000:]


def kill_in_the_middle(process: subprocess.Popen[str], out: Path, lines: int) -> None:
    """kill -9 for the launcher and all it started, once each has written so many lines."""
    ranks = 1 + ("--multi_gpu" in process.args)
    while process.poll() is None:
        parts = list(out.glob("predictions.part-*.jsonl"))
        if len(parts) == ranks and all(part.read_bytes().count(b"\n") >= lines for part in parts):
            break
        time.sleep(0.01)
    started = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for child in started:
        child.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def whole(mixture, tmp_path_factory):
    """What an unbroken process writes."""
    out = tmp_path_factory.mktemp("whole")
    end(start(mixture, out))
    return out


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_killed_evaluation_goes_on_in_any_number_of_processes(mixture, whole, tmp_path, before, after):
    kill_in_the_middle(start(mixture, tmp_path, before), tmp_path, 12)
    assert not (tmp_path / "predictions.jsonl").exists()
    parts = {part: part.read_text().splitlines()[:12] for part in tmp_path.glob("*.part-*.jsonl")}
    assert len(parts) == before
    end(start(mixture, tmp_path, after))
    assert not list(tmp_path.glob("*.part-*"))
    for name in ("predictions.jsonl", "blind.jsonl", "scores.json"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    rows = (tmp_path / "predictions.jsonl").read_text().splitlines()
    assert len(rows) == len({json.loads(row)["entry_id"] for row in rows}) == 180
    assert all(row in rows for lines in parts.values() for row in lines)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--backend", "vlm"], "unknown backend 'vlm'"),
        (["--backend", "vllm"], "pip install vllm"),
        (["--batch_size", "0"], "--batch_size"),
    ],
)
def test_mistakes_are_one_line(flags, said, capsys, monkeypatch):
    monkeypatch.setattr("eval.backends.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as stop:
        cli.main(["eval", "tiny", "--mixture", "imax", *flags])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_several_processes_and_vllm_exclude_each_other(capsys, monkeypatch):
    monkeypatch.setattr("eval.backends.find_spec", lambda name: name)
    monkeypatch.setattr("eval.team.torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("eval.team.torch.distributed.barrier", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as stop:
        cli.main(["eval", "tiny", "--mixture", "imax", "--backend", "vllm"])
    assert stop.value.code == 2
    assert "without accelerate" in capsys.readouterr().err


def code_of(*arguments: str) -> int:
    """The exit code of `imax`."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    return stop.value.code or 0


def test_a_peft_adapter_from_anywhere_is_scored_on_its_base(mixture, tmp_path):
    adapter = load_adapter("tiny")
    config = LoraConfig(r=2, target_modules=adapter.lora_targets, init_lora_weights=False)
    model = get_peft_model(adapter.load_model(), config)
    model.peft_config["default"].base_model_name_or_path = "tiny"
    model.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    asked = ["--mixture", str(mixture), "--split", "validation", "--no-blind", "--resamples", "100"]
    for name, more in (("adapted", []), ("base", ["--base"])):
        where = ["--output_dir", str(tmp_path / name)]
        assert code_of("eval", str(tmp_path / "lora"), *asked, *more, *where) == 0
    scores = [json.loads((tmp_path / name / "scores.json").read_text()) for name in ("adapted", "base")]
    assert [found["adapter"] for found in scores] == [True, False]
    assert {found["model"] for found in scores} == {"tiny"}
    outputs = [(tmp_path / name / "predictions.jsonl").read_text() for name in ("adapted", "base")]
    assert outputs[0] != outputs[1]


def test_an_adapter_without_its_base_is_named(tmp_path, capsys):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert code_of("eval", str(tmp_path), "--mixture", "imax") == 2
    assert "does not say which model it adapts" in " ".join(capsys.readouterr().err.split())
    assert code_of("eval", str(tmp_path)) == 2
    assert "--mixture NAME" in capsys.readouterr().err
