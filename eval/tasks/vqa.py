"""Visual question answering: accuracy by exact match, over all questions, closed (yes, no), open, and by
kind."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from eval.answers import Answer
from eval.metrics import Metric, exact, mean


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
        mean("open_accuracy", exact, where=_open),
        *(mean(f"accuracy_{kind}", exact, where=partial(_of_kind, kind)) for kind in kinds if kind),
    )
