"""Plots of curves for pages, drawn in a box of WIDTH x HEIGHT, the origin at its top left corner; the macro
`plot` of templates/dynamics/parts.html shows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from eval.plots import Axis

WIDTH, HEIGHT = 300, 130

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Of run or group number `number`: points of an SVG polyline; `solid` for the mean of a group."""

    number: int
    points: str
    title: str
    solid: bool = False
    marks: Sequence[Point] = ()


@dataclass(frozen=True)
class Band:
    """An interval along a curve, as points of an SVG polygon."""

    number: int
    points: str


@dataclass(frozen=True)
class Plot:
    """Curves over one pair of axes; ticks are (place in the box, label)."""

    title: str
    x_label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    bands: Sequence[Band] = ()


class Scale:
    """From values to places in the box, linear or by decades."""

    def __init__(
        self, x: Sequence[float], y: Sequence[float], *, log_x: bool = False, log_y: bool = False
    ) -> None:
        self._axes = [
            _Decades(values) if log else Axis.around(values) for values, log in ((x, log_x), (y, log_y))
        ]

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        return [(place * WIDTH / 100, text) for place, text in self._axes[0].ticks]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        return [((100 - place) * HEIGHT / 100, text) for place, text in self._axes[1].ticks]

    def places(self, points: Sequence[tuple[float, float]]) -> list[Point]:
        """Where points lie in the box."""
        return [
            (
                round(self._axes[0].place(x) * WIDTH / 100, 1),
                round((100 - self._axes[1].place(y)) * HEIGHT / 100, 1),
            )
            for x, y in points
        ]

    def polyline(self, points: Sequence[tuple[float, float]]) -> str:
        """As the `points` of an SVG polyline."""
        return " ".join(f"{x},{y}" for x, y in self.places(points))


class _Decades:
    """A logarithmic axis, with ticks at 1, 2 and 5 of each decade, or at 1 only where that is enough."""

    def __init__(self, values: Sequence[float]) -> None:
        above = [value for value in values if value > 0] or [1.0]
        low, high = math.log10(min(above)), math.log10(max(above))
        steps = (1, 2, 5) if high - low < 2 else (1,)
        marks = [
            step * 10.0**power for power in range(math.floor(low) - 1, math.ceil(high) + 1) for step in steps
        ]
        first = max((mark for mark in marks if math.log10(mark) <= low + 1e-9), default=marks[0])
        last = min((mark for mark in marks if math.log10(mark) >= high - 1e-9), default=marks[-1])
        self._low, self._high = math.log10(first), max(math.log10(last), math.log10(first) + 1e-9)
        kept = [mark for mark in marks if first <= mark <= last]
        self.ticks = [(self.place(mark), f"{mark:.3g}") for mark in kept[:: math.ceil(len(kept) / 6)]]

    def place(self, value: float) -> float:
        """0 at the low end, 100 at the high one; what is not above 0 lies at the low end."""
        if value <= 0:
            return 0.0
        share = (math.log10(value) - self._low) / (self._high - self._low)
        return round(min(100.0, max(0.0, 100 * share)), 2)
