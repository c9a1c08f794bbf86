"""Draws docs/taco-tasks.png: the thirty tasks of TaCo on real images of installed packages.

python docs/make_taco_tasks.py [--seed 9] [--out docs/taco-tasks.png]   (needs the extra `taco`)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.transform import resize

from taco_probe.taco.data import Dataset, by_name
from taco_probe.taco.tasks import CATEGORIES, TASKS, Task
from taco_probe.taco.tasks.base import clean

PANEL, CAPTION, COLUMNS, GAP = 128, 20, 5, 8
# Sources in turn, by what a task needs.
CLASSES = ("mni_brain", "chest_ct")
REGIONS = ("dsb_nuclei", "chest_ct", "mni_brain")
COLOUR = ("retina", "ihc", "tcia_histology")
ANY = (
    "mr_slices",
    "chest_ct",
    "ihc",
    "mni_brain",
    "radiographs",
    "photographs",
    "tcia_histology",
    "mni_brain",
)


def sources(task: Task) -> tuple[str, ...]:
    """Datasets on which a task is shown."""
    if "classes" in task.needs:
        return CLASSES
    if task.category == "semantic":
        return REGIONS
    return COLOUR if "colour" in task.needs else ANY


def square(image: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """The middle square of a sample, in PANEL pixels."""
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    cut = image[top : top + side, left : left + side]
    small = clean(resize(cut, (PANEL, PANEL, *image.shape[2:]), anti_aliasing=True))
    if labels is not None:
        index = (np.arange(PANEL) * side) // PANEL
        labels = labels[top : top + side, left : left + side][np.ix_(index, index)]
    return small, labels


def panel(task: Task, dataset: Dataset, seed: int) -> Image.Image:
    """Input and target side by side, with the names of task and dataset."""
    image, labels, _ = dataset[len(dataset) // 2]
    made = task(*square(image, labels), strength=0.7 if task.strengths else None, seed=seed)
    picture = Image.new("RGB", (2 * PANEL, PANEL + CAPTION), "#14171c")
    for place, shown in enumerate(made):
        pixels = (255 * shown).round().astype(np.uint8)
        picture.paste(Image.fromarray(pixels).convert("RGB"), (place * PANEL, CAPTION))
    draw = ImageDraw.Draw(picture)
    draw.text((4, 3), task.name, fill="#e8eaed", font=ImageFont.load_default(size=13))
    font = ImageFont.load_default(size=10)
    draw.text(
        (2 * PANEL - draw.textlength(dataset.name, font=font) - 4, 5), dataset.name, "#9aa4b2", font=font
    )
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("taco-tasks.png"))
    asked = parser.parse_args()
    opened = {name: by_name(name) for name in {*CLASSES, *REGIONS, *COLOUR, *ANY}}
    wide, high = 2 * PANEL + GAP, PANEL + CAPTION + GAP
    rows = len(TASKS) // COLUMNS
    sheet = Image.new("RGB", (COLUMNS * wide - GAP, rows * high - GAP), "#000000")
    place = 0
    for category in CATEGORIES:
        for turn, task in enumerate(task for task in TASKS.values() if task.category == category):
            names = sources(task)
            shown = panel(task, opened[names[turn % len(names)]], asked.seed)
            sheet.paste(shown, ((place % COLUMNS) * wide, (place // COLUMNS) * high))
            place += 1
    sheet.save(asked.out, optimize=True)
    print(f"{asked.out}: {sheet.width} x {sheet.height}, {asked.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
