"""What a source of files yields: images and entries in columns, where each entry came from, and the funnel.

Nothing is decoded here: the recipe chooses among the images, and only the chosen ones are looked at
(`data_recipes/stock.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from data_recipes.errors import UserError, unknown
from data_recipes.funnel import Funnel

# `split` is "" where it is drawn, or "train+validation" where it is drawn between these two.
# `file` is relative to the root, "" where there is none; width and height are 0 where only the file knows.
IMAGE_COLUMNS: dict[str, Any] = {
    "image_id": pl.String, "patient_id": pl.String, "split": pl.String, "file": pl.String,
    "width": pl.Int64, "height": pl.Int64, "view": pl.String,
}  # fmt: skip
# `file` and `row` say where the entry stands: the first of its rows where it comes from several.
ENTRY_COLUMNS: dict[str, Any] = {
    "entry_id": pl.String, "image_id": pl.String, "task": pl.String, "prompt": pl.String,
    "target": pl.String, "boxes": pl.List(pl.List(pl.Float64)), "provenance": pl.String,
    "file": pl.String, "row": pl.Int64,
}  # fmt: skip

Pixels = Literal["copy", "link", "skip"]


class FileOptions(BaseModel):
    """Options that every source of files has.

    Attributes:
        root: the folder of the files; None takes the annotation files of an installed package.
        pixels: whether image files are copied, hard-linked, or left out; by default they are copied from a
            root, and left out without one.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    root: str | None = None
    pixels: Pixels | None = None

    @property
    def placing(self) -> Pixels:
        return self.pixels or ("copy" if self.root is not None else "skip")


Options = TypeVar("Options", bound=FileOptions)


@dataclass(frozen=True)
class Harvest:
    """Everything that a source can say, under its policies. Each image id stands once; every entry is about
    one of the images; the boxes of entries are legal.

    Attributes:
        images: IMAGE_COLUMNS.
        entries: ENTRY_COLUMNS.
        root: the folder that `images.file` is relative to.
        notes: sentences for the card about what was found.
    """

    images: pl.DataFrame
    entries: pl.DataFrame
    funnel: Funnel
    root: Path
    notes: tuple[str, ...] = ()


def parse_options(model: type[Options], source: str, options: Mapping[str, Any]) -> Options:
    """Checked options with their defaults.

    Raises:
        UserError: an unknown option, or a value that does not fit.
    """
    for key in options:
        if key not in model.model_fields:
            raise unknown(f"option of source {source}", str(key), model.model_fields)
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "literal_error":
            known = [word.strip("'") for word in first["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            raise unknown(f"value of option {key}", str(first["input"]), known) from None
        message = first["msg"].removeprefix("Value error, ").replace("Input should", "it should")
        raise UserError(f"source {source}: option {key} is {first['input']!r}: {message}") from None
