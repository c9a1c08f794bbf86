"""What is done of a study, by whom, and what a kill leaves: locks, states, workers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from data_recipes.errors import UserError
from data_recipes.records import Mixture
from data_recipes.store import read_mixture, write_mixture
from harness.study import work
from harness.study.locks import lock
from harness.study.state import (
    DONE,
    FAILED,
    MISSING,
    RUNNING,
    lock_file,
    read_record,
    state_of,
    write_record,
)
from tests.eval.factories import make_mixture
from tests.harness import studies
from tests.harness.studies import SCORE, TRAIN, commands


@pytest.fixture
def plan(tmp_path):
    return studies.plan(tmp_path, recipes=["imax", "dmax"], seeds=[1, 2], minutes=2)


@pytest.fixture
def mixture(tmp_path):
    return make_mixture(tmp_path / "mixture")


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
