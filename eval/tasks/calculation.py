"""Calculation: share of answers within 0.05 of the true ratio, and the mean absolute error; CTR and CPAR
apart too."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eval.answers import Answer
from eval.metrics import Metric, mean

TOLERANCE = 0.05


def error(answer: Answer) -> float:
    """Absolute error, at most 1; an answer that cannot be read, or that names the other ratio, counts as
    1."""
    if answer.predicted is None or answer.predicted.name not in ("", answer.truth.name):
        return 1.0
    return min(1.0, abs(float(answer.predicted.value - answer.truth.value)))


def within(answer: Answer) -> float:
    # Ratios are hundredths: 0.55 and 0.50 differ by 0.05, whatever binary fractions say.
    return 100.0 * (error(answer) <= TOLERANCE + 1e-9)


def _asks(name: str, answer: Answer) -> bool:
    return bool(answer.truth.name == name)


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    found = [mean("within_0.05", within), mean("mae", error, unit="ratio", higher_is_better=False)]
    for name in ("CTR", "CPAR"):
        asked, prefix = partial(_asks, name), name.lower()
        found.append(mean(f"{prefix}_within_0.05", within, where=asked))
        found.append(mean(f"{prefix}_mae", error, unit="ratio", higher_is_better=False, where=asked))
    return tuple(found)
