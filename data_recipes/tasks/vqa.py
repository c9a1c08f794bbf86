"""Visual question answering: a short answer to a question, closed (yes, no) or open."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "vqa"
PROMPTS = {
    "question": (
        "{question}",
        "{question} Answer briefly.",
    )
}


def render(answer: str) -> Written:
    text = " ".join(answer.lower().split()).strip(" .")
    if not text or BOX_SLOT in text:
        raise ValueError("vqa needs an answer, without box slots")
    return Written(text)


def parse(text: str, boxes: Sequence[Box] = ()) -> str | None:
    """The answer in lower case, without the final stop; "Yes, there is ..." counts as "yes"."""
    answer = " ".join(text.replace(BOX_SLOT, " ").lower().split()).strip(" .")
    first = answer.split(",")[0]
    return first if first in ("yes", "no") else answer or None
