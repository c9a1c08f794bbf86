"""The study as a figure: gain against TaCo distance, and the gains of all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from eval.drawing import STYLE, canvas, plain, save
from taco_probe.taco.atlas.marks import marks
from taco_probe.taco.transfer.results import p_text

_SHAPES = "os^D"  # of the target's category, beside its colour


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes transfer.png and transfer.svg from what `results` gives."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = canvas(2, 13, 5.6)
        _scatter(left, found)
        _matrix(right, found)
    save({"transfer": figure}, folder)
    return [folder / "transfer.png", folder / "transfer.svg"]


def _scatter(axes: Axes, found: Mapping[str, Any]) -> None:
    """Gain against distance, a point a pair. Less the target's mean: how easily a target is helped is not
    what is asked."""
    tasks, gain = found["tasks"], np.asarray(found["gain"])
    distance = np.asarray(found["distances"]["taco"])
    category = np.asarray([found["categories"][task] for task in tasks])
    away = ~np.eye(len(tasks), dtype=bool)
    gained = gain - np.where(away, gain, 0).sum(axis=0) / (len(tasks) - 1)
    for place, (name, mark) in enumerate(marks(list(category)).items()):
        for same in (True, False):
            at = away & (category == name)[None] & ((category[:, None] == category[None]) == same)
            face = mark.colour if same else "none"
            axes.scatter(
                distance[at], gained[at], s=26, facecolors=face, edgecolors=mark.colour,
                marker=_SHAPES[place % len(_SHAPES)], label=plain(name) if same else None,
            )  # fmt: skip
    taco = found["agreement"]["taco"]
    axes.set_title(
        f"rank correlation of nearness and gain within targets {taco['value']:.2f} "
        f"({taco['low']:.2f} to {taco['high']:.2f}), {p_text(taco)}",
        fontsize=9,
    )
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.set_xlabel("TaCo distance of source and target")
    axes.set_ylabel("gain less the target's mean gain")
    axes.legend(title="target (filled: source of its category)", fontsize=8, title_fontsize=8)


def _matrix(axes: Axes, found: Mapping[str, Any]) -> None:
    """The gain of every pair, a row a source."""
    names, gain = [plain(task) for task in found["tasks"]], np.asarray(found["gain"])
    largest = max(float(np.abs(gain).max()), 1e-6)
    image = axes.imshow(gain, cmap="PuOr", vmin=-largest, vmax=largest)
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("target")
    axes.set_ylabel("source")
    axes.set_title("gain: 1 - error / error from scratch", fontsize=9)
    axes.figure.colorbar(image, ax=axes, shrink=0.85)
