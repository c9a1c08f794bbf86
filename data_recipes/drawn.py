"""Masks of heart and lungs that people drew and publish as pictures, one a structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from data_recipes.dataset import Dataset
from data_recipes.facts import BOX
from data_recipes.masks import ORGANS, SILHOUETTE, silhouette, with_ratios
from data_recipes.pixels import decode, inside

_LUNGS = ("left lung", "right lung")
_SCHEMA: dict[str, Any] = {
    "image_id": pl.String, "organ": pl.String, "silhouette": SILHOUETTE, "box_width": pl.Float64,
    "box_height": pl.Float64, "file": pl.String, "row": pl.Int64, "why": pl.String,
}  # fmt: skip


def read_masks(data: Dataset, found: Mapping[tuple[str, str], str]) -> pl.DataFrame:
    """The masks (image_id, organ, silhouette, box_width, box_height, file, row). Files that are none, and
    empty masks, are rejected.

    Which of two lungs is the left one is seen in the masks: the patient's left is on the right of a
    radiograph, while publishers name the folders either way.

    Args:
        found: image id and organ, one of ORGANS, to the path below the root.
    """
    rows = []
    for (image, organ), path in found.items():
        shape, seen, why = (0, 0), None, None
        try:
            grey = np.asarray(decode(inside(data.files.root, path)))
            mask = grey > grey.max() / 2  # structures are white, 255 or 1
            shape, seen = mask.shape, silhouette(mask)
            why = None if seen else "mask is empty"
        except ValueError as error:
            why = str(error)
        rows.append((image, organ, seen, float(shape[1]), float(shape[0]), path, 1, why))
    masks = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    masks = data.funnel.keep_unless("masks", "masks", masks, pl.col("why"), reject=True).drop("why")
    lung = pl.col("organ").is_in(_LUNGS)
    centre = pl.col("silhouette").struct.field("left") + pl.col("silhouette").struct.field("right")
    side = pl.when(centre == centre.max().over("image_id", lung)).then(pl.lit("left lung"))
    two = lung & (pl.len().over("image_id", lung) == len(_LUNGS))
    return masks.with_columns(
        organ=pl.when(two).then(side.otherwise(pl.lit("right lung"))).otherwise("organ")
    )


def write_ratios(data: Dataset, masks: pl.DataFrame) -> None:
    """CTR and CPAR entries of the images that have a mask of each of ORGANS."""
    wide = masks.pivot("organ", index="image_id", values="silhouette", maintain_order=True)
    where = masks.unique("image_id", keep="first", maintain_order=True).select("image_id", "file", "row")
    missing = [pl.lit(None, SILHOUETTE).alias(organ) for organ in ORGANS if organ not in wide.columns]
    chests = with_ratios(where.join(wide, on="image_id", maintain_order="left").with_columns(missing))
    chests = data.funnel.keep_unless("chests", "images", chests, pl.col("why"), reject=True)
    for name in ("CTR", "CPAR"):
        data.writer.ratios(chests.select("image_id", "file", "row", value=name.lower()), name)


def organ_boxes(masks: pl.DataFrame) -> pl.DataFrame:
    """The extent of each mask as a box in pixels of its picture, with the organ as phrase."""
    sides = zip(BOX, ("left", "top", "right", "bottom"), strict=True)
    corners = [pl.col("silhouette").struct.field(side).cast(pl.Float64).alias(name) for name, side in sides]
    columns = ("image_id", "file", "row", "box_width", "box_height")
    return masks.select(*columns, *corners, phrase="organ")
