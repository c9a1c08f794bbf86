"""What the sources of published datasets share: files, images, views, boxes in pixels, splits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import polars as pl
from pydantic import Field, field_validator

from data_recipes import contents, scan
from data_recipes.draws import draws
from data_recipes.errors import unknown
from data_recipes.facts import BOX, Writer
from data_recipes.files import Needed, locate, package_version
from data_recipes.funnel import Funnel
from data_recipes.harvest import IMAGE_COLUMNS, FileOptions, Harvest
from data_recipes.pixels import inside, size
from data_recipes.tasks import TASKS

View = Literal["PA", "AP", "lateral", "unknown"]
VIEWS: tuple[View, ...] = ("PA", "AP", "lateral", "unknown")
_SLACK = 0.01  # of the image: a box so far over the border is cut at it; one further out has another scale


class DatasetOptions(FileOptions):
    """Policies that the sources of published datasets have in common.

    Attributes:
        views: images of other views are left out.
        splits: by the lists of the dataset's authors where they are there, or always drawn by patient.
        caps: task -> the most entries of it that an image may carry.
        image_cap: the most entries of all tasks that an image may carry.
        task_caps: task -> the most entries of it on all images.
    """

    views: list[View] = Field(default=["PA", "AP"])
    splits: Literal["official", "drawn"] = "official"
    caps: dict[str, int] = Field(default={})
    image_cap: int | None = Field(default=None, ge=1)
    task_caps: dict[str, int] = Field(default={})

    @field_validator("caps", "task_caps")
    @classmethod
    def _tasks(cls, caps: dict[str, int]) -> dict[str, int]:
        for task, most in caps.items():
            if task not in TASKS:
                raise unknown("task", task, TASKS)
            if most < 0:
                raise ValueError("a cap must not be negative")
        return caps


class UnknownViewOptions(DatasetOptions):
    """Of datasets that have images of which no table says the view: these are kept too."""

    views: list[View] = Field(default=["PA", "AP", "unknown"])


class Dataset:
    """One dataset being read. Frames of facts name their image in `image_id`, and in `file` and `row` where
    they stand.

    Raises:
        UserError: the files are not there, see `files.locate`.
    """

    def __init__(self, name: str, needed: Sequence[Needed], options: DatasetOptions, seed: int) -> None:
        self.name, self.needed, self.options, self.seed = name, needed, options, seed
        self.files = locate(options.root, name, needed)
        if needed and not any(self.files.find(item) for item in needed):
            self.files.path(needed[0])  # says what is missing
        self.funnel = Funnel(name)
        self.writer = Writer(name, seed, self.funnel)
        self.notes: list[str] = []
        self._known = pl.Series(dtype=pl.String)

    def has(self, key: str) -> bool:
        """Whether the file declared under that key is there."""
        return self.files.find(self._needed(key)) is not None

    def path(self, key: str) -> Path:
        """The file declared under that key. Raises UserError when it is not there."""
        return self.files.path(self._needed(key))

    def table(self, key: str, columns: scan.Columns, optional: scan.Columns | None = None) -> pl.DataFrame:
        """Columns of the table declared under that key; see `scan.read`."""
        return scan.read(self.path(key), columns, self.funnel, optional=optional)

    def images(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The images of a table with a row each (columns of IMAGE_COLUMNS as far as known): ids that are
        missing or taken are rejected, views that the options leave out are dropped."""
        image = pl.col("image_id")
        unique = self.funnel.keep(
            "one row an image",
            "images",
            rows,
            {
                "image id is missing": image.is_null(),
                "patient id is missing": pl.col("patient_id").is_null(),
                "image id is taken by an earlier row": ~image.is_first_distinct(),
            },
            reject=True,
        )
        self._known = unique["image_id"]
        defaults: dict[str, Any] = {"split": "", "width": 0, "height": 0, "view": "unknown"}
        filled = unique.with_columns(
            pl.lit(value, IMAGE_COLUMNS[key]).alias(key)
            for key, value in defaults.items()
            if key not in unique.columns
        )
        view = pl.col("view")
        filled = filled.with_columns(
            pl.when(view.is_in(VIEWS)).then(view).otherwise(pl.lit("unknown")).alias("view")
        )
        drops = {f"view {view}": pl.col("view") == view for view in VIEWS if view not in self.options.views}
        return self.funnel.keep("views", "images", filled, drops)

    def square(self, side: int) -> list[pl.Expr]:
        """width and height of images that are published as `side` x `side`: said only where no file is looked
        at, so that people may have resized them."""
        known = side if self.options.placing == "skip" else 0
        return [pl.lit(known, pl.Int64).alias(name) for name in ("width", "height")]

    def about(self, facts: pl.DataFrame, images: pl.DataFrame, rows: str) -> pl.DataFrame:
        """The facts about these images. Facts about an image that no table has are rejected."""
        image = pl.col("image_id")
        unheard = {
            "image id is missing": image.is_null(),
            "its image is in no table of images": ~image.is_in(self._known.implode()),
        }
        known = self.funnel.keep(f"{rows} of known images", rows, facts, unheard, reject=True)
        dropped = {"its image was left out": ~image.is_in(images["image_id"].implode())}
        return self.funnel.keep(f"{rows} of images kept", rows, known, dropped)

    def on_image(self, boxes: pl.DataFrame) -> pl.DataFrame:
        """Boxes in pixels x1, y1, x2, y2 of an image of `box_width` x `box_height` pixels, as fractions of
        it. Boxes that are none, or that leave the image, are rejected."""
        x1, y1, x2, y2 = (pl.col(name) for name in BOX)
        width, height = pl.col("box_width"), pl.col("box_height")
        beyond = (
            (pl.min_horizontal(x1 / width, y1 / height) < -_SLACK)
            | (pl.max_horizontal(x2 / width, y2 / height) > 1 + _SLACK)
        )  # fmt: skip
        kept = self.funnel.keep(
            "boxes on their image",
            "boxes",
            boxes,
            {
                "box lacks a coordinate": ~pl.all_horizontal(
                    pl.col(name).is_finite().fill_null(False) for name in BOX
                ),
                "size of its image is not known": (width.fill_null(0) <= 0) | (height.fill_null(0) <= 0),
                "box is empty or reversed: it needs x1 < x2 and y1 < y2": (x2 <= x1) | (y2 <= y1),
                "box leaves the image: is it in the scale of another?": beyond,
            },
            reject=True,
        )
        scaled = kept.with_columns(
            (pl.col(name) / side).clip(0, 1).round(6)
            for name, side in zip(BOX, (width, height, width, height), strict=True)
        )
        thin = {"box lies on the border": (x2 <= x1) | (y2 <= y1)}
        return self.funnel.keep("boxes inside their image", "boxes", scaled, thin, reject=True)

    def listed(self, lists: dict[str, str]) -> pl.Expr:
        """Split of each image by the authors' lists of image ids: key of the file -> split. "" where no list
        has it, or the options say that splits are drawn."""
        split = pl.lit("")
        if self.options.splits == "drawn":
            return split
        for key, name in lists.items():
            if self.has(key):
                ids = pl.Series(contents.lines(self.path(key)), dtype=pl.String).implode()
                split = pl.when(pl.col("image_id").is_in(ids)).then(pl.lit(name)).otherwise(split)
        return split

    def sizes(self, ids: pl.Series) -> pl.DataFrame:
        """box_width, box_height of the images of these ids whose file is there, from the heads of the
        files."""
        known = []
        for name, path in self.files.find_images(ids).items():
            with suppress(ValueError):
                known.append((name, *size(inside(self.files.root, path))))
        schema = {"image_id": pl.String, "box_width": pl.Float64, "box_height": pl.Float64}
        return pl.DataFrame(known, schema=schema, orient="row")

    def harvest(
        self, images: pl.DataFrame, names: pl.Expr | None = None, *, paths: pl.Expr | None = None
    ) -> Harvest:
        """The harvest of these images and of all entries written.

        Args:
            names: each image's file, as a name that `Files.find_images` looks for, or as its path; by default
                the image id.
            paths: each image's file relative to the root, where that is known: nothing is looked for.
        """
        images = self._undivided(images.drop("file", "row", strict=False))
        if paths is not None and self.options.placing != "skip":
            images = images.with_columns(file=paths)
        else:
            images = self._with_files(images, pl.col("image_id") if names is None else names)
        entries = self._capped(self.writer.entries())
        notes = (*self._found(), *self.notes)
        return Harvest(images.select(*IMAGE_COLUMNS), entries, self.funnel, self.files.root, notes)

    def _needed(self, key: str) -> Needed:
        return next(item for item in self.needed if item.key == key)

    def _undivided(self, images: pl.DataFrame) -> pl.DataFrame:
        """No patient in two splits: all images of one who is go to the split that is held out most."""
        together = images.with_columns(said=pl.col("split"), split=most_held_out("patient_id"))
        crossing = together.filter(pl.col("said") != pl.col("split"))["patient_id"].n_unique()
        if crossing:
            self.notes.append(
                f"{crossing} patients stood in two splits of the authors' lists: all their images went to "
                f"the split that is held out more."
            )
        return together.drop("said")

    def _with_files(self, images: pl.DataFrame, names: pl.Expr) -> pl.DataFrame:
        """The file of each image below the root; the bare name where there is none, so that whoever places it
        can say which one is missing; "" without pixels."""
        if self.options.placing == "skip":
            return images.with_columns(file=pl.lit(""))
        wanted = images.select(names).to_series().to_list()
        found = self.files.find_images(wanted)
        return images.with_columns(
            file=pl.Series([found.get(name, name) for name in wanted], dtype=pl.String)
        )

    def _capped(self, entries: pl.DataFrame) -> pl.DataFrame:
        """As many entries as the caps allow; which ones is drawn by their ids."""
        options, task = self.options, pl.col("task")
        if options.caps or options.image_cap or options.task_caps:
            drawn = pl.Series(draws(entries["entry_id"], self.seed, "caps"))
            entries = entries.with_columns(__drawn=drawn)
        for step, among, caps in (
            ("caps", ("image_id", "task"), options.caps),
            ("image_cap", ("image_id",), {"all tasks": options.image_cap} if options.image_cap else {}),
            ("task_caps", ("task",), options.task_caps),
        ):
            place = pl.col("__drawn").rank("ordinal").over(*among)
            drops = {
                f"more than {most} of {name}": ((task == name) | (name == "all tasks")) & (place > most)
                for name, most in caps.items()
            }
            if drops:
                entries = self.funnel.keep(step, "entries", entries, drops)
        return entries.drop("__drawn", strict=False)

    def _found(self) -> list[str]:
        """Where the files come from, and which optional ones are not there."""
        package = self.files.package
        origin = f"Annotations as package {package} {package_version()} carries them; no --root was given."
        return [origin] * bool(package) + [
            f"{' or '.join(item.names)} was not found: the mixture lacks {item.adds}."
            for item in self.needed
            if not item.required and self.files.find(item) is None
        ]


def most_held_out(group: str) -> pl.Expr:
    """Of the splits in `split` that rows of one group have, the one that is held out most."""
    order = ["", "train", "train+validation", "validation", "test"]
    rank = pl.col("split").replace_strict({name: i for i, name in enumerate(order)}, return_dtype=pl.Int8)
    return rank.max().over(group).replace_strict(dict(enumerate(order)), return_dtype=pl.String)


def fingerprint_of(needed: Sequence[Needed], name: str, options: FileOptions) -> str:
    """Changes with the content of the tables and, where pixels are placed, with the names of the images."""
    return locate(options.root, name, needed).fingerprint(needed, images=options.placing != "skip")
