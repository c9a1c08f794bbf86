"""The run folder: who may write into it, and what survives a kill."""

from __future__ import annotations

import pytest
import yaml

from data_recipes.errors import UserError
from harness import checkpoints
from harness.provenance import Diary
from harness.runs import RunFolder, first_difference

SETTINGS = {
    "recipe": "imax",
    "mixture_hash": "abc",
    "learning_rate": 1e-3,
    "logging_steps": 10,
    "output_dir": "x",
}


def test_a_run_may_go_on_with_the_same_settings(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(SETTINGS, overwrite=False)
    run.claim(
        SETTINGS | {"logging_steps": 5, "output_dir": "./x"}, overwrite=False
    )  # these do not touch the numbers
    assert yaml.safe_load(run.settings_file.read_text()) == SETTINGS


@pytest.mark.parametrize("change", [{"learning_rate": 2e-3}, {"mixture_hash": "abd"}, {"weight_decay": 0.1}])
def test_other_settings_are_refused_by_name(tmp_path, change):
    run = RunFolder(tmp_path)
    run.claim(SETTINGS, overwrite=False)
    run.log_file.write_text('{"step": 2, "loss": 1.0}\n')
    with pytest.raises(UserError, match=next(iter(change))):
        run.claim(SETTINGS | change, overwrite=False)
    assert first_difference(SETTINGS, SETTINGS | change)[0] in change


def test_settings_that_nothing_came_of_do_not_keep_a_folder(tmp_path):
    run = RunFolder(tmp_path)
    run.claim(SETTINGS, overwrite=False)
    run.claim(SETTINGS | {"learning_rate": 2e-3}, overwrite=False)
    assert run.settings()["learning_rate"] == 2e-3


def test_overwrite_deletes_the_run_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path)
    run.claim(SETTINGS, overwrite=False)
    (run.checkpoints / "checkpoint-1").mkdir(parents=True)
    for name in ("predictions.jsonl", "notes.txt"):
        (tmp_path / name).write_text("text")
    run.claim(SETTINGS | {"learning_rate": 2e-3}, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "run.yaml"]
    assert run.settings()["learning_rate"] == 2e-3


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("text")
    for overwrite in (False, True):
        with pytest.raises(UserError, match=r"no run\.yaml"):
            RunFolder(tmp_path).claim(SETTINGS, overwrite=overwrite)
    with pytest.raises(UserError, match="is a file"):
        RunFolder(tmp_path / "thesis.txt").claim(SETTINGS, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "text"


def test_a_broken_run_yaml_is_said_so(tmp_path):
    (tmp_path / "run.yaml").write_text("a: [")
    with pytest.raises(UserError, match="is no YAML"):
        RunFolder(tmp_path).settings()
    with pytest.raises(UserError, match="not a run folder"):
        RunFolder(tmp_path / "absent").settings()


def test_the_log_is_cut_at_the_checkpoint_and_a_torn_line_is_dropped(tmp_path):
    run = RunFolder(tmp_path)
    run.log_file.write_text('{"step": 2, "loss": 1.0}\n{"step": 4, "loss": 0.5}\n{"step": 6, "lo')
    assert [line["step"] for line in run.log()] == [2, 4]
    run.cut_log(3)
    assert run.log_file.read_text() == '{"step": 2, "loss": 1.0}\n'


def make_checkpoint(folder, step):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    (path / "optimizer.pt").write_bytes(b"12345")
    (path / "trainer_state.json").write_text("{}")
    return path


def test_only_whole_checkpoints_count(tmp_path):
    assert checkpoints.last_whole(tmp_path / "absent") is None
    paths = {step: make_checkpoint(tmp_path, step) for step in (9, 10, 20, 30, 40)}
    for step in (9, 10, 20, 30):
        checkpoints.seal(paths[step])
    (paths[20] / "optimizer.pt").write_bytes(b"123")  # truncated
    (paths[30] / "trainer_state.json").unlink()  # half deleted; 40 was never finished
    assert checkpoints.last_whole(tmp_path) == paths[10]  # by number, not by name
    assert checkpoints.discard_torn(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-9"]


def test_the_diary_adds_up_sessions(tmp_path):
    run = RunFolder(tmp_path)
    Diary(run, {"mixture_hash": "abc"}, argv=["--recipe", "imax"], step=0).note(5)
    assert not run.finished()
    diary = Diary(run, {"mixture_hash": "abc"}, argv=["--recipe", "imax"], step=5)
    diary.note(9, finished=True)
    written = run.provenance()
    assert [(s["from_step"], s["to_step"]) for s in written["sessions"]] == [(0, 5), (5, 9)]
    assert written["command"] == ["harness/train.py", "--recipe", "imax"]
    assert written["packages"]["torch"]
    run.adapter.mkdir()
    assert run.finished()
