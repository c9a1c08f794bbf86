"""Box notations, one codec a notation."""

from __future__ import annotations

import re

from data_recipes.records import BOX_SLOT, Box

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_BRACKETS = re.compile(r"\[\s*" + r"\s*,\s*".join([_NUMBER] * 4) + r"\s*\]")


class PaddedFractions:
    """`[0.12, 0.34, 0.56, 0.78]`: xyxy fractions, two decimals, of the image padded to a centred square.

    LLaVA checkpoints see that square, so the notation is in its units; `Box` is in units of the original
    image.
    """

    STEPS = 100  # a fraction is written in hundredths

    def write(self, box: Box, width: int, height: int) -> str:
        """The box in hundredths of the padded square. A box thinner than one hundredth is widened to one, so
        that what is written is always a box."""
        (scale_x, shift_x), (scale_y, shift_y) = _axes(width, height)
        x1, x2 = self._round(box.x1 * scale_x + shift_x, box.x2 * scale_x + shift_x)
        y1, y2 = self._round(box.y1 * scale_y + shift_y, box.y2 * scale_y + shift_y)
        return f"[{', '.join(f'{value / self.STEPS:.2f}' for value in (x1, y1, x2, y2))}]"

    def read(self, text: str, width: int, height: int) -> tuple[str, tuple[Box, ...]]:
        """`text` with boxes replaced by `{box}`, and the boxes, cut to the image. Brackets with a number
        above 1, an empty or reversed box, or a box in the padding only stay text."""
        (scale_x, shift_x), (scale_y, shift_y) = _axes(width, height)
        boxes: list[Box] = []

        def replace(match: re.Match[str]) -> str:
            x1, y1, x2, y2 = map(float, match.groups())
            if max(x1, y1, x2, y2) > 1:
                return match.group()
            corners = [
                (x1 - shift_x) / scale_x,
                (y1 - shift_y) / scale_y,
                (x2 - shift_x) / scale_x,
                (y2 - shift_y) / scale_y,
            ]
            try:
                boxes.append(Box(*(min(1.0, max(0.0, corner)) for corner in corners)))
            except ValueError:
                return match.group()
            return BOX_SLOT

        # A slot that a model wrote itself would be counted as a box.
        return _BRACKETS.sub(replace, text.replace(BOX_SLOT, "(box)")), tuple(boxes)

    def resolution(self, width: int, height: int) -> tuple[float, float]:
        """Half a hundredth of the square's side, in fractions of width and of height. (Boxes thinner than one
        hundredth of the side are widened: up to twice that error.)"""
        side = max(width, height)
        return 0.5 / self.STEPS * side / width, 0.5 / self.STEPS * side / height

    def _round(self, low: float, high: float) -> tuple[int, int]:
        """The nearest steps, at least one apart."""
        first, last = round(low * self.STEPS), round(high * self.STEPS)
        if first < last:
            return first, last
        # Widen towards the side where the middle lies, which also keeps the box inside the square.
        return (first, first + 1) if (low + high) / 2 * self.STEPS >= first else (first - 1, first)


def _axes(width: int, height: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """For x and y: scale and shift from fractions of the image to fractions of the padded square."""
    side = max(width, height)
    left, top = (side - width) // 2, (side - height) // 2
    return (width / side, left / side), (height / side, top / side)
