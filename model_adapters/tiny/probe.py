"""How well `tiny` reads held-out phantom images, asked in its own listings: what pretraining taught, in
numbers."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from transformers import PreTrainedModel

from data_recipes.records import Box, Entry
from data_recipes.scene import Scene
from data_recipes.sources import phantom
from model_adapters.adapter import Adapter
from model_adapters.base import Vision
from model_adapters.tiny.describe import ABSENT, EDEMA, SIDED, SIDES, WHOLE, label

View = tuple[PIL.Image.Image, Vision]
Asked = tuple[str, PIL.Image.Image, Vision]  # header, image, what the model sees of it

_NUMBER = re.compile(r"= ([01]\.\d\d)")


def ask(
    adapter: Adapter,
    model: PreTrainedModel,
    asked: Sequence[Asked],
    *,
    new_tokens: int = 32,
    batch_size: int = 64,
) -> list[str]:
    """The model's answers to headers about images."""
    answers: list[str] = []
    for start in range(0, len(asked), batch_size):
        features = [
            adapter.encode(
                Entry("probe", "probe", "probe", text, ""), image, with_target=False, vision=vision
            )
            for text, image, vision in asked[start : start + batch_size]
        ]
        inputs = adapter.collate(features, padding_side="left")
        with torch.inference_mode():
            ids = model.generate(**inputs, max_new_tokens=new_tokens, **adapter.generation)
        answers += [adapter.decode(row) for row in ids[:, inputs["input_ids"].shape[1] :]]
    return answers


def probe(adapter: Adapter, model: PreTrainedModel, seed: int, first: int, images: int) -> dict[str, float]:
    """Scores on patients `first` ... of a phantom seed: mean absolute errors of the ratios (and of their
    mean, for comparison), accuracy of edema and view, mean IoU of boxes by name, F1 of presence by finding
    and by side."""
    scenes: list[Scene] = []
    views: list[View] = []
    for index in range(first, first + images):
        pixels, scene = phantom.render(seed, index, 0)
        image = PIL.Image.fromarray(pixels)
        scenes.append(scene)
        views.append((image, adapter.see(image)))

    def each(header: str) -> list[str]:
        return ask(adapter, model, [(header, *view) for view in views])

    scores: dict[str, float] = {}
    for name, truth in (("CTR", [s.ctr for s in scenes]), ("CPAR", [s.cpar for s in scenes])):
        read = [_number(answer) for answer in each(f"listing: measures; {name}")]
        scores[f"{name} error"] = float(np.mean(np.abs(np.array(read) - truth)))
        scores[f"{name} error of the mean"] = float(np.mean(np.abs(np.array(truth) - np.mean(truth))))
    edema = each("listing: measures; edema")
    scores["edema accuracy"] = _mean(
        a == f"edema = {EDEMA[s.edema]}" for a, s in zip(edema, scenes, strict=True)
    )
    view = each("listing: measures; view")
    scores["view accuracy"] = _mean(a == f"view = {s.view}" for a, s in zip(view, scenes, strict=True))
    for name in (*WHOLE, *SIDED, *(f"{side} {name}" for name in SIDED for side in SIDES)):
        said = [ABSENT not in answer for answer in each(f"listing: state; {name}")]
        scores[f"{name} F1"] = _f1(said, [_present(scene, name) for scene in scenes])
    scores.update(_boxes(adapter, model, scenes, views))
    return {key: round(value, 4) for key, value in scores.items()}


def _boxes(
    adapter: Adapter,
    model: PreTrainedModel,
    scenes: Sequence[Scene],
    views: Sequence[View],
) -> dict[str, float]:
    """Mean IoU by finding, of labels that one abnormality bears alone, and the share above 0.5 over all."""
    asked: list[Asked] = []
    truth: list[tuple[str, Box]] = []
    for scene, view in zip(scenes, views, strict=True):
        labels = [label(a) for a in scene.abnormalities]
        for abnormality in scene.abnormalities:
            if labels.count(label(abnormality)) == 1:
                asked.append((f"listing: place; {label(abnormality)}", *view))
                truth.append((abnormality.name, abnormality.box))
    ious = defaultdict(list)
    for answer, (name, box), (_, image, _) in zip(ask(adapter, model, asked), truth, asked, strict=True):
        _, found = adapter.codec.read(answer, *image.size)
        ious[name].append(found[0].iou(box) if found else 0.0)
    every = [iou for values in ious.values() for iou in values]
    scores = {f"{name} IoU": float(np.mean(values)) for name, values in sorted(ious.items())}
    return {**scores, "IoU": _mean(every), "IoU above 0.5": _mean(iou > 0.5 for iou in every)}


def _present(scene: Scene, name: str) -> bool:
    side, _, rest = name.partition(" ")
    if side in SIDES:
        return any(a.name == rest and a.side == side for a in scene.abnormalities)
    return any(a.name == name for a in scene.abnormalities)


def _number(answer: str) -> float:
    match = _NUMBER.search(answer)
    return float(match.group(1)) if match else 0.0


def _mean(values: object) -> float:
    listed = list(values)  # type: ignore[call-overload]
    return float(np.mean(listed)) if listed else 0.0


def _f1(said: Sequence[bool], true: Sequence[bool]) -> float:
    hits = sum(s and t for s, t in zip(said, true, strict=True))
    total = sum(said) + sum(true)
    return 2 * hits / total if total else 1.0
