"""Draws docs/gallery.png: 16 phantom radiographs with the boxes of their truth.

python docs/make_gallery.py [--seed 2030] [--out docs/gallery.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from data_recipes.records import Box
from data_recipes.scene import EDEMA_GRADES, FINDINGS, Scene
from data_recipes.sources import phantom

PANEL, CAPTION, COLUMNS = 344, 72, 4
COLOURS = dict(
    zip(
        FINDINGS,
        ("#ffd166", "#ef476f", "#f78c6b", "#ffffff", "#06d6a0", "#43e8d8", "#4da3ff", "#b392f0", "#c5e063"),
        strict=True,
    )
)
ANATOMY = "#8d99ae"


def choose(seed: int, wanted: int = COLUMNS**2) -> list[tuple[np.ndarray, Scene]]:
    """The first images of that many patients, as they come."""
    return [phantom.render(seed, index, 0, phantom.Options(size=PANEL)) for index in range(wanted)]


def panel(pixels: np.ndarray, scene: Scene) -> Image.Image:
    """One radiograph with its boxes, and what is true of it underneath."""
    picture = Image.new("RGB", (PANEL, PANEL + CAPTION), "#14171c")
    picture.paste(Image.fromarray(pixels).convert("RGB"))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)

    def outline(box: Box, colour: str, width: int) -> tuple[float, float]:
        x1, y1, x2, y2 = (value * PANEL for value in box.xyxy)
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=colour, width=width)
        return x1, y1

    for box in scene.anatomy.values():
        outline(box, ANATOMY, 1)
    for a in scene.abnormalities:
        x, y = outline(a.box, COLOURS[a.name], 2)
        words = a.attributes.get("kind", a.name)
        left, top, right, bottom = draw.textbbox((x + 2, max(y - 14, 1)), words, font=font)
        left -= max(0, right - PANEL + 2)
        draw.rectangle((left - 1, top - 1, left + right - x, bottom + 1), fill="#14171c")
        draw.text((left, max(y - 14, 1)), words, fill=COLOURS[a.name], font=font)
    first = f"{scene.view}   CTR {scene.ctr:.2f}   CPAR {scene.cpar:.2f}   {EDEMA_GRADES[scene.edema]}"
    names = [" ".join(filter(None, (a.size, a.side, a.zone, a.name))) for a in scene.abnormalities]
    draw.text((5, PANEL + 4), first, fill="#e8eaed", font=font)
    lines = [""]
    for word in ("; ".join(names) or "no localised abnormality").split():
        longer = f"{lines[-1]} {word}".strip()
        if draw.textlength(longer, font=font) > PANEL - 10:
            longer = word
            lines.append("")
        lines[-1] = longer
    for n, line in enumerate(lines[:3]):
        draw.text((5, PANEL + 22 + 15 * n), line, fill="#9aa4b2", font=font)
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=2030)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("gallery.png"))
    asked = parser.parse_args()
    gap = 6
    width, height = COLUMNS * (PANEL + gap) - gap, COLUMNS * (PANEL + CAPTION + gap) - gap
    sheet = Image.new("RGB", (width, height), "#000000")
    for n, (pixels, scene) in enumerate(choose(asked.seed)):
        sheet.paste(
            panel(pixels, scene), ((n % COLUMNS) * (PANEL + gap), (n // COLUMNS) * (PANEL + CAPTION + gap))
        )
    sheet.quantize(200, dither=Image.Dither.NONE).save(asked.out, optimize=True)
    print(f"{asked.out}: {width} x {height}, {asked.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
