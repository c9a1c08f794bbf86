"""What the template of the dynamics report shows: plots, and the tables of `sheets`.

Plots are drawn in a box of WIDTH x HEIGHT, the origin at its top left corner.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.plots import Axis
from taco_probe.dynamics import sheets, tasks
from taco_probe.dynamics.moments import STEP, named
from taco_probe.dynamics.quantities import HEADLINES
from taco_probe.dynamics.summary import sentences

WIDTH, HEIGHT = 300, 130
_CURVES = (
    *HEADLINES,
    *tasks.TITLES,
    "effective_rank",
    "participation_debiased",
    "effective_entries",
    "gradient",
    "noise_scale",
)
# Of `directions.along`.
WAYS = {
    "length": "length of ΔW",
    "own_energy": "share of ΔW in its leading directions",
    "with_before": "cosine with the change before",
    "with_end": "cosine of each change with the whole way",
}
_LOG = ("gradient", "noise_scale")  # span decades

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


def view(report: Mapping[str, Any]) -> dict[str, Any]:
    """The context of `dynamics/page.html`."""
    number = {run: place for place, group in enumerate(report["groups"]) for run in group["runs"]}
    runs = report["runs"]
    return {
        "title": "Optimisation dynamics",
        "report": report,
        "number": number,
        "summary": sentences(report),
        "plots": [_over_steps(report, name, runs, number) for name in _CURVES],
        "spectra": [_spectra(runs, number), _n_curves(runs, number)],
        "losses": _losses(report, runs, number),
        "ways": [_way(report, name, number) for name in WAYS],
        "parts_sheets": sheets.parts(report),
        "cosines": sheets.each_moment(report, sheets.cosines),
        "conflicts": sheets.each_moment(report, sheets.conflicts),
        "affinity": [
            sheets.affinity(report, name, one) for name, tried in report["affinity"].items() for one in tried
        ],
        "updates": sheets.updates(report),
        "kinds": sheets.kinds(runs),
        "by_task": sheets.by_task(runs),
        "last": named(report["moments"]["unit"], report["moments"]["at"][-1]),
        "width": WIDTH,
        "height": HEIGHT,
    }


def _over_steps(
    report: Mapping[str, Any], name: str, runs: Sequence[Mapping[str, Any]], number: Mapping[str, int]
) -> Plot:
    """A quantity at every measured step: thin lines are runs; for headlines, the mean of each group with its
    interval."""
    series = {
        run["name"]: [
            (one["at"], one["numbers"][name]) for one in run["steps"] if one["numbers"][name] is not None
        ]
        for run in runs
    }
    levels = [row for row in report["levels"] if row["quantity"] == name]
    values = [value for points in series.values() for _, value in points]
    values += [row[end] for row in levels for end in ("low", "high")]
    scale = _Scale([step for points in series.values() for step, _ in points], values, log_y=name in _LOG)
    lines = [
        Line(number[run], scale.polyline(points), run, marks=scale.places(points))
        for run, points in series.items()
        if points
    ]
    bands = []
    for place, group in enumerate(report["groups"]):
        rows = [row for row in levels if row["group"] == group["name"]]
        if rows:
            low, high = ([(row["at"], row[end]) for row in rows] for end in ("low", "high"))
            bands.append(Band(place, scale.polyline([*low, *reversed(high)])))
            lines.append(
                Line(place, scale.polyline([(r["at"], r["value"]) for r in rows]), group["name"], True)
            )
    return Plot(report["titles"][name], _axis(report), scale.x_ticks, scale.y_ticks, lines, bands)


def _axis(report: Mapping[str, Any]) -> str:
    return "step" if report["moments"]["unit"] == STEP else "% of training"


def _spectra(runs: Sequence[Mapping[str, Any]], number: Mapping[str, int]) -> Plot:
    shares = {}
    for run in runs:
        total = sum(run["spectrum"])
        kept = [value / total for value in run["spectrum"] if value > 1e-9 * total]
        shares[run["name"]] = [(place, share) for place, share in enumerate(kept, start=1)]
    every = [point for points in shares.values() for point in points]
    scale = _Scale([x for x, _ in every], [y for _, y in every], log_x=True, log_y=True)
    lines = [Line(number[run], scale.polyline(points), run) for run, points in shares.items()]
    return Plot("eigenvalues, as shares of their sum", "rank", scale.x_ticks, scale.y_ticks, lines)


def _n_curves(runs: Sequence[Mapping[str, Any]], number: Mapping[str, int]) -> Plot:
    points = {run["name"]: [(one["n"], one["mean"]) for one in run["curve"]] for run in runs}
    every = [point for line in points.values() for point in line]
    scale = _Scale([x for x, _ in every], [y for _, y in every], log_x=True)
    lines = [
        Line(number[run], scale.polyline(line), run, marks=scale.places(line)) for run, line in points.items()
    ]
    return Plot("SE of random subsets of n entries", "n", scale.x_ticks, scale.y_ticks, lines)


def _losses(
    report: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], number: Mapping[str, int]
) -> list[Plot]:
    """Mean loss of each task's probe entries."""
    found = []
    for task in runs[0]["tasks"]:
        points = {
            run["name"]: [(one["at"], one["losses"][task]) for one in run["steps"] if task in one["losses"]]
            for run in runs
        }
        every = [point for line in points.values() for point in line]
        if every:
            scale = _Scale([x for x, _ in every], [0.0, *(y for _, y in every)])
            lines = [Line(number[run], scale.polyline(line), run) for run, line in points.items()]
            found.append(Plot(task, _axis(report), scale.x_ticks, scale.y_ticks, lines))
    return found


def _way(report: Mapping[str, Any], name: str, number: Mapping[str, int]) -> Plot:
    """One of WAYS at every step after the first."""
    points = {
        run["name"]: [
            (place[one["step"]], one[name])
            for one in report["updates"]["along"][run["name"]]
            if one[name] is not None
        ]
        for run in report["runs"]
        for place in [{one["step"]: one["at"] for one in run["steps"]}]
    }
    every = [point for line in points.values() for point in line]
    scale = _Scale([x for x, _ in every] or [0.0, 1.0], [0.0, *(y for _, y in every)])
    lines = [
        Line(number[run], scale.polyline(line), run, marks=scale.places(line))
        for run, line in points.items()
        if line
    ]
    return Plot(WAYS[name], _axis(report), scale.x_ticks, scale.y_ticks, lines)


class _Scale:
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
