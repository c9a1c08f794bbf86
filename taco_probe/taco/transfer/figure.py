"""The study as a figure: gain against TaCo distance, and the gains of all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from taco_probe.taco.tasks import CATEGORIES
from taco_probe.taco.transfer.results import p_text

# By the target's category; told apart in greys too. Filled: the source is of the same category.
_MARKS = {"semantic": ("#0b5fa5", "o"), "generative": ("#c75000", "s"), "transformation": ("#4b8b3b", "^")}


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes transfer.png and transfer.svg from what `results` gives."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "imax"  # the same file from the same numbers
    tasks, gain = found["tasks"], np.asarray(found["gain"])
    distance = np.asarray(found["distances"]["taco"])
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 5.6), width_ratios=(1, 1.25), layout="constrained"
    )
    category = np.asarray([found["categories"][task] for task in tasks])
    away = ~np.eye(len(tasks), dtype=bool)
    # Less the target's mean: how easily a target is helped is not what is asked.
    gained = gain - np.where(away, gain, 0).sum(axis=0) / (len(tasks) - 1)
    for name in CATEGORIES:
        colour, mark = _MARKS[name]
        for same in (True, False):
            at = away & (category == name)[None] & ((category[:, None] == category[None]) == same)
            kind = {"facecolors": colour if same else "none", "edgecolors": colour, "marker": mark, "s": 26}
            left.scatter(distance[at], gained[at], **kind, label=name if same else None)
    taco = found["agreement"]["taco"]
    left.set_title(
        f"rank correlation of nearness and gain within targets {taco['value']:.2f} "
        f"({taco['low']:.2f} to {taco['high']:.2f}), {p_text(taco)}",
        fontsize=9,
    )
    left.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    left.set_xlabel("TaCo distance of source and target")
    left.set_ylabel("gain less the target's mean gain")
    left.legend(title="target (filled: source of its category)", fontsize=8, title_fontsize=8)
    largest = max(float(np.abs(gain).max()), 1e-6)
    image = right.imshow(gain, cmap="PuOr", vmin=-largest, vmax=largest)
    right.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=8)
    right.set_yticks(range(len(tasks)), tasks, fontsize=8)
    right.set_xlabel("target")
    right.set_ylabel("source")
    right.set_title("gain: 1 - error / error from scratch", fontsize=9)
    figure.colorbar(image, ax=right, shrink=0.85)
    written = [folder / "transfer.png", folder / "transfer.svg"]
    for path in written:
        part = path.with_name(f".part-{path.name}")
        figure.savefig(part, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
        part.replace(path)
    plt.close(figure)
    return written
