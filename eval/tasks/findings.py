"""Findings: micro-F1, macro-F1 over the labels that occur in the truth, mean F1 of the images, and exact
match of the whole set; and a table of findings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from eval.answers import Answer
from eval.metrics import FloatArray, Metric, Table, exact, mean, parse_rate, ratio


def counts(labels: Sequence[str], answers: Sequence[Answer]) -> FloatArray:
    """(n, 3 * (L + 1)): true positives, false positives, false negatives of each label; the last label stands
    for all that never occur in the truth. An answer that cannot be read misses every label and adds a false
    positive there, so that it is wrong for an image without findings too."""
    column = {label: i for i, label in enumerate(labels)}
    rows = np.zeros((len(answers), 3, len(labels) + 1))
    for row, answer in zip(rows, answers, strict=True):
        if answer.predicted is None:
            row[1, -1] = 1
        predicted = answer.predicted or frozenset()
        for label in predicted:
            row[0 if label in answer.truth else 1, column.get(label, -1)] += 1
        for label in answer.truth - predicted:
            row[2, column[label]] += 1
    return rows.reshape(len(answers), 3 * (len(labels) + 1))


def _split(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Twice the true positives, and the denominator of F1; both (..., L + 1)."""
    hits, extra, missed = np.split(sums, 3, axis=-1)
    return 2 * hits, 2 * hits + extra + missed


def micro_f1(sums: FloatArray) -> FloatArray:
    numerator, denominator = _split(sums)
    return 100.0 * ratio(numerator.sum(axis=-1), denominator.sum(axis=-1), empty=1.0)  # no label, no mistake


def macro_f1(sums: FloatArray) -> FloatArray:
    """Mean F1 of the labels in the truth of the whole test set, leaving out those a resample does not
    touch."""
    numerator, denominator = _split(sums)
    f1 = ratio(numerator, denominator)[..., :-1]
    return 100.0 * ratio(np.nansum(f1, axis=-1), np.isfinite(f1).sum(axis=-1).astype(np.float64))


def sample_f1(answer: Answer) -> float:
    """F1 of one image's labels, 0..100; 100 where there are none in truth and prediction."""
    if answer.predicted is None:
        return 0.0
    size = len(answer.truth) + len(answer.predicted)
    return 200.0 * len(answer.truth & answer.predicted) / size if size else 100.0


def _labels(answers: Sequence[Answer]) -> list[str]:
    return sorted(frozenset().union(*(answer.truth for answer in answers)))


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    labels = _labels(answers)
    rows = partial(counts, labels)
    found = [Metric("micro_f1", rows, micro_f1)]
    if labels:
        found.append(Metric("macro_f1", rows, macro_f1))
    return (*found, mean("sample_f1", sample_f1), mean("exact_match", exact), parse_rate())


def tables(answers: Sequence[Answer]) -> dict[str, Table]:
    """Precision, recall and F1 in percent of each finding; in how many images it is true, and predicted."""
    labels = _labels(answers)
    hits, extra, missed = counts(labels, answers).sum(axis=0).reshape(3, -1)
    values = np.stack([
        100 * ratio(hits, hits + extra),
        100 * ratio(hits, hits + missed),
        100 * ratio(2 * hits, 2 * hits + extra + missed),
        hits + missed,
        hits + extra,
    ], axis=1)  # fmt: skip
    rows = [[None if np.isnan(value) else float(value) for value in row] for row in values]
    columns = ["precision", "recall", "F1", "true", "predicted"]
    return {"per_finding": Table("finding", "", [*labels, "not in any truth, or unread"], columns, rows)}
