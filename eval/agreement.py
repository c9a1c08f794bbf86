"""How far two answers to one question agree, 0..1, by each task's own notion."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Any

from data_recipes.pseudo.things import Said, read_report
from data_recipes.tasks.calculation import TOLERANCE, Ratio
from eval.metrics import rouge_l
from eval.tasks.rec import matched


def _ratios(a: Ratio, b: Ratio) -> float:
    """1 within the task's tolerance."""
    return float(abs(a.value - b.value) <= TOLERANCE + 1e-9)


def _labels(a: Set[Any], b: Set[Any]) -> float:
    """Jaccard index; 1 where both say that nothing is there."""
    return len(a & b) / len(a | b) if a | b else 1.0


def _same(a: object, b: object) -> float:
    return float(a == b)


def _reports(a: str, b: str) -> float:
    """Overlap of what they say is there, is not there, or is so; of their words where neither is understood.
    Wording is arbitrary, so that two true reports may share few words."""
    said = [_claims(read_report(text)) for text in (a, b)]
    return _labels(*said) if any(said) else rouge_l(a, b) / 100


def _claims(said: Said) -> set[object]:
    claims: set[object] = {(thing.name, thing.side) for thing in said.present}
    claims |= {(name, None) for name in said.absent}
    if said.grade is not None:
        claims.add(("grade", said.grade))
    if said.large_heart is not None:
        claims.add(("large heart", said.large_heart))
    return claims


_NOTIONS: dict[str, Callable[[Any, Any], float]] = {
    "calculation": _ratios,
    "report": _reports,
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
