"""Who works on a run: locks that end with their processes, below launchers too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.study import work
from harness.study.locks import held, keep, lock
from harness.study.state import MISSING, RUNNING, last_line, lock_file, log_file, state_of, train_lock
from tests.harness import studies
from tests.harness.studies import HOLD, SCORE, TRAIN, commands


@pytest.fixture
def plan(tmp_path):
    return studies.plan(tmp_path, recipes=["imax"])


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_lock_is_held_by_one_and_freed_by_a_kill(tmp_path):
    path = tmp_path / "lock"
    assert not held(path)
    script = (
        HOLD + f"with lock(Path({str(path)!r})) as file: print(file is not None, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    assert held(path)
    with lock(path) as file:
        assert file is None
    process.kill()
    process.wait()
    assert not held(path)
    with lock(path) as file:
        assert file is not None
        assert held(path)


def test_a_child_that_was_given_the_lock_keeps_it_when_its_parent_is_killed(tmp_path):
    path = tmp_path / "lock"
    script = HOLD + (
        "import subprocess\n"
        f"with lock(Path({str(path)!r})) as file:\n"
        "    sleep = [sys.executable, '-c', 'import time; time.sleep(600)']\n"
        "    child = subprocess.Popen(sleep, pass_fds=(file,))\n"
        "    print(child.pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    assert held(path)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not held(path))


# A launcher as accelerate's: its child inherits no file. The child holds the lock that the environment names.
LAUNCHER = (
    "import subprocess, sys\n"
    "child = 'from harness.study.locks import keep; keep(); import os, time; "
    "print(os.getpid(), flush=True); time.sleep(600)'\n"
    "subprocess.Popen([sys.executable, '-c', child]).wait()"
)


def launched(plan, run):
    """A process that works on the run through LAUNCHER, and the id of what trains."""
    script = (
        "import sys; from harness.study import work; from harness.study.locks import lock\n"
        "from harness.commands.study import _end_in_order; from pathlib import Path; import os\n"
        "_end_in_order(); environment = {**os.environ, 'IMAX_TRAIN_LOCK': sys.argv[2]}\n"
        "with lock(Path(sys.argv[1])) as held:\n"
        "    work._call([sys.executable, '-c', sys.argv[4]], Path(sys.argv[3]), environment, held)"
    )
    log = log_file(plan, run)
    where = (lock_file(plan, run), train_lock(plan, run), log)
    worker = subprocess.Popen([sys.executable, "-c", script, *map(str, where), LAUNCHER])
    wait_for(lambda: last_line(log).isdigit())
    return worker, int(last_line(log))


def test_a_training_whose_worker_and_launcher_are_gone_still_holds_its_run(plan, monkeypatch):
    commands(monkeypatch, TRAIN, SCORE)
    run = plan.runs[0]
    worker, child = launched(plan, run)
    launcher = int(Path(f"/proc/{child}/stat").read_text().split()[3])
    for process in (worker.pid, launcher):
        os.kill(process, signal.SIGKILL)
    worker.wait()
    wait_for(lambda: not held(lock_file(plan, run)))
    assert state_of(plan, run).kind == RUNNING
    assert work.work(plan, run) == work.BUSY
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: state_of(plan, run).kind == MISSING)
    assert work.work(plan, run) == 0


def test_a_worker_told_to_end_ends_what_its_launcher_started(plan):
    worker, child = launched(plan, plan.runs[0])
    worker.send_signal(signal.SIGTERM)
    worker.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert state_of(plan, plan.runs[0]).kind == MISSING


def test_training_refuses_a_run_that_another_training_holds(tmp_path, monkeypatch, capsys):
    from harness import train

    monkeypatch.setattr("harness.study.locks._PATIENCE", 0.1)
    monkeypatch.setenv("IMAX_TRAIN_LOCK", str(tmp_path / "lock"))
    with lock(tmp_path / "lock"):
        assert train.main(["--recipe", "nowhere"]) == 2
        assert "another process is training this run" in capsys.readouterr().err
    assert train.main(["--recipe", "nowhere"]) == 2
    assert "unknown recipe 'nowhere'" in capsys.readouterr().err
    assert held(tmp_path / "lock")


def test_of_several_processes_of_a_training_the_first_one_holds_its_lock(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAX_TRAIN_LOCK", str(tmp_path / "lock"))
    monkeypatch.setenv("RANK", "1")
    keep()
    assert not held(tmp_path / "lock")
