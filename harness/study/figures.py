"""The figures of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from eval.compare import AVERAGE
from eval.drawing import COLOURS, STYLE, canvas, name_rows, plain, whisker
from harness.study.arms import MAIN, TRANSFER
from harness.study.document import level
from harness.study.summary import label
from taco_probe.dynamics.quantities import HEADLINES, TITLES

Found = Mapping[str, Any]


def draw(found: Found) -> dict[str, Figure]:
    """Name -> figure, those that there are numbers for."""
    makers: dict[str, Callable[[Found], Figure | None]] = {
        "scores": _scores,
        "differences": _differences,
        "dynamics": _dynamics,
        "density": _density,
        "transfer": _transfer,
        "leave-one-out": _left_out,
    }
    with mpl.rc_context(STYLE):
        made = {name: maker(found) for name, maker in makers.items()}
        return {name: figure for name, figure in made.items() if figure is not None}


def _main(found: Found) -> list[str]:
    return [arm["name"] for arm in found["arms"] if arm["block"] == MAIN]


def _scores(found: Found) -> Figure | None:
    """Multi-task averages with their intervals and single runs, a panel a model."""
    arms = [arm for arm in _main(found) if any(row["arm"] == arm for row in found["levels"])]
    if not arms:
        return None
    figure, panels = canvas(len(found["models"]), 3.2 + 3.2 * len(found["models"]), 1.1 + 0.34 * len(arms))
    for axes, model in zip(panels, found["models"], strict=True):
        for place, arm in enumerate(arms):
            if row := level(found, arm, model):
                whisker(axes, place, row, COLOURS[place % len(COLOURS)])
            runs = [
                run["average"]
                for run in found["runs"]
                if (run["arm"], run["model"]) == (arm, model) and run["average"] is not None
            ]
            axes.plot(runs, [place + 0.22] * len(runs), "|", color="#5b6676", markersize=5)
        name_rows(axes, [label(found, arm) for arm in arms], f"multi-task average, {model}")
    return figure


def _differences(found: Found) -> Figure | None:
    """Differences of averages with their intervals, a panel a model."""
    rows = [row for row in found["differences"] if row["task"] == AVERAGE]
    pairs = list(dict.fromkeys((row["first"], row["second"]) for row in rows))
    if not pairs:
        return None
    models = [model for model in found["models"] if any(row["model"] == model for row in rows)]
    figure, panels = canvas(len(models), 4.2 + 3.2 * len(models), 1.1 + 0.34 * len(pairs))
    for axes, model in zip(panels, models, strict=True):
        axes.axvline(0, color="#17202e", linewidth=0.8)
        for row in rows:
            if row["model"] == model:
                sure = row["low"] > 0 or row["high"] < 0
                place = pairs.index((row["first"], row["second"]))
                whisker(axes, place, row, "#2563eb" if sure else "#94a3b8")
        named = [f"{label(found, first)} − {label(found, second)}" for first, second in pairs]
        name_rows(axes, named, f"points, {model}; blue: the interval excludes 0")
    return figure


def _dynamics(found: Found) -> Figure | None:
    """A mark a run: a number of the dynamics against the average."""
    kept = {arm["name"] for arm in found["arms"] if arm["block"] != TRANSFER}
    runs = [run for run in found["runs"] if run["dynamics"] and run["arm"] in kept]
    if not runs:
        return None
    figure, panels = canvas(len(HEADLINES), 9.5, 6.8, columns=2)
    arms = list(dict.fromkeys(run["arm"] for run in runs))
    markers = "os^Dv*"
    for axes, quantity in zip(panels, HEADLINES, strict=True):
        for number, arm in enumerate(arms):
            for place, model in enumerate(found["models"]):
                mine = [run for run in runs if (run["arm"], run["model"]) == (arm, model)]
                name = label(found, arm) + (f", {model}" if len(found["models"]) > 1 else "")
                axes.plot(
                    [run["dynamics"][quantity] for run in mine],
                    [run["average"] for run in mine],
                    markers[place % len(markers)],
                    color=COLOURS[number % len(COLOURS)],
                    label=plain(name),
                    alpha=0.85,
                    markersize=5,
                )
        axes.set_xlabel(f"{TITLES[quantity]} {found['moment']}")
        axes.set_ylabel("multi-task average")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    return figure


def _density(found: Found) -> Figure | None:
    """The average, and each task, against entries an image."""
    arms = sorted(
        (arm for arm in found["arms"] if arm["name"] in found["density"]["arms"]),
        key=lambda arm: arm["entries_per_image"],
    )
    known = [arm for arm in arms if any(row["arm"] == arm["name"] for row in found["levels"])]
    if len(known) < 2:
        return None
    figure, (left, right) = canvas(2, 9.5, 3.8)
    for number, model in enumerate(found["models"]):
        rows = [(arm["entries_per_image"], row) for arm in known if (row := level(found, arm["name"], model))]
        x, colour = [one for one, _ in rows], COLOURS[number % len(COLOURS)]
        left.plot(x, [row["value"] for _, row in rows], "o-", color=colour, label=plain(model), markersize=4)
        banded = [(one, row) for one, row in rows if row["low"] is not None]
        lows, highs = ([row[end] for _, row in banded] for end in ("low", "high"))
        left.fill_between([one for one, _ in banded], lows, highs, color=colour, alpha=0.15, linewidth=0)
    for number, task in enumerate(found["test"]["tasks"]):
        rows = [
            (arm["entries_per_image"], row)
            for arm in known
            if (row := level(found, arm["name"], found["models"][0], task))
        ]
        colour = COLOURS[number % len(COLOURS)]
        right.plot(
            [one for one, _ in rows],
            [row["value"] for _, row in rows],
            "o-",
            color=colour,
            label=task,
            markersize=3,
        )
    for axes, title in (
        (left, "multi-task average"),
        (right, f"headline of each task, {found['models'][0]}"),
    ):
        ticks = [arm["entries_per_image"] for arm in known]
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("entries an image, at an equal number of entries")
        axes.set_title(plain(title), fontsize=9)
        axes.legend(frameon=False, fontsize=7)
    return figure


def _transfer(found: Found) -> Figure | None:
    """Scores of arms that train on one task, or on all."""
    arms = [arm for arm in found["arms"] if arm["name"] in found["transfer"]["arms"] and not arm["left_out"]]
    return _matrix(
        found, arms, lambda arm, task: _value(level(found, arm, found["models"][0], task)), "Blues", "score"
    )


def _left_out(found: Found) -> Figure | None:
    """What leaving a task out changes."""
    deltas = {
        (row["first"], row["task"]): row["value"]
        for row in found["transfer"]["differences"]
        if row["model"] == found["models"][0]
    }
    arms = [arm for arm in found["arms"] if arm["left_out"]]
    return _matrix(found, arms, lambda arm, task: deltas.get((arm, task)), "RdBu", "points against all tasks")


def _value(row: Found | None) -> float | None:
    return row["value"] if row else None


def _matrix(
    found: Found, arms: Sequence[Found], value: Callable[[str, str], float | None], colours: str, title: str
) -> Figure | None:
    """A heat map of arms and tasks."""
    tasks = [*found["test"]["tasks"], AVERAGE]
    cells = [[value(arm["name"], task) for task in tasks] for arm in arms]
    known = [one for row in cells for one in row if one is not None]
    if not known:
        return None
    figure, (axes,) = canvas(1, 7.5, 1.4 + 0.36 * len(arms))
    widest = max(abs(one) for one in known) or 1.0
    low = -widest if colours == "RdBu" else 0.0
    shown = [[float("nan") if one is None else one for one in row] for row in cells]
    axes.imshow(shown, cmap=colours, vmin=low, vmax=widest, aspect="auto")
    axes.grid(visible=False)
    for y, row in enumerate(cells):
        for x, one in enumerate(row):
            dark = one is not None and abs(one) > 0.65 * widest
            axes.text(
                x, y, "" if one is None else f"{one:.1f}", ha="center", va="center", fontsize=8,
                color="white" if dark else "#17202e",
            )  # fmt: skip
    axes.set_xticks(range(len(tasks)), [*tasks[:-1], "average"], rotation=30, ha="right")
    axes.set_yticks(range(len(arms)), [plain(arm["label"]) for arm in arms])
    axes.set_title(plain(f"{title}, {found['models'][0]}"), fontsize=9)
    return figure
