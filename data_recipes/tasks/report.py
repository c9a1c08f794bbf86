"""Report generation: the findings section of a report, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "report"
PROMPTS = {
    "findings": (
        "Write a radiology report.",
        "Describe the findings in a report.",
        "Report this radiograph.",
    ),
}


def render(answer: str) -> Written:
    text = " ".join(answer.split())
    if not text or BOX_SLOT in text:
        raise ValueError("a report needs text, without box slots")
    return Written(text)


def parse(text: str, boxes: Sequence[Box] = ()) -> str | None:
    """The report with runs of white space folded; boxes a model wrote into its report are left out."""
    return " ".join(text.replace(BOX_SLOT, " ").split()) or None
