"""Metrics, one file a task: `metrics(answers)` lists them, the headline (0..100, higher is better) first.

Which metrics there are may depend on what the truths hold (labels, kinds of question), never on predictions,
so that all runs on one test set have the same metrics.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from data_recipes.errors import unknown
from data_recipes.tasks import TASKS
from eval.answers import Answer
from eval.metrics import Metric


def metrics(task: str, answers: Sequence[Answer]) -> tuple[Metric, ...]:
    """The metrics of a task for a test set with these truths, the headline first.

    Raises:
        UserError: no such task.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    found: tuple[Metric, ...] = importlib.import_module(f"eval.tasks.{task}").metrics(answers)
    return found
