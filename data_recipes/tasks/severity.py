"""Severity: the grade of pulmonary edema, 0 to 3 (multi-class, ordinal)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from data_recipes.records import Box
from data_recipes.scene import EDEMA_GRADES
from data_recipes.tasks import Written

NAME = "severity"
PROMPTS = {
    "edema": (
        "How severe is the pulmonary edema?",
        "Grade the edema from 0 to 3.",
        "What is the edema grade?",
    ),
}

_SCALE = re.compile(r"\b0\s?(?:-|–|to)\s?3\b")
_NAMED = re.compile(r"\bgrade\b[a-z :*=]{0,30}([0-3])(?![.,]?\d)")
_DIGIT = re.compile(r"(?<![\d.,-])[0-3](?![.,]?\d)", re.ASCII)
_NO_EDEMA = re.compile(r"\bno\b[a-z ]{0,40}\bedema\b")


def render(answer: int) -> Written:
    if answer not in range(len(EDEMA_GRADES)):
        raise ValueError(f"edema grade {answer} is not one of 0, 1, 2, 3")
    return Written(f"grade {int(answer)}, {EDEMA_GRADES[int(answer)]}")


def parse(text: str, boxes: Sequence[Box] = ()) -> int | None:
    """The digit 0..3 after "grade", else the first that stands alone, else the one grade that is named."""
    text = _SCALE.sub(" ", text.lower().replace("oedema", "edema"))
    if match := _NAMED.search(text):
        return int(match[1])
    if match := _DIGIT.search(text):
        return int(match[0])
    named = [grade for grade, name in enumerate(EDEMA_GRADES) if grade and name in text]
    if len(named) == 1:
        return named[0]
    return 0 if not named and _NO_EDEMA.search(text) else None
