"""Example answers of a section, chosen by a fixed rule: for each task the best, the median and the worst."""

from __future__ import annotations

import hashlib
from typing import Any

from data_recipes.page import image_uri
from data_recipes.records import Box, Entry, Image, fill_slots
from data_recipes.store import open_image
from eval.answers import Answer
from eval.board import Section
from eval.tasks import metrics

COLOURS = {"truth": "#22c55e", "prompt": "#38bdf8"}
RANKS = ("best", "median", "worst")
_LONGEST = 2000  # characters shown of an output


def examples(section: Section) -> list[tuple[str, list[dict[str, Any]]]]:
    """(task, cards) for the template; empty when images or predictions are not at hand.

    Raises:
        UserError: an image cannot be opened.
    """
    leader = section.standings[0]
    if not leader.answers:
        return []
    images = {entry.entry_id: image for image, entry in section.pairs}
    by_run = {s.name: {a.entry.entry_id: a for a in s.answers or ()} for s in section.standings}
    found = []
    for task in section.tasks:
        headline = metrics(task, leader.answers_of(task))[0]
        ranked = sorted(
            leader.answers_of(task), key=lambda a: (-headline.value([a]), _shuffle(a.entry.entry_id))
        )
        places = dict(zip(RANKS, (0, len(ranked) // 2, len(ranked) - 1), strict=True))
        chosen = {ranked[place].entry.entry_id: rank for rank, place in reversed(places.items())}
        cards = []
        for entry_id, rank in reversed(chosen.items()):
            entry = by_run[leader.name][entry_id].entry
            values = {
                name: (answers[entry_id], headline.value([answers[entry_id]]))
                for name, answers in by_run.items()
                if entry_id in answers
            }
            cards.append(_card(section, entry, images[entry_id], rank, values))
        found.append((task, cards))
    return found


def _card(
    section: Section, entry: Entry, image: Image, rank: str, values: dict[str, tuple[Answer, float]]
) -> dict[str, Any]:
    assert section.images is not None
    boxes = [_rectangle(box, image, COLOURS["prompt"], dashed=False) for box in entry.prompt_boxes]
    boxes += [_rectangle(box, image, COLOURS["truth"], dashed=False) for box in entry.target_boxes]
    outputs = []
    target = ""
    for standing in section.standings:
        if standing.name not in values:
            continue
        answer, value = values[standing.name]
        row = standing.rows.get(entry.entry_id, {})
        target = target or str(row.get("target", ""))
        outputs.append(
            {
                "name": standing.name,
                "colour": standing.colour,
                "text": str(row.get("output", ""))[:_LONGEST],
                "value": value,
                "unread": answer.predicted is None,
            }
        )
        if entry.task == "rec":
            boxes += [_rectangle(box, image, standing.colour, dashed=True) for box in answer.predicted or ()]
    return {
        "entry_id": entry.entry_id,
        "rank": rank,
        "width": image.width,
        "height": image.height,
        "stroke": round(max(image.width, image.height) / 160, 2),
        "picture": image_uri(open_image(section.images, image)),
        "boxes": boxes,
        "prompt": _short_boxes(entry.prompt, entry.prompt_boxes),
        "target": target or _short_boxes(entry.target, entry.target_boxes),
        "outputs": outputs,
    }


def _rectangle(box: Box, image: Image, colour: str, *, dashed: bool) -> dict[str, Any]:
    """A box in pixels of the original image."""
    return {
        "x": round(box.x1 * image.width, 2),
        "y": round(box.y1 * image.height, 2),
        "width": round((box.x2 - box.x1) * image.width, 2),
        "height": round((box.y2 - box.y1) * image.height, 2),
        "colour": colour,
        "dashed": dashed,
    }


def _short_boxes(text: str, boxes: tuple[Box, ...]) -> str:
    return fill_slots(text, [f"[{', '.join(f'{value:.2f}' for value in box.xyxy)}]" for box in boxes])


def _shuffle(entry_id: str) -> str:
    """Breaks ties the same way every time, without always taking the first images."""
    return hashlib.sha256(entry_id.encode()).hexdigest()
