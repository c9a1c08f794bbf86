"""Calculation: share of answers within 0.05 of the true ratio; its error, and how well predicted and true
ratios agree (Pearson, ICC). For CTR and CPAR together and apart.

An answer that cannot be read, or names the other ratio, is an error of 1, and a prediction of 0 where
agreement is judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from data_recipes.tasks.calculation import TOLERANCE
from eval.answers import Answer
from eval.metrics import FloatArray, Metric, mean, parse_rate, ratio

_CONSTANT = 1e-12  # below any variance that ratios in hundredths can have


def predicted(answer: Answer) -> float | None:
    """The predicted ratio; None when the answer cannot be read or names the other ratio."""
    found = answer.predicted
    return None if found is None or found.name not in ("", answer.truth.name) else float(found.value)


def error(answer: Answer) -> float:
    """Absolute error, at most 1."""
    value = predicted(answer)
    return 1.0 if value is None else min(1.0, abs(value - float(answer.truth.value)))


def within(answer: Answer) -> float:
    # Ratios are hundredths: 0.55 and 0.50 differ by 0.05, whatever binary fractions say.
    return 100.0 * (error(answer) <= TOLERANCE + 1e-9)


def squares(answers: Sequence[Answer]) -> FloatArray:
    """(n, 2): squared error, 1."""
    return np.array([(error(answer) ** 2, 1.0) for answer in answers], dtype=np.float64).reshape(-1, 2)


def rmse(sums: FloatArray) -> FloatArray:
    return np.sqrt(ratio(sums[..., 0], sums[..., 1]))


def moments(answers: Sequence[Answer]) -> FloatArray:
    """(n, 6) of predictions x and truths y: 1, x, y, x^2, y^2, xy."""
    x = np.array([predicted(answer) or 0.0 for answer in answers])
    y = np.array([answer.truth.value for answer in answers])
    return np.stack([np.ones_like(x), x, y, x**2, y**2, x * y], axis=1)


def _central(sums: FloatArray) -> tuple[FloatArray, ...]:
    """n, mean of x - y, variances of x and y, covariance; from sums (..., 6) of `moments`."""
    n = sums[..., 0]
    x, y, xx, yy, xy = (ratio(sums[..., i], n) for i in range(1, 6))
    spread = (np.where(value < _CONSTANT, 0.0, value) for value in (xx - x**2, yy - y**2))
    return n, x - y, *spread, xy - x * y


def pearson(sums: FloatArray) -> FloatArray:
    """Pearson's correlation times 100; 0 for constant predictions, NaN for constant truths."""
    _, _, var_x, var_y, covariance = _central(sums)
    found = 100.0 * ratio(covariance, np.sqrt(var_x * var_y), empty=0.0)
    return np.where(var_y > 0, found, np.nan)


def icc(sums: FloatArray) -> FloatArray:
    """Intraclass correlation ICC(A,1) times 100: two-way random, absolute agreement, one measurement (McGraw
    and Wong 1996, table 4), with prediction and truth as the two raters. NaN for constant truths."""
    n, shift, var_x, var_y, covariance = _central(sums)
    subjects = ratio(n * (var_x + var_y + 2 * covariance), 2 * (n - 1))  # mean squares: of subjects,
    raters = n * shift**2 / 2  # of raters,
    residual = ratio(n * (var_x + var_y - 2 * covariance), 2 * (n - 1))  # and what is left
    agreement = ratio(subjects - residual, subjects + residual + ratio(2 * (raters - residual), n))
    return np.where(var_y > 0, 100.0 * agreement, np.nan)


def _asks(name: str, answer: Answer) -> bool:
    return bool(answer.truth.name == name)


def _every(answer: Answer) -> bool:
    return True


def _metrics(prefix: str, where: Callable[[Answer], bool], answers: Sequence[Answer]) -> tuple[Metric, ...]:
    found = [
        mean(f"{prefix}within_0.05", within, where=where),
        mean(f"{prefix}mae", error, unit="ratio", higher_is_better=False, where=where),
        Metric(f"{prefix}rmse", squares, rmse, "ratio", higher_is_better=False, where=where),
    ]
    if len({answer.truth.value for answer in answers if where(answer)}) > 1:
        found.append(Metric(f"{prefix}pearson", moments, pearson, "r x 100", where=where))
        found.append(Metric(f"{prefix}icc", moments, icc, "ICC x 100", where=where))
    return tuple(found)


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    return (
        *_metrics("", _every, answers),
        parse_rate(),
        *_metrics("ctr_", partial(_asks, "CTR"), answers),
        *_metrics("cpar_", partial(_asks, "CPAR"), answers),
    )
