"""Referring expression generation: a box in, the phrase for what it holds out."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written, short

NAME = "reg"
PROMPTS = {
    "phrase": ("What is in the region {box}?", "Describe the finding at {box}.", "What does {box} show?"),
}


def render(answer: str) -> Written:
    text = short(answer)
    if not text or BOX_SLOT in answer.lower():
        raise ValueError("reg needs a phrase, without box slots")
    return Written(text)


def parse(text: str, boxes: Sequence[Box] = ()) -> str | None:
    """The phrase in its short form: lower case, no article, no final stop."""
    return short(text) or None
