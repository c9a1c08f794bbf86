"""Metrics as additive sufficient statistics.

`rows` turns n answers into an (n, k) array and `finish` turns column sums (..., k) into values (...). Nothing
else is needed to score any resample: sum the rows of each patient once, weigh patients, finish. So a
bootstrap over patients is one matrix product, for a corpus BLEU or a macro-F1 as well as for a mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rouge_score.rouge_scorer import RougeScorer

from eval.answers import Answer

FloatArray = npt.NDArray[np.float64]


def _every(answer: Answer) -> bool:
    return True


@dataclass(frozen=True)
class Table:
    """What one number cannot say, such as a confusion matrix: values (rows, columns), None where there is
    nothing to judge."""

    row_title: str
    column_title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class Metric:
    """One metric of one task.

    Attributes:
        rows: n answers -> (n, k), of which only the sum over answers matters.
        finish: sums (..., k) -> values (...); NaN where a resample holds nothing to judge.
        unit: "%" for 0..100.
        where: the answers that count; the others are left out of rows and of n.
        otherwise: why the metric is not computed when none counts.
    """

    name: str
    rows: Callable[[Sequence[Answer]], FloatArray]
    finish: Callable[[FloatArray], FloatArray]
    unit: str = "%"
    higher_is_better: bool = True
    where: Callable[[Answer], bool] = _every
    otherwise: str = "no entry of the test set is of this kind"

    def value(self, answers: Sequence[Answer]) -> float:
        """The metric over answers; NaN when none counts."""
        counted = [answer for answer in answers if self.where(answer)]
        return float(self.finish(self.rows(counted).sum(axis=0))) if counted else float("nan")


def ratio(numerator: FloatArray, denominator: FloatArray, empty: float = np.nan) -> FloatArray:
    """numerator / denominator, and `empty` where the denominator is 0; any shape (...)."""
    out = np.full(np.broadcast(numerator, denominator).shape, empty, dtype=np.float64)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def mean(
    name: str,
    value: Callable[[Answer], float],
    *,
    unit: str = "%",
    higher_is_better: bool = True,
    where: Callable[[Answer], bool] = _every,
    otherwise: str = Metric.otherwise,
) -> Metric:
    """The mean of a value per answer."""

    def rows(answers: Sequence[Answer]) -> FloatArray:
        return np.array([(value(answer), 1.0) for answer in answers], dtype=np.float64).reshape(-1, 2)

    def finish(sums: FloatArray) -> FloatArray:
        return ratio(sums[..., 0], sums[..., 1])

    return Metric(name, rows, finish, unit, higher_is_better, where, otherwise)


def parse_rate() -> Metric:
    """Share of the outputs that could be read as an answer."""
    return mean("parse_rate", lambda answer: 100.0 * (answer.predicted is not None))


def exact(answer: Answer) -> float:
    """100 when prediction and truth are equal, else 0."""
    return 100.0 * (answer.predicted is not None and answer.predicted == answer.truth)


_ROUGE = RougeScorer(["rougeL"])


@lru_cache(maxsize=200_000)
def rouge_l(truth: str, predicted: str | None) -> float:
    """ROUGE-L F-measure of one text, 0..100 (rouge-score: lower case, no stemming); 0 for no text."""
    return 100.0 * float(_ROUGE.score(truth, predicted)["rougeL"].fmeasure) if predicted else 0.0


def token_f1(truth: str, predicted: str | None) -> float:
    """F1 over the multisets of white-space tokens, as in SQuAD, 0..100."""
    shared = shared_tokens(truth, predicted)
    return 200.0 * shared / (len(truth.split()) + len((predicted or "").split())) if shared else 0.0


def token_recall(truth: str, predicted: str | None) -> float:
    """Share of the truth's white-space tokens (a multiset) that the prediction holds, 0..100: the usual score
    of open questions, as in LLaVA-Med (arXiv 2306.00890). A long prediction costs nothing."""
    return 100.0 * shared_tokens(truth, predicted) / len(truth.split()) if truth.split() else 0.0


def shared_tokens(truth: str, predicted: str | None) -> int:
    """Size of the intersection of two multisets of white-space tokens."""
    return (Counter(truth.split()) & Counter((predicted or "").split())).total()
