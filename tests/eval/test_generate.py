"""Generation: every entry once, whatever happens in between."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image, fill_slots
from data_recipes.store import read_mixture
from data_recipes.tasks import TASKS
from eval.generate import (
    ROW_ENTRIES,
    blind_pairs,
    fingerprint,
    make_batches,
    make_rows,
    predict,
    token_limits,
)
from eval.team import Team
from tests.eval.fakes import FakeAdapter, FakeBackend

LIMITS = {task: i + 1 for i, task in enumerate(TASKS)}


@pytest.fixture
def pairs(mixture_dir):
    return list(read_mixture(mixture_dir).of_split("test"))


def run(mixture_dir, pairs, out, backend=None, **kwargs):
    backend = backend or FakeBackend()
    settings = {"max_new_tokens": LIMITS, "batch_size": 20, "progress": False} | kwargs
    predict(lambda: backend, backend.codec, mixture_dir, pairs, out, **settings)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_entry_is_answered_once_with_its_own_prompt(mixture_dir, pairs, tmp_path):
    backend = FakeBackend()
    run(mixture_dir, pairs, tmp_path / "predictions.jsonl", backend)
    rows = lines(tmp_path / "predictions.jsonl")
    assert [row["entry_id"] for row in rows] == [entry.entry_id for _, entry in pairs]
    for (image, entry), row in zip(pairs, rows, strict=True):
        boxes = [backend.codec.write(box, 32, 24) for box in entry.boxes]
        n = len(entry.prompt_boxes)
        assert row["output"] == fill_slots(entry.prompt, boxes[:n]).upper()
        assert row["target"] == fill_slots(entry.target, boxes[n:])
        assert list(row) == ["entry_id", "image_id", "patient_id", "task", "output", "parsed", "target"]
        assert (row["image_id"], row["patient_id"], row["task"]) == (
            image.image_id,
            image.patient_id,
            entry.task,
        )
        assert backend.limits[entry.entry_id] == LIMITS[entry.task]
    assert len(backend.greys) == len({image.image_id for image, _ in pairs})  # an image is opened once


def made_up(counts):
    """As many images as counts, with so many questions each."""
    return [
        (
            Image(f"i{n}", "p", "test", "fake", "", 10 + n % 3, 10, ""),
            Entry(f"i{n}/{k}", f"i{n}", "vqa", "?", "no", (), "fake"),
        )
        for n, count in enumerate(counts)
        for k in range(count)
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.integers(1, 50), st.booleans())
@settings(max_examples=200, deadline=None)
def test_batches_keep_to_their_size_and_lose_nothing(counts, batch_size, blank):
    pairs = made_up(counts)
    batches = list(make_batches(make_rows(pairs, blank=blank), batch_size))
    assert Counter(entry.entry_id for batch in batches for row in batch for _, entry in row) == Counter(
        entry.entry_id for _, entry in pairs
    )
    for batch in batches:
        assert sum(map(len, batch)) <= batch_size
        for row in batch:
            seen = {(image.width, image.height) if blank else image.image_id for image, _ in row}
            assert len(seen) == 1
            assert len(row) <= ROW_ENTRIES
    if not blank and batch_size >= ROW_ENTRIES:  # no image is in more rows than it needs
        rows = Counter(row[0][0].image_id for batch in batches for row in batch)
        assert all(rows[f"i{n}"] == -(-count // ROW_ENTRIES) for n, count in enumerate(counts))


@pytest.mark.parametrize("torn", ["", '{"entry_id": "test0/v', '{"entry_id": "test1/vqa/0", "output": "é'])
def test_goes_on_after_a_kill(mixture_dir, pairs, tmp_path, torn):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(mixture_dir, pairs, whole)
    with pytest.raises(KeyboardInterrupt):
        run(mixture_dir, pairs, out, FakeBackend(dies_after=31))
    assert not out.exists()  # predictions are whole or not there
    part = tmp_path / "killed.part-0.jsonl"
    assert part.read_bytes().count(b"\n") == 31
    with part.open("ab") as file:
        file.write(torn.encode()[: len(torn.encode()) - 1])
    backend = FakeBackend()
    run(mixture_dir, pairs, out, backend)
    assert backend.answered == len(pairs) - 31  # nothing is asked twice
    assert out.read_bytes() == whole.read_bytes()
    assert not part.exists()
    again = FakeBackend()
    run(mixture_dir, pairs, out, again)
    assert again.answered == 0


def test_what_is_all_answered_needs_no_model(mixture_dir, pairs, tmp_path):
    out = tmp_path / "p.jsonl"
    run(mixture_dir, pairs, out)
    before = out.read_bytes()
    predict(None, FakeBackend().codec, mixture_dir, pairs, out, max_new_tokens=LIMITS, progress=False)
    assert out.read_bytes() == before


def test_a_larger_test_set_goes_on_from_a_smaller_one_in_its_own_order(mixture_dir, pairs, tmp_path):
    out, backend = tmp_path / "p.jsonl", FakeBackend()
    run(mixture_dir, pairs[40:60], out)
    run(mixture_dir, pairs, out, backend)
    assert backend.answered == len(pairs) - 20
    assert [row["entry_id"] for row in lines(out)] == [entry.entry_id for _, entry in pairs]
    run(mixture_dir, pairs[40:60], out)  # a part of it loses nothing of the rest
    assert len(lines(out)) == len(pairs)


class Apart(Team):
    """One of several processes that run one after the other here, so it need not wait."""

    def wait(self):
        pass


def test_processes_share_the_images_and_another_number_goes_on(mixture_dir, pairs, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "p.jsonl"
    run(mixture_dir, pairs, whole)
    backends = [FakeBackend(dies_after=9), FakeBackend(dies_after=5), FakeBackend(dies_after=0)]
    for rank, backend in enumerate(backends):
        with pytest.raises(KeyboardInterrupt):
            run(mixture_dir, pairs, out, backend, team=Apart(rank, 3))
    shares = [{e for batch in one.batches for row in batch for e in row} for one in backends]
    assert not set.intersection(*shares)
    assert len(list(tmp_path.glob("p.part-*.jsonl"))) == 3
    last = FakeBackend()
    run(mixture_dir, pairs, out, last)
    assert last.answered == len(pairs) - 14
    assert out.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("p.part-*.jsonl"))


def test_two_evaluations_do_not_write_one_file(mixture_dir, pairs, tmp_path):
    out = tmp_path / "p.jsonl"

    class Meanwhile(FakeBackend):
        def __call__(self, asked, limits):
            with pytest.raises(UserError, match="other processes are writing"):
                run(mixture_dir, pairs, out)
            yield from super().__call__(asked, limits)

    run(mixture_dir, pairs, out, Meanwhile())
    assert len(lines(out)) == len(pairs)
    assert not list(tmp_path.glob("p.lock"))


def test_outputs_of_other_weights_are_set_aside(mixture_dir, pairs, tmp_path):
    out = tmp_path / "p.jsonl"
    run(mixture_dir, pairs[:6], out, fingerprint="old")
    with pytest.raises(KeyboardInterrupt):
        run(mixture_dir, pairs[:8], out, FakeBackend(dies_after=1), fingerprint="old")
    backend = FakeBackend()
    run(mixture_dir, pairs[:8], out, backend, fingerprint="new")
    assert backend.answered == 8
    assert len(lines(tmp_path / "p.old.jsonl")) == 7


def test_blank_images_show_nothing(mixture_dir, pairs, tmp_path):
    backend = FakeBackend()
    run(mixture_dir, pairs, tmp_path / "blind.jsonl", backend, blank=True)
    assert set(backend.greys) == {(128, 128)}
    full = len(pairs) // ROW_ENTRIES  # of one size, so they stand together, whatever image they are about
    assert sum(len(row) == ROW_ENTRIES for batch in backend.batches for row in batch) >= full - 1


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
