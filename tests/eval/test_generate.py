"""Generation: every entry once, whatever happens in between."""

import json

import pytest

from data_recipes.errors import UserError
from data_recipes.records import fill_slots
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from eval.generate import blind_pairs, fingerprint, make_batches, predict, token_limits
from tests.eval.fakes import FakeAdapter, FakeModel

LIMITS = {task: i + 1 for i, task in enumerate(TASKS)}


@pytest.fixture
def pairs(mixture_dir):
    return list(read_mixture(mixture_dir).of_split("test"))


def run(mixture_dir, pairs, out, model=None, adapter=None, **kwargs):
    settings = {"max_new_tokens": LIMITS, "batch_size": 5, "progress": False} | kwargs
    predict(model or FakeModel(), adapter or FakeAdapter(), mixture_dir, pairs, out, **settings)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_entry_is_answered_once_with_its_own_prompt(mixture_dir, pairs, tmp_path):
    model, adapter = FakeModel(), FakeAdapter()
    run(mixture_dir, pairs, tmp_path / "predictions.jsonl", model, adapter)
    rows = {row["entry_id"]: row for row in lines(tmp_path / "predictions.jsonl")}
    assert len(rows) == len(pairs) == len(lines(tmp_path / "predictions.jsonl"))
    for image, entry in pairs:
        row = rows[entry.entry_id]
        boxes = [adapter.codec.write(box, 32, 24) for box in entry.boxes]
        n = len(entry.prompt_boxes)
        assert row["output"] == fill_slots(entry.prompt, boxes[:n]).upper()
        assert row["target"] == fill_slots(entry.target, boxes[n:])
        assert list(row) == ["entry_id", "image_id", "patient_id", "task", "output", "parsed", "target"]
        assert (row["image_id"], row["patient_id"], row["task"]) == (
            image.image_id,
            image.patient_id,
            entry.task,
        )
    assert len(adapter.images) == len({image.image_id for image, _ in pairs})  # pixels once an image


def test_batches_hold_one_task_and_its_limit(mixture_dir, pairs, tmp_path):
    batches = make_batches(pairs, 5)
    assert all(len({entry.task for _, entry in batch}) == 1 for batch in batches)
    assert sorted(e.entry_id for b in batches for _, e in b) == sorted(e.entry_id for _, e in pairs)
    model = FakeModel()
    run(mixture_dir, pairs, tmp_path / "p.jsonl", model)
    assert model.batches == [len(batch) for batch in batches]
    assert model.limits == [LIMITS[batch[0][1].task] for batch in batches]


@pytest.mark.parametrize("torn", ["", '{"entry_id": "test0/v', '{"entry_id": "test1/vqa/0", "output": "é'])
def test_goes_on_after_a_kill(mixture_dir, pairs, tmp_path, torn):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(mixture_dir, pairs, whole)
    with pytest.raises(KeyboardInterrupt):
        run(mixture_dir, pairs, out, FakeModel(dies_after=4))
    before = out.read_bytes()
    assert 0 < before.count(b"\n") < len(pairs)
    out.write_bytes(before + torn.encode()[: len(torn.encode()) - 1])
    model = FakeModel()
    run(mixture_dir, pairs, out, model)
    assert sum(model.batches) == len(pairs) - before.count(b"\n")  # nothing is asked twice
    assert out.read_bytes().startswith(before)
    key = str
    assert sorted(lines(out), key=key) == sorted(lines(whole), key=key)
    again = FakeModel()
    run(mixture_dir, pairs, out, again)
    assert again.batches == []


def test_outputs_of_other_weights_are_set_aside(mixture_dir, pairs, tmp_path):
    out = tmp_path / "p.jsonl"
    run(mixture_dir, pairs[:6], out, fingerprint="old")
    model = FakeModel()
    run(mixture_dir, pairs[:8], out, model, fingerprint="new")
    assert sum(model.batches) == 8
    assert len(lines(tmp_path / "p.old.jsonl")) == 6


def test_blank_images_show_nothing(mixture_dir, pairs, tmp_path):
    adapter = FakeAdapter()
    run(mixture_dir, pairs, tmp_path / "blind.jsonl", adapter=adapter, blank=True)
    assert adapter.images == [(128, 128)]  # one size, one grey


def test_blind_pairs_ask_each_prompt_once(pairs):
    standing = blind_pairs(pairs, limit=100)
    assert standing.keys() == {entry.entry_id for _, entry in pairs}
    for _, entry in pairs:
        stands = standing[entry.entry_id][1]
        assert (stands.task, stands.prompt, stands.prompt_boxes) == (
            entry.task,
            entry.prompt,
            entry.prompt_boxes,
        )
    assert len({stands.entry_id for _, stands in standing.values() if stands.task == "vqa"}) == 2
    limited = blind_pairs(pairs, limit=3)
    assert sum(entry_id.split("/")[1] == "reg" for entry_id in limited) == 3


def test_token_limits_leave_room(mixture_dir):
    limits = token_limits(FakeAdapter(), read_mixture(mixture_dir))
    longest = len(["The", "heart", "is", "normal.", "There", "is", "a", "right", "mass", "of", "3", "cm."])
    assert limits["report"] == longest * 3 // 2 + 8
    assert set(limits) == set(TASKS)


def test_fingerprint_sees_texts_and_files(tmp_path):
    (tmp_path / "a").write_text("1")
    first = fingerprint("x", files=[tmp_path / "a"])
    assert first == fingerprint("x", files=[tmp_path / "a"])
    assert first != fingerprint("y", files=[tmp_path / "a"])
    (tmp_path / "a").write_text("2")
    assert first != fingerprint("x", files=[tmp_path / "a"])


def test_a_missing_image_is_named(mixture_dir, pairs, tmp_path):
    (mixture_dir / pairs[0][0].path).unlink()
    with pytest.raises(UserError, match=pairs[0][0].path):
        run(mixture_dir, pairs, tmp_path / "p.jsonl")
