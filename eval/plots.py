"""Plots as SVG data URIs (matplotlib, without a display)."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from data_recipes.page import data_uri
from eval.board import Comparison, Interval, Section, Standing
from eval.compare import AVERAGE

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9aa4b2",
    "axes.labelcolor": "#5b6676",
    "xtick.color": "#5b6676",
    "ytick.color": "#5b6676",
    "axes.titlesize": 10,
    "svg.hashsalt": "imax",  # the same figure gives the same bytes
}


def scores(section: Section) -> str:
    """Bars of each run's headline by task, with intervals and the best baseline as a tick."""
    runs, tasks = section.standings, section.tasks
    width = 0.8 / len(runs)
    places = np.arange(len(tasks) + 1)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for i, run in enumerate(runs):
            x = places - 0.4 + (i + 0.5) * width
            found: list[Interval] = [*(run.cells[task] for task in tasks), run.average]
            values = [cell.value for cell in found]
            # An interval may miss its value by a rounding.
            errors = [
                [max(0.0, cell.value - cell.ci_low) for cell in found],
                [max(0.0, cell.ci_high - cell.value) for cell in found],
            ]
            axes.bar(x, values, width * 0.9, color=run.colour, alpha=0.85, label=_plain(run.name))
            axes.errorbar(x, values, errors, fmt="none", ecolor="#17202e", elinewidth=1, capsize=2)
            for place, task in zip(x, tasks, strict=False):
                baseline = run.cells[task].baseline
                if baseline is not None:
                    axes.hlines(
                        baseline, place - width * 0.5, place + width * 0.5, color="black", linewidth=2.2
                    )
        axes.set_xticks(places, [*(f"{task}\n{section.headlines[task]}" for task in tasks), "average"])
        axes.set_ylim(0, 100)
        axes.yaxis.grid(visible=True, color="#e2e7ee")
        axes.set_axisbelow(True)
        axes.legend(frameon=False, ncols=6, loc="lower left", bbox_to_anchor=(0, 1))
    return _uri(figure)


def differences(section: Section, comparisons: Sequence[Comparison]) -> str:
    """Paired differences to the reference with their intervals, a row a task."""
    colours = {run.name: run.colour for run in section.standings}
    tasks = [line.task for line in comparisons[0].lines]
    with mpl.rc_context(_STYLE):
        figure = Figure(
            figsize=(8, 0.36 * len(tasks) * max(1, len(comparisons) * 0.6) + 1), layout="constrained"
        )
        axes = figure.add_subplot()
        for i, comparison in enumerate(comparisons):
            y = np.arange(len(tasks)) + 0.6 * ((i + 0.5) / len(comparisons) - 0.5)
            values = np.array([line.value for line in comparison.lines])
            low = np.array([line.ci_low for line in comparison.lines])
            high = np.array([line.ci_high for line in comparison.lines])
            label = _plain(f"{comparison.first} − {comparison.second}")
            axes.hlines(y, low, high, color=colours[comparison.first], linewidth=2)
            axes.plot(values, y, "o", color=colours[comparison.first], label=label)
        axes.axvline(0, color="#17202e", linewidth=1)
        axes.set_yticks(np.arange(len(tasks)), ["average" if task == AVERAGE else task for task in tasks])
        axes.invert_yaxis()
        axes.set_xlabel("points, 95 % interval")
        axes.xaxis.grid(visible=True, color="#e2e7ee")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return _uri(figure)


def losses(runs: Sequence[Standing], tasks: Sequence[str]) -> str | None:
    """Training loss against steps, over all tasks and for each; None when no run left a log."""
    logs = {run.name: _log(run.run_folder / "train.jsonl") for run in runs}
    if not any(logs.values()):
        return None
    panels = ["loss", *(f"loss_{task}" for task in tasks)]
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11.5, 2.4 * -(-len(panels) // 4)), layout="constrained")
        grid = figure.subplots(-(-len(panels) // 4), 4, squeeze=False, sharex=True).flat
        for axes, key in zip(grid, panels, strict=False):
            for run in runs:
                points = [
                    (line["step"], line[key])
                    for line in logs[run.name]
                    if isinstance(line.get(key), int | float) and isinstance(line.get("step"), int)
                ]
                if points:
                    axes.plot(
                        *zip(*points, strict=True), color=run.colour, linewidth=1.4, label=_plain(run.name)
                    )
            axes.set_title("all tasks" if key == "loss" else key.removeprefix("loss_"), loc="left")
            axes.set_ylim(bottom=0)
            axes.yaxis.grid(visible=True, color="#e2e7ee")
        for axes in list(grid)[len(panels) :]:
            axes.set_visible(False)
        figure.supxlabel("step", fontsize=10, color="#5b6676")
        figure.axes[0].legend(frameon=False, fontsize=9)
    return _uri(figure)


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


def _plain(text: str) -> str:
    """Text as it is: matplotlib reads $ as the start of a formula and a leading _ as "no legend"."""
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _uri(figure: Figure) -> str:
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return data_uri(buffer.getvalue(), "image/svg+xml")
