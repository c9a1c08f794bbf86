"""What is wrong with a patient, before any projection, drawn with the prevalences of a teaching file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from data_recipes.sources.phantom.anatomy import SIDES

LARGEST_NODULE = 1.45  # radius in cm; a mass is 3 cm or more across
# Chance of each kind in a patient who is not free of abnormalities; nodules may come several at once.
CHANCE = {
    "pleural effusion": 0.28,
    "consolidation": 0.27,
    "nodule": 0.27,
    "mass": 0.27,
    "pneumothorax": 0.21,
    "atelectasis": 0.29,
    "support device": 0.29,
    "cardiomegaly": 0.36,
}
NORMAL = 0.31  # share of patients without any of these
EDEMA = (0.48, 0.18, 0.18, 0.16)  # grades' shares at the first visit
# Ranges of u, v and extent (see Plan) of what fills a part of a lung.
_PLACE = {
    "consolidation": ((0.35, 0.7), (0.25, 0.82), (1.8, 3.2)),
    "atelectasis": ((0.42, 0.62), (0.68, 0.9), (2.8, 4.6)),
    "nodule": ((0.25, 0.8), (0.2, 0.85), (0.95, LARGEST_NODULE)),
    "mass": ((0.3, 0.68), (0.22, 0.8), (1.7, 3.0)),
}
DEVICES = ("central line", "endotracheal tube", "pacemaker")


@dataclass(frozen=True)
class Plan:
    """One planned abnormality, in coordinates relative to the lung, so that it fits every pose.

    Attributes:
        name: a label of FINDINGS; side: "left", "right" or "".
        u: place across the lung, 0 at the mediastinum, 1 at the chest wall; v: down the lung, 0 apex, 1 dome.
        extent: its size in cm (radius, rim, band length) or, for an effusion, the share of the lung's height.
        turn: direction in the image plane (radians).
        seed: of its inner irregularity.
    """

    name: str
    side: str
    u: float = 0.5
    v: float = 0.5
    extent: float = 1.0
    turn: float = 0.0
    seed: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


def sample_plans(rng: np.random.Generator, scale: float = 1.0) -> tuple[tuple[Plan, ...], int, bool]:
    """What one patient has: plans, edema grade, large heart or not; `scale` is `Options.abnormal`."""
    edema = int(rng.choice(4, p=EDEMA))
    if scale < 1 and rng.random() > scale:
        edema = 0
    if rng.random() < 1 - min(1.0, (1 - NORMAL) * scale):
        return (), edema, False
    present = {name for name, chance in CHANCE.items() if rng.random() < chance}
    if not present:
        present = {str(rng.choice(list(CHANCE)))}
    plans: list[Plan] = []
    free_of_air = list(SIDES)
    if "pneumothorax" in present:
        side = str(rng.choice(SIDES))
        plans.append(Plan("pneumothorax", side, extent=rng.uniform(2.0, 4.6), v=rng.uniform(0.15, 0.6)))
        free_of_air.remove(side)
    for name in ("pleural effusion", "consolidation", "atelectasis"):
        if name in present:
            both = name == "pleural effusion" and len(free_of_air) == 2 and rng.random() < 0.3
            for side in SIDES if both else (str(rng.choice(free_of_air)),):
                plans.append(_plan(name, side, rng))
    for name in ("mass", "nodule"):
        if name in present:
            count = int(rng.choice(3, p=(0.6, 0.28, 0.12))) + 1 if name == "nodule" else 1
            plans += [_plan(name, str(rng.choice(SIDES)), rng) for _ in range(count)]
    if "support device" in present:
        kind = DEVICES[int(rng.choice(3, p=(0.4, 0.3, 0.3)))]
        side = {"endotracheal tube": "", "pacemaker": "left", "central line": "right"}[kind]
        if kind == "central line" and rng.random() >= 0.75:
            side = "left"
        plans.append(Plan("support device", side, extent=rng.uniform(0, 1), attributes={"kind": kind}))
    return tuple(plans), edema, "cardiomegaly" in present


def _plan(name: str, side: str, rng: np.random.Generator) -> Plan:
    seed = int(rng.integers(2**31))
    if name == "pleural effusion":
        return Plan(name, side, extent=rng.uniform(0.08, 0.56), seed=seed)
    turn = rng.uniform(-0.35, 0.35) if name == "atelectasis" else 0.0
    u, v, extent = (rng.uniform(*limits) for limits in _PLACE[name])
    return Plan(name, side, u, v, extent, turn, seed)


def vary(plans: tuple[Plan, ...], edema: int, rng: np.random.Generator) -> tuple[tuple[Plan, ...], int]:
    """The same patient at another time: sizes change, an abnormality may be gone, edema may move a grade."""
    most = {"nodule": LARGEST_NODULE}
    kept = tuple(
        replace(plan, extent=min(plan.extent * rng.uniform(0.9, 1.1), most.get(plan.name, 4.8)))
        for plan in plans
        if plan.name in ("mass", "nodule") or rng.random() > 0.1
    )
    if rng.random() < 0.3:
        edema = int(np.clip(edema + rng.choice((-1, 1)), 0, 3))
    return kept, edema
