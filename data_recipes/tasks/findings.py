"""Findings: the set of findings that are present (multi-label); the empty set reads "no finding"."""

from __future__ import annotations

import re
from collections.abc import Set, Sequence

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "findings"
PROMPTS = {
    "multi-label": (
        "Which findings are present?",
        "List all abnormal findings.",
        "Name the findings on this radiograph.",
    )
}
NONE = "no finding"

_LABEL = re.compile(r"[a-z][a-z0-9 /()'-]*[a-z0-9)]|[a-z]")


def render(answer: Set[str]) -> Written:
    for label in answer:
        if not _LABEL.fullmatch(label) or label == NONE or "  " in label:
            raise ValueError(f"{label!r} is not a finding label: lower case words, no commas")
    return Written(", ".join(sorted(answer)) or NONE)


def parse(text: str, boxes: Sequence[Box] = ()) -> frozenset[str] | None:
    """Labels between commas, semicolons or line ends, in lower case; None when there are none."""
    parts = re.split(r"[,;\n]", text.replace(BOX_SLOT, " ").lower())
    labels = frozenset(filter(None, (" ".join(part.strip(" .:*").split()) for part in parts)))
    if not labels:
        return None
    return labels - {NONE, "no findings", "none"}
