"""MS-CXR: phrases of reports with the boxes that radiologists drew for them.

Quirks: COCO boxes are x, y, width, height in pixels of the original image, in JSON and CSV alike; a phrase
with several boxes has a row for each; an image may be listed more than once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from data_recipes import contents, scan
from data_recipes.coco_json import as_text
from data_recipes.dataset import Dataset
from data_recipes.errors import UserError
from data_recipes.sources.mimic.cohort import Cohort, dicom
from data_recipes.tables import mended

_BOX = ("x", "y", "w", "h")
_SIZE = ("box_width", "box_height")


def read_phrases(data: Dataset) -> pl.DataFrame:
    """image_id, phrase, x, y, w, h, box_width, box_height, split (null where none is said), file, row."""
    path = data.path("phrases")
    if path.name.endswith((".json", ".json.gz", ".json.zip")):
        table = _coco(contents.content(path), path.name)
    else:
        table = data.table(
            "phrases",
            {"image_id": "dicom_id", "phrase": "label_text", **{name: name for name in _BOX}}
            | {"box_width": "image_width", "box_height": "image_height"},
            {"split": "split", "category": "category_name"},
        )
    table = scan.numbers(table, (*_BOX, *_SIZE), data.funnel, "numbers of phrases", rows="boxes")
    text = pl.col("phrase").str.replace_all(r"\s+", " ").str.strip_chars()
    named = pl.when(text.str.len_chars() > 0).then(text).otherwise(pl.col("category").str.to_lowercase())
    return table.with_columns(dicom("image_id").alias("image_id"), phrase=named)


def write_phrases(cohort: Cohort, table: pl.DataFrame) -> None:
    boxes = cohort.of_images(table, "boxes").with_columns(
        x1="x", y1="y", x2=pl.col("x") + pl.col("w"), y2=pl.col("y") + pl.col("h")
    )
    cohort.data.writer.boxes(cohort.data.on_image(boxes))


def _coco(content: bytes, name: str) -> pl.DataFrame:
    """The annotations of a COCO file as text columns; what is missing is null."""
    try:
        coco = mended(json.loads(content))
        images, categories = (_by_id(coco[key]) for key in ("images", "categories"))
        annotations = iter(coco["annotations"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{name} is truncated, or no COCO file with images and annotations ({error!r}): get it again"
        ) from None
    rows = [_row(found if isinstance(found, dict) else {}, images, categories) for found in annotations]
    names = ("image_id", "phrase", "category", "split", *_BOX, *_SIZE)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_columns(file=pl.lit(name), row=pl.int_range(1, pl.len() + 1, dtype=pl.Int64))


def _by_id(items: Any) -> dict[str | None, dict[str, Any]]:
    return {as_text(item.get("id")): item for item in items if isinstance(item, dict)}


def _row(
    found: dict[str, Any], images: Mapping[str | None, Any], categories: Mapping[str | None, Any]
) -> list[str | None]:
    image_id = as_text(found.get("image_id"))
    image = images.get(image_id, {}) if image_id else {}
    box = found.get("bbox")
    numbers = [*(box if isinstance(box, list) and len(box) == 4 else [None] * 4)]
    values = [
        image.get("file_name"),
        found.get("label_text"),
        categories.get(as_text(found.get("category_id")), {}).get("name"),
        found.get("split", image.get("split")),
        *numbers,
        image.get("width"),
        image.get("height"),
    ]
    return [as_text(value) for value in values]
