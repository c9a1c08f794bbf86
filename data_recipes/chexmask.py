"""CheXmask: heart and lung masks of the images of other datasets, made by a network; CTR and CPAR from them.

The tables of folder `OriginalResolution` are read; those of `Preprocessed` have the same names but neither
Height nor Width. Format as in the publishers' code (github.com/ngaggion/CheXmask-Database): run lengths from
1 along the rows; the column of ids has the name that the dataset gives it; a quality `Dice RCA (Mean)`,
estimated by reverse classification accuracy, of which they recommend 0.7 or more. In the PadChest rows of
that repository (Mean) and (Max) stand the wrong way round: no mean is above a maximum, so the lower is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from data_recipes import stream
from data_recipes.dataset import VIEWS, Dataset, DatasetOptions, View
from data_recipes.files import Needed
from data_recipes.masks import ORGANS, silhouettes, with_ratios

NOTE = (
    "CTR and CPAR are measured on the masks of CheXmask (CC BY 4.0), which a network drew. The heart looks "
    "larger on AP images: they are measured only where option masks.views says so."
)
NAMES = ("CTR", "CPAR")
_COLUMNS = {"heart": "Heart", "left lung": "Left Lung", "right lung": "Right Lung"}
_SIZES = {"width": "Width", "height": "Height"}


class MaskOptions(BaseModel):
    """Policies on measuring.

    Attributes:
        dice: masks of a lower estimated quality are left out.
        views: views whose ratios are measured.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    dice: float = Field(default=0.7, ge=0, le=1)
    views: list[View] = Field(default=["PA", "unknown"])


class MaskedOptions(DatasetOptions):
    """Of datasets whose images CheXmask has masks of."""

    masks: MaskOptions = Field(default=MaskOptions())


def needed(name: str) -> Needed:
    """The table of CheXmask of that name, for a source's FILES."""
    return Needed("chexmask", (f"{name}.csv",), "heart and lung masks: calculation", False, header="Width")


def write_ratios(
    data: Dataset, images: pl.DataFrame, id_column: str, options: MaskOptions, ids: pl.Expr | None = None
) -> None:
    """CTR and CPAR entries of the images that the table declared under "chexmask" has masks of. Arguments and
    errors as for `read_ratios`."""
    facts = read_ratios(data, images, id_column, options, ids)
    for name in NAMES:
        data.writer.ratios(facts.filter(pl.col("name") == name), name)


def read_ratios(
    data: Dataset, images: pl.DataFrame, id_column: str, options: MaskOptions, ids: pl.Expr | None = None
) -> pl.DataFrame:
    """image_id, name (one of NAMES), value, file, row: the ratios of images whose masks can be measured.

    Args:
        images: images as `Dataset.images` gives them.
        id_column: what the table calls its column of ids.
        ids: each image's id in that table; by default the image id.

    Raises:
        UserError: as `stream.read`.
    """
    drops = {f"view {view}": pl.col("view") == view for view in VIEWS if view not in options.views}
    viewed = data.funnel.keep("views to measure", "images", images, drops)
    wanted = viewed.select("image_id", key=pl.col("image_id") if ids is None else ids)
    read = list(_measured(data, wanted, id_column, options.dice))
    came, facts = sum(number for number, _ in read), pl.concat([part for _, part in read])
    data.funnel.count("masks of images kept", "masks", came, facts.height, "its image is not used")
    taken = {"image id is taken by an earlier row": ~pl.col("image_id").is_first_distinct()}
    facts = data.funnel.keep("one row of masks an image", "masks", facts, taken, reject=True)
    low = {f"Dice RCA (Mean) below {options.dice:g}": pl.col("dice") < options.dice}
    facts = data.funnel.keep("quality of masks", "masks", facts, low)
    facts = data.funnel.keep_unless("masks", "masks", facts, pl.col("why"), reject=True)
    data.notes.append(NOTE)
    return pl.concat(
        facts.select(
            "image_id", pl.lit(name).alias("name"), pl.col(name.lower()).alias("value"), "file", "row"
        )
        for name in NAMES
    )


def _measured(
    data: Dataset, wanted: pl.DataFrame, id_column: str, least: float
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Number of rows of each piece of the table, and its rows about wanted images: image_id, file, row, dice,
    ctr, cpar and why. Masks below the least quality are not measured."""
    columns = {"key": id_column, "dice": "Dice RCA (Mean)", **_COLUMNS, **_SIZES}
    for rows in stream.read(data.path("chexmask"), columns, data.funnel, optional={"best": "Dice RCA (Max)"}):
        found = rows.join(wanted, on="key", maintain_order="left")
        numbers = [pl.col(name).cast(pl.Float64, strict=False) for name in ("dice", "best")]
        sizes = [pl.col(name).cast(pl.Float64, strict=False).cast(pl.Int64, strict=False) for name in _SIZES]
        found = found.with_columns(*numbers, *sizes)
        both = pl.when(pl.col("dice").is_not_null()).then(pl.min_horizontal("dice", "best"))
        found = found.with_columns(dice=both)
        good = pl.col("dice") >= least
        found = found.with_columns(pl.when(good).then(pl.col(organ)) for organ in ORGANS)
        sizes_of = (found["width"], found["height"])
        found = with_ratios(found.with_columns(silhouettes(found[o], *sizes_of).alias(o) for o in ORGANS))
        odd = pl.col("dice").is_null() | ~pl.col("dice").is_between(0, 1)
        why = pl.when(odd).then(pl.lit("Dice RCA (Mean) is no number from 0 to 1")).otherwise("why")
        columns_kept = ("image_id", "file", "row", "dice", "ctr", "cpar", why.alias("why"))
        yield rows.height, found.select(*columns_kept)
