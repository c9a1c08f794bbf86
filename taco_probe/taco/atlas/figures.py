"""The atlas's figures: distances with their tree, retrieval beside its controls, trajectories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from eval import drawing
from eval.drawing import COLOURS, STYLE, canvas, name_rows, plain, whisker
from taco_probe.taco.atlas import heat
from taco_probe.taco.atlas.marks import Found, marks, spoken
from taco_probe.taco.atlas.scores import BASELINE, CONTROL, GALLERIES, MAIN
from taco_probe.taco.words import encoder

_SHAPES = "os^D"


def draw(found: Found) -> dict[str, Figure]:
    """Name -> figure, those that the analysis has numbers for."""
    makers: Mapping[str, tuple[Callable[[Found], Figure], Sequence[str]]] = {
        "distances": (_distances, ("distances", "clusters")),
        "retrieval": (_retrieval, ("retrieval", "runs")),
        "trajectories": (_trajectories, ("paths",)),
    }
    with mpl.rc_context(STYLE):
        return {
            name: maker(found)
            for name, (maker, needs) in makers.items()
            if all(found.get(key) for key in needs)
        }


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Writes <name>.svg and <name>.png; returns where they are."""
    drawing.save(figures, folder)
    return [folder / f"{name}.{ending}" for name in figures for ending in ("png", "svg")]


def _distances(found: Found) -> Figure:
    """The heat map in the order of the tree, the tree beside it."""
    distances, clusters = found["distances"], found["clusters"]
    order = clusters["order"]
    matrix = np.array(distances["matrix"], dtype=float)[np.ix_(order, order)]
    named = marks(distances["categories"])
    figure = Figure(figsize=(9.6, 7.8), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 1))
    ramp = LinearSegmentedColormap.from_list("near to far", [heat.ramp(k / 32) for k in range(33)])
    size = len(order)
    shown = left.pcolormesh(matrix, cmap=ramp, vmin=0, edgecolors="white", linewidth=0.6, rasterized=True)
    left.grid(visible=False)
    left.spines[:].set_visible(False)
    names = [plain(spoken(distances["tasks"][place])) for place in order]
    left.set_yticks(np.arange(size) + 0.5, names, fontsize=7.5)
    left.set_xticks(np.arange(size) + 0.5, names, fontsize=7.5, rotation=90)
    left.tick_params(length=0)
    kinds = list(named)
    for y, place in enumerate(order):
        category = distances["categories"][place]
        shape = _SHAPES[kinds.index(category) % len(_SHAPES)]
        left.plot(size + 0.7, y + 0.5, shape, color=named[category].colour, markersize=5, clip_on=False)
    left.set_xlim(0, size)
    left.set_ylim(size, 0)
    figure.colorbar(
        shown, ax=[left, right], location="bottom", shrink=0.4, aspect=40,
        label="cosine distance of task centroids",
    )  # fmt: skip
    tree = dendrogram(np.array(clusters["linkage"]), orientation="right", no_plot=True)
    for y, x in zip(tree["icoord"], tree["dcoord"], strict=True):
        right.plot(x, np.array(y) / 10, color="#475569", linewidth=1)
    right.set_ylim(size, 0)
    right.set_xlim(left=0)
    right.set_yticks([])
    right.spines["left"].set_visible(False)
    right.set_xlabel("distance at which branches join")
    rand = clusters["rand"]
    right.set_title(f"cut into {clusters['k']}: adjusted\nRand index {rand['value']:.2f}", fontsize=8)
    handles = [
        right.plot([], [], _SHAPES[at % len(_SHAPES)], color=mark.colour, label=plain(name))[0]
        for at, (name, mark) in enumerate(named.items())
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _retrieval(found: Found) -> Figure:
    """Top-1 and mean average precision of the encoder, its controls and baselines; red: chance."""
    own, runs = found["retrieval"], found["runs"]
    gallery = own["gallery"]
    rows: list[tuple[str, int, Any]] = [("TaCo", MAIN, own["variants"][runs["main"]][gallery])]
    for kind, key, number in (("controls", "view", CONTROL), ("baselines", "baseline", BASELINE)):
        rows += [(encoder(row[key]), number, row) for row in (found.get(kind) or {}).get("rows", ())]
    figure, panels = canvas(2, 9.6, 1.2 + 0.34 * len(rows))
    for axes, (score, title) in zip(
        panels, (("top1", "top-1, %"), ("map", "mean average precision, %")), strict=True
    ):
        for place, (_, number, by) in enumerate(rows):
            if not by[score]:
                continue
            scaled = {
                end: None if by[score].get(end) is None else 100 * by[score][end]
                for end in ("value", "low", "high", "chance")
            }
            axes.barh(place, scaled["value"] or 0, height=0.5, color=COLOURS[number], alpha=0.2)
            whisker(axes, place, scaled, COLOURS[number])
            if scaled["chance"] is not None:
                axes.plot(
                    [scaled["chance"]] * 2, [place - 0.35, place + 0.35], color="#dc2626", linewidth=1.6
                )
        name_rows(axes, [name for name, _, _ in rows], f"{title}; {GALLERIES.get(gallery, gallery)}")
        axes.set_xlim(left=0)
    panels[1].set_yticklabels([])
    return figure


def _trajectories(found: Found) -> Figure:
    """Distance from the start at each strength, a line a category; below, roughness beside its null."""
    own = found["paths"]
    alterations = list(dict.fromkeys(curve["alteration"] for curve in own["curves"]))
    categories = [curve["category"] for curve in own["curves"] if curve["category"] != "all"]
    named = marks(categories)
    figure, panels = canvas(len(alterations), 2.6 * len(alterations), 3.0)
    for axes, alteration in zip(panels, alterations, strict=True):
        for at, (category, mark) in enumerate(named.items()):
            for curve in own["curves"]:
                if (curve["alteration"], curve["category"]) != (alteration, category):
                    continue
                x = np.array(curve["strengths"])
                value, low, high = (
                    np.array([point[end] for point in curve["distance"]], dtype=float)
                    for end in ("value", "low", "high")
                )
                shape = _SHAPES[at % len(_SHAPES)]
                axes.plot(x, value, f"{shape}-", color=mark.colour, markersize=3.5, label=plain(category))
                if np.isfinite(low).all():
                    axes.fill_between(x, low, high, color=mark.colour, alpha=0.15, linewidth=0)
        rough = [
            row
            for row in own["rows"]
            if (row["alteration"], row["category"], row["measure"]) == (alteration, "all", "roughness")
        ]
        said = f"{rough[0]['value']:.2f}, shuffled {rough[0]['null']:.2f}" if _known(rough) else "not known"
        axes.set_title(plain(f"{spoken(alteration)}\nroughness {said}"), fontsize=8)
        axes.set_xlabel("strength")
        axes.set_ylim(bottom=0)
    panels[0].set_ylabel("distance from the start")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=len(names) or 1, frameon=False, fontsize=8
    )
    return figure


def _known(rows: Sequence[Found]) -> bool:
    return bool(rows) and rows[0]["value"] is not None and rows[0]["null"] is not None
