"""Source `jsrt`: the JSRT database, 247 radiographs with and without a lung nodule, and the masks of SCR.

Quirks: images are `.IMG` files without a header (`data_recipes/img.py`); the tables have no header, lines
end as on old Macs or anyhow, and what is not known is `?`; a nodule is a centre in pixels and a diameter in
mm, at 0.175 mm a pixel; the masks are GIF files of half the size, in two folds, in folders with a blank in
their name.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

import polars as pl

from data_recipes import contents, drawn, scan
from data_recipes.dataset import Dataset, DatasetOptions
from data_recipes.files import Files, Needed, locate
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.img import SIDE
from data_recipes.licence import Cite, Licence
from data_recipes.masks import ORGANS

NAME = "jsrt"
VERSION = "1"
LICENCE = Licence(
    "research use of the JSRT database; the masks are those of SCR (van Ginneken, Stegmann and Loog 2006)",
    access="registration",
    share="not stated: ask the publisher",
    page="db.jsrt.or.jp",
    cite=Cite(
        "shiraishi2000jsrt",
        "Shiraishi, Junji and Katsuragawa, Shigehiko and Ikezoe, Junpei and others",
        "Development of a digital image database for chest radiographs with and without a lung nodule",
        "American Journal of Roentgenology 174(1)",
        2000,
    ),
)
FILES = (
    Needed("nodules", ("CLNDAT_EN.txt", "CLNDAT_EN.TXT"), "images with a nodule: vqa, rec, reg"),
    Needed("clear", ("CNNDAT_EN.TXT", "CNNDAT_EN.txt"), "images without a nodule: vqa", required=False),
)
NOTES = (
    "JSRT publishes no patient ids: every image counts as a patient of its own.",
    "JSRT: the box of a nodule is a square around its centre, as wide as its diameter; yes-or-no questions "
    "ask for a nodule only, as other findings are not labelled.",
)
MM = 0.175  # a pixel
_NUMBERS = ("size", "x", "y")
_IMAGE = re.compile(r"JPC[LN]N\d+")
_RECORD_ENDS = re.compile(r"[\r\n]+|(?<=[^\r\n])(?=JPC[LN]N\d+\.IMG)")


class Options(DatasetOptions):
    """
    Attributes:
        organs: whether the masks' heart and lungs are located and named too (rec, reg).
    """

    organs: bool = True


OPTIONS = Options


def fingerprint(options: FileOptions) -> str:
    files = locate(options.root, NAME, FILES)
    masks = sorted(_mask_files(files).values())
    return files.fingerprint(FILES, images=options.placing != "skip", others=masks)


def harvest(options: Options, seed: int) -> Harvest:
    data = Dataset(NAME, FILES, options, seed)
    rows = pl.concat([_rows(data, key) for key in ("nodules", "clear") if data.has(key)])
    images = data.images(
        rows.with_columns(*data.square(SIDE), patient_id=pl.concat_str(pl.lit("jsrt-"), "image_id"),
                          view=pl.lit("PA"))
    )  # fmt: skip
    nodules = images.filter("nodule")
    data.writer.presence(images, nodules.select("image_id", label=pl.lit("nodule")))
    masks = _masks(data, images)
    data.writer.boxes(data.on_image(pl.concat([_boxes(data, nodules), *_organs(masks, options)])))
    if masks is not None:
        drawn.write_ratios(data, masks)
    return data.harvest(images)


def _rows(data: Dataset, key: str) -> pl.DataFrame:
    """The records of a table: image_id, nodule, size, x, y (text), file and row."""
    path = data.path(key)
    text = contents.content(path).decode("cp1252", errors="replace")
    records: list[dict[str, Any]] = []
    for row, record in enumerate(filter(str.strip, _RECORD_ENDS.split(text)), start=1):
        image, _, rest = record.strip().partition(".IMG")
        why = None if _IMAGE.fullmatch(image) else "starts with no name of an image (JPCLN001.IMG)"
        # subtlety, size in mm, age, sex, x, y; what follows is in words.
        cells = (
            dict(zip(("", "size", "", "", "x", "y"), rest.split(), strict=False)) if key == "nodules" else {}
        )
        known = {name: cells.get(name) for name in _NUMBERS}
        records.append(
            {
                "image_id": image,
                "nodule": key == "nodules",
                **known,
                "file": path.name,
                "row": row,
                "why": why,
            }
        )
    schema = {"image_id": pl.String, "nodule": pl.Boolean, **dict.fromkeys((*_NUMBERS, "file"), pl.String)}
    frame = pl.DataFrame(records, schema={**schema, "row": pl.Int64, "why": pl.String})
    kept = data.funnel.keep_unless(f"read {path.name}", "rows", frame, pl.col("why"), reject=True)
    return kept.drop("why")


def _boxes(data: Dataset, nodules: pl.DataFrame) -> pl.DataFrame:
    """Squares around the nodules, in pixels."""
    columns = ("image_id", "file", "row", *_NUMBERS)
    found = scan.numbers(nodules.select(columns), _NUMBERS, data.funnel, "numbers of nodules", rows="nodules")
    half = pl.col("size") / MM / 2
    return found.select(
        "image_id",
        "file",
        "row",
        box_width=pl.lit(float(SIDE)),
        box_height=pl.lit(float(SIDE)),
        x1=(pl.col("x") - half).clip(0, SIDE),
        y1=(pl.col("y") - half).clip(0, SIDE),
        x2=(pl.col("x") + half).clip(0, SIDE),
        y2=(pl.col("y") + half).clip(0, SIDE),
        phrase=pl.lit("nodule"),
    )


def _organs(masks: pl.DataFrame | None, options: Options) -> list[pl.DataFrame]:
    return [drawn.organ_boxes(masks)] if masks is not None and options.organs else []


def _masks(data: Dataset, images: pl.DataFrame) -> pl.DataFrame | None:
    known = set(images["image_id"])
    found = {key: path for key, path in _mask_files(data.files).items() if key[0] in known}
    if found:
        return drawn.read_masks(data, found)
    data.notes.append("No masks of SCR were found (heart/JPCLN001.gif, ...): the mixture lacks calculation.")
    return None


def _mask_files(files: Files) -> dict[tuple[str, str], str]:
    """Image id and organ -> the mask's path below the root: `fold1/masks/left lung/JPCLN001.gif`."""
    found: dict[tuple[str, str], str] = {}
    for name in files.every((".gif",)):
        path = PurePosixPath(name)
        organ = path.parent.name.lower().replace("_", " ")
        if organ in ORGANS:
            found.setdefault((path.stem, organ), name)
    return found
