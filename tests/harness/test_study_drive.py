"""The driver of a study: what it starts, waits for, and says; and the script for Slurm."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from data_recipes.errors import UserError
from harness.study import drive
from harness.study.locks import lock
from harness.study.slurm import write_slurm
from harness.study.state import DONE, FAILED, lock_file, read_record, write_record
from tests.eval.factories import make_mixture
from tests.harness import studies
from tests.harness.studies import HOLD


@pytest.fixture
def plan(tmp_path):
    return studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], minutes=2)


@pytest.fixture
def mixture(tmp_path):
    return make_mixture(tmp_path / "mixture")


class Said(list):
    def __call__(self, text):
        self.append(text)


@pytest.fixture
def driven(plan, monkeypatch):
    """A driver whose workers are lines of Python, by the name of the run; no mixture is built."""
    scripts = {}

    def worker(self, run):
        script = scripts.get(run.name, "done")
        if script == "done":
            studies.finish(self._plan, run, scripts["mixture"], share=0.5)
            script = "pass"
        return subprocess.Popen([sys.executable, "-c", script])

    monkeypatch.setattr(drive._Driver, "_worker", worker)
    monkeypatch.setattr(drive, "mixture_folder", lambda recipe: None)
    monkeypatch.setattr(drive, "_LOOK", 0.02)
    return scripts


def test_a_failed_run_is_told_and_the_others_go_on(plan, mixture, driven):
    driven |= {"mixture": mixture, "dmax-tiny-s1": "raise SystemExit(3)"}
    said = Said()
    states = drive.drive(plan, "x", jobs=2, say=said)
    assert {name: state.kind for name, state in states.items()} == {
        "imax-tiny-s1": DONE, "dmax-tiny-s1": FAILED, "imax-tiny-s2": DONE, "dmax-tiny-s2": DONE,
    }  # fmt: skip
    assert "its worker ended with exit code 3" in states["dmax-tiny-s1"].detail
    assert any("dmax-tiny-s1: failed" in line for line in said)
    assert "3 of 4 done, 1 failed, nothing left" in said[-1]


def test_what_is_done_is_not_started_again(plan, mixture, driven):
    driven["mixture"] = mixture
    studies.finish(plan, plan.runs[0], mixture, share=0.5)
    said = Said()
    drive.drive(plan, "x", say=said)
    assert [line for line in said if line.endswith("starts")] == [
        f"{run.name}: starts" for run in plan.runs[1:]
    ]
    assert said[0] == "made: 4 runs, 1 done before; about 0:03:00 left"


def test_a_run_that_a_former_drivers_worker_holds_is_waited_for(plan, mixture, driven):
    driven["mixture"] = mixture
    run, path = plan.runs[0], lock_file(plan, plan.runs[0])
    script = HOLD + f"with lock(Path({str(path)!r})) as file: print(file, flush=True); sys.stdin.readline()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    said = Said()

    def say(text):
        said(text)
        if "dmax-tiny-s2: done" in text:  # all others are done: the holder ends, its run being finished
            studies.finish(plan, run, mixture, share=0.5)
            holder.communicate("\n")

    states = drive.drive(plan, "x", jobs=2, say=say)
    assert states[run.name].kind == DONE
    assert f"{run.name}: starts" not in said


def test_two_drivers_do_not_work_on_one_study(plan, monkeypatch):
    monkeypatch.setattr("harness.study.locks._PATIENCE", 0.1)
    with lock(plan.folder / ".lock"), pytest.raises(UserError, match="another process works on this study"):
        drive.drive(plan, "x", say=Said())


def test_time_left_is_what_runs_like_it_took_and_the_guess_before_any_did(plan, mixture):
    assert drive.left(plan, 1) == "about 0:08:00 left"
    assert drive.left(plan, 2) == "about 0:04:00 left"
    studies.finish(plan, plan.runs[0], mixture, share=0.5)  # imax: 60 s
    assert drive.left(plan, 1) == "about 0:03:00 left"
    studies.finish(plan, plan.runs[1], mixture, share=0.5)
    record = read_record(plan.runs[1].folder)
    record["attempts"][0]["seconds"] = 100.0
    write_record(plan.runs[1].folder, record)
    assert drive.estimates(plan)["imax-tiny-s2"] == 60
    assert drive.estimates(plan)["dmax-tiny-s2"] == 100
    assert drive.left(plan, 1) == "about 0:02:40 left"


def run_by_slurm(text, folder, command, *, number, cwd):
    """What an array script prints as job `number` with a stand-in for Python; it lies in `folder`."""
    stub, script = folder / "stub", folder / "changed.sh"
    stub.write_text(f"#!/bin/bash\n{command}\n")
    stub.chmod(0o755)
    script.write_text(text.replace(sys.executable, shlex.quote(str(stub))))
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(number)}
    run = subprocess.run(["bash", str(script)], cwd=cwd, env=environment, capture_output=True, text=True)
    return run.stdout


def test_the_slurm_script_does_the_run_of_its_number(plan, mixture, tmp_path):
    studies.finish(plan, plan.runs[0], mixture, share=0.5)
    written = write_slurm(plan, "smoke")
    assert written.runs.read_text().split() == [run.name for run in plan.runs[1:]]
    text = written.script.read_text()
    assert "#SBATCH --array=1-3%1" in text
    said = run_by_slurm(text, tmp_path, 'echo "$@"', number=2, cwd=tmp_path)
    folder = plan.folder.resolve()
    assert said.split()[:5] == ["-m", "harness.cli", "study", "run", "smoke"]
    assert said.split()[5:] == ["--output_dir", str(folder), "--only", "imax-tiny-s2"]
    for run in plan.runs[1:]:
        studies.finish(plan, run, mixture, share=0.5)
    with pytest.raises(UserError, match="nothing to submit"):
        write_slurm(plan, "smoke")


def test_the_slurm_script_runs_where_it_was_written_and_in_folders_with_spaces(tmp_path, monkeypatch):
    folder = tmp_path / "100 % mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    plan = studies.plan(folder, recipes=["imax"])
    text = write_slurm(plan, "smoke").script.read_text()
    logs = plan.folder.resolve() / "logs"
    said = next(line for line in text.splitlines() if "--output=" in line)
    assert shlex.split(said)[1] == f"--output={logs}/slurm-%a.out".replace(" % ", " %% ")
    assert run_by_slurm(text, folder, "pwd", number=1, cwd=Path("/")).strip() == str(folder)


def test_runs_that_share_stages_wait_for_the_first_that_makes_them(tmp_path, mixture, driven):
    for name in ("a", "b"):
        stages = {"style": "staged", "stages": [{"name": name, "mixture": "dmax"}]}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(stages))
    plan = studies.plan(tmp_path, recipes=["a.yaml", "b.yaml"], seeds=[1, 2])
    driven["mixture"] = mixture
    said = Said()
    drive.drive(plan, "x", jobs=2, say=said)
    started = [line.split(":")[0] for line in said if line.endswith("starts")]
    assert started[:2] == ["a-tiny-s1", "a-tiny-s2"]  # not b-tiny-s1 beside a-tiny-s1
    assert sorted(started[2:]) == ["b-tiny-s1", "b-tiny-s2"]


def test_a_mixture_that_cannot_be_built_fails_its_runs_only(plan, mixture, driven, monkeypatch):
    def build(recipe):
        if recipe == "dmax":
            raise UserError("no such source")

    monkeypatch.setattr(drive, "mixture_folder", build)
    driven["mixture"] = mixture
    states = drive.drive(plan, "x", say=Said())
    assert {name: state.kind for name, state in states.items()} == {
        "imax-tiny-s1": DONE, "dmax-tiny-s1": FAILED, "imax-tiny-s2": DONE, "dmax-tiny-s2": FAILED,
    }  # fmt: skip
    assert states["dmax-tiny-s1"].detail == "mixture: no such source"


def test_all_that_a_run_reads_is_built_before_any_run_starts(tmp_path, mixture, driven, monkeypatch):
    more, probes = make_mixture(tmp_path / "more"), make_mixture(tmp_path / "probes")
    stages = {
        "style": "staged",
        "stages": [{"name": "a", "mixture": "dmax"}, {"name": "b", "mixture": "imax"}],
    }
    (tmp_path / "staged.yaml").write_text(yaml.safe_dump(stages))
    keys = {"arguments": {"mix": ["more"]}, "dynamics": {"steps": "end", "mixture": "probes"}}
    plan = studies.plan(tmp_path, recipes=["staged.yaml"], **keys)
    built = []
    monkeypatch.setattr(drive, "mixture_folder", built.append)
    driven["mixture"] = mixture
    drive.drive(plan, "x", say=Said())
    assert built == ["dmax", "imax", str(more), str(probes)]
