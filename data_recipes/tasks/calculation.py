"""Calculation: the cardiothoracic ratio (CTR) or the cardiopulmonary area ratio (CPAR), to two decimals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from data_recipes.records import Box
from data_recipes.tasks import Written

NAME = "calculation"
TOLERANCE = 0.05  # an answer this near to the true ratio counts as right
PROMPTS = {
    "ctr": ("What is the cardiothoracic ratio?", "Measure the CTR.", "Calculate the CTR."),
    "cpar": ("What is the cardiopulmonary area ratio?", "Measure the CPAR.", "Calculate the CPAR."),
}


class Ratio(NamedTuple):
    """A ratio in [0, 2], in hundredths; `name` is "CTR", "CPAR", or "" when the text does not say which."""

    name: str
    value: float


# A number of at most six digits before the point or comma, and whether it is a limit ("normal: below 0.5").
_NUMBER = re.compile(
    r"(?P<limit>[<>≤≥]\s?|\b(?:than|below|above|under|over|of up to)\s)?"
    r"(?<![\d.,])(?P<number>\d{1,6}(?:[.,]\d+)?|[.]\d+)(?!\d|[.,]\d|e[-+]?\d)(?P<percent>\s?(?:%|percent))?",
    re.ASCII | re.IGNORECASE,
)
_NAMES = {
    "CTR": re.compile(r"ctr|cardio-?thoracic", re.I),
    "CPAR": re.compile(r"cpar|cardio-?pulmonary", re.I),
}


def render(answer: Ratio) -> Written:
    if answer.name not in _NAMES or not 0 <= answer.value <= 2:
        raise ValueError(f"{answer} is not a CTR or CPAR between 0 and 2")
    return Written(f"{answer.name} {answer.value:.2f}")


def parse(text: str, boxes: Sequence[Box] = ()) -> Ratio | None:
    """Reads the last decimal or percentage in [0, 2] that is no limit, so that "12 / 25 = 0.48 (normal: below
    0.5)" counts as 0.48; whole numbers only where there are no decimals."""
    decimals: list[float] = []
    whole: list[float] = []
    for match in _NUMBER.finditer(text):
        value = float(match["number"].replace(",", ".")) / (100 if match["percent"] else 1)
        if not match["limit"] and 0 <= value <= 2:
            (whole if match["number"].isdigit() and not match["percent"] else decimals).append(value)
    if not (decimals or whole):
        return None
    named = [name for name, pattern in _NAMES.items() if pattern.search(text)]
    return Ratio(named[0] if len(named) == 1 else "", round((decimals or whole)[-1], 4))
