"""What the template of the dynamics report shows: plots, and the tables of `sheets`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taco_probe.dynamics import sheets, tasks
from taco_probe.dynamics.moments import STEP, named
from taco_probe.dynamics.quantities import HEADLINES
from taco_probe.dynamics.summary import sentences
from taco_probe.plots import HEIGHT, WIDTH, Band, Line, Plot, Scale

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
    scale = Scale(report["moments"]["at"], values, log_y=name in _LOG)
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
    scale = Scale([x for x, _ in every], [y for _, y in every], log_x=True, log_y=True)
    lines = [Line(number[run], scale.polyline(points), run) for run, points in shares.items()]
    return Plot("eigenvalues, as shares of their sum", "rank", scale.x_ticks, scale.y_ticks, lines)


def _n_curves(runs: Sequence[Mapping[str, Any]], number: Mapping[str, int]) -> Plot:
    points = {run["name"]: [(one["n"], one["mean"]) for one in run["curve"]] for run in runs}
    every = [point for line in points.values() for point in line]
    scale = Scale([x for x, _ in every], [y for _, y in every], log_x=True)
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
            scale = Scale([x for x, _ in every], [0.0, *(y for _, y in every)])
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
    scale = Scale([x for x, _ in every] or [0.0, 1.0], [0.0, *(y for _, y in every)])
    lines = [
        Line(number[run], scale.polyline(line), run, marks=scale.places(line))
        for run, line in points.items()
        if line
    ]
    return Plot(WAYS[name], _axis(report), scale.x_ticks, scale.y_ticks, lines)
