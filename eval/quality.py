"""How good pseudo-labels are: the funnel of the filters task by task; and, where the truth is known, the
headline metric before and after each filter, and how well likelihood foretells being right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from data_recipes.pseudo.filters import Answered, verdicts
from data_recipes.pseudo.spec import Filters
from data_recipes.tasks import TASKS, Written, task
from data_recipes.tasks.calculation import TOLERANCE
from eval.answers import Answer
from eval.metrics import rouge_l
from eval.tasks import metrics
from eval.tasks.rec import matched

BINS = 10
# What stands for the truth where a question has none (it asks for what is not there): any answer is wrong.
_NO_TRUTH: dict[str, Any] = {"rec": (), "reg": "", "vqa": ""}

# Metrics beside the headline: the words of a true report vary, what it says does not.
_ALSO = {"report": ("chexpert_micro_f1",)}

Truths = Mapping[str, Written | None]  # entry_id -> the true answer, None where there is none


def quality(
    answers: Sequence[Answered],
    filters: Filters,
    used: Collection[str],
    truths: Truths,
    patients: Mapping[str, str],
) -> dict[str, Any]:
    """The report of a pseudo-annotation, ready for JSON, by task.

    Args:
        used: ids of the answers that went into the mixture.
        truths: of the questions whose truth is known; only they count where truth is needed.
        patients: image id -> patient id.

    Returns:
        {task: {"asked", "kept", "used", "kept_fraction", "funnel": [{"filter", "left", "alone", ...}],
        "contradicted": {rule: n}, ...}}. With truth also "headline", "judged", "without_truth", "used_value",
        "calibration", "also" {metric: its values for all, those kept, those used}, and in each row of the
        funnel "value" and "value_alone": the headline, 0..100, of what is left, and of what passes that
        filter alone. Answers that cannot be read count as wrong.
    """
    judged = list(zip(answers, verdicts(answers, filters), strict=True))
    return {
        name: _task(name, mine, filters, used, truths, patients)
        for name in TASKS
        if (mine := [pair for pair in judged if pair[0].entry.task == name])
    }


def _task(
    name: str,
    passes: Sequence[tuple[Answered, Mapping[str, bool]]],
    filters: Filters,
    used: Collection[str],
    truths: Truths,
    patients: Mapping[str, str],
) -> dict[str, Any]:
    mine = [answered for answered, _ in passes]
    judged = [a for a in mine if a.entry.entry_id in truths]
    headline = partial(_value_of, name, "", truths, patients)
    rows = []
    left = list(passes)
    for step in ("asked", *filters.on):
        left = [pair for pair in left if pair[1].get(step, True)]
        alone = [pair for pair in passes if pair[1].get(step, True)]
        row: dict[str, Any] = {"filter": step, "left": len(left), "alone": len(alone)}
        if judged:
            row |= {"value": headline(left), "value_alone": headline(alone)}
        rows.append(row)
    found: dict[str, Any] = {
        "asked": len(mine),
        "kept": len(left),
        "kept_fraction": len(left) / len(mine),
        "used": sum(a.entry.entry_id in used for a in mine),
        "funnel": rows,
        "contradicted": dict(Counter(rule for a in mine for rule in a.contradicted).most_common()),
    }
    if judged:
        taken = [pair for pair in passes if pair[0].entry.entry_id in used]
        found |= {
            "headline": _metric_name(name, truths, patients, judged),
            "judged": len(judged),
            "without_truth": sum(truths[a.entry.entry_id] is None for a in judged),
            "used_value": headline(taken),
            "also": {
                metric: [_value_of(name, metric, truths, patients, part) for part in (passes, left, taken)]
                for metric in _ALSO.get(name, ())
            },
            "calibration": calibration(
                [(math.exp(a.log_probability), right(a, truths[a.entry.entry_id])) for a in judged]
            ),
        }
    return found


def _answers(mine: Sequence[Answered], truths: Truths, patients: Mapping[str, str]) -> list[Answer]:
    """Answers as metrics see them, of those whose truth is known."""
    return [
        Answer(
            a.entry, patients[a.entry.image_id], _value(a.entry.task, truths[a.entry.entry_id]), predicted(a)
        )
        for a in mine
        if a.entry.entry_id in truths
    ]


def _value_of(
    name: str,
    metric: str,
    truths: Truths,
    patients: Mapping[str, str],
    left: Sequence[tuple[Answered, object]],
) -> float | None:
    """A metric of the task ("" for the headline) over answers; None where it is not defined."""
    answers = _answers([answered for answered, _ in left], truths, patients)
    if not answers:
        return None
    first, *others = metrics(name, answers)
    found = next((other for other in others if other.name == metric), first).value(answers)
    return round(found, 4) if math.isfinite(found) else None


def _metric_name(name: str, truths: Truths, patients: Mapping[str, str], judged: Sequence[Answered]) -> str:
    return metrics(name, _answers(judged, truths, patients))[0].name


def predicted(answered: Answered) -> Any | None:
    """The answer as a value; None where it could not be read."""
    entry = answered.entry
    return task(entry.task).parse(entry.target, entry.target_boxes) if answered.parsed else None


def _value(name: str, truth: Written | None) -> Any:
    return _NO_TRUTH[name] if truth is None else task(name).parse(*truth)


def right(answered: Answered, truth: Written | None) -> float:
    """How right one answer is, 0..1: within the tolerance (calculation), boxes matched at an IoU of 0.5
    (rec), ROUGE-L (report), else the same answer or not."""
    value: Any = predicted(answered)
    if value is None or truth is None:
        return 0.0
    expected: Any = task(answered.entry.task).parse(*truth)
    match answered.entry.task:
        case "calculation":
            return float(abs(value.value - expected.value) <= TOLERANCE + 1e-9)
        case "rec":
            return matched(value, expected, 0.5)
        case "report":
            return rouge_l(expected, value) / 100
        case _:
            return float(value == expected)


def calibration(pairs: Sequence[tuple[float, float]], bins: int = BINS) -> dict[str, Any]:
    """Reliability of confidences (0..1) in bins of equal width, and the expected calibration error: the mean
    distance of confidence and rightness over bins, weighted by what they hold (Naeini et al. 2015, AAAI).

    Args:
        pairs: (confidence, how right) of each answer, both 0..1.
    """
    held: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for confidence, correct in pairs:
        held[min(bins - 1, int(confidence * bins))].append((confidence, correct))
    rows = [
        {
            "from": place / bins,
            "to": (place + 1) / bins,
            "n": len(members),
            "confidence": sum(c for c, _ in members) / len(members),
            "right": sum(r for _, r in members) / len(members),
        }
        for place, members in enumerate(held)
        if members
    ]
    error = sum(row["n"] * abs(row["confidence"] - row["right"]) for row in rows) / max(1, len(pairs))
    return {"bins": rows, "expected_error": error}
