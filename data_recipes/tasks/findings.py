"""Findings: the set of findings that are present (multi-label); the empty set reads "no finding"."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from data_recipes.records import BOX_SLOT, Box
from data_recipes.tasks import Written

NAME = "findings"
PROMPTS = {
    "multi-label": ("Which findings are present?", "List all abnormal findings.", "Name the findings."),
}
NONE = "no finding"

_LABEL = re.compile(r"[a-z][a-z0-9 /()'-]*[a-z0-9)]|[a-z]", re.ASCII)
_SEPARATOR = re.compile(r",|\band\b|&|\|")
_NEGATIVE = re.compile(r"no\b|none\b|without\b|normal\b|unremarkable\b")
_PREAMBLE = re.compile(r"finding|abnormal|following|present|answer|label")


def render(answer: Set[str]) -> Written:
    for label in answer:
        illegal = "  " in label or _SEPARATOR.search(label) or _NEGATIVE.match(label)
        if illegal or not _LABEL.fullmatch(label):
            raise ValueError(
                f"{label!r} is not a finding label: lower case words, no commas, 'and' or negation"
            )
    return Written(", ".join(sorted(answer)) or NONE)


def parse(text: str, boxes: Sequence[Box] = ()) -> frozenset[str] | None:
    """Labels between commas, "and", stops or line ends, in lower case; None when the text says nothing.

    What follows a negation in its sentence adds nothing ("No nodule or mass."). Bullets are dropped.
    """
    labels, spoke = set(), False
    for sentence in re.split(r"[.;\n•]", text.lower().replace(BOX_SLOT, " ")):
        head, colon, tail = sentence.partition(":")
        for part in _SEPARATOR.split(tail if colon and _PREAMBLE.search(head) else sentence):
            label = " ".join(part.split()).lstrip("0123456789 .:*-+#)([\"'`").rstrip(" .:*-[]\"'`")
            spoke = spoke or bool(label)
            if _NEGATIVE.match(label):
                break
            if label:
                labels.add(label)
    return frozenset(labels) if spoke else None
