"""A mixture of random grey images and the smallest model, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_recipes import store
from data_recipes.records import Box, Entry, Image, Mixture

SIDE = 112
# task, prompt, target, number of boxes: short and long targets, boxes on either side
_KINDS = (
    ("calculation", "What is the cardiothoracic ratio?", "CTR 0.4{n}", 0),
    ("report", "Report this radiograph.", "The heart is normal in size. There is no pneumothorax.", 0),
    ("severity", "What is the edema grade?", "grade 1, vascular congestion", 0),
    ("findings", "Which findings are present?", "edema, nodule", 0),
    ("rec", "Where is the nodule?", "{box}", 1),
    ("reg", "What is in the region {box}?", "nodule", 1),
    ("vqa", "Is there a pneumothorax?", "no", 0),
)


def make_mixture(
    folder: Path,
    *,
    images: int = 12,
    entries_each: Callable[[int], int] = lambda image: 4,
    seed: int = 0,
    prefix: str = "",
) -> Mixture:
    """`images` random images, the last two for validation, with `entries_each(number)` entries of mixed
    tasks; `prefix` sets names and patients apart from those of another mixture."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows, entries = [], []
    for number in range(images):
        name = f"{prefix}image-{number:03d}"
        pixels = rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
        split = "train" if number < images - 2 else "validation"
        rows.append(
            Image(name, f"{prefix}p{number}", split, "random", f"images/{name}.png", SIDE, SIDE, "PA")
        )
        for n in range(entries_each(number)):
            task, prompt, target, boxes = _KINDS[(number + n) % len(_KINDS)]
            corner = [round(float(v), 2) for v in rng.uniform(0.05, 0.4, 2)]
            box = Box(*corner, corner[0] + 0.3, corner[1] + 0.4)
            text = target.replace("{n}", str(n))
            entries.append(
                Entry(f"{name}/{task}/{n}", name, task, prompt, text, (box,) * boxes, f"random/{task}")
            )
    digests = {row.image_id: "" for row in rows}
    meta = {
        "name": prefix or "random",
        "mixture_hash": store.content_hash(rows, entries, digests),
        "recipe": {},
    }
    mixture = Mixture(tuple(rows), tuple(entries), meta)
    store.write_mixture(mixture, folder)
    return mixture


@pytest.fixture(scope="session")
def mixture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    make_mixture(folder)
    return folder


@pytest.fixture(scope="session")
def uneven_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with 1 to 8 entries."""
    folder = tmp_path_factory.mktemp("uneven")
    make_mixture(folder, images=10, entries_each=lambda image: 1 + image * 5 % 8)
    return folder
