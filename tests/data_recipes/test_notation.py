"""Brackets as boxes in text: written and read back, and what is no box stays text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_recipes.notation import Brackets, CanonicalBoxes
from data_recipes.records import Box
from tests.data_recipes.hostile import hostile

CORNERS = st.lists(st.integers(0, 100), min_size=2, max_size=2, unique=True).map(sorted)


@given(CORNERS, CORNERS, st.sampled_from(["fractions", "thousandths", "pixels"]), st.integers(50, 4000))
def test_a_box_is_read_back_to_half_a_step(x, y, unit, side):
    box = Box(x[0] / 100, y[0] / 100, x[1] / 100, y[1] / 100)
    codec = Brackets(unit)
    text = codec.write(box, side, side * 2)
    step = {"fractions": 1e-3, "thousandths": 1e-3, "pixels": 1 / side}[unit]
    if min(box.x2 - box.x1, box.y2 - box.y1) > 2 * step:
        left, (read,) = codec.read(f"There: {text}.", side, side * 2)
        assert left == "There: {box}."
        assert all(abs(a - b) <= step / 2 + 1e-9 for a, b in zip(box.xyxy, read.xyxy, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2, 3]",
        "[0.5, 0.1, 0.2, 0.9]",
        "[0, 0, 2, 1]",
        "[0, 0, 0, 0]",
        "[a, b, c, d]",
        "[-0.1, 0, 1, 1]",
        "[]",
    ],
)
def test_what_is_no_box_stays_text(text):
    assert CanonicalBoxes().read(text, 10, 10) == (text, ())


def test_pixels_of_an_image_of_no_size_are_text():
    assert Brackets("pixels").read("[0, 0, 1, 1]", 0, 0) == ("[0, 0, 1, 1]", ())


@pytest.mark.parametrize("text", hostile(3000))
def test_hostile_texts_are_read_at_once(text):
    assert CanonicalBoxes().read("[" + text, 10, 10)[1] == ()
