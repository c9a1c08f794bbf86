"""Small datasets, settings and pools for tests of TaCo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import polars as pl

from taco_probe.taco.data import Dataset, from_arrays
from taco_probe.taco.pool import COLUMNS, Pool
from taco_probe.taco.settings import Settings

RNG = np.random.default_rng(0)
TASKS_USED = ("foreground_mask", "boundary", "denoise_gaussian", "flip_vertical", "inversion")


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def grey(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def mask(height: int = 16, width: int = 16) -> np.ndarray:
    made = np.zeros((height, width), np.uint8)
    made[2:6, 2:6], made[9:13, 8:14] = 1, 2
    return made


def dataset(name: str, images: int = 4, *, masks: bool = True, side: int = 40, seed: int = 0) -> Dataset:
    """Grey noise with a bright square, which is its mask."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 120, (images, side, side + 8), dtype=np.uint8)
    labels = np.zeros(pictures.shape, np.uint8)
    for number in range(images):
        top, left = rng.integers(4, side // 2, 2)
        labels[number, top : top + 12, left : left + 14] = 1
    pictures += 100 * labels
    return from_arrays(
        name, "noise", pictures, labels if masks else None, labels="classes" if masks else "none"
    )


def tiny(**changes: Any) -> Settings:
    """Settings of an encoder that trains within a second or two."""
    values: dict[str, Any] = {
        "size": 32, "tasks": 3, "per_task": 3, "steps": 4, "projection": 8, "pool": 6, "test_pool": 3,
        "anchors": 2, "datasets": ("one", "two"), "held_out": ("three",), "tasks_used": TASKS_USED,
        "mixed_precision": "no",
    }  # fmt: skip
    return Settings(**(values | changes))


def made_up_pool(settings: Settings, *, seed: int = 0, each: int = 6) -> Pool:
    """Noise, with as many instances of each task and dataset, a third of them failed; datasets and tasks
    differ in brightness."""
    rng = np.random.default_rng(seed)
    rows = [
        (
            task,
            "semantic",
            name,
            name,
            "noise",
            f"{name}[{k}]",
            None,
            "blank" if k % 3 == 2 else "",
            "",
            0.0,
            -1,
            k,
        )
        for task in settings.tasks_used
        for name in settings.datasets
        for k in range(each)
    ]
    shape = (len(rows), settings.size, settings.size, 3)
    inputs, targets = (rng.integers(0, 200, shape, dtype=np.uint8) for _ in range(2))
    for number, row in enumerate(rows):
        targets[number] += np.uint8(10 * settings.tasks_used.index(row[0]))
    return Pool(inputs, targets, pl.DataFrame(rows, schema=COLUMNS, orient="row"))
