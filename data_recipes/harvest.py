"""What a source of files yields: images and entries in columns, where each entry came from, and the funnel.

Nothing is decoded here: the recipe chooses among the images, and only the chosen ones are looked at
(`data_recipes/stock.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from data_recipes.draws import draws
from data_recipes.errors import UserError, unknown
from data_recipes.files import Files, Needed, package_version
from data_recipes.funnel import Funnel
from data_recipes.tasks import TASKS

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
View = Literal["PA", "AP", "lateral", "unknown"]


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


class DatasetOptions(FileOptions):
    """Options of the sources that read published datasets.

    Attributes:
        views: images of other views are left out.
        caps: task -> the most entries of it that an image may carry.
    """

    views: list[View] = ["PA", "AP"]
    caps: dict[str, int] = Field(default={})

    @field_validator("caps")
    @classmethod
    def _tasks(cls, caps: dict[str, int]) -> dict[str, int]:
        for task, most in caps.items():
            if task not in TASKS:
                raise unknown("task", task, TASKS)
            if most < 0:
                raise ValueError("a cap must not be negative")
        return caps


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


def located(images: pl.DataFrame, files: Files, options: FileOptions, names: pl.Expr) -> pl.DataFrame:
    """`images` with the column `file`: where below the root the file of that name lies; the bare name where
    it lies nowhere, so that whoever places it can say which one is missing; "" without pixels."""
    if options.placing == "skip":
        return images.with_columns(file=pl.lit(""))
    wanted = images.with_columns(__name=names)
    known = pl.DataFrame(
        {"__name": list(files.images), "file": list(files.images.values())},
        schema={"__name": pl.String, "file": pl.String},
    )
    found = wanted.join(known, on="__name", how="left", maintain_order="left")
    return found.with_columns(pl.col("file").fill_null(pl.col("__name"))).drop("__name")


def in_views(
    images: pl.DataFrame, options: DatasetOptions, funnel: Funnel, step: str = "views"
) -> pl.DataFrame:
    """Images of the views that the options keep."""
    drops = {
        f"view {view}": pl.col("view") == view
        for view in ("PA", "AP", "lateral", "unknown")
        if view not in options.views
    }
    return funnel.keep(step, "images", images, drops)


def capped(entries: pl.DataFrame, caps: Mapping[str, int], seed: int, funnel: Funnel) -> pl.DataFrame:
    """At most `caps[task]` entries of each task an image; which ones stay is drawn by entry id."""
    if not caps:
        return entries
    drawn = entries.with_columns(__draw=pl.Series(draws(entries["entry_id"], seed, "caps")))
    rank = pl.col("__draw").rank("ordinal").over("image_id", "task")
    most = pl.col("task").replace_strict(caps, default=None, return_dtype=pl.Int64)
    drawn = drawn.with_columns(rank.alias("__rank"))
    drops = {
        f"beyond the cap of {task}": (pl.col("task") == task) & (pl.col("__rank") > most) for task in caps
    }
    return funnel.keep("caps", "entries", drawn, drops).drop("__draw", "__rank")


def official(split_of: Mapping[str, pl.Series], ids: pl.Expr) -> pl.Expr:
    """Split of each image by the lists of the dataset's authors, "" where no list has it."""
    split = pl.lit("")
    for name, listed in split_of.items():
        split = pl.when(ids.is_in(listed.implode())).then(pl.lit(name)).otherwise(split)
    return split


def found_notes(needed: Sequence[Needed], files: Files) -> tuple[str, ...]:
    """Sentences for the card: where the files come from, and which optional ones are not there."""
    origin: tuple[str, ...] = ()
    if files.package:
        version = package_version()
        origin = (f"Annotations as package {files.package} {version} carries them; no --root was given.",)
    missing = (
        f"Without {' or '.join(item.names)}: no {item.adds}."
        for item in needed
        if not item.required and files.find(item) is None
    )
    return (*origin, *missing)
