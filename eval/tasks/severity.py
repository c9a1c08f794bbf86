"""Severity: macro-F1, accuracy and quadratic kappa over the edema grades, all from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from data_recipes.scene import EDEMA_GRADES
from eval.answers import Answer
from eval.metrics import FloatArray, Metric, ratio

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


def quadratic_kappa(sums: FloatArray) -> FloatArray:
    """Cohen's kappa with quadratic weights, times 100; an unread answer counts as the grade farthest from the
    truth."""
    matrix = _matrix(sums)
    read, grades = matrix[..., :GRADES].copy(), np.arange(GRADES)
    for grade in grades:
        farthest = GRADES - 1 if grade < GRADES / 2 else 0
        read[..., grade, farthest] += matrix[..., grade, UNREAD]
    weights = (grades[:, None] - grades[None, :]) ** 2
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
    )
