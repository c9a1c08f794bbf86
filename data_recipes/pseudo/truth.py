"""True answers to questions about images whose source knows the scene: to judge answers by, and for oracle
labels. Filters never see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from data_recipes.annotate import referred
from data_recipes.phrases import phrase as phrase_of
from data_recipes.priors import phrase
from data_recipes.processes import each
from data_recipes.pseudo.queries import answer, read_query
from data_recipes.records import Entry, Image, Mixture
from data_recipes.report_text import report
from data_recipes.scene import Scene
from data_recipes.sources import SOURCES, source
from data_recipes.tasks import Written, calculation, findings, rec, reg, severity, vqa
from data_recipes.tasks import report as report_task

_SAME = 0.5  # IoU from which on a box shows an abnormality


def scenes(mixture: Mixture, images: Iterable[Image], *, progress: bool = False) -> dict[str, Scene]:
    """Image id -> truth, of those images whose source can tell (`Source.scenes`)."""
    options = _options(mixture)
    groups: dict[str, list[Image]] = {}
    for image in images:
        if image.source in SOURCES and hasattr(source(image.source), "scenes") and image.image_id in options:
            groups.setdefault(image.source, []).append(image)
    found: dict[str, Scene] = {}
    for name, members in groups.items():
        asked = [(image.image_id, options[image.image_id]) for image in members]
        for part in each(partial(_scene, name), asked, label="truth", progress=progress, worth=400):
            found |= part
    return found


def _scene(name: str, asked: tuple[str, Mapping[str, Any]]) -> dict[str, Scene]:
    image_id, options = asked
    module: Any = source(name)
    return dict(module.scenes([image_id], options))


def _options(mixture: Mixture) -> dict[str, Mapping[str, Any]]:
    """Image id -> options of its source, for training images: those of the recipe, or of the task that the
    image carries."""
    recipe = mixture.meta.get("recipe", {})
    per_task = {name: given.get("options", {}) for name, given in recipe.get("sources", {}).items()}
    return {
        image.image_id: per_task.get(entry.task, {}) if per_task else recipe.get("options", {})
        for image, entry in mixture.of_split("train")
    }


def true_answer(question: Entry, scene: Scene, rng: np.random.Generator) -> Written | None:
    """The true answer to a question; None where it has none, as where it asks for something that is not
    there. `rng` chooses the wording of a report."""
    match question.task:
        case "calculation":
            name = question.kind.upper()
            ratio = {"CTR": scene.ctr, "CPAR": scene.cpar}.get(name)
            return None if ratio is None else calculation.render(calculation.Ratio(name, ratio))
        case "report":
            return report_task.render(report(scene, rng))
        case "severity":
            return severity.render(scene.edema)
        case "findings":
            return findings.render(scene.findings) if question.kind == "multi-label" else None
        case "rec":
            boxes = referred(scene.abnormalities).get(phrase(question))
            return rec.render(boxes) if boxes else None
        case "reg":
            (box,) = question.prompt_boxes
            best = max(scene.abnormalities, key=lambda a: a.box.iou(box), default=None)
            shows = best is not None and best.box.iou(box) >= _SAME
            return reg.render(phrase_of(best)) if best is not None and shows else None
        case _:
            query = read_query(question.prompt)
            text = answer(query, scene) if query else None
            return vqa.render(text) if text else None
