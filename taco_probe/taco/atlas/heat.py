"""The heat map of task distances with its tree, as shapes for the template to draw as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from taco_probe.taco.atlas.marks import Found, Mark, decimal, marks, percent, spoken

CELL = 17
TREE = 150  # width of the tree
# Near is dark: a ramp of one hue, so that it also reads in grey.
_RAMP = ("#172554", "#1d4ed8", "#60a5fa", "#bfdbfe", "#f3f7fe")


@dataclass(frozen=True)
class Cell:
    """Where a square lies, its colour, and what it says; `same` where a task meets itself."""

    x: int
    y: int
    fill: str
    title: str
    same: bool = False


@dataclass(frozen=True)
class Branch:
    """A merge: points of an open polyline, the middle of its upright, and what it says."""

    points: str
    x: float
    y: float
    sure: bool
    title: str


@dataclass(frozen=True)
class Label:
    """A task beside its row and below its column."""

    at: float
    name: str
    mark: Mark


@dataclass(frozen=True)
class Heat:
    """One order of the heat map."""

    key: str
    title: str
    size: int
    cells: Sequence[Cell]
    labels: Sequence[Label]
    branches: Sequence[Branch]
    cut: float | None
    breaks: Sequence[int]


def heats(distances: Found, clusters: Found | None) -> list[Heat]:
    """The map in the order of the tree, with the tree, and in the order of the categories."""
    matrix = np.array(distances["matrix"], dtype=float)
    tasks, categories = distances["tasks"], distances["categories"]
    named = marks(categories)
    rank = list(named)
    by_category = sorted(range(len(tasks)), key=lambda place: (rank.index(categories[place]), place))
    found = []
    for key, title, order in (
        ("tree", "by the tree", clusters["order"] if clusters else None),
        ("category", "by category", by_category),
    ):
        if order is None:
            continue
        of = [categories[place] for place in order]
        found.append(
            Heat(
                key,
                title,
                CELL * len(order),
                _cells(distances, matrix, order),
                [
                    Label(CELL * (at + 0.5), spoken(tasks[place]), named[categories[place]])
                    for at, place in enumerate(order)
                ],
                _branches(clusters, order) if clusters and key == "tree" else [],
                _cut(clusters) if clusters and key == "tree" else None,
                [CELL * at for at in range(1, len(of)) if of[at] != of[at - 1]] if key == "category" else [],
            )
        )
    return found


def ramp(share: float) -> str:
    """The colour of a share 0..1 of the largest distance; grey where there is none."""
    if not np.isfinite(share):
        return "#e2e8f0"
    place = float(np.clip(share, 0, 1)) * (len(_RAMP) - 1)
    left = min(int(place), len(_RAMP) - 2)
    ends = [[int(_RAMP[at][i : i + 2], 16) for i in (1, 3, 5)] for at in (left, left + 1)]
    mixed = [round(a + (place - left) * (b - a)) for a, b in zip(*ends, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def legend(distances: Found, steps: int = 48) -> dict[str, Any]:
    """The ramp from 0 to the largest distance: (place in percent, colour) and the end's label."""
    top = float(np.nanmax(np.array(distances["matrix"], dtype=float)))
    return {
        "steps": [(round(100 * k / steps, 2), ramp(k / (steps - 1))) for k in range(steps)],
        "width": round(100 / steps + 0.3, 2),
        "top": decimal(top, 2),
    }


def _cells(distances: Found, matrix: Any, order: Sequence[int]) -> list[Cell]:
    tasks, top = distances["tasks"], float(np.nanmax(matrix)) or 1.0
    floor = {row["task"]: row["images"] for row in distances["floor"]}
    cells = []
    for y, a in enumerate(order):
        for x, b in enumerate(order):
            first, second = spoken(tasks[a]), spoken(tasks[b])
            if a == b:
                text = f"{first}: noise floor {decimal(floor.get(tasks[a]))}"
                cells.append(Cell(CELL * x, CELL * y, "#ffffff", text, same=True))
                continue
            low, high, shared = (distances[name][a][b] for name in ("low", "high", "shared"))
            reach = f" ({decimal(low)} to {decimal(high)})" if low is not None and high is not None else ""
            over = f", {shared} shared datasets" if shared else ", no shared dataset"
            value = matrix[a, b]
            text = f"{first} – {second}: {decimal(value if np.isfinite(value) else None)}{reach}{over}"
            cells.append(Cell(CELL * x, CELL * y, ramp(value / top), text))
    return cells


def _across(clusters: Found, height: float) -> float:
    """Where a height of the tree lies: leaves at 0, the root at the far end."""
    top = max(row[2] for row in clusters["linkage"]) or 1.0
    return round((TREE - 12) * height / top, 1)


def _branches(clusters: Found, order: Sequence[int]) -> list[Branch]:
    size = len(order)
    middle = {task: CELL * (at + 0.5) for at, task in enumerate(order)}
    reached = dict.fromkeys(range(size), 0.0)
    found = []
    for number, ((a, b, height, count), support) in enumerate(
        zip(clusters["linkage"], clusters["support"], strict=True)
    ):
        a, b, x = int(a), int(b), _across(clusters, height)
        ya, yb = middle[a], middle[b]
        middle[size + number], reached[size + number] = (ya + yb) / 2, x
        points = f"{reached[a]},{ya} {x},{ya} {x},{yb} {reached[b]},{yb}"
        kept = "" if support is None else f", in {percent(support)} of resamples"
        text = f"{int(count)} tasks join at {decimal(height)}{kept}"
        found.append(Branch(points, x, (ya + yb) / 2, (support or 0) >= 0.9, text))
    return found


def _cut(clusters: Found) -> float | None:
    """Half way between the merges that the cut lies between."""
    heights = sorted(row[2] for row in clusters["linkage"])
    k = clusters["k"]
    if not 1 < k <= len(heights):
        return None
    return _across(clusters, (heights[-k] + heights[-k + 1]) / 2)
