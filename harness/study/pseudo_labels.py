"""Pseudo-labels of a study's staged runs: how many were asked for, kept and used, and how right they were
where the truth is known; by the pseudo.json of each annotated mixture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from data_recipes.tasks import TASKS
from harness.study.results import Result, Results


@dataclass(frozen=True)
class Row:
    """One task of an arm with a model; means over its runs.

    Attributes:
        asked: questions put to the model.
        kept: share of the answers that passed every filter.
        used: answers that became training entries.
        headline: the metric of the values, 0 to 100; "" where the truth is not known, and values are then
            None.
        value, value_kept, value_used: of all answers, of those kept, of those used.
        calibration: expected calibration error of the likelihood.
    """

    arm: str
    model: str
    task: str
    runs: int
    asked: float
    kept: float
    used: float
    headline: str
    value: float | None
    value_kept: float | None
    value_used: float | None
    calibration: float | None


def rows(results: Results) -> list[Row]:
    """A row for each arm, model and task with pseudo-labels."""
    found = []
    for arm in results.plan.arms:
        for model in results.plan.study.models:
            told = [by_task for run in results.of(arm.name, model.name) if (by_task := _told(run))]
            for task in TASKS:
                if some := [one[task] for one in told if task in one]:
                    found.append(_row(arm.name, model.name, task, some))
    return found


def _told(result: Result) -> dict[str, Any]:
    """What the run's pseudo.json says of each task; of several annotated stages the first."""
    for path in sorted((result.run.folder / "stages").glob("*/mixture/pseudo.json")):
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
        return said
    return {}


def _row(arm: str, model: str, task: str, some: Sequence[Mapping[str, Any]]) -> Row:
    return Row(
        arm,
        model,
        task,
        runs=len(some),
        asked=fmean(one["asked"] for one in some),
        kept=fmean(one["kept_fraction"] for one in some),
        used=fmean(one["used"] for one in some),
        headline=next((one["headline"] for one in some if one.get("headline")), ""),
        value=_mean(one["funnel"][0].get("value") for one in some),
        value_kept=_mean(one["funnel"][-1].get("value") for one in some),
        value_used=_mean(one.get("used_value") for one in some),
        calibration=_mean((one.get("calibration") or {}).get("expected_error") for one in some),
    )


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
