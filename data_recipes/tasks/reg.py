"""Referring expression generation: a box in, the phrase for what it holds out."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "reg"
PROMPTS = {
    "phrase": (
        "What is in the region {box}?",
        "Describe the finding at {box}.",
        "What does the box {box} show?",
    )
}


def render(answer: str) -> Written:
    text = " ".join(answer.lower().split()).strip(" .")
    if not text or BOX_SLOT in text:
        raise ValueError("reg needs a phrase, without box slots")
    return Written(text)


def parse(text: str, boxes: Sequence[Box] = ()) -> str | None:
    """The phrase in lower case, without the final stop."""
    return " ".join(text.replace(BOX_SLOT, " ").lower().split()).strip(" .") or None
