"""How far two answers to one question agree, 0..1, by each task's own notion."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

from data_recipes.tasks.calculation import TOLERANCE, Ratio
from eval.metrics import rouge_l
from eval.tasks.rec import matched


def _ratios(a: Ratio, b: Ratio) -> float:
    """1 within the task's tolerance."""
    return float(abs(a.value - b.value) <= TOLERANCE + 1e-9)


def _labels(a: Set[str], b: Set[str]) -> float:
    """Jaccard index; 1 where both say that nothing is there."""
    return len(a & b) / len(a | b) if a | b else 1.0


def _same(a: object, b: object) -> float:
    return float(a == b)


_NOTIONS: dict[str, Callable[[Any, Any], float]] = {
    "calculation": _ratios,
    "report": lambda a, b: rouge_l(a, b) / 100,
    "severity": _same,
    "findings": _labels,
    "rec": matched,  # IoU of boxes matched one to one
    "reg": _same,
    "vqa": _same,
}


def agreement(task: str, answer: Any, others: Sequence[Any | None]) -> float | None:
    """Mean agreement of an answer with others, all as values (`data_recipes.tasks`); one that could not be
    read (None) agrees with nothing. None without others.

    >>> agreement("severity", 2, [2, 1, None, 2])
    0.5
    """
    if not others:
        return None
    return sum(0.0 if b is None else _NOTIONS[task](answer, b) for b in others) / len(others)
