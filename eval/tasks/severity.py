"""Severity: macro-F1, accuracy, quadratic kappa and mean absolute error over the edema grades, all from one
confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from data_recipes.scene import EDEMA_GRADES
from eval.answers import Answer
from eval.metrics import FloatArray, Metric, Table, parse_rate, ratio

GRADES = len(EDEMA_GRADES)
UNREAD = GRADES  # a column of its own: never right, never another grade's false positive


def confusion(answers: Sequence[Answer]) -> FloatArray:
    """(n, 4 * 5): the flattened confusion matrix, true grade by predicted grade or unread."""
    rows = np.zeros((len(answers), GRADES, GRADES + 1))
    for row, answer in zip(rows, answers, strict=True):
        row[answer.truth, UNREAD if answer.predicted is None else answer.predicted] = 1
    return rows.reshape(len(answers), GRADES * (GRADES + 1))


def _matrix(sums: FloatArray) -> FloatArray:
    return sums.reshape(*sums.shape[:-1], GRADES, GRADES + 1)


def macro_f1(grades: Sequence[int], sums: FloatArray) -> FloatArray:
    """Mean F1 of `grades`, those in the truth of the whole test set. A grade that a resample holds neither in
    truth nor in predictions is left out there: it can be neither right nor wrong."""
    matrix = _matrix(sums)
    right = np.diagonal(matrix, axis1=-2, axis2=-1)
    f1 = ratio(2 * right, matrix.sum(axis=-1) + matrix.sum(axis=-2)[..., :GRADES])[..., list(grades)]
    return 100.0 * ratio(np.nansum(f1, axis=-1), np.isfinite(f1).sum(axis=-1).astype(np.float64))


def accuracy(sums: FloatArray) -> FloatArray:
    right = np.diagonal(_matrix(sums), axis1=-2, axis2=-1).sum(axis=-1)
    return 100.0 * ratio(right, sums.sum(axis=-1))


def _farthest(matrix: FloatArray) -> FloatArray:
    """(..., 4, 4): an unread answer as the grade farthest from the truth."""
    read = matrix[..., :GRADES].copy()
    for grade in range(GRADES):
        read[..., grade, GRADES - 1 if grade < GRADES / 2 else 0] += matrix[..., grade, UNREAD]
    return read


_APART = np.abs(np.subtract.outer(np.arange(GRADES), np.arange(GRADES))).astype(np.float64)


def ordinal_mae(sums: FloatArray) -> FloatArray:
    """Mean number of grades between prediction and truth; an unread answer is as far off as it can be."""
    return ratio((_APART * _farthest(_matrix(sums))).sum(axis=(-2, -1)), sums.sum(axis=-1))


def quadratic_kappa(sums: FloatArray) -> FloatArray:
    """Cohen's kappa with quadratic weights, times 100; an unread answer counts as the grade farthest from the
    truth."""
    read, weights = _farthest(_matrix(sums)), _APART**2
    expected = read.sum(axis=-1)[..., :, None] * read.sum(axis=-2)[..., None, :]
    disagreement = ratio(
        (weights * read).sum(axis=(-2, -1)) * read.sum(axis=(-2, -1)),
        (weights * expected).sum(axis=(-2, -1)),
        empty=0.0,  # one grade only, in truth and predictions alike
    )
    return 100.0 * (1.0 - disagreement)


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    grades = sorted({answer.truth for answer in answers})
    return (
        Metric("macro_f1", confusion, partial(macro_f1, grades)),
        Metric("accuracy", confusion, accuracy),
        Metric("quadratic_kappa", confusion, quadratic_kappa, unit="kappa x 100"),
        Metric("ordinal_mae", confusion, ordinal_mae, unit="grades", higher_is_better=False),
        parse_rate(),
    )


def tables(answers: Sequence[Answer]) -> dict[str, Table]:
    matrix = _matrix(confusion(answers).sum(axis=0))
    grades = [f"grade {grade}" for grade in range(GRADES)]
    return {"confusion": Table("truth", "prediction", grades, [*grades, "unread"], matrix.tolist())}
