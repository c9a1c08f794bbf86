"""Box notations: whole numbers on a grid laid over the image, in the words of each model family.

A notation is a form such as `[{x1}, {y1}, {x2}, {y2}]` and a grid. The form gives both directions: it is
filled in to write, and made into a regular expression to read, with optional white space and optional
wrappers (special tokens that the model writes and `decode` drops).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from data_recipes.records import BOX_SLOT, Box

_NUMBER = r"(?P<{name}>\d+(?:\.\d*)?|\.\d+)"
_SIDES = ("x1", "y1", "x2", "y2")


class Axis(NamedTuple):
    """Steps = fraction * scale + shift; the grid ends at `steps`."""

    scale: float
    shift: float
    steps: int


class Grid(NamedTuple):
    """The grid over an image of a given size."""

    x: Axis
    y: Axis


class Notation:
    """See `base.BoxCodec`.

    Args:
        form: how a box is written, with the fields x1, y1, x2 and y2.
        grid: width and height of an image in pixels -> the grid laid over it.
        decimals: numbers are written in units of 10 ** -decimals steps per step.
        wrappers: written before and after; optional when read.
    """

    def __init__(
        self,
        form: str,
        grid: Callable[[int, int], Grid],
        *,
        decimals: int = 0,
        wrappers: tuple[str, str] = ("", ""),
    ) -> None:
        self._form, self._grid, self._decimals, self._wrappers = form, grid, decimals, wrappers
        before, after = (f"(?:{re.escape(wrapper)})?" if wrapper else "" for wrapper in wrappers)
        self._pattern = re.compile(before + _expression(form) + after)

    def write(self, box: Box, width: int, height: int) -> str:
        """The box on the nearest steps. A box thinner than one step is widened to one, so that what is
        written is always a box."""
        grid = self._grid(width, height)
        x1, x2 = _steps(box.x1, box.x2, grid.x)
        y1, y2 = _steps(box.y1, box.y2, grid.y)
        unit = 10**self._decimals
        numbers = {
            side: f"{value / unit:.{self._decimals}f}"
            for side, value in zip(_SIDES, (x1, y1, x2, y2), strict=True)
        }
        return self._wrappers[0] + self._form.format(**numbers) + self._wrappers[1]

    def read(self, text: str, width: int, height: int) -> tuple[str, tuple[Box, ...]]:
        """`text` with boxes replaced by `{box}`, and the boxes, cut to the image. Numbers beyond the grid, an
        empty or reversed box, or a box in the padding only stay text."""
        grid = self._grid(width, height)
        unit = 10**self._decimals
        boxes: list[Box] = []

        def replace(match: re.Match[str]) -> str:
            x1, y1, x2, y2 = (float(match[side]) * unit for side in _SIDES)
            if max(x1, x2) > grid.x.steps or max(y1, y2) > grid.y.steps:
                return match.group()
            corners = (
                _fraction(x1, grid.x),
                _fraction(y1, grid.y),
                _fraction(x2, grid.x),
                _fraction(y2, grid.y),
            )
            try:
                boxes.append(Box(*corners))
            except ValueError:
                return match.group()
            return BOX_SLOT

        # A slot that a model wrote itself would be counted as a box.
        return self._pattern.sub(replace, text.replace(BOX_SLOT, "(box)")), tuple(boxes)

    def resolution(self, width: int, height: int) -> tuple[float, float]:
        """Half a step, in fractions of width and of height. (Boxes thinner than one step are widened: up to
        twice that error.)"""
        grid = self._grid(width, height)
        return 0.5 / grid.x.scale, 0.5 / grid.y.scale


def whole(steps: int) -> Callable[[int, int], Grid]:
    """A grid of `steps` by `steps` over the image, whatever its shape."""
    axis = Axis(steps, 0.0, steps)
    return lambda width, height: Grid(axis, axis)


def padded(steps: int) -> Callable[[int, int], Grid]:
    """A grid of `steps` by `steps` over the image padded to a centred square, which is what LLaVA sees."""

    def grid(width: int, height: int) -> Grid:
        side = max(width, height)
        left, top = (side - width) // 2, (side - height) // 2
        return Grid(
            Axis(steps * width / side, steps * left / side, steps),
            Axis(steps * height / side, steps * top / side, steps),
        )

    return grid


def resized(size: Callable[[int, int], tuple[int, int]]) -> Callable[[int, int], Grid]:
    """The pixels of the resized image; `size` gives (width, height) after resizing."""

    def grid(width: int, height: int) -> Grid:
        columns, rows = size(width, height)
        return Grid(Axis(columns, 0.0, columns), Axis(rows, 0.0, rows))

    return grid


def _expression(form: str) -> str:
    """`form` as a regular expression: fields are numbers, white space may stand around every sign."""
    pieces = re.split(r"\{(\w+)\}", form)
    signs = [r"\s*".join(map(re.escape, "".join(text.split()))) for text in pieces[::2]]
    fields = [_NUMBER.format(name=name) for name in pieces[1::2]]
    woven = [part for pair in zip(signs, [*fields, ""], strict=True) for part in pair]
    return r"\s*".join(part for part in woven if part)


def _steps(low: float, high: float, axis: Axis) -> tuple[int, int]:
    """The nearest steps, at least one apart."""
    low, high = low * axis.scale + axis.shift, high * axis.scale + axis.shift
    first, last = round(low), round(high)
    if first < last:
        return first, last
    # Widen towards the side where the middle lies, which also keeps the box on the grid.
    return (first, first + 1) if (low + high) / 2 >= first else (first - 1, first)


def _fraction(steps: float, axis: Axis) -> float:
    return min(1.0, max(0.0, (steps - axis.shift) / axis.scale))
