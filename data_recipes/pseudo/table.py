"""The quality report as rows for people: in the terminal and on the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_recipes.tasks import TASKS

HEADINGS = (
    "task",
    "asked",
    "parse",
    "likelihood",
    "agreement",
    "consistency",
    "kept",
    "used",
    "ECE",
    "headline",
)


def rows(tasks: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each task, under HEADINGS: how many answers are left after each filter that was on, the kept
    share, how many went into the mixture, and where the truth is known the expected calibration error and the
    headline metric of all answers, of those kept and of those used.

    Args:
        tasks: `tasks` of `pseudo.json`.
    """
    found = []
    for name in TASKS:
        if name in tasks:
            task = tasks[name]
            left = {row["filter"]: str(row["left"]) for row in task["funnel"]}
            filters = (left.get(step, "off") for step in HEADINGS[2:6])
            error = f"{task['calibration']['expected_error']:.2f}" if "calibration" in task else "-"
            share = f"{100 * task['kept_fraction']:.0f} %"
            found.append((name, left["asked"], *filters, share, str(task["used"]), error, _headline(task)))
    return found


def _headline(task: Mapping[str, Any]) -> str:
    if "headline" not in task:
        return "truth unknown"
    first, last = task["funnel"][0]["value"], task["funnel"][-1]["value"]
    steps = " -> ".join(
        "-" if value is None else f"{value:.1f}" for value in (first, last, task["used_value"])
    )
    return f"{task['headline']} {steps}"
