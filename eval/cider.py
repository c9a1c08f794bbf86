"""CIDEr-D of reports (Vedantam et al. 2015, arXiv 1411.5726), one reference a report."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

_WORD = re.compile(r"\w+")
_ORDERS = 4
_SIGMA = 6.0  # of the penalty on a difference in length
_SCALE = 10.0

Ngram = tuple[str, ...]


def plain_words(text: str) -> list[str]:
    """Lower case runs of letters and digits: "3.5 cm, left-sided" is 3, 5, cm, left, sided."""
    return _WORD.findall(text.lower())


class Cider:
    """CIDEr-D against a fixed set of references.

    An n-gram that few references hold weighs more: count x log(references / references that hold it). The
    weights depend on the references only, so the value of a report is the same in every resample.
    """

    def __init__(self, references: Iterable[str]) -> None:
        self._references = 0
        self._holding: Counter[Ngram] = Counter()
        for reference in references:
            self._references += 1
            self._holding.update(_ngrams(reference).keys())

    @property
    def defined(self) -> bool:
        """Whether an n-gram tells references apart; with one reference, or equal ones, every weight is 0."""
        return any(holding < self._references for holding in self._holding.values())

    def __call__(self, reference: str, predicted: str | None) -> float:
        """CIDEr-D of one report, 0..10: the mean over n = 1..4 of the cosine of weighted n-gram counts, those
        of the prediction clipped to the reference's, times exp(-d^2 / 72) for a difference of d bigrams. A
        perfect report has less than 10 where no n-gram of some n tells its reference apart."""
        if not predicted:
            return 0.0
        found, expected = self._weights(predicted), self._weights(reference)
        shared, norms = [0.0] * _ORDERS, [[0.0] * _ORDERS, [0.0] * _ORDERS]
        for ngram, weight in found.items():
            other = expected.get(ngram, 0.0)
            shared[len(ngram) - 1] += min(weight, other) * other
        for norm, weights in zip(norms, (found, expected), strict=True):
            for ngram, weight in weights.items():
                norm[len(ngram) - 1] += weight * weight
        cosines = [s / math.sqrt(a * b) if a and b else 0.0 for s, a, b in zip(shared, *norms, strict=True)]
        apart = _bigrams(predicted) - _bigrams(reference)
        return _SCALE * sum(cosines) / _ORDERS * math.exp(-(apart**2) / (2 * _SIGMA**2))

    def _weights(self, text: str) -> dict[Ngram, float]:
        return {
            ngram: count * math.log(self._references / max(1, self._holding[ngram]))
            for ngram, count in _ngrams(text).items()
        }


@lru_cache(maxsize=20_000)
def _ngrams(text: str) -> Counter[Ngram]:
    """How often each n-gram of 1 to 4 words occurs."""
    words = plain_words(text)
    return Counter(tuple(words[i : i + n]) for n in range(1, _ORDERS + 1) for i in range(len(words) - n + 1))


def _bigrams(text: str) -> int:
    return max(0, len(plain_words(text)) - 1)
