"""What is done of a study, by whom, and what a kill leaves: locks, states, workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.records import Mixture
from data_recipes.store import read_mixture, write_mixture
from harness.study import work
from harness.study.locks import held, keep, lock
from harness.study.state import (
    DONE,
    FAILED,
    MISSING,
    RUNNING,
    last_line,
    lock_file,
    log_file,
    read_record,
    state_of,
    train_lock,
    write_record,
)
from tests.eval.factories import make_mixture
from tests.harness import studies
from tests.harness.studies import HOLD


@pytest.fixture
def plan(tmp_path):
    return studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], minutes=2)


@pytest.fixture
def mixture(tmp_path):
    return make_mixture(tmp_path / "mixture")


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


def test_states_are_read_from_files_and_locks(plan, mixture):
    done, running, failed, half = plan.runs
    studies.finish(plan, done, mixture, share=0.5)
    with lock(lock_file(plan, running)):
        write_record(
            failed.folder,
            {"key": failed.key, "failed": {"step": "train", "exit": 2, "last_line": "error: no"}},
        )
        write_record(half.folder, {"key": half.key})
        (half.folder / "train.jsonl").write_text('{"step": 20}\n{"step": 30}\n{"ste')
        found = [state_of(plan, run) for run in plan.runs]
    assert [one.kind for one in found] == [DONE, RUNNING, FAILED, MISSING]
    assert found[2].detail == "train: error: no"
    assert found[3].detail == "at step 30"
    assert state_of(plan, running).kind == MISSING


def test_a_finished_run_is_scored_again_only_when_its_scoring_changed(tmp_path, mixture):
    plan = studies.plan(tmp_path, recipes=["imax"])
    studies.finish(plan, plan.runs[0], mixture, share=0.5)
    other = studies.plan(tmp_path, recipes=["imax"], evaluation={"limit": 3})
    assert state_of(plan, plan.runs[0]).kind == DONE
    assert state_of(other, other.runs[0]).kind == MISSING
    assert state_of(other, other.runs[0]).detail == "trained"


def commands(monkeypatch, train, score="pass"):
    """Python lines in place of training and scoring."""
    for name, script in (("_train", train), ("_score", score)):
        monkeypatch.setattr(
            work, name, lambda plan, run, script=script: [sys.executable, "-c", script, str(run.folder)]
        )


TRAIN = (  # and uses the processor for a while
    "import time\nwhile time.process_time() < 0.2: pass\n"
    "import sys, json; from pathlib import Path; folder = Path(sys.argv[1]); (folder / 'adapter').mkdir()\n"
    "(folder / 'provenance.json').write_text(json.dumps({'finished': 'now'}))"
)
SCORE = "import sys; from pathlib import Path; (Path(sys.argv[1]) / 'scores.json').write_text('{}')"


def test_a_worker_trains_and_scores_and_records_what_it_took(plan, monkeypatch):
    commands(monkeypatch, TRAIN, SCORE)
    run = plan.runs[0]
    assert work.work(plan, run) == 0
    assert state_of(plan, run).kind == DONE
    record = read_record(run.folder)
    assert [one["step"] for one in record["attempts"]] == ["train", "score"]
    assert record["attempts"][0]["processor_seconds"] >= 0.2
    assert all(one["seconds"] >= 0 and one["exit"] == 0 for one in record["attempts"])
    assert work.work(plan, run) == 0  # nothing to do
    assert len(read_record(run.folder)["attempts"]) == 2


def test_a_failure_is_recorded_with_its_last_line_and_tried_again(plan, monkeypatch):
    commands(monkeypatch, "import sys; print('step 1'); print('error: no such thing'); print(); sys.exit(2)")
    run = plan.runs[0]
    assert work.work(plan, run) == 2
    assert state_of(plan, run).kind == FAILED
    assert state_of(plan, run).detail == "train: error: no such thing"
    commands(monkeypatch, TRAIN, SCORE)
    assert work.work(plan, run) == 0
    assert state_of(plan, run).kind == DONE
    assert "failed" not in read_record(run.folder)


def test_a_step_that_ends_well_without_a_result_is_a_failure_rather_than_a_loop(plan, monkeypatch):
    commands(monkeypatch, "print('hm')")
    assert work.work(plan, plan.runs[0]) == 1
    assert "nothing to show for it; last line: hm" in state_of(plan, plan.runs[0]).detail


def test_nobody_starts_on_a_run_that_another_process_works_on(plan, monkeypatch):
    commands(monkeypatch, TRAIN, SCORE)
    monkeypatch.setattr("harness.study.locks._PATIENCE", 0.1)
    with lock(lock_file(plan, plan.runs[0])):
        assert work.work(plan, plan.runs[0]) == work.BUSY
    assert not plan.runs[0].folder.exists()


def test_changed_settings_make_a_new_run_and_the_old_one_is_kept_and_comes_back(tmp_path, monkeypatch):
    commands(monkeypatch, TRAIN, SCORE)
    first = studies.plan(tmp_path, recipes=["imax"])
    work.work(first, first.runs[0])
    (first.runs[0].folder / "mark").touch()
    second = studies.plan(tmp_path, recipes=["imax"], arguments={"lora_r": 2})
    assert state_of(second, second.runs[0]).kind == MISSING
    assert "kept in old/" in state_of(second, second.runs[0]).detail
    work.work(second, second.runs[0])
    assert state_of(second, second.runs[0]).kind == DONE
    assert not (second.runs[0].folder / "mark").exists()
    old = second.kept()
    assert [path.name for path in old] == [f"imax-tiny-s1-{first.runs[0].key[:8]}"]
    assert (old[0] / "mark").exists()
    work.work(first, first.runs[0])  # as it was again
    assert (first.runs[0].folder / "mark").exists()
    assert state_of(first, first.runs[0]).kind == DONE
    assert [path.name for path in first.kept()] == [f"imax-tiny-s1-{second.runs[0].key[:8]}"]


def test_training_gets_its_settings_as_a_file_that_train_py_reads(plan, monkeypatch):
    from harness.config import parse

    run = plan.runs[1]
    command = work._train(plan, run)
    assert command[1].endswith("harness/train.py")
    settings = parse([command[2]])
    assert (settings.data.recipe, settings.model.model, settings.training.seed) == ("dmax", "tiny", 1)
    assert settings.training.output_dir == str(run.folder)
    launched = studies.plan(plan.folder.parent, recipes=["dmax"], launch="--num_processes 2")
    command = work._train(launched, launched.runs[0])
    assert command[1:5] == ["-m", "accelerate.commands.launch", "--num_processes", "2"]


def test_staged_recipes_share_their_stages(tmp_path):
    (tmp_path / "staged.yaml").write_text(
        yaml.safe_dump({"style": "staged", "stages": [{"name": "a", "mixture": "dmax"}]})
    )
    plan = studies.plan(tmp_path, recipes=["staged.yaml", "dmax"])
    settings = [yaml.safe_load(Path(work._train(plan, run)[2]).read_text()) for run in plan.runs]
    assert settings[0]["stage_cache"] == str(plan.folder / "stages")
    assert "stage_cache" not in settings[1]


def test_equal_steps_draw_as_many_entries_as_the_matched_recipe_in_its_epochs(tmp_path, monkeypatch):
    matched = make_mixture(tmp_path / "mixture")
    meta = read_mixture(matched).meta | {"match": {"matched": {"entries": 600}, "this": {"entries": 200}}}
    monkeypatch.setattr(work, "mixture_folder", lambda recipe, progress: matched)
    monkeypatch.setattr(work, "read_meta", lambda folder: meta)
    for arguments, epochs in (({"num_train_epochs": 2}, 6.0), ({}, 4.5), ({"max_steps": 9}, None)):
        plan = studies.plan(tmp_path, recipes=["dmax"], match="steps", arguments=arguments)
        found = dict(work.equal_steps(plan.runs[0]))
        assert found == ({} if epochs is None else {"num_train_epochs": pytest.approx(epochs)})
    plan = studies.plan(tmp_path, recipes=["dmax"], match="images")
    assert work.equal_steps(plan.runs[0]) == {}


@pytest.fixture
def apart(tmp_path):
    """Folders of mixtures: `scored`; `sound`, with other training patients; `leaky`, which trains on one that
    `scored` holds out."""
    scored, sound, leaky = (tmp_path / name for name in ("scored", "sound", "leaky"))
    for folder in (scored, sound, leaky):
        make_mixture(folder)
    found = read_mixture(leaky)
    first = next(image for image in found.images if image.split == "train")
    planted = [
        replace(image, patient_id="test-p0") if image is first else image
        for image in found.images
        if image.split == "train"
    ]
    kept = {image.image_id for image in planted}
    entries = [entry for entry in found.entries if entry.image_id in kept]
    write_mixture(Mixture(tuple(planted), tuple(entries), found.meta), leaky)
    return scored, sound, leaky


def staged_on(path, *mixtures):
    stages = [{"name": f"s{n}", "mixture": str(mixture), "epochs": 1} for n, mixture in enumerate(mixtures)]
    path.write_text(yaml.safe_dump({"style": "staged", "stages": stages}))
    return str(path)


def test_a_run_is_not_trained_and_scored_on_the_same_patients_by_whatever_mixture_it_reads(tmp_path, apart):
    scored, sound, leaky = apart

    def steps(recipe, **keys):
        plan = studies.plan(tmp_path, recipes=[str(recipe)], evaluation={"mixture": str(scored)}, **keys)
        return [lambda step=step: step(plan, plan.runs[0]) for step in (work._train, work._score)]

    staged = staged_on(tmp_path / "staged.yaml", sound, sound)
    for step in [*steps(sound), *steps(staged), *steps(sound, arguments={"mix": [str(sound)]})]:
        step()
    leaking = staged_on(tmp_path / "leaking.yaml", sound, leaky)
    for step in [*steps(leaky), *steps(leaking), *steps(sound, arguments={"mix": [str(leaky)]})]:
        with pytest.raises(UserError, match=r"leakage: 1 patients .*leaky, such as test-p0"):
            step()
