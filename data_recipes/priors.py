"""What the text alone answers: how well the most common training answer does on held-out entries, for each
task and kind of prompt, with and without the phrase or question that the prompt names. No image is looked at.

An answer is right where its target is the same, with three refinements: a ratio is right within the task's
tolerance; of boxes, one is answered, the median of the training entries with one box, which finds the part
1 / number of an entry's boxes where it overlaps one of them with an IoU of at least 0.5, as `eval` counts it;
entropy is that of targets, and of boxes none is given.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from data_recipes.records import Box, Entry, Image
from data_recipes.tasks import calculation, task

_FOUND = 0.5  # IoU


def priors(images: Iterable[Image], entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """A row for each task and kind (the last part of `provenance`), largest training share first.

    `train` and `held_out` are numbers of entries (held out is the test split, or validation without one);
    `answers` and `phrases` the numbers of different ones in training; `entropy` and `entropy_given_phrase`
    of training answers in bits (None for boxes); `accuracy` and `accuracy_given_phrase` on held-out entries,
    0 to 1 (None without any). A phrase that training lacks gets the most common answer of its kind.
    """
    split_of = {image.image_id: image.split for image in images}
    groups: dict[tuple[str, str], dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        groups[entry.task, entry.kind][split_of[entry.image_id]].append(entry)
    tested = "test" if "test" in split_of.values() else "validation"
    rows = [_row(*key, found["train"], found[tested]) for key, found in groups.items()]
    return sorted(rows, key=lambda row: (-row["train"], row["task"], row["kind"]))


def _row(task_name: str, kind: str, train: Sequence[Entry], held_out: Sequence[Entry]) -> dict[str, Any]:
    by_phrase: dict[str, list[Entry]] = defaultdict(list)
    for entry in train:
        by_phrase[phrase(entry)].append(entry)
    common = _common(train)
    answers = {name: _common(members) for name, members in by_phrase.items()}
    boxes = any(entry.target_boxes for entry in train)
    given = sum(len(members) * _entropy(members) for members in by_phrase.values()) / max(1, len(train))
    return {
        "task": task_name,
        "kind": kind,
        "train": len(train),
        "held_out": len(held_out),
        "answers": len({entry.target for entry in train}),
        "phrases": len(by_phrase),
        "answer": "" if common is None else str(common),
        "entropy": None if boxes else _entropy(train),
        "entropy_given_phrase": None if boxes else given,
        "accuracy": _mean(_right(common, entry) for entry in held_out),
        "accuracy_given_phrase": _mean(_right(answers.get(phrase(e), common), e) for e in held_out),
    }


def phrase(entry: Entry) -> str:
    """What the prompt names: the filling of its template's slot; "" for a template without one, and the whole
    prompt where no template of the task fits."""
    for template in _templates(entry.task):
        if found := template.fullmatch(entry.prompt):
            return found["slot"] if template.groups else ""
    return entry.prompt


@cache
def _templates(task_name: str) -> list[re.Pattern[str]]:
    """The task's templates, those with more fixed text first."""
    texts = {text for kind in task(task_name).PROMPTS.values() for text in kind}
    patterns = []
    for text in sorted(texts, key=lambda text: (-len(re.sub(r"\{\w+\}", "", text)), text)):
        parts = re.split(r"\{(?!box\})\w+\}", text, maxsplit=1)
        patterns.append(re.compile("(?P<slot>.+)".join(map(re.escape, parts)), re.DOTALL))
    return patterns


def _common(entries: Sequence[Entry]) -> str | float | Box | None:
    """The most common answer; of equally common ones the first by value."""
    if not entries:
        return None
    if any(entry.target_boxes for entry in entries):
        single = [e.target_boxes[0].xyxy for e in entries if len(e.target_boxes) == 1]
        return Box(*np.median(single or [e.target_boxes[0].xyxy for e in entries], axis=0).tolist())
    if entries[0].task == calculation.NAME:
        return _densest(np.sort([_ratio(entry) for entry in entries]))
    number = Counter(entry.target for entry in entries)
    return min(number, key=lambda target: (-number[target], target))


def _densest(values: np.ndarray) -> float:
    """The value that is within the tolerance of most others; `values` are sorted."""
    reach = calculation.TOLERANCE + 1e-9
    near = np.searchsorted(values, values + reach, "right") - np.searchsorted(values, values - reach)
    return float(values[np.argmax(near)])


def _right(answer: str | float | Box | None, entry: Entry) -> float:
    if isinstance(answer, Box):
        boxes = entry.target_boxes
        return any(answer.iou(box) >= _FOUND for box in boxes) / len(boxes) if boxes else 0.0
    if isinstance(answer, float):
        return float(abs(_ratio(entry) - answer) <= calculation.TOLERANCE + 1e-9)
    return float(answer == entry.target)


def _ratio(entry: Entry) -> float:
    found = calculation.parse(entry.target)
    assert found is not None, entry  # entries were checked
    return found.value


def _entropy(entries: Sequence[Entry]) -> float:
    n = len(entries)
    return sum(-k / n * math.log2(k / n) for k in Counter(entry.target for entry in entries).values())


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return sum(listed) / len(listed) if listed else None


def table(rows: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows for people, under HEADINGS."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.1f} %"

    def bits(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return [
        (
            f"{row['task']}, {row['kind']}", str(row["train"]), str(row["held_out"]), str(row["answers"]),
            bits(row["entropy"]), share(row["accuracy"]), str(row["phrases"]),
            bits(row["entropy_given_phrase"]), share(row["accuracy_given_phrase"]),
        )
        for row in rows
    ]  # fmt: skip


HEADINGS = ("", "train", "held out", "answers", "bits", "right", "phrases", "bits given", "right given")
