"""Referring expression generation: ROUGE-L, exact match and token F1 of the phrase."""

from __future__ import annotations

from collections.abc import Sequence

from eval.answers import Answer
from eval.metrics import Metric, exact, mean, rouge_l, token_f1


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    return (
        mean("rouge_l", lambda answer: rouge_l(answer.truth, answer.predicted)),
        mean("exact_match", exact),
        mean("token_f1", lambda answer: token_f1(answer.truth, answer.predicted)),
    )
