"""Metrics, one file a task: `metrics(answers)` lists them, the headline (0..100, higher is better) first;
`tables(answers)`, where there is one, says what single numbers cannot.

Which metrics there are may depend on what the truths hold (labels, kinds of question), never on predictions,
so that all runs on one test set have the same metrics.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from data_recipes.errors import unknown
from data_recipes.tasks import TASKS
from eval.answers import Answer
from eval.metrics import Metric, Table


def metrics(task: str, answers: Sequence[Answer]) -> tuple[Metric, ...]:
    """The metrics of a task for a test set with these truths, the headline first.

    Raises:
        UserError: no such task.
    """
    found: tuple[Metric, ...] = _module(task).metrics(answers)
    return found


def tables(task: str, answers: Sequence[Answer]) -> dict[str, Table]:
    """The tables of a task by name, for the tasks that have some.

    Raises:
        UserError: no such task.
    """
    module = _module(task)
    return dict(module.tables(answers)) if hasattr(module, "tables") else {}


def _module(task: str) -> Any:
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    return importlib.import_module(f"eval.tasks.{task}")
