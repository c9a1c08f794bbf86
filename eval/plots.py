"""Where marks of plots lie, for the templates to draw as SVG: intervals on an axis, and training losses.

Places along an axis are percentages of its length, so a plot needs no fixed width.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.board import Section
from eval.compare import Difference
from eval.pairs import Comparison
from eval.standing import Cell, Interval, Standing

WIDTH, HEIGHT = 300, 110  # of the box that loss curves are drawn in
_POINTS = 160  # of a curve, at most


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers with round ends and about five ticks."""

    low: float
    high: float
    step: float

    @classmethod
    def around(cls, values: Iterable[float]) -> Axis:
        """The shortest that holds all values; around a single one, a tenth of it to both sides."""
        found = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(found), max(found)
        if low == high:
            reach = abs(low) / 10 or 0.5
            low, high = low - reach, high + reach
        power = 10.0 ** math.floor(math.log10(max(high - low, 1e-6)))
        for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10):
            step = power * factor
            first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
            if last - first <= 5:
                break
        return cls(first * step, max(last, first + 1) * step, step)

    def place(self, value: float) -> float:
        """0 at the low end, 100 at the high one; values beyond lie at the end."""
        return round(min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low))), 2)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, label)."""
        count = round((self.high - self.low) / self.step)
        values = [self.low + i * self.step for i in range(count + 1)]
        return [(self.place(value), f"{value + 0.0:.6g}".replace("-", "−")) for value in values]


@dataclass(frozen=True)
class Strip:
    """One line of a panel: an interval with its value, and the best baseline's place where there is one."""

    value: float
    low: float
    high: float
    baseline: float | None
    of: Standing | Difference


@dataclass(frozen=True)
class Panel:
    """Lines over one axis; `zero` is the place of 0 where that means something."""

    title: str
    ticks: Sequence[tuple[float, str]]
    strips: Sequence[Strip]
    zero: float | None = None


def scores(section: Section) -> list[Panel]:
    """A panel for the average and for each task, with a line a run."""
    runs = section.standings
    panels = [_panel("average", runs, [run.average for run in runs])]
    return panels + [_panel(task, runs, [run.cells[task] for run in runs]) for task in section.tasks]


def _panel(title: str, runs: Sequence[Standing], found: Sequence[Interval]) -> Panel:
    baselines = [cell.baseline if isinstance(cell, Cell) else None for cell in found]
    ends = [end for cell in found for end in (cell.ci_low, cell.ci_high, cell.value)]
    axis = Axis.around([*ends, *(value for value in baselines if value is not None)])
    strips = [
        Strip(*_places(axis, cell), None if baseline is None else axis.place(baseline), run)
        for run, cell, baseline in zip(runs, found, baselines, strict=True)
    ]
    return Panel(title, axis.ticks, strips)


def differences(pairs: Sequence[Comparison]) -> list[Panel]:
    """A panel for each pair, all over the same axis, with a line a task and one for the average."""
    lines = [line for pair in pairs for line in pair.lines]
    axis = Axis.around([0.0, *(end for line in lines for end in (line.ci_low, line.ci_high))])
    return [
        Panel(
            pair.first,
            axis.ticks,
            [Strip(*_places(axis, line), None, line) for line in (pair.average, *pair.lines[:-1])],
            axis.place(0.0),
        )
        for pair in pairs
    ]


def _places(axis: Axis, found: Interval | Difference) -> tuple[float, float, float]:
    return axis.place(found.value), axis.place(found.ci_low), axis.place(found.ci_high)


@dataclass(frozen=True)
class Curves:
    """Training loss against steps; `lines` are (number of the run, points of an SVG polyline)."""

    title: str
    task: str | None
    steps: int
    top: str
    lines: Sequence[tuple[int, str]]


def losses(runs: Sequence[Standing], tasks: Sequence[str]) -> list[Curves]:
    """A panel over all tasks and one for each; none when no run left a log."""
    logs = [_log(run.run_folder / "train.jsonl") for run in runs]
    found = []
    for task in (None, *tasks):
        lines = [_points(log, f"loss_{task}" if task else "loss") for log in logs]
        values = [loss for line in lines for _, loss in line]
        if not values:
            continue
        steps = max(step for line in lines for step, _ in line)
        axis = Axis.around([0.0, *values])
        drawn = [(i, _polyline(line, steps, axis.high)) for i, line in enumerate(lines) if line]
        found.append(Curves(task or "all tasks", task, steps, f"{axis.high:.6g}", drawn))
    return found


def _points(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, loss) of a log, thinned to what a small plot can show."""
    found = [
        (line["step"], float(line[key]))
        for line in log
        if isinstance(line.get("step"), int)
        and isinstance(line.get(key), int | float)
        and math.isfinite(line[key])
    ]
    return found[:: max(1, len(found) // _POINTS)]


def _polyline(line: Sequence[tuple[int, float]], steps: int, top: float) -> str:
    across = WIDTH / max(1, steps)
    return " ".join(f"{step * across:.1f},{HEIGHT * (1 - max(0.0, loss) / top):.1f}" for step, loss in line)


def _log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the half-written end of a killed run
        if isinstance(row, dict):
            lines.append(row)
    return lines
