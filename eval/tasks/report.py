"""Report: ROUGE-L (rouge-score, F-measure, mean over reports) and BLEU-4 (sacrebleu's corpus BLEU: 13a
tokens, mixed case, exponential smoothing)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from eval.answers import Answer
from eval.metrics import FloatArray, Metric, mean, ratio, rouge_l

_BLEU = BLEU(effective_order=True)  # effective order matters to sentence scores only; we take their counts


def bleu_rows(answers: Sequence[Answer]) -> FloatArray:
    """(n, 10): hypothesis length, reference length, matching 1..4-grams, all 1..4-grams of the hypothesis."""
    rows = []
    for answer in answers:
        counts = _BLEU.sentence_score(answer.predicted or "", [answer.truth])
        rows.append([counts.sys_len, counts.ref_len, *counts.counts, *counts.totals])
    return np.array(rows, dtype=np.float64).reshape(-1, 10)


def bleu(sums: FloatArray) -> FloatArray:
    """Corpus BLEU-4, 0..100, from sums (..., 10). Papineni et al. 2002, with sacrebleu's "exp" smoothing: the
    i-th order without a match counts as 1 / 2^i matches."""
    length, reference, matches, totals = sums[..., 0], sums[..., 1], sums[..., 2:6], sums[..., 6:10]
    missing = np.cumsum(matches == 0, axis=-1)
    smoothed = np.where(matches == 0, 0.5**missing, matches)
    precision = ratio(smoothed, totals, empty=0.0)
    with np.errstate(divide="ignore"):
        geometric = np.exp(np.log(precision).mean(axis=-1))
    brevity = np.exp(np.minimum(0.0, 1.0 - ratio(reference, length, empty=np.inf)))
    return np.where(matches.any(axis=-1), 100.0 * brevity * geometric, 0.0)


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    return (
        mean("rouge_l", lambda answer: rouge_l(answer.truth, answer.predicted)),
        Metric("bleu4", bleu_rows, bleu),
    )
