"""How tests write small copies of published datasets, and look at what a source makes of them."""

from __future__ import annotations

import importlib.util
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from data_recipes.harvest import Harvest
from data_recipes.reject import check_entry
from data_recipes.sources import file_options, file_source
from data_recipes.stock import Stock
from data_recipes.tasks import TASKS

needs_data = pytest.mark.skipif(
    importlib.util.find_spec("torchxrayvision") is None, reason="the extra `data` is not installed"
)


def write(root: Path, tables: Mapping[str, str | bytes]) -> Path:
    """Writes tables by name and returns the root."""
    for name, content in tables.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def picture(root: Path, name: str, width: int = 8, height: int = 8) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.zeros((height, width), np.uint8)).save(path)


def harvest(source: str, root: Path, **options: Any) -> Harvest:
    """What the source makes of the root; every entry is checked, and the funnel's totals."""
    checked = file_options(source, {"root": str(root), "pixels": "skip", **options})
    found = file_source(source).harvest(checked, 0)
    assert found.entries["entry_id"].is_unique().all()
    assert found.entries["image_id"].is_in(found.images["image_id"].implode()).all()
    assert found.images["image_id"].is_unique().all()
    splits = found.images["split"].replace({"": "train", "train+validation": "train"})
    with tempfile.TemporaryDirectory() as folder:
        stock = Stock(found, splits, TASKS, Path(folder), "skip", seed=0, shuffle=False)
        for delivered in stock.take(None, label="", progress=False):
            for entry in delivered.entries:
                check_entry(entry)
    assert all(step.came == step.kept + sum(step.dropped.values()) for step in found.funnel.steps)
    return found


def said(found: Harvest, task: str, image: str | None = None) -> list[tuple[str, str]]:
    """(image, target) of the entries of a task."""
    rows = found.entries.filter(found.entries["task"] == task).select("image_id", "target").rows()
    return [row for row in rows if image in (None, row[0])]


def boxes_of(found: Harvest, task: str = "rec") -> dict[str, list[list[float]]]:
    """Image -> boxes of its entries of a task."""
    rows = found.entries.filter(found.entries["task"] == task).select("image_id", "boxes").rows()
    result: dict[str, list[list[float]]] = {}
    for image, boxes in rows:
        result.setdefault(image, []).extend(boxes)
    return result


def reasons(found: Harvest) -> Counter[tuple[str, int, str]]:
    return Counter(tuple(rejection) for rejection in found.funnel.rejected)


def dropped(found: Harvest, step: str) -> dict[str, int]:
    """Why rows went at the step of that name."""
    (only,) = [s for s in found.funnel.steps if s.step == step]
    return only.dropped
