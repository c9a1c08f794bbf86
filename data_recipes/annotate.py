"""Truth into entries: every candidate entry of the seven tasks for one scene. A recipe chooses among them."""

from __future__ import annotations

import numpy as np

from data_recipes.phrases import phrase
from data_recipes.questions import questions
from data_recipes.records import Box, Entry, Image
from data_recipes.report_text import pick, report
from data_recipes.scene import Abnormality, Scene
from data_recipes.tasks import TASKS, Written, calculation, findings, rec, reg, severity, vqa
from data_recipes.tasks import report as report_task

__all__ = ["annotate", "phrase"]

PROMPTS = {
    module.NAME: module.PROMPTS for module in (calculation, report_task, severity, findings, rec, reg, vqa)
}
# Above this IoU two boxes mark the same region, and a box alone no longer says which of the two is meant.
SAME_REGION = 0.6


def annotate(scene: Scene, image: Image, rng: np.random.Generator) -> tuple[Entry, ...]:
    """Every candidate entry for the scene, in the order of TASKS; about 10 to 20.

    Prompt templates and wording come from `rng` alone, so the same state gives the same entries.
    """
    entries: list[Entry] = []
    numbers = dict.fromkeys(TASKS, 0)

    def add(task: str, kind: str, target: Written, prompt_boxes: tuple[Box, ...] = (), **slots: str) -> None:
        templates = PROMPTS[task]
        prompt = pick(rng, templates.get(kind) or templates["question"])
        for slot, text in slots.items():
            prompt = prompt.replace("{" + slot + "}", text)
        entries.append(
            Entry(
                entry_id=f"{image.image_id}/{task}/{numbers[task]}",
                image_id=image.image_id,
                task=task,
                prompt=prompt,
                target=target.text,
                boxes=prompt_boxes + target.boxes,
                provenance=f"{image.source}/{task}/{kind}",
            )
        )
        numbers[task] += 1

    add("calculation", "ctr", calculation.render(calculation.Ratio("CTR", scene.ctr)))
    add("calculation", "cpar", calculation.render(calculation.Ratio("CPAR", scene.cpar)))
    add("report", "findings", report_task.render(report(scene, rng)))
    add("severity", "edema", severity.render(scene.edema))
    add("findings", "multi-label", findings.render(scene.findings))
    for text, boxes in referred(scene.abnormalities).items():
        add("rec", "phrase", rec.render(boxes), phrase=text)
    for text, box in regions(scene.abnormalities):
        add("reg", "phrase", reg.render(text), prompt_boxes=(box,))
    for question in questions(scene, rng):
        add("vqa", question.kind, vqa.render(question.answer), question=question.text)
    return tuple(entries)


def referred(abnormalities: tuple[Abnormality, ...]) -> dict[str, tuple[Box, ...]]:
    """Phrase -> the boxes of all it refers to, from left to right on the image."""
    boxes: dict[str, list[Box]] = {}
    for abnormality in abnormalities:
        boxes.setdefault(phrase(abnormality), []).append(abnormality.box)
    return {text: tuple(sorted(set(found), key=lambda box: box.xyxy)) for text, found in boxes.items()}


def regions(abnormalities: tuple[Abnormality, ...]) -> list[tuple[str, Box]]:
    """(phrase, box) of each abnormality whose box tells what is meant.

    Where two boxes nearly coincide (IoU > 0.6) under different phrases, both are left out: each phrase would
    be a right answer to either box, and one would be scored as wrong. Under the same phrase both may stay.
    """
    named = [(phrase(a), a.box) for a in abnormalities]
    clear = [
        (text, box)
        for text, box in named
        if not any(other != text and box.iou(region) > SAME_REGION for other, region in named)
    ]
    return list(dict.fromkeys(clear))
