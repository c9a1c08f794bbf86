"""Source `siim`: the SIIM-ACR Pneumothorax Segmentation challenge, masks of pneumothorax on radiographs.

Quirks: the column ` EncodedPixels` has a leading space; `-1` stands for no mask; a mask is a run-length code
whose offsets are relative to the end of the run before, column by column on 1024 x 1024; an image with
several masks has several rows; images are NIH's under other names, and nothing published maps the two.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from data_recipes.dataset import Dataset, UnknownViewOptions, fingerprint_of
from data_recipes.facts import BOX
from data_recipes.files import Needed
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.licence import Cite, Licence

NAME = "siim"
VERSION = "1"
IMAGES_OF = "nih"  # the source whose images these are
LICENCE = Licence(
    "rules of the SIIM-ACR Pneumothorax Segmentation challenge; the images are NIH's",
    access="rules",
    share="the images as NIH allows; the masks as the rules of the challenge say",
    page="kaggle.com/c/siim-acr-pneumothorax-segmentation",
    cite=Cite(
        "siim2019pneumothorax",
        "{Society for Imaging Informatics in Medicine}",
        "SIIM-ACR Pneumothorax Segmentation",
        "machine learning challenge",
        2019,
    ),
)
FILES = (
    Needed(
        "masks",
        ("train-rle.csv", "stage_2_train.csv", "siim-pneumothorax-train-rle.csv"),
        "masks: rec, reg, vqa",
    ),
)
NOTES = (
    "SIIM: images are from NIH ChestX-ray14 under other names: leakage from and to source nih shows only as "
    "equal pixels.",
    "SIIM publishes no patient ids: every image counts as a patient of its own.",
    "SIIM: boxes are the extent of masks; yes-or-no questions are derived from whether an image has a mask.",
)
SIDE = 1024
_LABEL = "pneumothorax"


OPTIONS = UnknownViewOptions


def fingerprint(options: FileOptions) -> str:
    return fingerprint_of(FILES, NAME, options)


def harvest(options: UnknownViewOptions, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = data.table("masks", {"image_id": "ImageId", "mask": "EncodedPixels"})
    rows = rows.with_columns(pl.col("mask").str.strip_chars())
    images = rows.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", rows.height, images.height, "a further row of its image")
    images = data.images(images.with_columns(data.square(SIDE), patient_id="image_id"))
    drops = {"no mask: -1": pl.col("mask") == "-1"}
    masks = data.funnel.keep("rows with a mask", "rows", data.about(rows, images, "rows"), drops)
    data.writer.presence(images, masks.select("image_id", label=pl.lit(_LABEL)))
    boxes = [box_of_runs(mask) for mask in masks["mask"].fill_null("")]
    masks = masks.with_columns(box=pl.Series(boxes, dtype=pl.List(pl.Float64)))
    broken = {f"mask is no run-length code on {SIDE} x {SIDE}": pl.col("box").is_null()}
    masks = data.funnel.keep("masks", "rows", masks, broken, reject=True)
    corners = [pl.col("box").list.get(i).alias(name) for i, name in enumerate(BOX)]
    sized = masks.with_columns(*corners, phrase=pl.lit(_LABEL), box_width=SIDE, box_height=SIDE)
    data.writer.boxes(data.on_image(sized))
    return data.harvest(images)


def box_of_runs(code: str, side: int = SIDE) -> tuple[float, float, float, float] | None:
    """The tight box x1, y1, x2, y2 in pixels of a mask on side x side, None for a code that is none.

    The code is pairs "offset length": the offset counts from the end of the run before, pixels count down the
    columns, and the columns from left to right.
    """
    try:
        runs = np.array(code.split(), dtype=np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        return None
    if not len(runs) or runs.min() < 0 or runs[:, 1].min() < 1:
        return None
    ends = np.cumsum(runs.sum(axis=1))
    starts = ends - runs[:, 1]
    if ends[-1] > side * side:
        return None
    first, last = starts // side, (ends - 1) // side
    wraps = bool((first != last).any())  # a run over the end of a column touches the bottom and the top
    top = 0 if wraps else int((starts % side).min())
    bottom = side if wraps else int(((ends - 1) % side).max()) + 1
    return float(first.min()), float(top), float(last.max() + 1), float(bottom)
