"""Visual questions about a scene and their answers. A question is asked only where the scene has one answer.

Answers are short, in lower case, and come from a small closed set for each kind of question.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple, TypeVar

import numpy as np

from data_recipes.phrases import LUNG, PLEURAL, article, noun, place, plural
from data_recipes.scene import Abnormality, Scene

T = TypeVar("T")

# Kinds of device that a question may ask about in vain.
DEVICES = ("endotracheal tube", "central line", "pacemaker")
_LATERAL = (*PLEURAL, *LUNG)
_OTHER_SIDE = {"left": "right", "right": "left"}
# Weights that balance yes against no for each wording; larger than a statement's frequency where normal
# images have little else to say yes to.
_SHARE = {
    "name": 0.2,
    "side": 0.11,
    "device": 0.25,
    "kind": 0.07,
    "edema": 0.7,
    "large heart": 0.48,
    "normal heart": 0.8,
    "normal": 0.35,
}
# Two areas compare without doubt from this ratio on.
_CLEARLY_LARGER = 1.3


class Question(NamedTuple):
    kind: str
    text: str
    answer: str


def questions(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """All questions about the scene, without repeats; yes and no are equally frequent in closed ones."""
    by_name: dict[str, list[Abnormality]] = {}
    for abnormality in scene.abnormalities:
        by_name.setdefault(abnormality.name, []).append(abnormality)
    asked = [
        *_presence(scene, by_name, rng),
        *_side(by_name, rng),
        *_count(by_name, rng),
        *_comparison(scene, by_name, rng),
        *_size(scene, rng),
        *_location(by_name, rng),
        *_attribute(by_name, rng),
        *_view(scene, rng),
    ]
    return list(dict.fromkeys(asked))


def _one(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.random() * len(options))]


def _some(rng: np.random.Generator, options: Sequence[T], n: int) -> list[T]:
    """At most n of the options, in random order."""
    if len(options) < 2:
        return list(options[:n])
    return [options[i] for i in rng.permutation(len(options))[:n]]


def _presence(
    scene: Scene, by_name: dict[str, list[Abnormality]], rng: np.random.Generator
) -> list[Question]:
    """As many questions answered yes as answered no: two of each where enough is present, else one.

    A question is drawn with the weight (1 - share) where it is true and (share) where it is not, so that over
    many images each wording has about as many yes as no, and the question alone does not tell its answer.
    """
    weights: dict[bool, dict[str, float]] = {True: {}, False: {}}

    def ask(text: str, truth: bool, share: float, near: float = 1) -> None:
        weights[truth][text] = (1 - share if truth else share) * near

    for name in _LATERAL:
        sides = {a.side for a in by_name.get(name, ())}
        ask(name, bool(sides), _SHARE["name"])
        if "" not in sides:  # an unknown side could be either
            for side in _OTHER_SIDE:
                # The other side of something present is the more instructive no.
                ask(_sided(name, side), side in sides, _SHARE["side"], 1 if side in sides or not sides else 2)
    kinds = {noun(a) for a in by_name.get("support device", ())}
    ask("support device", bool(kinds), _SHARE["device"])
    if "support device" not in kinds:
        for kind in dict.fromkeys((*DEVICES, *sorted(kinds))):
            ask(kind, kind in kinds, _SHARE["kind"], 2 if kinds and kind not in kinds else 1)
    ask("edema or vascular congestion", scene.edema > 0, _SHARE["edema"])
    large = "cardiomegaly" in by_name
    ask("Is the heart enlarged?", large, _SHARE["large heart"])
    ask("Is the heart normal in size?", not large, _SHARE["normal heart"])
    ask("Is this radiograph normal?", not scene.findings, _SHARE["normal"])

    n = 2 if len(scene.findings) > 1 else 1
    return [
        Question("presence", text if text.endswith("?") else _is_there(text, rng), "yes" if truth else "no")
        for truth in (True, False)
        for text in _weighted(rng, weights[truth], n)
    ]


def _weighted(rng: np.random.Generator, weights: dict[str, float], n: int) -> list[str]:
    """n keys drawn without replacement, likelier the larger their weight (Efraimidis and Spirakis, 2006)."""
    keys = dict(zip(weights, rng.random(len(weights)).tolist(), strict=True))
    return sorted(keys, key=lambda text: float(keys[text] ** (1 / weights[text])), reverse=True)[:n]


def _sided(name: str, side: str) -> str:
    if not side:
        return name
    return f"{side} {name}" if name in PLEURAL else f"{name} in the {side} lung"


def _is_there(what: str, rng: np.random.Generator) -> str:
    return _one(rng, (f"Is there {article(what)}?", f"Does the image show {article(what)}?"))


def _side(by_name: dict[str, list[Abnormality]], rng: np.random.Generator) -> list[Question]:
    """The side of a finding that is on one side only."""
    single = [
        (name, by_name[name][0].side)
        for name in _LATERAL
        if name in by_name and len({a.side for a in by_name[name]}) == 1 and by_name[name][0].side
    ]
    return [
        Question(
            "side", _one(rng, (f"On which side is the {name}?", f"Which side shows {article(name)}?")), side
        )
        for name, side in _some(rng, single, 1)
    ]


def _count(by_name: dict[str, list[Abnormality]], rng: np.random.Generator) -> list[Question]:
    """How many; now and then of something that is absent."""
    asked = []
    for name, chance_absent in (("nodule", 0.15), ("support device", 0.1)):
        n = len(by_name.get(name, ()))
        if n or rng.random() < chance_absent:
            asked.append(Question("count", f"How many {plural(name)} are there?", str(n)))
    return asked


def _comparison(
    scene: Scene, by_name: dict[str, list[Abnormality]], rng: np.random.Generator
) -> list[Question]:
    """Which of two is larger on the image: the two sides of one finding, else two different abnormalities."""
    places = [place(a) for a in scene.abnormalities]
    single = [
        a
        for a, where in zip(scene.abnormalities, places, strict=True)
        if a.name in _LATERAL and places.count(where) == 1
    ]
    pairs = [
        (a, b)
        for a, b in permutations(single, 2)
        if max(a.area, b.area) >= _CLEARLY_LARGER * min(a.area, b.area)
    ]
    if not pairs:
        return []
    same = [
        (a, b)
        for a, b in pairs
        if a.name == b.name and a.side and b.side == _OTHER_SIDE[a.side] and len(by_name[a.name]) == 2
    ]
    if same:
        a, b = _one(rng, same)
        if rng.random() < 0.5:
            larger = a if a.area > b.area else b
            return [Question("comparison", f"Which {a.name} is larger, left or right?", larger.side)]
        answer = "yes" if a.area > b.area else "no"
        return [Question("comparison", f"Is the {a.side} {a.name} larger than the {b.side} one?", answer)]
    a, b = _one(rng, pairs)
    answer = "yes" if a.area > b.area else "no"
    return [Question("comparison", f"Is the {place(a)} larger than the {place(b)}?", answer)]


def _size(scene: Scene, rng: np.random.Generator) -> list[Question]:
    places = [place(a) for a in scene.abnormalities]
    sized = [
        (where, a.size)
        for a, where in zip(scene.abnormalities, places, strict=True)
        if a.size and a.name in _LATERAL and places.count(where) == 1
    ]
    return [
        Question("size", _one(rng, (f"How large is the {where}?", f"What is the size of the {where}?")), size)
        for where, size in _some(rng, sized, 1)
    ]


def _location(by_name: dict[str, list[Abnormality]], rng: np.random.Generator) -> list[Question]:
    single = [
        (name, by_name[name][0].zone)
        for name in LUNG
        if len(by_name.get(name, ())) == 1 and by_name[name][0].zone
    ]
    return [
        Question("location", f"In which lung zone is the {name}?", zone)
        for name, zone in _some(rng, single, 1)
    ]


def _attribute(by_name: dict[str, list[Abnormality]], rng: np.random.Generator) -> list[Question]:
    kinds = {a.attributes.get("kind", "") for a in by_name.get("support device", ())}
    if len(kinds) != 1 or "" in kinds:
        return []
    text = _one(rng, ("What kind of support device is there?", "Which support device is seen?"))
    return [Question("attribute", text, kinds.pop())]


def _view(scene: Scene, rng: np.random.Generator) -> list[Question]:
    if scene.view not in ("PA", "AP"):
        return []
    text = _one(rng, ("Is this a PA or an AP view?", "Which view is this, PA or AP?"))
    return [Question("view", text, scene.view.lower())]
