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
        "Grade the pulmonary edema from 0 to 3.",
        "What is the edema grade?",
    )
}

_DIGIT = re.compile(r"(?<![\d.])[0-3](?![\d.]\d)(?!\d)")


def render(answer: int) -> Written:
    if answer not in range(len(EDEMA_GRADES)):
        raise ValueError(f"edema grade {answer} is not one of 0, 1, 2, 3")
    return Written(f"grade {answer}, {EDEMA_GRADES[answer]}")


def parse(text: str, boxes: Sequence[Box] = ()) -> int | None:
    """The first single digit 0..3, else the one grade that is named."""
    if match := _DIGIT.search(text):
        return int(match.group())
    named = [grade for grade, name in enumerate(EDEMA_GRADES) if name in text.lower()]
    return named[0] if len(named) == 1 else None
