"""Truth from geometry: boxes, ratios, sides, zones and sizes. Nothing here looks at a grey value."""

from __future__ import annotations

import numpy as np

from data_recipes.records import Box
from data_recipes.scene import Abnormality, Scene
from data_recipes.sources.phantom.anatomy import SIDES, Chest, heart_extent
from data_recipes.sources.phantom.lesions import Insertion, Lesion
from data_recipes.sources.phantom.projection import Array

LARGE_HEART = 0.5  # cardiomegaly above this CTR
# Sizes: (largest small, largest moderate), in cm (radius; rim of a pneumothorax; half length of a band), or
# for an effusion as the share of the lung's height under the fluid's level.
SIZES = {
    "pleural effusion": (0.22, 0.38),
    "pneumothorax": (2.8, 3.7),
    "consolidation": (2.3, 2.8),
    "atelectasis": (3.4, 4.0),
    "nodule": (1.1, 1.28),
    "mass": (2.1, 2.55),
}
HEART_SIZES = (0.54, 0.59)  # the same for cardiomegaly, by CTR


def tight_box(mask: Array) -> Box | None:
    """The smallest box around a mask (H, W), or None when the mask is empty."""
    counts = mask.view(np.uint8)  # the maximum of bytes is much faster than `any`
    rows, columns = np.flatnonzero(counts.max(axis=1)), np.flatnonzero(counts.max(axis=0))
    if not rows.size:
        return None
    height, width = mask.shape
    return Box(columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def size_word(value: float, limits: tuple[float, float]) -> str:
    return "small" if value <= limits[0] else "moderate" if value <= limits[1] else "large"


def zone_word(y: float, lung: Box) -> str:
    """Third of the lung's height in which y (a fraction of the image) lies."""
    third = (y - lung.y1) / (lung.y2 - lung.y1) * 3
    return "upper" if third < 1 else "mid" if third < 2 else "lower"


def masks_of(chest: Chest) -> dict[str, Array]:
    """Projected masks (S, S) of heart and lung fields."""
    field = chest.lung_fields
    masks = {"heart": chest.heart_mask}
    for side in SIDES:
        lung = np.zeros_like(field)
        columns = chest.columns(side)
        lung[:, columns] = field[:, columns]
        masks[f"{side} lung"] = lung
    return masks


def measure(chest: Chest, insertion: Insertion, edema: int) -> tuple[Scene, dict[str, Array]]:
    """The scene and the masks it was measured on; abnormality number n has the mask "<name> <n>"."""
    masks = masks_of(chest)
    anatomy = {name: box for name, mask in masks.items() if (box := tight_box(mask))}
    left, right = heart_extent(chest.heart)
    ctr = (right - left) / (2 * chest.body.width)
    lungs = int(masks["left lung"].sum() + masks["right lung"].sum())
    found: list[Abnormality] = []
    for lesion in insertion.lesions:
        if (seen := _abnormality(lesion, anatomy)) is not None:
            masks[f"{lesion.plan.name} {len(found)}"] = lesion.mask
            found.append(seen)
    if ctr > LARGE_HEART and "heart" in anatomy:
        area = float(chest.heart_mask.mean())
        masks[f"cardiomegaly {len(found)}"] = chest.heart_mask
        found.append(Abnormality("cardiomegaly", "", "", size_word(ctr, HEART_SIZES), anatomy["heart"], area))
    scene = Scene(
        view=chest.pose.view,
        ctr=float(ctr),
        cpar=float(chest.heart_mask.sum() / max(lungs, 1)),
        edema=edema,
        anatomy=anatomy,
        abnormalities=tuple(found),
    )
    return scene, masks


def _abnormality(lesion: Lesion, anatomy: dict[str, Box]) -> Abnormality | None:
    plan, box = lesion.plan, tight_box(lesion.mask)
    if box is None:
        return None
    lung = anatomy.get(f"{plan.side} lung")
    zone = zone_word((box.y1 + box.y2) / 2, lung) if lung and plan.name != "support device" else ""
    size = size_word(plan.extent, SIZES[plan.name]) if plan.name in SIZES else ""
    return Abnormality(plan.name, plan.side, zone, size, box, float(lesion.mask.mean()), plan.attributes)
