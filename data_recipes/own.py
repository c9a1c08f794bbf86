"""What the sources of people's own folders share: files of any name, image names as tables write them, words
for splits and views."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import polars as pl
from pydantic import Field, field_validator

from data_recipes.dataset import Dataset, UnknownViewOptions, View
from data_recipes.errors import UserError
from data_recipes.files import Files
from data_recipes.pixels import inside, size

LICENCE = "that of the files"
_SPLITS = {
    "train": ("train", "training", "development"),
    "validation": ("validation", "val", "valid", "validate", "dev", "tune", "tuning"),
    "test": ("test", "testing", "holdout", "heldout"),
}
_SPLIT_OF = {word: split for split, words in _SPLITS.items() for word in words}
_VIEW_OF: dict[str, View] = {
    "pa": "PA", "posteroanterior": "PA", "ap": "AP", "anteroposterior": "AP", "lateral": "lateral",
    "lat": "lateral", "l": "lateral", "ll": "lateral", "rl": "lateral", "left lateral": "lateral",
}  # fmt: skip


class OwnOptions(UnknownViewOptions):
    """
    Attributes:
        views: images of other views are left out; none are by default.
        patient_from: regular expression with one group that finds the patient's id in the image's name.
    """

    views: list[View] = Field(default=["PA", "AP", "lateral", "unknown"])
    patient_from: str | None = None

    @field_validator("patient_from")
    @classmethod
    def _one_group(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"it should be a regular expression: {error}") from None
            if groups != 1:
                raise ValueError("it should have one group in brackets, such as (patient[0-9]+)")
        return value


def open_folder(name: str, options: OwnOptions, seed: int) -> Dataset:
    """The user's folder as a dataset without files of known names.

    Raises:
        UserError: no root was given, or it is no folder.
    """
    if options.root is None:
        raise UserError(f"source {name} needs --root FOLDER, the folder of the tables and images")
    return Dataset(name, (), options, seed)


def split_word(text: str) -> str:
    """The split that a word means, "" for none of ours.

    >>> split_word(" Valid "), split_word("fold 3")
    ('validation', '')
    """
    return _SPLIT_OF.get(re.sub(r"[^a-z]", "", text.lower()), "")


def split_of_path(path: str) -> str:
    """The split that a file is named after, or else a folder of its: "instances_train2017.json"."""
    for part in reversed(PurePosixPath(path.lower()).parts):
        for word in re.findall("[a-z]+", part):
            if word in _SPLIT_OF:
                return _SPLIT_OF[word]
    return ""


def view_word(text: str) -> View:
    """The view that a word means."""
    return _VIEW_OF.get(" ".join(text.lower().replace("_", " ").split()), "unknown")


class ImageNames:
    """Image files of a folder, by the names that people's tables give them."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._first_name: dict[str, str] = {}
        self._taken: set[str] = set()

    @cached_property
    def _there(self) -> set[str]:
        return set(self._files.image_files)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """File name, with and without its suffix -> paths."""
        found: dict[str, list[str]] = {}
        for path in self._files.image_files:
            name = posixpath.basename(path)
            for key in (name, name.rpartition(".")[0]):
                found.setdefault(key, []).append(path)
        return found

    def find(self, name: str, beside: str = "") -> str:
        """The image's path relative to the root; what the name says where no such file is there.

        A name is a path relative to the root, or to the folder `beside` in it, or the end of such a path;
        leading folders that are not there, and a missing suffix, do no harm.

        Raises:
            ValueError: the name leads out of the root, or means several files.
        """
        said = name.strip().replace("\\", "/")
        if not said or "\0" in said:
            raise ValueError(f"{name!r} is not a file name")
        if said.startswith("/") or PureWindowsPath(name.strip()).drive:
            raise ValueError(f"image {name!r} lies outside the folder: name it relative to the folder")
        near, here = (posixpath.normpath(posixpath.join(folder, said)) for folder in (beside, ""))
        for path in (near, here):
            if path in self._there:
                return path
        if near.startswith("../") and here.startswith("../"):
            raise ValueError(f"image {name!r} lies outside the folder: name it without '..'")
        path = here if not here.startswith("../") else near
        found = [
            other
            for other in self._by_name.get(posixpath.basename(path), ())
            if f"/{other}".endswith(f"/{path}") or f"/{other}".rpartition(".")[0].endswith(f"/{path}")
        ]
        if len(found) > 1:
            raise ValueError(f"image {name!r} means several files: {found[0]} and {found[1]}")
        if found:
            return found[0]
        parts = path.split("/")
        tails = ("/".join(parts[n:]) for n in range(1, len(parts)))
        absent = near if not near.startswith("../") else here
        return next((tail for tail in tails if tail in self._there), absent)

    def first(self, path: str, name: str) -> str:
        """The name under which this file came first: two names of one file are one image. Where another file
        had that name before, its path."""
        if path not in self._first_name:
            self._first_name[path] = path if name in self._taken else name
            self._taken.add(name)
        return self._first_name[path]

    def sizes(self, images: Mapping[str, str]) -> pl.DataFrame:
        """file_width, file_height by image_id, from the heads of those files that are there."""
        known = []
        for image_id, path in images.items():
            try:
                known.append((image_id, *map(float, size(inside(self._files.root, path)))))
            except ValueError:
                continue  # said when the image is placed
        schema = {"image_id": pl.String, "file_width": pl.Float64, "file_height": pl.Float64}
        return pl.DataFrame(known, schema=schema, orient="row")


def resolved(
    data: Dataset, rows: pl.DataFrame, images: ImageNames, beside: Mapping[str, str] | None = None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Rows with the `image_id` of the image that they name in `image`, and each image's file. Rows whose name
    cannot be followed are rejected.

    Args:
        rows: `image`, file, row.
        beside: table -> folder relative to the root that its names may start from.
    """
    found: dict[str, str] = {}
    ids: list[str | None] = []
    faults: list[str | None] = []
    for name, table in rows.select("image", "file").iter_rows():
        try:
            if name is None:
                raise ValueError("no image is named")
            path = images.find(name, (beside or {}).get(table, ""))
            image_id = images.first(path, name.strip())
            found.setdefault(image_id, path)
            ids.append(image_id)
            faults.append(None)
        except ValueError as error:
            ids.append(None)
            faults.append(str(error))
    named = rows.with_columns(
        image_id=pl.Series(ids, dtype=pl.String), __fault=pl.Series(faults, dtype=pl.String)
    )
    kept = data.funnel.keep_unless("names of images", "rows", named, pl.col("__fault"), reject=True)
    return kept.drop("__fault"), found


def with_patients(data: Dataset, rows: pl.DataFrame, options: OwnOptions) -> pl.DataFrame:
    """Rows with `patient_id`: of the column where there is one, else found in the name of the image, else the
    image itself. What was done is noted."""
    if options.patient_from is not None:
        data.notes.append("Patients are read from the names of images (option patient_from).")
        pattern = re.compile(options.patient_from)
        matches = (pattern.search(name) for name in rows["image_id"])
        patients = pl.Series([match and match[1] for match in matches], dtype=pl.String)
        drops = {"patient_from finds no patient in the name": pl.col("patient_id").is_null()}
        return data.funnel.keep(
            "patients", "rows", rows.with_columns(patient_id=patients), drops, reject=True
        )
    if "patient_id" in rows.columns:
        return rows
    data.notes.append(
        "Nothing says which images are of one patient: every image counts as a patient of its own, so that "
        "images of one patient may stand in two splits. Name a column, or set option patient_from."
    )
    return rows.with_columns(patient_id=pl.col("image_id"))


def same_patient(data: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows that say a patient, the one of the first row of their image; the others are rejected."""
    nobody = {"patient id is missing": pl.col("patient_id").is_null()}
    rows = data.funnel.keep("a patient a row", "rows", rows, nobody, reject=True)
    first = pl.col("patient_id").first().over("image_id")
    other = {"its image belongs to another patient in an earlier row": pl.col("patient_id") != first}
    return data.funnel.keep("one patient an image", "rows", rows, other, reject=True)


def words(column: pl.Series, meaning: Any) -> pl.Series:
    """Each text of a column as what it means; null stays null."""
    return pl.Series([None if text is None else meaning(text) for text in column], dtype=pl.String)


def listed(names: Iterable[str], shown: int = 12) -> str:
    """Names for a message, not too many."""
    every = list(names)
    more = f", ... ({len(every)} in all)" if len(every) > shown else ""
    return ", ".join(every[:shown]) + more
