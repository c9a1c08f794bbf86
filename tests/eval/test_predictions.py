"""Predictions from elsewhere: whatever is wrong is said, the rest is scored."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_recipes.errors import UserError
from data_recipes.records import Box, Image
from data_recipes.tasks.calculation import Ratio
from eval import evaluation
from eval.plan import prepare
from eval.predictions import (
    MAX_OUTPUT,
    CanonicalBoxes,
    answers_from_outputs,
    answers_from_rows,
    drop_half_line,
    parse,
    prediction,
    read_outputs,
    read_own,
)
from tests.eval.factories import entry, make_mixture
from tests.eval.run_folders import make_run, score_run

IMAGE = Image("i0", "p0", "test", "fake", "", 200, 100, "PA")
KNOWN = {"a", "b", "c", "d", "e"}


def read(tmp_path, *lines, known=KNOWN):
    path = tmp_path / "file.jsonl"
    path.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    )
    return read_outputs(path, known)


def count(problems, word):
    return sum(n for kind, n in problems.counts.items() if word in kind)


def test_everything_wrong_at_once(tmp_path):
    outputs, problems = read(
        tmp_path,
        {"entry_id": "a", "output": "yes"},
        {"entry_id": "a", "output": "no"},
        {"entry_id": "zz", "output": "yes"},
        {"entry_id": "b", "output": float("nan")},
        {"entry_id": "c", "output": ""},
        {"entry_id": "d", "output": "x" * 100_000},
        b'{"entry_id": "e", "output": "caf\xe9"}',
        b"",
        b"{broken",
        b"[" * 100_000,
        [1, 2],
        {"entry_id": 7, "output": "yes"},
        {"output": "yes"},
        {"entry_id": "e"},
    )
    assert outputs["a"] == "yes"  # the first of two
    assert outputs["b"] == outputs["c"] == ""
    assert len(outputs["d"]) == MAX_OUTPUT
    assert outputs["e"] == "caf\ufffd"
    assert outputs.keys() == KNOWN
    for word, n in {
        "seen before": 1, "unknown": 1, "not text": 1, "empty": 1, "longer": 1, "UTF-8": 1, "JSON": 2,
        "without entry": 4,
    }.items():  # fmt: skip
        assert count(problems, word) == n, word
    report = "\n".join(problems.lines())
    assert "line 3: 'zz'" in report
    assert "xxxx" not in report


def test_missing_entries_are_counted_and_wrong(tmp_path):
    entries = [entry("vqa", "yes", n=n) for n in range(3)]
    known = {e.entry_id for e in entries}
    outputs, problems = read(tmp_path, {"entry_id": entries[0].entry_id, "output": "yes"}, known=known)
    assert count(problems, "without a prediction") == 2
    answers = answers_from_outputs([(IMAGE, e) for e in entries], outputs, CanonicalBoxes())
    assert [a.predicted for a in answers] == ["yes", None, None]


def test_numbers_and_byte_order_marks_are_understood(tmp_path):
    outputs, problems = read(
        tmp_path, b'\xef\xbb\xbf{"entry_id": "a", "output": 0.48}', {"entry_id": "b", "output": 2}
    )
    assert outputs == {"a": "0.48", "b": "2"}
    assert count(problems, "without a prediction") == 3


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"entry_id": "nobody", "output": ""}'])
def test_nothing_usable_is_a_users_mistake(tmp_path, content):
    with pytest.raises(UserError, match="no line is about an entry"):
        read(tmp_path, content)


def test_no_file_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="can't read"):
        read_outputs(tmp_path / "none.jsonl", KNOWN)


@given(st.text(alphabet=st.characters(), max_size=40))
@settings(max_examples=30, deadline=None)
def test_any_text_can_be_written_back(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    path.write_text(json.dumps({"entry_id": "a", "output": text}))
    outputs, _ = read_outputs(path, {"a"})
    outputs["a"].encode()


@pytest.mark.parametrize(
    ("task", "truth"),
    [
        ("calculation", Ratio("CTR", 0.48)),
        ("report", "The heart is normal."),
        ("severity", 2),
        ("findings", frozenset({"mass", "edema"})),
        ("rec", (Box(0.1, 0.2, 0.3, 0.4), Box(0.5, 0.5, 1, 1))),
        ("reg", "left nodule"),
        ("vqa", "yes"),
    ],
)
def test_target_as_output_is_right_and_survives_the_file(task, truth, tmp_path):
    asked = entry(task, truth)
    target = prediction(asked, IMAGE, "", CanonicalBoxes())["target"]
    row = prediction(asked, IMAGE, target, CanonicalBoxes())
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (answer,) = answers_from_rows([(IMAGE, asked)], read_own(path))
    assert answer.predicted == answer.truth == truth


def test_a_slot_in_an_output_is_no_box():
    asked = entry("rec", (Box(0, 0, 0.5, 0.5),))
    assert parse(asked, IMAGE, "{box}", CanonicalBoxes()) is None
    assert parse(asked, IMAGE, "{box} [0, 0, 0.5, 0.5]", CanonicalBoxes()) == (Box(0, 0, 0.5, 0.5),)


@pytest.mark.parametrize(
    "text", ["[0.5, 0.5, 0.2, 0.9]", "[0, 0, 2, 1]", "[0.1, 0.2, 0.3]", "[nan, 0, 1, 1]", "[]"]
)
def test_malformed_canonical_boxes_stay_text(text):
    assert CanonicalBoxes().read(text, 10, 10) == (text, ())


def test_broken_own_file_is_a_users_mistake(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"entry_id": \n')
    with pytest.raises(UserError, match="broken line"):
        read_own(path)


@pytest.mark.parametrize(
    ("before", "after"), [(b"a\nb\nhal", b"a\nb\n"), (b"a\n", b"a\n"), (b"hal", b""), (b"", b"")]
)
def test_half_lines_are_dropped(tmp_path, before, after):
    path = tmp_path / "p.jsonl"
    path.write_bytes(before)
    drop_half_line(path)
    assert path.read_bytes() == after


def test_scoring_a_run_s_own_outputs_again_reads_them_again(tmp_path):
    """What was parsed by older rules, or by hand, does not stay; the former file is set aside."""
    folder = make_run(tmp_path / "run", make_mixture(tmp_path / "m"), recipe="imax", share=0.5)
    out, first, _ = score_run(folder)
    own = out / "predictions.jsonl"
    rows = [json.loads(line) for line in own.read_text().splitlines()]
    own.write_text("".join(json.dumps({**row, "parsed": None}) + "\n" for row in rows))
    stale = own.read_text()
    plan = prepare(str(folder), predictions=own, notation="canonical", progress=False)
    again, _ = evaluation.evaluate(plan, predictions=own, resamples=200)
    assert again["tasks"] == first["tasks"]
    assert [json.loads(line) for line in own.read_text().splitlines()] == rows
    assert (out / "predictions.old.jsonl").read_text() == stale
