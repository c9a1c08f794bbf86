"""`imax study` as people call it."""

from __future__ import annotations

import pytest
import yaml

from harness import cli
from tests.eval.factories import make_mixture
from tests.harness import studies


def imax(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(["study", *map(str, arguments)])
    streams = capsys.readouterr()
    return caught.value.code, streams.out, streams.err


@pytest.fixture
def made(tmp_path):
    """A study with one of two runs finished, as (file, folder)."""
    plan = studies.plan(tmp_path, recipes=["imax", "dmax"])
    studies.finish(plan, plan.runs[0], make_mixture(tmp_path / "mixture"), share=0.5)
    return tmp_path / "study.yaml", plan.folder


def test_plan_prints_every_run_with_its_state(capsys, made):
    file, folder = made
    code, out, err = imax(capsys, "plan", file, "--output_dir", folder)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:] if line.strip()] == [
        "imax-tiny-s1",
        "dmax-tiny-s1",
    ]
    assert "1 done, 1 missing; about 0:01:00 left" in err


def test_report_prints_the_summary_and_where_the_page_is(capsys, made):
    file, folder = made
    code, out, _ = imax(capsys, "report", file, "--output_dir", folder)
    assert code == 0
    assert out.startswith("- This is a part of the study: 1 of 2 runs not done")
    assert out.strip().endswith(str(folder / "report" / "index.html"))


def test_a_study_without_a_command_is_run_and_reported_and_says_when_a_run_failed(capsys, made, monkeypatch):
    from harness.study import drive

    file, folder = made
    monkeypatch.setattr(drive, "mixture_folder", lambda recipe: None)
    monkeypatch.setattr(drive._Driver, "_worker", lambda self, run: drive.subprocess.Popen(["false"]))
    code, out, err = imax(capsys, file, "--output_dir", folder)
    assert code == 1
    assert "failed: dmax-tiny-s1: its worker ended with exit code 1" in err
    assert "written: " in out


def test_a_worker_refuses_a_study_that_changed_since_its_driver_read_it(capsys, made, monkeypatch):
    from harness.study import drive, work
    from harness.study.planning import read_plan

    file, folder = made
    plan = read_plan(str(file), folder)
    commands = []
    monkeypatch.setattr(drive.subprocess, "Popen", lambda command, **rest: commands.append(command))
    drive._Driver(plan, str(file), 1, print)._worker(plan.runs[1])
    only = commands[0][commands[0].index("run") :]
    worked = []
    monkeypatch.setattr(work, "work", lambda plan, run: worked.append(run.name) or 0)
    assert imax(capsys, *only)[0] == 0
    assert worked == ["dmax-tiny-s1"]
    file.write_text(yaml.safe_dump({"recipes": ["imax", "dmax"], "evaluation": {"limit": 3}}))
    code, _, err = imax(capsys, *only)
    assert code == 2
    assert "changed since this call began: start it anew" in err
    assert worked == ["dmax-tiny-s1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "smok"], "unknown study 'smok': did you mean 'smoke'?"),
        (["no/such.yaml"], "no study file no/such.yaml"),
        (
            ["run", "smoke", "--only", "imax-tiny-s9"],
            "unknown run 'imax-tiny-s9': did you mean 'imax-tiny-s",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = imax(capsys, *arguments)
    assert code == 2
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


def test_a_flag_that_does_not_exist_is_told_before_anything_runs(capsys, tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump({"recipes": ["imax"], "arguments": {"learning_rat": 0.1}}))
    code, _, err = imax(capsys, "run", file, "--output_dir", tmp_path / "study")
    assert code == 2
    assert "unknown key 'learning_rat': did you mean 'learning_rate'?" in err
    assert not (tmp_path / "study").exists()
