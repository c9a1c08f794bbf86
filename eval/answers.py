"""An answer: what one entry asked, what was predicted and what is true, both as values rather than text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from data_recipes.errors import UserError
from data_recipes.records import Box, Entry, Image
from data_recipes.tasks import task
from data_recipes.tasks.calculation import Ratio


@dataclass(frozen=True, slots=True)
class Answer:
    """One entry as metrics see it. `predicted` is None when the output could not be read, or is missing."""

    entry: Entry
    patient_id: str
    truth: Any
    predicted: Any | None = None


def truth_of(entry: Entry) -> Any:
    """The entry's target as a value: a ratio, a grade, a set of labels, boxes, or text.

    Raises:
        UserError: the target is no legal answer of the entry's task.
    """
    truth = task(entry.task).parse(entry.target, entry.target_boxes)
    if truth is None:
        raise UserError(
            f"entry {entry.entry_id}: its target {entry.target[:80]!r} is no answer of task {entry.task}"
        )
    return truth


def known(pairs: Iterable[tuple[Image, Entry]]) -> list[Answer]:
    """Answers with the truth filled in and nothing predicted yet."""
    return [Answer(entry, image.patient_id, truth_of(entry)) for image, entry in pairs]


def to_json(value: Any | None) -> Any:
    """A parsed answer as JSON; boxes become lists of four fractions, sets become sorted lists."""
    match value:
        case Ratio():
            return {"name": value.name, "value": value.value}
        case frozenset():
            return sorted(value)
        case tuple():
            return [list(box.xyxy) for box in value]
        case _:
            return value


def from_json(task_name: str, value: Any) -> Any | None:
    """Inverse of `to_json`.

    Raises:
        ValueError, KeyError, TypeError: `value` was not written by `to_json` for that task.
    """
    if value is None:
        return None
    match task_name:
        case "calculation":
            return Ratio(str(value["name"]), float(value["value"]))
        case "findings":
            return frozenset(str(label) for label in value)
        case "rec":
            return tuple(Box(*map(float, box)) for box in value)
        case _:
            return value
