"""What the page shows of trajectories and sensitivity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taco_probe.dynamics.sheets import Cell
from taco_probe.plots import Band, Line, Plot, Scale
from taco_probe.taco.atlas.marks import Found, Mark, decimal, interval, marks, percent, spoken
from taco_probe.taco.words import probability

SIDES = 132, 96  # of the box that a path is drawn in
_ALL = "all"
_SHADES = (0.5, 1.0, 1.5, 2.0)  # of shift over typical distance


@dataclass(frozen=True)
class Way:
    """One path in the plane of its two largest principal components."""

    title: str
    note: str
    mark: Mark
    points: str
    marks: Sequence[tuple[float, float, float]]


def ways(paths: Found) -> dict[str, Any]:
    """The section on trajectories."""
    named = marks([row["category"] for row in paths["rows"] if row["category"] != _ALL])
    alterations = list(dict.fromkeys(row["alteration"] for row in paths["rows"]))
    return {
        "tables": [
            {
                "category": category,
                "mark": named.get(category),
                "rows": [
                    {
                        "measure": about["title"],
                        "best": about["best"],
                        "cells": [
                            _judged(_pick(paths["rows"], alteration, category, measure))
                            for alteration in alterations
                        ],
                    }
                    for measure, about in paths["measures"].items()
                ],
            }
            for category in (_ALL, *named)
        ],
        "alterations": [spoken(name) for name in alterations],
        "counts": [
            next(row["paths"] for row in paths["rows"] if row["alteration"] == name) for name in alterations
        ],
        "marks": list(named.values()),
        "plots": [_curve(paths["curves"], alteration, named) for alteration in alterations],
        "drawn": [
            (
                spoken(alteration),
                [_way(one, named) for one in paths["drawn"] if one["alteration"] == alteration],
            )
            for alteration in alterations
        ],
        "n": paths["n"],
        "left_out": paths["left_out"],
        "sides": SIDES,
    }


def _pick(rows: Sequence[Found], alteration: str, category: str, measure: str) -> Found | None:
    wanted = (alteration, category, measure)
    return next((r for r in rows if (r["alteration"], r["category"], r["measure"]) == wanted), None)


def _judged(row: Found | None) -> dict[str, Any]:
    if row is None or row["value"] is None:
        return {"value": "–", "interval": "", "null": "", "p": "–", "sure": False}
    digits = 0 if row["measure"] == "turning" else 2
    return {
        "value": decimal(row["value"], digits),
        "interval": interval(row, digits=digits),
        "null": decimal(row["null"], digits),
        "p": probability(row["p"]),
        "sure": row["p"] is not None and row["p"] < 0.05,
    }


def _curve(curves: Sequence[Found], alteration: str, named: Mapping[str, Mark]) -> Plot:
    """Distance from the start at each strength, a line a category."""
    of = {one["category"]: one for one in curves if one["alteration"] == alteration}
    every = [one for category, one in of.items() if category in named]
    ends = [
        point[end] for one in every for point in one["distance"] for end in ("value", "low", "high")
        if point[end] is not None
    ]  # fmt: skip
    scale = Scale([x for one in every for x in one["strengths"]], [0.0, *ends])
    lines, bands = [], []
    for one in every:
        number = named[one["category"]].number
        known = [
            (x, p) for x, p in zip(one["strengths"], one["distance"], strict=True) if p["value"] is not None
        ]
        points = [(x, p["value"]) for x, p in known]
        lines.append(Line(number, scale.polyline(points), one["category"], True, marks=scale.places(points)))
        if known and all(p["low"] is not None for _, p in known):
            low, high = ([(x, p[end]) for x, p in known] for end in ("low", "high"))
            bands.append(Band(number, scale.polyline([*low, *reversed(high)])))
    return Plot(spoken(alteration), "strength", scale.x_ticks, scale.y_ticks, lines, bands)


def _way(one: Found, named: Mapping[str, Mark]) -> Way:
    """Points fill the box; both axes have one scale, so that what is straight looks straight."""
    points = np.array(one["points"], dtype=float)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    room = np.array(SIDES) / 2
    scale = float(((room - 10) / np.maximum(np.ptp(points, axis=0) / 2, 1e-9)).min())
    places = room + (points - middle) * scale * (1, -1)
    dots = [
        (round(float(x), 1), round(float(y), 1), round(0.15 + 0.85 * at / (len(places) - 1), 2))
        for at, (x, y) in enumerate(places)
    ]
    numbers = [
        f"straightness {decimal(one['straightness'], 2)}",
        f"monotony {decimal(one['monotony'], 2)}",
        f"roughness {decimal(one['roughness'], 2)}",
        f"plane shows {percent(one['explained'])}",
    ]
    return Way(
        f"{spoken(one['task'])}, {one['dataset']}",
        ", ".join(numbers),
        named[one["category"]],
        " ".join(f"{x},{y}" for x, y, _ in dots),
        dots,
    )


def sensitivity(found: Found) -> dict[str, Any]:
    """Tasks against alterations: shift over typical distance, and who ends where."""
    rows = found["rows"]
    alterations = list(dict.fromkeys(row["alteration"] for row in rows))
    named = marks([row["category"] for row in rows])
    tasks = [
        (task, category)
        for category in named
        for task in dict.fromkeys(row["task"] for row in rows if row["category"] == category)
    ]
    by = {(row["task"], row["alteration"]): row for row in rows}
    sheet, crossing = [], []
    for task, category in tasks:
        known = [by.get((task, alteration)) for alteration in alterations]
        sheet.append((spoken(task), named[category], [_shift(row) for row in known]))
        crossing.append((spoken(task), named[category], [_crossed(row) for row in known]))
    return {
        "columns": [spoken(name) for name in alterations],
        "shift": sheet,
        "crossed": crossing,
        "marks": list(named.values()),
    }


def _shift(row: Found | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell("–")
    value = row["value"]
    moved = f"moved {decimal(row['shift'])}, typical {decimal(row['typical'])}"
    title = f"{interval(row, digits=2)}; {moved}, {row['paths']} paths"
    return Cell(decimal(value, 2), sum(value >= edge for edge in _SHADES), title)


def _crossed(row: Found | None) -> Cell:
    if row is None or row["crossed"] is None:
        return Cell("–")
    share = row["crossed"]
    into = ", ".join(f"{spoken(name)} {percent(part)}" for name, part in list(row["into"].items())[:4])
    title = f"of {row['of']} paths" + (f"; into {into}" if into else "")
    return Cell(percent(share), min(4, int(4 * share + 0.999)), title)
