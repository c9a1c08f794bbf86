"""Example answers of a section: for each task a set spread evenly over the range of scores, to be browsed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

from data_recipes.page import image_uri
from data_recipes.records import Box, Entry, Image, fill_slots
from data_recipes.store import open_image
from eval.answers import Answer
from eval.board import Section
from eval.metrics import Metric
from eval.tasks import metrics

PER_TASK = 24
RIGHT = 50.0  # points of one answer from which it is called right
_LONGEST = 1500  # characters shown of an output
_LONGEST_SIDE, _QUALITY = 384, 85  # of a picture as shown, in pixels, and of its JPEG


@dataclass(frozen=True)
class Picture:
    uri: str
    width: int
    height: int


@dataclass
class Pictures:
    """The page's images, each once however many examples show it."""

    found: list[Picture] = field(default_factory=list)
    _places: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def add(self, pixels: PIL.Image.Image, image: Image) -> int:
        """The number of a picture in the page, drawn in the coordinates of its image."""
        picture = Picture(
            image_uri(pixels, longest=_LONGEST_SIDE, quality=_QUALITY), image.width, image.height
        )
        key = (hashlib.sha256(picture.uri.encode()).hexdigest(), image.width, image.height)
        if key not in self._places:
            self._places[key] = len(self.found)
            self.found.append(picture)
        return self._places[key]


def examples(section: Section, pictures: Pictures) -> list[dict[str, Any]]:
    """A sheet a task for the template; empty when images or predictions are not at hand.

    Raises:
        UserError: an image cannot be opened.
    """
    if not any(run.answers for run in section.standings):
        return []
    images = {entry.entry_id: image for image, entry in section.pairs}
    entries = {entry.entry_id: entry for _, entry in section.pairs}
    numbers: dict[str, int] = {}
    sheets = []
    for task in section.tasks:
        judged = _judged(section, task)
        cards = []
        for entry_id in chosen({key: _mean(by_run) for key, by_run in judged.items()}):
            image = images[entry_id]
            if image.image_id not in numbers:
                assert section.images is not None
                numbers[image.image_id] = pictures.add(open_image(section.images, image), image)
            card = _card(section, entries[entry_id], image, judged[entry_id])
            cards.append(card | {"picture": numbers[image.image_id]})
        sheets.append({"task": task, "cards": cards, "of": len(judged)})
    return sheets


def chosen(values: Mapping[str, float], count: int = PER_TASK) -> list[str]:
    """Ids of up to `count` entries, best first, spread evenly over the range of values: each aim between the
    best and the worst value takes the nearest entry that is left. Ties are broken the same way every time,
    without always taking the first images."""
    left = sorted(values, key=lambda key: (-values[key], hashlib.sha256(key.encode()).hexdigest()))
    if len(left) <= count:
        return left
    best, worst = values[left[0]], values[left[-1]]
    taken = []
    for i in range(count):
        share = i / (count - 1)
        aim = best * (1 - share) + worst * share
        taken.append(min(left, key=lambda key: abs(values[key] - aim)))
        left.remove(taken[-1])
    return sorted(taken, key=lambda key: -values[key])


def _judged(section: Section, task: str) -> dict[str, dict[int, tuple[Answer, float]]]:
    """entry_id -> number of the run -> (answer, its points on the task's headline)."""
    found: dict[str, dict[int, tuple[Answer, float]]] = {}
    for i, run in enumerate(section.standings):
        answers = run.answers_of(task)
        if not answers:
            continue
        headline = metrics(task, answers)[0]
        for answer in answers:
            found.setdefault(answer.entry.entry_id, {})[i] = (answer, _points(headline, answer))
    return found


def _points(headline: Metric, answer: Answer) -> float:
    value = headline.value([answer])
    return value if math.isfinite(value) else 0.0


def _mean(by_run: Mapping[int, tuple[Answer, float]]) -> float:
    return sum(points for _, points in by_run.values()) / len(by_run)


def _card(
    section: Section, entry: Entry, image: Image, judged: Mapping[int, tuple[Answer, float]]
) -> dict[str, Any]:
    boxes = [_rectangle(box, image, "asked") for box in entry.prompt_boxes]
    boxes += [_rectangle(box, image, "true") for box in entry.target_boxes]
    target, marks = "", ""
    groups: dict[tuple[str, int, bool], list[int]] = {}
    for i, run in enumerate(section.standings):
        if i not in judged:
            marks += "-"
            continue
        answer, points = judged[i]
        row = run.rows.get(entry.entry_id, {})
        target = target or str(row.get("target", ""))
        unread = answer.predicted is None
        marks += "u" if unread else "r" if points >= RIGHT else "w"
        groups.setdefault((_cut(str(row.get("output", ""))), round(points), unread), []).append(i)
        if entry.task == "rec":
            boxes += [_rectangle(box, image, f"c{i % 12}", run=i) for box in answer.predicted or ()]
    return {
        "entry_id": entry.entry_id,
        "marks": marks,
        "width": image.width,
        "height": image.height,
        "boxes": boxes,
        "prompt": _short_boxes(entry.prompt, entry.prompt_boxes),
        "target": target or _short_boxes(entry.target, entry.target_boxes),
        "outputs": [
            {"text": text, "points": points, "unread": unread, "runs": runs}
            for (text, points, unread), runs in groups.items()
        ],
    }


def _rectangle(box: Box, image: Image, kind: str, *, run: int | None = None) -> dict[str, Any]:
    """A box in pixels of the original image; `kind` is a class of the page's style."""
    return {
        "x": round(box.x1 * image.width, 2),
        "y": round(box.y1 * image.height, 2),
        "width": round((box.x2 - box.x1) * image.width, 2),
        "height": round((box.y2 - box.y1) * image.height, 2),
        "kind": kind,
        "run": run,
    }


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} … ({len(text)} characters)"


def _short_boxes(text: str, boxes: Sequence[Box]) -> str:
    return fill_slots(text, [f"[{', '.join(f'{value:.2f}' for value in box.xyxy)}]" for box in boxes])
