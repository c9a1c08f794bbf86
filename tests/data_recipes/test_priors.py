"""What the text alone answers, by hand."""

from __future__ import annotations

import math

import pytest

from data_recipes.card import card
from data_recipes.priors import HEADINGS, phrase, priors, table
from data_recipes.records import Box, Entry, Image


def image(name: str, split: str) -> Image:
    return Image(name, name, split, "x", "", 1, 1, "PA")


IMAGES = [image("a", "train"), image("b", "validation"), image("c", "test")]


def entry(where: str, task: str, kind: str, prompt: str, target: str, *boxes: Box) -> Entry:
    return Entry(f"{id(prompt)}", where, task, prompt, target, boxes, f"x/{task}/{kind}")


def test_the_most_common_answer_of_the_kind_and_of_the_question():
    asked = {"Is there a mass?": ["yes", "yes", "yes", "no"], "Is there a nodule?": ["no", "no"]}
    train = [
        entry("a", "vqa", "presence", question, target)
        for question, targets in asked.items()
        for target in targets
    ]
    held = [
        entry("c", "vqa", "presence", "Is there a mass?", "yes"),
        entry("c", "vqa", "presence", "Is there a mass? Answer briefly.", "yes"),  # the same question
        entry("c", "vqa", "presence", "Is there a nodule?", "no"),
        entry("c", "vqa", "presence", "Is there a cyst?", "no"),  # not in training: "no" comes first
        entry("b", "vqa", "presence", "Is there a mass?", "no"),  # validation does not count
    ]
    (row,) = priors(IMAGES, train + held)
    assert (row["train"], row["held_out"], row["answers"], row["phrases"]) == (6, 4, 2, 2)
    assert row["answer"] == "no"  # three of each
    assert row["entropy"] == pytest.approx(1)
    mass = -(3 / 4 * math.log2(3 / 4) + 1 / 4 * math.log2(1 / 4))
    assert row["entropy_given_phrase"] == pytest.approx(4 / 6 * mass)
    assert row["accuracy"] == 0.5
    assert row["accuracy_given_phrase"] == 1


def test_a_ratio_is_right_within_the_tolerance():
    train = [
        entry("a", "calculation", "ctr", "Measure the CTR.", f"CTR {v}") for v in (0.30, 0.48, 0.50, 0.52)
    ]
    held = [
        entry("c", "calculation", "ctr", "Measure the CTR.", f"CTR {v}") for v in (0.45, 0.53, 0.54, 0.30)
    ]
    (row,) = priors(IMAGES, train + held)
    assert row["answer"] == "0.48"  # three within 0.05, as of 0.50 and 0.52
    assert row["accuracy"] == 0.5  # 0.45 and 0.53


def test_boxes_are_answered_by_the_median_box():
    def where(name: str, *boxes: Box) -> Entry:
        return entry(name, "rec", "phrase", "Where is the mass?", " ".join(["{box}"] * len(boxes)), *boxes)

    common, far = Box(0.2, 0.2, 0.4, 0.4), Box(0.7, 0.7, 0.9, 0.9)
    train = [where("a", common), where("a", common), where("a", far), where("a", far, far)]
    held = [where("c", common), where("c", far), where("c", common, far)]
    (row,) = priors(IMAGES, train + held)
    assert row["entropy"] is None
    assert row["accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_without_a_test_split_validation_is_held_out_and_without_both_nothing():
    rows = [
        entry(name, "severity", "edema", "Grade the edema from 0 to 3.", "grade 0, none") for name in "ab"
    ]
    (row,) = priors(IMAGES[:2], rows)
    assert (row["held_out"], row["accuracy"]) == (1, 1)
    (row,) = priors(IMAGES[:1], rows[:1])
    assert (row["held_out"], row["accuracy"]) == (0, None)
    (row,) = priors(IMAGES[1:2], rows[1:])
    assert (row["train"], row["accuracy"]) == (0, 0)  # training has nothing to answer


@pytest.mark.parametrize(
    ("task", "prompt", "expected"),
    [
        ("rec", "Locate the left pleural effusion.", "left pleural effusion"),
        ("rec", "Give the box of the mass.", "mass"),
        ("rec", "A prompt of one's own", "A prompt of one's own"),
        ("reg", "What does {box} show?", ""),
        ("findings", "Name the findings.", ""),
        ("vqa", "Is it? Answer briefly.", "Is it?"),
        ("vqa", "Is it?", "Is it?"),
    ],
)
def test_the_phrase_is_what_fills_the_slot_of_the_template(task, prompt, expected):
    assert phrase(entry("a", task, "k", prompt, "x")) == expected


def test_the_card_shows_them():
    rows = priors(IMAGES, [entry(name, "vqa", "presence", "Is it?", "no") for name in "ac"])
    (cells,) = table(rows)
    assert len(cells) == len(HEADINGS)
    assert cells[0] == "vqa, presence"
    assert "100.0 %" in cells
    assert f"| {' | '.join(cells)} |" in card({"priors": rows})
