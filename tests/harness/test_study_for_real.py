"""A whole study for real: its driver and a worker killed with -9, then the same command again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.study.locks import held
from harness.study.planning import read_plan
from harness.study.state import DONE, lock_file, state_of

ROOT = Path(__file__).resolve().parents[2]


def imax(*arguments: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "harness.cli", "study", *arguments, "--output_dir", str(folder)]


def start(folder: Path, home: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IMAX_HOME": str(home)}
    return subprocess.Popen(imax("smoke", folder=folder), env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, minutes=15):
    until = time.monotonic() + 60 * minutes
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.slow
def test_a_study_killed_twice_goes_on_and_trains_nothing_twice(tmp_path):
    folder, home = tmp_path / "study", tmp_path / "home"
    plan = read_plan("smoke", folder)
    first, second = plan.runs[:2]
    driver = start(folder, home)
    wait_for(lambda: state_of(plan, first).kind == DONE and held(lock_file(plan, second)), driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert held(lock_file(plan, second))  # its worker goes on

    kept = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    again = start(folder, home)
    wait_for(lambda: state_of(plan, second).kind == DONE, again)
    assert second.folder.is_dir()
    third = plan.runs[2]
    wait_for(lambda: (third.folder / "train.jsonl").exists(), again)
    # The driver, then the process that trains: what it had saved by then is gone on with.
    os.kill(again.pid, signal.SIGKILL)
    again.wait()
    trainer = process_of(third.folder.parents[1] / "settings" / f"{third.name}.yaml")
    if trainer:
        os.kill(trainer, signal.SIGKILL)

    last = start(folder, home)
    said = last.communicate()[1]
    assert last.returncode == 0, said
    assert all(state_of(plan, run).kind == DONE for run in plan.runs)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for run in (first, second):
        attempts = json.loads((run.folder / ".study.json").read_text())["attempts"]
        assert [one["step"] for one in attempts] == ["train", "score"]
        assert len(json.loads((run.folder / "provenance.json").read_text())["sessions"]) == 1
    page = folder / "report" / "index.html"
    assert "4 of 4 runs are done" in page.read_text()
    assert "2 seeds each" in (folder / "report" / "summary.md").read_text()

    plain = subprocess.run(
        imax("plan", "smoke", folder=folder),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "4 done; nothing left" in plain.stderr


def process_of(settings: Path) -> int | None:
    """The process that was started with this file, if it still runs."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(settings).encode() in words:
            return int(path.parent.name)
    return None
