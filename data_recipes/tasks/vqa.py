"""Visual question answering: a short answer to a question, closed (yes, no) or open."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written, short

NAME = "vqa"
PROMPTS = {
    "question": ("{question}", "{question} Answer briefly."),
}

# "Yes, there is ...", "No. The heart ...", "Yes there is ..."; but "no finding" is an answer of its own.
_CLOSED = re.compile(r"(yes|no)(?: ?[*\"]* ?[,.;:!(—–]| - | (?:there|it|the|this|these|i)\b)")


def render(answer: str) -> Written:
    text = parse(answer)
    if not text or BOX_SLOT in answer.lower():
        raise ValueError("vqa needs an answer, without box slots")
    return Written(text)


def parse(text: str, boxes: Sequence[Box] = ()) -> str | None:
    """The answer in its short form (lower case, no article or stop); "Yes, there is ..." counts as "yes"."""
    answer = short(text)
    closed = _CLOSED.match(answer)
    return closed[1] if closed else answer or None
