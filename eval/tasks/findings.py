"""Findings: micro-F1, macro-F1 over the labels that occur in the truth, and exact match of the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from eval.answers import Answer
from eval.metrics import FloatArray, Metric, exact, mean, ratio


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


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    labels = sorted(frozenset().union(*(answer.truth for answer in answers)))
    rows = partial(counts, labels)
    found = [Metric("micro_f1", rows, micro_f1), mean("exact_match", exact)]
    if labels:
        found.append(Metric("macro_f1", rows, macro_f1))
    return tuple(found)
