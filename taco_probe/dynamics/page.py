"""What the template of the dynamics report shows: where marks lie, and tables with shades.

Plots are drawn in a box of WIDTH x HEIGHT, the origin at its top left corner.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.plots import Axis
from taco_probe.dynamics import tasks
from taco_probe.dynamics.moments import STEP, named
from taco_probe.dynamics.quantities import HEADLINES, TITLES
from taco_probe.dynamics.summary import Q, sentences, signed

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


@dataclass(frozen=True)
class Cell:
    """Of a shaded table: `shade` from -4 (blue, below 0) to 4 (red, above 0)."""

    text: str
    shade: int = 0
    title: str = ""


@dataclass(frozen=True)
class Sheet:
    """A shaded table with a name and a note."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    note: str = ""


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
        "parts_sheets": _parts(report),
        "cosines": _each_moment(report, lambda run, between: _cosines(run["name"], between["cosines"])),
        "conflicts": _each_moment(report, _conflicts),
        "affinity": [
            _affinity(report, name, one) for name, tried in report["affinity"].items() for one in tried
        ],
        "updates": _updates(report),
        "kinds": _kinds(runs),
        "by_task": _by_task(runs),
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


def _parts(report: Mapping[str, Any]) -> list[Sheet]:
    """The map of layers: headlines of each part of the model, and differences between groups."""
    parts = report["parts"]
    thirds = list(dict.fromkeys(third for third, _ in parts["places"]))
    kinds = list(dict.fromkeys(kind for _, kind in parts["places"]))
    sheets = []
    for quantity in HEADLINES:
        for group in report["groups"]:
            rows = {
                (row["third"], row["kind"]): row
                for row in parts["levels"]
                if (row["group"], row["quantity"]) == (group["name"], quantity)
            }
            cells = {key: Cell(f"{row['value']:.2f}", title=_interval(row)) for key, row in rows.items()}
            sheets.append(Sheet(f"{TITLES[quantity]}: {group['name']}", kinds, _grid(cells, thirds, kinds)))
        pairs = dict.fromkeys((row["first"], row["second"]) for row in parts["differences"])
        for first, second in pairs:
            rows = {
                (row["third"], row["kind"]): row
                for row in parts["differences"]
                if (row["first"], row["second"], row["quantity"]) == (first, second, quantity)
            }
            widest = max(abs(row["value"]) for row in rows.values()) or 1.0
            cells = {
                key: Cell(
                    signed(row["value"]) + ("*" if row["q"] < Q else ""),
                    _shade(row["value"] / widest),
                    f"{_interval(row)}, q {row['q']:.3f}",
                )
                for key, row in rows.items()
            }
            note = f"* q < {Q}, Benjamini-Hochberg over the parts"
            sheets.append(
                Sheet(f"{TITLES[quantity]}: {first} − {second}", kinds, _grid(cells, thirds, kinds), note)
            )
    return sheets


def _grid(
    cells: Mapping[tuple[str, str], Cell], rows: Sequence[str], columns: Sequence[str]
) -> list[tuple[str, list[Cell]]]:
    return [(row, [cells.get((row, column), Cell("")) for column in columns]) for row in rows]


def _each_moment(
    report: Mapping[str, Any], sheet: Callable[[Mapping[str, Any], Mapping[str, Any]], Sheet | None]
) -> list[tuple[str, list[Sheet]]]:
    """Sheets of all runs, by the moment that they are of."""
    found = []
    for at in report["moments"]["shown"]:
        made = [sheet(run, one) for run in report["runs"] for one in run["between"] if one["at"] == at]
        found.append((named(report["moments"]["unit"], at), [one for one in made if one]))
    return [(when, sheets) for when, sheets in found if sheets]


def _cosines(name: str, found: Mapping[str, Any]) -> Sheet:
    rows = []
    for place, task in enumerate(found["tasks"]):
        cells = []
        for other, value in enumerate(found["debiased"][place]):
            plain = found["plain"][place][other]
            title = f"plain {plain:.2f}" if plain is not None else ""
            cells.append(Cell("·", 0, title) if value is None else Cell(signed(value), _shade(value), title))
        rows.append(
            (task, [*cells, Cell(_short(found["snr"][place])), Cell(_short(found["noise_scale"][place]))])
        )
    note = f"· where a task's signal-to-noise ratio is below {found['gate']:g}: not known"
    return Sheet(name, [*found["tasks"], "SNR", "noise scale"], rows, note)


def _conflicts(run: Mapping[str, Any], between: Mapping[str, Any]) -> Sheet | None:
    names, found = between["cosines"]["tasks"], between["conflicts"]
    if not found:
        return None
    pair = {(one["first"], one["second"]): one for one in found}
    rows = []
    for task in names:
        cells = []
        for other in names:
            one = pair.get((task, other)) or pair.get((other, task))
            if one is None:
                cells.append(Cell(""))
                continue
            mark = "*" if one["q"] < Q else ""
            null = f"{one['null_mean']:.2f} [{one['null_low']:.2f}, {one['null_high']:.2f}]"
            title = f"permuted labels {null}, q {one['q']:.3f}"
            cells.append(Cell(f"{one['rate']:.2f}{mark}", _shade(one["rate"] - one["null_mean"]), title))
        rows.append((task, cells))
    batch = found[0]["batch"]
    return Sheet(
        run["name"], names, rows, f"batches of {batch}; shade: above or below permuted labels; * q < {Q}"
    )


def _affinity(report: Mapping[str, Any], group: str, found: Mapping[str, Any]) -> Sheet:
    rows = []
    for place, task in enumerate(found["tasks"]):
        cells = []
        for other in range(len(found["tasks"])):
            value, q = 100 * found["value"][place][other], found["q"][place][other]
            title = (
                f"[{signed(100 * found['low'][place][other])}, {signed(100 * found['high'][place][other])}] %"
            )
            mark = "*" if q is not None and q < Q else ""
            cells.append(Cell(signed(value) + mark, _shade(value), title))
        rows.append((f"step along {task}", cells))
    when = named(report["moments"]["unit"], found["at"])
    note = f"change of the column's loss in percent, {when}, direction: {found['direction']}; * q < {Q}"
    return Sheet(group, [f"on {task}" for task in found["tasks"]], rows, note)


def _updates(report: Mapping[str, Any]) -> Sheet:
    names = [run["name"] for run in report["runs"]]
    pair = {}
    for one in report["updates"]["pairs"]:
        if one["cosine"] is not None:
            pair[one["first"], one["second"]] = pair[one["second"], one["first"]] = one
    rows = []
    for name in names:
        cells = [
            Cell(signed(one["cosine"]), _shade(one["cosine"]), _overlap(one, report["updates"]["top"]))
            if (one := pair.get((name, other)))
            else Cell("")
            for other in names
        ]
        rows.append((name, [*cells, Cell(f"{report['updates']['lengths'][name]:.2f}")]))
    note = "point at a cell for what independent directions give; runs of one seed start from the same A"
    return Sheet("cosine of ΔW", [*names, "length"], rows, note)


def _overlap(one: Mapping[str, Any], top: int) -> str:
    beside = [
        f"{side} overlap {one[f'{side}_overlap']:.3f} (random {one[f'{side}_overlap_random']:.3f})"
        for side in ("column", "row")
    ]
    energy = f"energy {one['energy']:.3f} (random {one['energy_random']:.4f})"
    said = f"independent directions: 0 ± {one['cosine_random']:.4f}; leading {top} directions: "
    return said + ", ".join([*beside, energy])


def _kinds(runs: Sequence[Mapping[str, Any]]) -> Sheet:
    """All quantities of every kind of Gram matrix at the last moment."""
    rows = [
        (f"{run['name']}: {kind}", [Cell(_short(found[name])) for name in TITLES])
        for run in runs
        for kind, found in run["kinds"].items()
    ]
    return Sheet("", list(TITLES.values()), rows)


def _by_task(runs: Sequence[Mapping[str, Any]]) -> Sheet:
    rows = [
        (f"{task}: {run['name']}", [Cell(_short(run["tasks"][task][name])) for name in TITLES])
        for task in runs[0]["tasks"]
        for run in runs
    ]
    return Sheet("entries of one task", list(TITLES.values()), rows)


def _interval(row: Mapping[str, Any]) -> str:
    return f"[{signed(row['low'])}, {signed(row['high'])}]"


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _shade(value: float) -> int:
    return max(-4, min(4, round(4 * value)))
