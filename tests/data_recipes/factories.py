"""Random scenes, images and boxes for tests: everything a source could legally say, without any pixels."""

from __future__ import annotations

import numpy as np

from data_recipes.annotate import annotate
from data_recipes.records import Box, Entry, Image
from data_recipes.scene import Abnormality, Scene

NORMAL = Scene("AP", 0.44, 0.3, 0, {}, ())
HEART = Abnormality("cardiomegaly", "", "", "", Box(0.3, 0.4, 0.7, 0.8), 0.1)
TUBE = Abnormality("support device", "", "", "", Box(0.4, 0, 0.5, 0.4), 0.01, {"kind": "endotracheal tube"})
LEFT = Abnormality("pleural effusion", "left", "lower", "large", Box(0.6, 0.6, 0.9, 0.9), 0.06)
RIGHT = Abnormality("pleural effusion", "right", "lower", "small", Box(0.1, 0.8, 0.4, 0.9), 0.02)
NODULE = Abnormality("nodule", "right", "upper", "small", Box(0.3, 0.2, 0.35, 0.25), 0.002)
TWIN = Abnormality("nodule", "right", "upper", "small", Box(0.2, 0.2, 0.25, 0.25), 0.002)

DEVICES = ("endotracheal tube", "central line", "pacemaker")


def random_box(rng: np.random.Generator) -> Box:
    (x1, x2), (y1, y2) = (sorted(rng.choice(1001, 2, replace=False).tolist()) for _ in range(2))
    return Box(x1 / 1000, y1 / 1000, x2 / 1000, y2 / 1000)


def random_abnormality(rng: np.random.Generator, name: str, side: str | None = None) -> Abnormality:
    side = side or str(rng.choice(["left", "right"]))
    box = random_box(rng)
    area = float(box.area * rng.uniform(0.3, 0.9))
    size = str(rng.choice(["small", "moderate", "large"]))
    if name == "cardiomegaly":
        return Abnormality(name, "", "", "", box, area)
    if name == "support device":
        kind = str(rng.choice(DEVICES))
        return Abnormality(name, "" if kind == DEVICES[0] else side, "", "", box, area, {"kind": kind})
    return Abnormality(name, side, str(rng.choice(["upper", "mid", "lower"])), size, box, area)


def random_scene(rng: np.random.Generator, rate: float = 0.25) -> Scene:
    """A scene where each kind of abnormality has probability `rate`; pleural ones at most once a side."""
    found: list[Abnormality] = []
    for name in ("pleural effusion", "pneumothorax"):
        found += [
            random_abnormality(rng, name, side) for side in ("left", "right") if rng.random() < rate / 2
        ]
    for name in ("consolidation", "atelectasis", "mass", "support device"):
        found += [random_abnormality(rng, name) for _ in range(rng.binomial(2, rate / 2))]
    if rng.random() < rate:
        found += [random_abnormality(rng, "nodule") for _ in range(rng.integers(1, 5))]
    ctr = float(rng.uniform(0.38, 0.62))
    if ctr > 0.5:
        found.append(random_abnormality(rng, "cardiomegaly"))
    rng.shuffle(found)  # type: ignore[arg-type]
    return Scene(
        view=str(rng.choice(["PA", "AP"])),
        ctr=ctr,
        cpar=float(rng.uniform(0.2, 0.7)),
        edema=int(rng.choice(4, p=[0.55, 0.15, 0.15, 0.15])),
        anatomy={"heart": random_box(rng)},
        abnormalities=tuple(found),
    )


def image(number: int = 0, view: str = "PA", source: str = "phantom") -> Image:
    return Image(f"p{number}-0", f"p{number}", "", source, "", 224, 224, view)


def scene_of(*abnormalities: Abnormality, edema: int = 0, ctr: float = 0.44) -> Scene:
    return Scene("PA", ctr, 0.3, edema, {}, abnormalities)


def entries_of(scene, seed=0, **where):
    return annotate(scene, image(**where), np.random.default_rng(seed))


def of_task(entries, name):
    return [entry for entry in entries if entry.task == name]


def population() -> list[tuple[Scene, tuple[Entry, ...]]]:
    """500 random scenes with their entries."""
    rng = np.random.default_rng(20)
    scenes = [random_scene(rng) for _ in range(500)]
    return [(scene, entries_of(scene, seed)) for seed, scene in enumerate(scenes)]
