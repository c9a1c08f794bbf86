"""Descriptions: what `tiny` is pretrained on. A scene as short listings of `key = value` pairs.

No task of the project uses this format: a header `listing: <kind>; <keys>` asks, `key = value; ...` answers.
Together the kinds speak of everything a scene holds (ratios, grade, view, presence and absence by side,
sizes, zones, counts, boxes, what a region holds, what is larger), so that fine-tuning needs to teach new
formats, not new sight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from data_recipes.records import BOX_SLOT, Box
from data_recipes.scene import FINDINGS, Abnormality, Scene

T = TypeVar("T")

SIDES = ("left", "right")
ZONES = ("upper", "mid", "lower")
EDEMA = ("none 0", "vascular congestion 1", "interstitial 2", "alveolar 3")
ABSENT = "absent"
# Findings that one lung may have while the other has not.
SIDED = ("atelectasis", "consolidation", "nodule", "mass", "pleural effusion", "pneumothorax")
WHOLE = ("cardiomegaly", "support device")


class Listing(NamedTuple):
    """A header and its answer; `boxes` fill the slots of the header, then those of the text."""

    header: str
    text: str
    boxes: tuple[Box, ...] = ()


def describe(scene: Scene, rng: np.random.Generator, n: int) -> list[Listing]:
    """`n` listings of the scene, of kinds drawn by WEIGHTS; those the scene has no material for are drawn
    again."""
    kinds, weights = list(WEIGHTS), np.array(list(WEIGHTS.values()))
    listings: list[Listing] = []
    while len(listings) < n:
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        if listing := kind(scene, rng):
            listings.append(listing)
    return listings


def label(abnormality: Abnormality) -> str:
    """Such as "right upper nodule", "left pleural effusion", "right central line", "cardiomegaly"."""
    name = abnormality.attributes.get("kind", abnormality.name)
    zone = abnormality.zone if abnormality.name in SIDED[:4] else ""
    return " ".join(filter(None, (abnormality.side, zone, name)))


def measures(scene: Scene, rng: np.random.Generator) -> Listing:
    """Ratios, edema grade, view."""
    values = {
        "CTR": f"{scene.ctr:.2f}",
        "CPAR": f"{scene.cpar:.2f}",
        "edema": EDEMA[scene.edema],
        "view": scene.view,
    }
    return _pairs("measures", {key: values[key] for key in _draw(rng, list(values), 1, 3)})


def state(scene: Scene, rng: np.random.Generator) -> Listing:
    """Presence and absence: by side its size or `present`, over the whole image the sides or `present`."""
    values = {"edema": "present" if scene.edema else ABSENT}
    for name in WHOLE:
        values[name] = "present" if _named(scene, name) else ABSENT
    for name in SIDED:
        found = _named(scene, name)
        values[name] = ", ".join(side for side in SIDES if any(a.side == side for a in found)) or ABSENT
        for side in SIDES:
            sizes = [a.size or "present" for a in found if a.side == side]
            values[f"{side} {name}"] = ", ".join(sizes) or ABSENT
    present = [key for key, value in values.items() if value != ABSENT]
    absent = [key for key, value in values.items() if value == ABSENT]
    # As much absence as presence, or the answer `absent` could be learnt without looking.
    chosen = [_one(rng, present or absent) if rng.random() < 0.5 else _one(rng, absent)]
    asked = list(dict.fromkeys([*chosen, *_draw(rng, present, 0, 1), *_draw(rng, absent, 0, 1)]))
    keys = _draw(rng, asked, len(asked), len(asked))
    return _pairs("state", {key: values[key] for key in keys})


def place(scene: Scene, rng: np.random.Generator) -> Listing | None:
    """A name in, the boxes of all that bear it out, from left to right on the image."""
    by_label = _by_label(scene)
    if not by_label:
        return None
    name = _one(rng, list(by_label))
    boxes = tuple(sorted((a.box for a in by_label[name]), key=lambda box: box.xyxy))
    return Listing(f"listing: place; {name}", f"{name} = {' '.join([BOX_SLOT] * len(boxes))}", boxes)


def anatomy(scene: Scene, rng: np.random.Generator) -> Listing | None:
    """Boxes of normal structures."""
    if not scene.anatomy:
        return None
    keys = _draw(rng, sorted(scene.anatomy), 1, 2)
    text = "; ".join(f"{key} = {BOX_SLOT}" for key in keys)
    return Listing(f"listing: anatomy; {', '.join(keys)}", text, tuple(scene.anatomy[key] for key in keys))


def region(scene: Scene, rng: np.random.Generator) -> Listing:
    """A box in, what it frames out: an abnormality most often, else a normal structure or nothing named."""
    draw = rng.random()
    if scene.abnormalities and draw < 0.75:
        abnormality = _one(rng, scene.abnormalities)
        keys = {
            "name": abnormality.name,
            "side": abnormality.side,
            "zone": abnormality.zone,
            "size": abnormality.size,
            **dict(sorted(abnormality.attributes.items())),
        }
        return _region(abnormality.box, {key: value for key, value in keys.items() if value})
    if scene.anatomy and draw < 0.9:
        name = _one(rng, sorted(scene.anatomy))
        return _region(scene.anatomy[name], {"name": name})
    width, height = rng.uniform(0.06, 0.35, 2)
    x, y = rng.uniform(0.05, 0.95 - width), rng.uniform(0.05, 0.95 - height)
    box = Box(float(x), float(y), float(x + width), float(y + height))
    inside = [
        a.name
        for a in scene.abnormalities
        if box.x1 <= _middle(a)[0] <= box.x2 and box.y1 <= _middle(a)[1] <= box.y2
    ]
    return _region(box, {"centres": ", ".join(sorted(set(inside))) or "none"})


def count(scene: Scene, rng: np.random.Generator) -> Listing:
    """How many of a kind; `all` counts every localised abnormality."""
    names = [
        "all",
        *_draw(rng, ["nodule", "support device", "consolidation", "pleural effusion", "mass"], 1, 3),
    ]
    return _pairs("count", {name: str(len(_named(scene, name))) for name in names[int(rng.random() < 0.5) :]})


def zones(scene: Scene, rng: np.random.Generator) -> Listing:
    """What has its centre in a third of a lung."""
    where = _draw(rng, [f"{side} {zone}" for side in SIDES for zone in ZONES], 2, 3)
    return _pairs("zones", {key: ", ".join(_in_zone(scene, key)) or "none" for key in where})


def order(scene: Scene, rng: np.random.Generator) -> Listing | None:
    """Abnormalities from the largest to the smallest, where areas differ clearly."""
    single = [found[0] for found in _by_label(scene).values() if len(found) == 1 and found[0].name in SIDED]
    chosen = _draw(rng, single, 2, 3)
    ranked = sorted(chosen, key=lambda a: -a.area)
    if len(chosen) < 2 or any(a.area < 1.25 * b.area for a, b in pairwise(ranked)):
        return None
    return Listing(f"listing: order; {', '.join(map(label, chosen))}", " > ".join(map(label, ranked)))


def everything(scene: Scene, rng: np.random.Generator) -> Listing:
    """All labels of the image in a fixed order, with size and, for half of the listings, their boxes."""
    found = sorted(scene.abnormalities, key=lambda a: (FINDINGS.index(a.name), a.box.xyxy))
    if rng.random() < 0.5:
        boxes = tuple(a.box for a in found)
        return Listing(
            "listing: boxes", "; ".join(f"{label(a)} = {BOX_SLOT}" for a in found) or "none", boxes
        )
    lines = [f"{label(a)} = {a.size or 'present'}" for a in found] + [f"edema = {EDEMA[scene.edema]}"]
    return Listing("listing: labels", "; ".join(lines))


# Boxes and presence are what is hard to learn.
WEIGHTS: dict[Callable[[Scene, np.random.Generator], Listing | None], float] = {
    measures: 2.0,
    state: 4.0,
    place: 3.0,
    anatomy: 0.8,
    region: 1.8,
    count: 0.7,
    zones: 0.9,
    order: 0.6,
    everything: 2.0,
}


def _pairs(kind: str, values: dict[str, str]) -> Listing:
    return Listing(f"listing: {kind}; {', '.join(values)}", _lines(values))


def _region(box: Box, values: dict[str, str]) -> Listing:
    return Listing(f"listing: region; {BOX_SLOT}", _lines(values), (box,))


def _lines(values: dict[str, str]) -> str:
    return "; ".join(f"{key} = {value}" for key, value in values.items())


def _named(scene: Scene, name: str) -> list[Abnormality]:
    return [a for a in scene.abnormalities if name in ("all", a.name)]


def _in_zone(scene: Scene, where: str) -> list[str]:
    return sorted({a.name for a in scene.abnormalities if f"{a.side} {a.zone}" == where})


def _by_label(scene: Scene) -> dict[str, list[Abnormality]]:
    groups: dict[str, list[Abnormality]] = {}
    for abnormality in scene.abnormalities:
        groups.setdefault(label(abnormality), []).append(abnormality)
    return groups


def _middle(abnormality: Abnormality) -> tuple[float, float]:
    box = abnormality.box
    return (box.x1 + box.x2) / 2, (box.y1 + box.y2) / 2


def _one(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def _draw(rng: np.random.Generator, options: Sequence[T], low: int, high: int) -> list[T]:
    """Between `low` and `high` of the options (as far as there are so many), in random order."""
    chosen = rng.permutation(len(options))[: int(rng.integers(low, high + 1))]
    return [options[i] for i in chosen]
