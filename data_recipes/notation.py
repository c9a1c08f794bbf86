"""Boxes as `[x1, y1, x2, y2]` in words of no model: fractions (canonical), thousandths or pixels."""

from __future__ import annotations

import re
from typing import Literal

from data_recipes.records import BOX_SLOT, Box

Unit = Literal["fractions", "thousandths", "pixels"]

_NUMBER = r"(\d{1,6}(?:\.\d{0,12})?|\.\d{1,12})"
_BOX = re.compile(r"\[\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*\]")


class Brackets:
    """Boxes as `[x1, y1, x2, y2]`: left, top, right and bottom edge.

    Args:
        unit: fractions of the image with three decimals, thousandths of it as whole numbers (what Qwen2-VL,
            Qwen3-VL and InternVL count in), or pixels of the image as whole numbers.
    """

    def __init__(self, unit: Unit) -> None:
        self.unit = unit

    def write(self, box: Box, width: int, height: int) -> str:
        """The box as text, for an image of `width` x `height` pixels."""
        sides = self._sides(width, height)
        decimals = 3 if self.unit == "fractions" else 0
        numbers = (f"{value * side:.{decimals}f}" for value, side in zip(box.xyxy, sides, strict=True))
        return f"[{', '.join(numbers)}]"

    def read(self, text: str, width: int, height: int) -> tuple[str, tuple[Box, ...]]:
        """`text` with each box replaced by `{box}`, and the boxes in order. What is no valid box stays
        text."""
        sides = self._sides(width, height)
        boxes: list[Box] = []

        def slot(match: re.Match[str]) -> str:
            numbers = map(float, match.groups())
            try:
                boxes.append(Box(*(value / side for value, side in zip(numbers, sides, strict=True))))
            except (ValueError, ZeroDivisionError):
                return match.group()
            return BOX_SLOT

        return _BOX.sub(slot, text), tuple(boxes)

    def _sides(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What each number is divided by."""
        if self.unit == "pixels":
            return (width, height, width, height)
        scale = 1.0 if self.unit == "fractions" else 1000.0
        return (scale, scale, scale, scale)


class CanonicalBoxes(Brackets):
    """`[x1, y1, x2, y2]` in fractions of the image, the notation of `--notation canonical`."""

    def __init__(self) -> None:
        super().__init__("fractions")
