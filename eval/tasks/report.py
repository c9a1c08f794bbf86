"""Report: how near the words are to the reference's, and whether the same things are said to be there.

- ROUGE-L: rouge-score, F-measure, mean over reports.
- BLEU-1 to BLEU-4: sacrebleu's corpus BLEU (13a tokens, mixed case, exponential smoothing).
- METEOR: nltk's, mean over reports, with exact and Porter-stem matches only: WordNet's synonyms would be a
  download.
- CIDEr-D: mean over reports, 0..10, with document frequencies from the references of the whole test set
  (`eval.cider`).
- Clinical F1: CheXpert's observations as the rule labeller of `eval.clinical` finds them in both reports,
  uncertain ones counted as positive; over all 14 and over the 5 of the CheXpert competition
  (docs/clinical.md).

METEOR and CIDEr-D see lower case words without punctuation.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from nltk.stem.porter import PorterStemmer
from nltk.translate.meteor_score import single_meteor_score
from sacrebleu.metrics.bleu import BLEU

from eval.answers import Answer
from eval.cider import Cider, plain_words
from eval.clinical.labeller import COMPETITION, OBSERVATIONS, positive
from eval.metrics import FloatArray, Metric, Table, mean, ratio, rouge_l
from eval.tasks import findings

_BLEU = BLEU(effective_order=True)  # effective order matters to sentence scores only; we take their counts
_ORDERS = (1, 2, 3, 4)


@lru_cache(maxsize=200_000)
def _bleu_counts(truth: str, predicted: str) -> tuple[int, ...]:
    counts = _BLEU.sentence_score(predicted, [truth])
    return (counts.sys_len, counts.ref_len, *counts.counts, *counts.totals)


def bleu_rows(answers: Sequence[Answer]) -> FloatArray:
    """(n, 10): hypothesis length, reference length, matching 1..4-grams, all 1..4-grams of the hypothesis."""
    rows = [_bleu_counts(answer.truth, answer.predicted or "") for answer in answers]
    return np.array(rows, dtype=np.float64).reshape(-1, 10)


def bleu(order: int, sums: FloatArray) -> FloatArray:
    """Corpus BLEU of n-grams up to `order`, 0..100, from sums (..., 10). Papineni et al. 2002, with
    sacrebleu's "exp" smoothing: the i-th order without a match counts as 1 / 2^i matches."""
    length, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + order], sums[..., 6 : 6 + order]
    missing = np.cumsum(matches == 0, axis=-1)
    smoothed = np.where(matches == 0, 0.5**missing, matches)
    precision = ratio(smoothed, totals, empty=0.0)
    with np.errstate(divide="ignore"):
        geometric = np.exp(np.log(precision).mean(axis=-1))
    brevity = np.exp(np.minimum(0.0, 1.0 - ratio(reference, length, empty=np.inf)))
    return np.where(matches.any(axis=-1), 100.0 * brevity * geometric, 0.0)


class _Stems:
    """nltk's Porter stemmer, which stems each word once."""

    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=100_000)(PorterStemmer().stem)


class _NoSynonyms:
    """Stands in for WordNet."""

    def synsets(self, word: str) -> tuple[()]:
        return ()


_STEMS, _NO_SYNONYMS = _Stems(), _NoSynonyms()


def meteor(truth: str, predicted: str | None) -> float:
    """METEOR of one report, 0..100, with nltk's alpha 0.9, beta 3, gamma 0.5 (Lavie and Agarwal 2007). A
    perfect report of m words has 100 - 50 / m^3, since one unbroken match is a chunk too."""
    found, expected = plain_words(predicted or ""), plain_words(truth)
    if not found or not expected:
        return 0.0
    return 100.0 * float(single_meteor_score(expected, found, stemmer=_STEMS, wordnet=_NO_SYNONYMS))


def _observations(among: Sequence[str], answers: Sequence[Answer]) -> list[Answer]:
    """Answers whose truth and prediction are the observations that the report calls present or possible."""
    return [
        Answer(
            answer.entry,
            answer.patient_id,
            positive(answer.truth, among),
            None if answer.predicted is None else positive(answer.predicted, among),
        )
        for answer in answers
    ]


def _clinical(name: str, among: Sequence[str], answers: Sequence[Answer]) -> tuple[Metric, Metric]:
    """Micro-F1, and macro-F1 over the observations that occur in the truths, as in task `findings`."""
    labels = sorted(frozenset[str]().union(*(a.truth for a in _observations(among, answers))))

    def rows(counted: Sequence[Answer]) -> FloatArray:
        return findings.counts(labels, _observations(among, counted))

    return (
        Metric(f"{name}_micro_f1", rows, findings.micro_f1),
        Metric(
            f"{name}_macro_f1",
            rows,
            findings.macro_f1,
            where=lambda _: bool(labels),
            otherwise="no reference report says that one of the observations is there",
        ),
    )


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    cider = Cider(answer.truth for answer in answers)
    return (
        mean("rouge_l", lambda answer: rouge_l(answer.truth, answer.predicted)),
        *(Metric(f"bleu{order}", bleu_rows, partial(bleu, order)) for order in _ORDERS),
        mean("meteor", lambda answer: meteor(answer.truth, answer.predicted)),
        mean(
            "cider",
            lambda a: cider(a.truth, a.predicted),
            unit="0..10",
            where=lambda _: cider.defined,
            otherwise="no n-gram tells one reference report from another",
        ),
        *_clinical("chexpert", OBSERVATIONS, answers),
        *_clinical("chexpert5", COMPETITION, answers),
    )


def tables(answers: Sequence[Answer]) -> dict[str, Table]:
    """Precision, recall and F1 of each of the 14 observations, as in task `findings`."""
    (table,) = findings.tables(_observations(OBSERVATIONS, answers)).values()
    return {"per_observation": table}
