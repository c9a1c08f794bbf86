"""Calculation: the cardiothoracic ratio (CTR) or the cardiopulmonary area ratio (CPAR), to two decimals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from data_recipes.records import Box
from data_recipes.tasks import Written

NAME = "calculation"
PROMPTS = {
    "ctr": (
        "What is the cardiothoracic ratio?",
        "Measure the cardiothoracic ratio (CTR) on this radiograph.",
        "Calculate the CTR.",
    ),
    "cpar": (
        "What is the cardiopulmonary area ratio?",
        "Measure the cardiopulmonary area ratio (CPAR) on this radiograph.",
        "Calculate the CPAR.",
    ),
}


class Ratio(NamedTuple):
    """A ratio in [0, 2], in hundredths; `name` is "CTR", "CPAR", or "" when the text does not say which."""

    name: str
    value: float


_NUMBER = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?|\.\d+)\s*(%?)")


def render(answer: Ratio) -> Written:
    value = round(answer.value, 2)
    if answer.name not in ("CTR", "CPAR") or not 0 <= value <= 2:
        raise ValueError(f"{answer} is not a CTR or CPAR between 0 and 2")
    return Written(f"{answer.name} {value:.2f}")


def parse(text: str, boxes: Sequence[Box] = ()) -> Ratio | None:
    """Reads the last number, so that "width 12 / 25 = 0.48" counts as 0.48; percentages are understood."""
    values = [float(number) / (100 if percent else 1) for number, percent in _NUMBER.findall(text)]
    if not values or not 0 <= values[-1] <= 2:
        return None
    upper = text.upper()
    names = [name for name in ("CTR", "CPAR") if name in upper]
    return Ratio(names[0] if len(names) == 1 else "", round(values[-1], 4))
