"""Dynamics measured while a run trains and after it: training does not notice, and nothing is done twice."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from data_recipes.errors import UserError
from harness import dynamics, train
from harness.commands.dynamics import app
from harness.runs import RunFolder
from taco_probe.dynamics import measurement
from tests.harness.conftest import make_mixture

# Several processes of one run meet at one port: never two such tests at a time.
pytestmark = pytest.mark.xdist_group("one port")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    *("--max_steps", "4", "--logging_steps", "2", "--save_steps", "2", "--threads", "1"),
    *("--lora_dropout", "0.1", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1"),
]
PROBE = ["--dynamics_entries", "14", "--dynamics_split", "train"]
RATES = ("entries_per_second", "tokens_per_second")


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dynamics-mixture")
    make_mixture(folder, images=8, entries_each=lambda image: 7)
    return folder


def job(mixture, model, run, *more):
    return train.main(
        ["--recipe", str(mixture), "--model", str(model), "--output_dir", str(run), *FLAGS, *more]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, mixture, flavour_folder):
    """The same job without and with `--dynamics_steps`."""
    root = tmp_path_factory.mktemp("runs")
    assert job(mixture, flavour_folder("llava"), root / "without") == 0
    watched = ["--dynamics_steps", "0,2,end", "--dynamics_affinity", "true", *PROBE]
    assert job(mixture, flavour_folder("llava"), root / "with", *watched) == 0
    return root


def losses(run):
    lines = map(json.loads, (run / "train.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in RATES} for line in lines]


def adapter_of(run):
    return (run / "adapter" / "adapter_model.safetensors").read_bytes()


def test_training_does_not_notice_that_it_is_measured(runs):
    assert adapter_of(runs / "with") == adapter_of(runs / "without")
    assert losses(runs / "with") == losses(runs / "without")
    assert not (runs / "without" / "dynamics").exists()


def test_the_chosen_steps_are_measured_and_say_what_they_are_of(runs):
    found = measurement.series(runs / "with")
    assert [one.step for one in found] == [0, 2, 4]
    assert [bool(one.facts["b_is_zero"]) for one in found][::2] == [True, False]
    assert {one.facts["max_steps"] for one in found} == {4}
    assert {len(one.facts["entries"]) for one in found} == {14}
    assert ("empirical", "adam") in found[-1].kinds()
    # The weights on record are those of that step: at the end, of the saved adapter.
    last = measurement.read_lora(runs / "with" / "dynamics", 4)
    saved = load_file(runs / "with" / "adapter" / "adapter_model.safetensors")
    assert {name: value.tolist() for name, value in last.items()} == {
        name: value.tolist() for name, value in saved.items()
    }


def test_a_run_cut_short_goes_on_without_measuring_again(
    runs, mixture, flavour_folder, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    watched = ["--dynamics_steps", "0,2,3,end", *PROBE]
    real, taken = dynamics.Probed.take, []

    def cut(self, model, *, step, **more):
        if step == 4 and 4 not in taken:
            taken.append(4)
            raise KeyboardInterrupt
        taken.append(step)
        return real(self, model, step=step, **more)

    monkeypatch.setattr(dynamics.Probed, "take", cut)
    assert job(mixture, flavour_folder("llava"), run, *watched) == 130
    kept = {path.name: path.read_bytes() for path in (run / "dynamics").iterdir()}
    assert measurement.steps(run / "dynamics") == [0, 2, 3]
    assert job(mixture, flavour_folder("llava"), run, *watched) == 0
    assert taken == [0, 2, 3, 4, 4]  # step 3 came again after the checkpoint of step 2, and was there
    assert measurement.steps(run / "dynamics") == [0, 2, 3, 4]
    assert all((run / "dynamics" / name).read_bytes() == content for name, content in kept.items())
    assert adapter_of(run) == adapter_of(runs / "without")
    for one, other in ((measurement.read(place / "dynamics", 4) for place in (run, runs / "with")),):
        for kind in one.kinds():
            assert np.allclose(one.gram(*kind), other.gram(*kind), rtol=1e-5)


def test_measuring_the_finished_run_gives_what_the_last_step_gave(runs, tmp_path):
    """As it was trained: entries, split and affinity come from the run's own settings."""
    run = shutil.copytree(runs / "with", tmp_path / "run")
    before = measurement.read(run / "dynamics", 4)
    said = CliRunner().invoke(app, ["measure", str(run)])
    assert said.exit_code == 0, said.output
    assert "is measured already" in said.output
    said = CliRunner().invoke(app, ["measure", str(run), "--overwrite"])
    assert said.exit_code == 0, said.output
    after = measurement.read(run / "dynamics", 4)
    assert after.facts["probe"] == before.facts["probe"]
    for kind in after.kinds():
        one, other = after.gram(*kind), before.gram(*kind)
        assert np.allclose(one, other, rtol=1e-5, atol=1e-5 * other.max())
    assert set(before.kinds()) - set(after.kinds()) == {("empirical", "adam"), ("true", "adam")}
    assert after.facts["affinity"]["direction"] == "gradient"


def test_kept_checkpoints_can_be_measured_too(runs, tmp_path):
    run = shutil.copytree(runs / "without", tmp_path / "run")
    measured = {"dynamics_entries": 14, "dynamics_split": "train", "dynamics_fisher": "empirical"}
    written = dynamics.measure_run(RunFolder(run), measured, checkpoints=True)
    assert [path.name for path in written] == ["step-2.json", "step-4.json"]
    for step in (2, 4):
        one, other = (measurement.read(place / "dynamics", step) for place in (run, runs / "with"))
        a, b = one.gram("empirical", "gauge"), other.gram("empirical", "gauge")
        assert np.allclose(a, b, rtol=1e-5, atol=1e-5 * b.max())


def test_an_adapter_without_a_run_is_measured_on_a_named_mixture(runs, mixture, tmp_path):
    adapter = shutil.copytree(runs / "with" / "adapter", tmp_path / "foreign")
    command = ["measure", str(adapter), "--output_dir", str(tmp_path / "out"), "--step", "4"]
    said = CliRunner().invoke(app, command)
    assert "say what to measure it on with --dynamics_mixture NAME" in str(said.exception)
    probe = ["--dynamics_entries", "14", "--dynamics_split", "train", "--dynamics_mixture", str(mixture)]
    said = CliRunner().invoke(app, [*command, *probe])
    assert said.exit_code == 0, said.output
    one, other = (
        measurement.read(place / "dynamics", 4).gram("empirical", "gauge")
        for place in (tmp_path / "out", runs / "with")
    )
    assert np.allclose(one, other, rtol=1e-5, atol=1e-5 * other.max())
    both = [str(tmp_path / "out"), str(runs / "with"), "--output_dir", str(tmp_path / "page")]
    said = CliRunner().invoke(app, both)
    assert said.exit_code == 0, said.output
    assert "foreign" in said.output


def test_two_runs_are_compared_by_one_command(runs, tmp_path):
    other = shutil.copytree(runs / "with", tmp_path / "other")
    said = CliRunner().invoke(app, [str(runs / "with"), str(other), "--output_dir", str(tmp_path / "out")])
    assert said.exit_code == 0, said.output
    assert (tmp_path / "out" / "index.html").stat().st_size > 10_000
    assert "seeds were not varied" in said.output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--dynamics_steps", "0,half"], "--dynamics_steps 0,half: 'half' is no step"),
        (["--dynamics_steps", "0", "--dynamics_entries", "500"], "ask for fewer (--dynamics_entries)"),
        (["--dynamics_steps", "0", "--dynamics_entries", "6"], "too few for 7 tasks: ask for 14 or more"),
        (
            ["--dynamics_steps", "0", "--dynamics_affinity", "true", "--dynamics_mixture", "{one_patient}"],
            "has probe entries of one patient only",
        ),
        (["--dynamics_steps", "0", "--dynamics_split", "trian"], "did you mean 'train'?"),
        (["--dynamics_steps", "0", "--dynamics_split", "test"], "never taken from the test split"),
        (["--dynamics_steps", "0", "--dynamics_fisher", "ture"], "did you mean 'true'?"),
        (["--dynamics_steps", "0", "--dynamics_mixture", "imaxx"], "did you mean 'imax'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(mixture, flavour_folder, tmp_path, capfd, flags, message):
    make_mixture(tmp_path / "one", images=3, entries_each=lambda image: 14)
    flags = [flag.replace("{one_patient}", str(tmp_path / "one")) for flag in flags]
    assert job(mixture, flavour_folder("llava"), tmp_path / "run", *PROBE, *flags) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_weights_in_shards_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dynamics, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(UserError, match="DeepSpeed's stage 3 spreads them: train without, then imax dyn"):
        dynamics.Dynamics(RunFolder(tmp_path), "0", None, {})


@pytest.mark.parametrize("damage", ["nothing", "unfinished"])
def test_what_is_no_finished_run_is_refused(runs, tmp_path, damage):
    run = tmp_path / "run"
    if damage == "unfinished":
        shutil.copytree(runs / "without", run)
        (run / "provenance.json").unlink()
    with pytest.raises(UserError, match=r"is not finished|no run") as caught:
        dynamics.measure_run(RunFolder(run), {})
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_two_processes_measure_once(runs, mixture, flavour_folder, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += [
        str(ROOT / "harness" / "train.py"),
        "--recipe",
        str(mixture),
        "--output_dir",
        str(tmp_path / "run"),
    ]
    command += ["--model", str(flavour_folder("llava")), *FLAGS, "--per_device_train_batch_size", "1"]
    command += ["--dynamics_steps", "0,end", *PROBE]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("dynamics of step 0 measured") == 1
    found = measurement.series(tmp_path / "run")
    assert [one.step for one in found] == [0, 4]
    # Before training the model is the same as in one process.
    one, other = found[0], measurement.read(runs / "with" / "dynamics", 0)
    assert np.allclose(one.gram("empirical", "gauge"), other.gram("empirical", "gauge"), rtol=1e-4)
