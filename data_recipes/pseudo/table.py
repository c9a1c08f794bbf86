"""The quality report as rows for people: in the terminal and on the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_recipes.tasks import TASKS

_FILTERS = ("parse", "likelihood", "agreement", "consistency")
HEADINGS = (
    "task", "asked", "parse", "likely", "agree", "cons", "kept", "used", "ECE",
    "right", "of kept", "of used", "headline",
)  # fmt: skip
LEGEND = (
    "Answers left after each filter, the kept share, and how many are used. Right: the headline metric of "
    "all answers, of those kept, of those used, where the truth is known. ECE: expected calibration error of "
    "the likelihood."
)


def rows(tasks: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each task, under HEADINGS; "off" for a filter that was, "-" where the truth is not known.

    Args:
        tasks: `tasks` of `pseudo.json`.
    """
    return [_row(name, tasks[name]) for name in TASKS if name in tasks]


def _row(name: str, task: Mapping[str, Any]) -> tuple[str, ...]:
    left = {row["filter"]: str(row["left"]) for row in task["funnel"]}
    error, values = "-", [None, None, None]
    if "headline" in task:
        error = f"{task['calibration']['expected_error']:.2f}"
        values = [task["funnel"][0]["value"], task["funnel"][-1]["value"], task["used_value"]]
    return (
        name,
        left["asked"],
        *(left.get(step, "off") for step in _FILTERS),
        f"{100 * task['kept_fraction']:.0f}%",
        str(task["used"]),
        error,
        *("-" if value is None else f"{value:.1f}" for value in values),
        task.get("headline", "-"),
    )
