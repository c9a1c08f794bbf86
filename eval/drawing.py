"""Figures of reports, as SVG and PNG. Text from files is never taken for mathematics or markup."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# The colours of runs on our pages (templates/base.css).
COLOURS = (
    "#ea580c", "#2563eb", "#9333ea", "#0891b2", "#be123c", "#a16207", "#4d7c0f", "#db2777", "#475569",
    "#0d9488", "#7c2d12", "#4338ca",
)  # fmt: skip
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b6676",
    "axes.grid": True,
    "grid.color": "#e2e7ee",
    "svg.hashsalt": "study",  # the same bytes each time
    "svg.fonttype": "none",
}


def save(figures: Mapping[str, Figure], folder: Path) -> dict[str, bytes]:
    """Writes <name>.svg and <name>.png; returns the SVG files."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {}
    for name, figure in figures.items():
        kept[name] = svg(figure)
        (folder / f"{name}.svg").write_bytes(kept[name])
        with mpl.rc_context(STYLE):
            figure.savefig(folder / f"{name}.png", dpi=160, metadata={"Software": None})
    return kept


def svg(figure: Figure) -> bytes:
    """A figure as an SVG file, without the time it was made at."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign would start mathematics. What would leave the figure
    no room is cut."""
    return (text if len(text) <= 60 else text[:59] + "…").replace("$", r"\$")


def canvas(panels: int, width: float, height: float, *, columns: int = 0) -> tuple[Figure, list[Axes]]:
    """A figure with panels, side by side or in rows of `columns`; sizes in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    columns = columns or panels
    rows = math.ceil(panels / columns)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(panels)]


def whisker(axes: Axes, place: float, row: Mapping[str, Any], colour: str) -> None:
    """A value with its interval, at a height."""
    if row["low"] is not None:
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
    axes.plot([row["value"]], [place], "o", color=colour, markersize=5)


def name_rows(axes: Axes, names: Sequence[str], title: str) -> None:
    """Names each height, from the top down, and what the horizontal axis shows."""
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(plain(title))
