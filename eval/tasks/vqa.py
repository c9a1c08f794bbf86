"""Visual question answering: accuracy by exact match over all questions, over closed ones (yes, no) and by
kind of question; for open ones also the share of the truth's words that the answer holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eval.answers import Answer
from eval.metrics import Metric, exact, mean, token_recall


def _closed(answer: Answer) -> bool:
    return answer.truth in ("yes", "no")


def _open(answer: Answer) -> bool:
    return not _closed(answer)


def _of_kind(kind: str, answer: Answer) -> bool:
    return answer.entry.kind == kind


def metrics(answers: Sequence[Answer]) -> tuple[Metric, ...]:
    kinds = sorted({answer.entry.kind for answer in answers})
    return (
        mean("accuracy", exact),
        mean("closed_accuracy", exact, where=_closed),
        mean("open_exact_match", exact, where=_open),
        mean("open_token_recall", lambda answer: token_recall(answer.truth, answer.predicted), where=_open),
        *(mean(f"accuracy_{kind}", exact, where=partial(_of_kind, kind)) for kind in kinds if kind),
    )
