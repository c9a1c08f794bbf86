"""Referring expression comprehension: a phrase in, the box or boxes it means out."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "rec"
PROMPTS = {
    "phrase": (
        "Where is the {phrase}?",
        "Give the box of the {phrase}.",
        "Locate the {phrase}.",
    )
}


def render(answer: Sequence[Box]) -> Written:
    if not answer:
        raise ValueError("rec needs at least one box")
    return Written(" ".join([BOX_SLOT] * len(answer)), tuple(answer))


def parse(text: str, boxes: Sequence[Box] = ()) -> tuple[Box, ...] | None:
    """The boxes, in the order written; None when there are none."""
    return tuple(boxes) or None
