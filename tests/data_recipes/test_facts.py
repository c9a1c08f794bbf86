"""Facts into entries: every legal fact becomes an entry that its task can read, deterministically."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.annotate import regions
from data_recipes.draws import draws, mixed
from data_recipes.facts import BOX, Writer
from data_recipes.funnel import Funnel
from data_recipes.records import Box, Entry
from data_recipes.reject import check_entry
from data_recipes.scene import Abnormality
from data_recipes.tasks import task


def writer(seed: int = 0) -> Writer:
    return Writer("test", seed, Funnel("test"))


def images(*ids: str, **columns) -> pl.DataFrame:
    frame = pl.DataFrame({"image_id": list(ids), "split": "", "file": "f.csv"})
    return frame.with_columns(
        row=pl.int_range(1, len(ids) + 1), **{k: pl.Series(v) for k, v in columns.items()}
    )


def entries(made: Writer) -> list[Entry]:
    names = ("entry_id", "image_id", "task", "prompt", "target", "boxes", "provenance")
    return [
        Entry(*row[:5], tuple(Box(*box) for box in row[5]), row[6])
        for row in made.entries().select(names).iter_rows()
    ]


def test_each_kind_of_fact_reads_back_as_what_was_said():
    made = writer()
    made.labels(images("a", "b", labels=[["mass", "edema", "mass"], []]))
    made.reports(images("a", text=["Clear  lungs."]))
    made.grades(images("a", grade=[2]))
    made.ratios(images("a", value=[0.4849]), "CTR")
    made.answers(images("a", question=["Which side?"], answer=["The Left."], kind=["side"]))
    found = entries(made)
    for entry in found:
        check_entry(entry)
    read = [task(e.task).parse(e.target, e.target_boxes) for e in found]
    assert read[:2] == [{"mass", "edema"}, set()]
    assert read[2:4] == ["Clear lungs.", 2]
    assert read[4] == ("CTR", 0.48)
    assert read[5] == "left"
    assert [e.provenance for e in found[2:]] == [
        "test/report/findings", "test/severity/edema", "test/calculation/ctr", "test/vqa/side",
    ]  # fmt: skip
    assert found[5].prompt.startswith("Which side?")
    assert len({e.entry_id for e in found}) == len(found)


def test_facts_that_a_task_cannot_express_are_rejected_and_the_others_stay():
    made = writer()
    made.labels(images("a", "b", labels=[["one, two"], ["mass"]]))
    made.grades(images("a", "b", grade=[7, 0]))
    made.ratios(images("a", "b", value=[None, 0.5]), "CPAR")
    made.reports(images("a", "b", text=["see {box}", "Fine."]))
    made.answers(images("a", "b", question=["Is {box} it?", "Is it?"], answer=["yes", "no"], kind=["x", "x"]))
    assert [e.image_id for e in entries(made)] == ["b"] * 5
    assert [(r.file, r.row) for r in made.funnel.rejected] == [("f.csv", 1)] * 5


def boxes(*rows: tuple) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["image_id", "phrase", *BOX], orient="row")
    return frame.with_columns(file=pl.lit("f.csv"), row=pl.int_range(1, len(rows) + 1))


def test_a_question_given_twice_is_asked_once_and_another_answer_is_another_entry():
    made = writer()
    rows = [("a", "Is it?", "no"), ("a", "Is it?", "no"), ("a", "Is it?", "yes"), ("b", "Is it?", "no"),
            ("b", None, "no"), ("b", None, "no")]  # fmt: skip
    facts = pl.DataFrame(rows, schema=["image_id", "question", "answer"], orient="row")
    made.answers(facts.with_columns(file=pl.lit("f.csv"), row=pl.int_range(1, 7), kind=pl.lit("open")))
    assert [(e.image_id, e.target) for e in entries(made)] == [("a", "no"), ("a", "yes"), ("b", "no")]
    assert [r.row for r in made.funnel.rejected] == [5, 6]
    assert made.funnel.steps[0].dropped == {"asked before": 1}


def test_several_boxes_of_one_phrase_are_one_rec_entry_from_left_to_right():
    made = writer()
    made.boxes(
        boxes(
            ("a", "nodule", 0.6, 0.1, 0.7, 0.2),
            ("a", "nodule", 0.1, 0.1, 0.2, 0.2),
            ("a", "nodule", 0.1, 0.1, 0.2, 0.2),  # said twice
            ("b", "mass", 0.1, 0.1, 0.2, 0.2),
        )
    )
    rec = [e for e in entries(made) if e.task == "rec"]
    assert [e.target for e in rec] == ["{box} {box}", "{box}"]
    assert [box.x1 for box in rec[0].boxes] == [0.1, 0.6]
    assert "nodule" in rec[0].prompt
    reg = [e for e in entries(made) if e.task == "reg"]
    assert sorted((e.target, e.boxes[0].x1) for e in reg) == [("mass", 0.1), ("nodule", 0.1), ("nodule", 0.6)]
    assert all(len(e.prompt_boxes) == 1 for e in reg)


EDGE = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5, 0.55, 0.9])
SIZE = st.sampled_from([0.05, 0.08, 0.1])
ONE = st.tuples(st.sampled_from(["nodule", "mass", "edema"]), EDGE, EDGE, SIZE, SIZE)


@given(st.lists(ONE, min_size=1, max_size=6))
def test_the_boxes_that_are_clear_are_those_of_annotate(drawn):
    said = [(phrase, Box(x, y, x + w, y + h)) for phrase, x, y, w, h in drawn]
    made = writer()
    made.boxes(boxes(*(("a", phrase, *box.xyxy) for phrase, box in said)))
    abnormal = tuple(Abnormality(phrase, "", "", "", box, 0.1) for phrase, box in said)
    expected = {(phrase, box.xyxy) for phrase, box in regions(abnormal)}
    found = {(e.target, e.boxes[0].xyxy) for e in entries(made) if e.task == "reg"}
    assert found == expected


def test_presence_questions_have_as_many_yes_as_no_for_each_finding_and_split():
    ids = [f"i{n}" for n in range(200)]
    frame = images(*ids, split=["train"] * 120 + ["test"] * 80)
    present = [(name, "mass") for name in ids[:30]] + [(name, "edema") for name in ids[100:190]]
    present += [(name, "no finding") for name in ids[60:75]]
    pairs = pl.DataFrame(present, schema=["image_id", "label"], orient="row")
    doubtful = pl.DataFrame({"image_id": ids[30:60], "label": ["mass"] * 30})
    made = writer()
    made.presence(frame, pairs, doubtful)
    split = dict(zip(ids, frame["split"], strict=True))
    counts: dict[tuple, dict[str, int]] = {}
    for entry in entries(made):
        label = next((name for name in ("mass", "edema") if name in entry.prompt), "no finding")
        assert (entry.target == "yes") == ((entry.image_id, label) in present)
        assert (entry.image_id, label) not in doubtful.rows()
        number = counts.setdefault((label, split[entry.image_id]), {"yes": 0, "no": 0})
        number[entry.target] += 1
    assert counts[("mass", "train")] == {"yes": 30, "no": 30}
    assert counts[("edema", "train")] == {"yes": 20, "no": 20}
    assert counts[("edema", "test")] == {"yes": 10, "no": 10}  # only ten of the eighty lack it
    assert counts[("no finding", "train")] == {"yes": 15, "no": 15}


def test_an_image_keeps_its_prompts_when_others_come_and_another_seed_gives_others():
    def prompts(seed: int, *ids: str) -> dict[str, str]:
        made = writer(seed)
        made.labels(images(*ids, labels=[["mass"]] * len(ids)))
        return {e.image_id: e.prompt for e in entries(made)}

    some = [f"i{n}" for n in range(50)]
    alone, among = prompts(0, *some), prompts(0, "x", *reversed(some), "y")
    assert alone == {name: among[name] for name in some}
    assert alone != prompts(1, *some)
    assert len(set(alone.values())) == 3


def test_draws_are_what_they_were_and_uniform():
    # fixed values: built mixtures depend on them
    assert draws(["a", "b"], 0, "test").tolist() == [11545766607549595768, 5755076598608621571]
    many = draws([str(n) for n in range(4000)], 0, "test")
    for values in (many, mixed(many, 1)):
        share = (values >> 61).astype(int)
        assert all(400 < (share == eighth).sum() < 600 for eighth in range(8))
    assert len(set(mixed(many[:1].repeat(1000), pl.int_range(1000, eager=True).to_numpy()).tolist())) == 1000


@pytest.mark.parametrize("number", [0, 1, 2**40])
def test_mixing_is_splitmix64(number):
    z = (12345 + (number + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    assert mixed(np.array([12345], np.uint64), number).tolist() == [z ^ (z >> 31)]
