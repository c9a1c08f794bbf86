"""Sources: code that reads one dataset, or makes one. A new source is one file (or folder) and one line in
SOURCES."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from data_recipes.errors import unknown
from data_recipes.files import Files, Needed
from data_recipes.harvest import FileOptions, Harvest, parse_options
from data_recipes.licence import Licence, licence
from data_recipes.records import Entry, Image
from data_recipes.reject import Rejection


@dataclass(frozen=True)
class Sample:
    """One image as a source makes it: pixels (H, W) uint8, and *every* entry the source can say about it; the
    recipe chooses among them. `image.split` is "" unless the source has an authority of its own over
    splits."""

    image: Image
    pixels: np.ndarray
    entries: tuple[Entry, ...]


class Source(Protocol):
    """A module that makes images. Units are cheap, picklable and independent (one patient each), so that the
    builder can read them in several processes; a unit's samples depend on nothing but the unit.

    Optional names: LICENCE, NOTES (sentences for the card), WORTH_A_WORKER (units that take as long as
    starting a process), `fingerprint(options)` (a digest of files the user named, so that the cache is not
    stale), `scenes(image_ids, options)` (the `scene.Scene` of each image that it made under these options, so
    that answers about them can be judged)."""

    NAME: str
    VERSION: str  # raise it whenever the same unit would give other samples

    def units(self, options: Mapping[str, Any], *, seed: int, images: int, first: int = 0) -> Sequence[Any]:
        """Units that together hold at least `images` images, starting after the first `first` patients.

        Raises:
            UserError: an unknown or unusable option.
        """
        ...

    def read(self, unit: Any) -> Sequence[Sample | Rejection]:
        """The samples of one unit (all images of one patient), and the rows of it that cannot be used."""
        ...


class FileSource(Protocol):
    """A module that reads people's files. Optional names: NOTES (sentences for the card), LANGUAGES (codes of
    the languages its texts are in; English by default)."""

    NAME: str
    VERSION: str  # raise it whenever the same files would give another harvest
    FILES: tuple[Needed, ...]  # what it looks for below the root
    LICENCE: Licence | str  # of the dataset, and what access to it takes
    OPTIONS: type[FileOptions]

    def harvest(self, options: Any, seed: int) -> Harvest:
        """All that the files say, under the policies in `options`, an instance of OPTIONS.

        Raises:
            UserError: no such folder, a file is missing or broken, or lacks a column.
        """
        ...

    def fingerprint(self, options: Any) -> str:
        """A digest that changes when the files change, so that the cache is not stale."""
        ...


# name -> module
SOURCES = {
    "phantom": "data_recipes.sources.phantom",
    "ct": "data_recipes.sources.ct",
    "folder": "data_recipes.sources.folder",
    "csv": "data_recipes.sources.table",
    "coco": "data_recipes.sources.coco",
    "messages": "data_recipes.sources.messages",
    "nih": "data_recipes.sources.nih",
    "vindr": "data_recipes.sources.vindr",
    "rsna": "data_recipes.sources.rsna",
    "siim": "data_recipes.sources.siim",
    "chexpert": "data_recipes.sources.chexpert",
    "chexpert_plus": "data_recipes.sources.chexpert_plus",
    "openi": "data_recipes.sources.openi",
    "padchest": "data_recipes.sources.padchest",
    "padchest_gr": "data_recipes.sources.padchest_gr",
    "jsrt": "data_recipes.sources.jsrt",
    "montgomery": "data_recipes.sources.montgomery",
    "vqa_rad": "data_recipes.sources.vqa_rad",
    "slake": "data_recipes.sources.slake",
    "mimic": "data_recipes.sources.mimic",
}


def source(name: str) -> Source:
    """The source module of that name.

    Raises:
        UserError: no such source.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return cast(Source, importlib.import_module(SOURCES[name]))


def source_of(folder: Path) -> str:
    """The source that reads such a folder of people's own, by what lies in it.

    Raises:
        UserError: a table is truncated, or a link that leaves the folder.
    """
    if any((folder / f"entries{suffix}").is_file() for suffix in (".jsonl", ".parquet")):
        return "folder"
    files = Files(folder)
    own = ("coco", "messages", "csv")
    return next((name for name in own if importlib.import_module(SOURCES[name]).recognises(files)), "folder")


def reads_files(name: str) -> bool:
    """Whether the source is a FileSource."""
    return hasattr(source(name), "OPTIONS")


def file_source(name: str) -> FileSource:
    """The source of that name, which `reads_files`."""
    return cast(FileSource, source(name))


def licence_of(name: str) -> Licence:
    """The terms of the source of that name."""
    return licence(getattr(source(name), "LICENCE", "not stated"))


def file_options(name: str, options: Mapping[str, Any]) -> FileOptions:
    """The checked options of a source that `reads_files`, with their defaults.

    Raises:
        UserError: an unknown option, or a value that does not fit.
    """
    return parse_options(file_source(name).OPTIONS, name, options)


def fingerprint(name: str, options: Mapping[str, Any]) -> str:
    """A digest of the user's files that the source would read; "" for a source that reads none."""
    if reads_files(name):
        return file_source(name).fingerprint(file_options(name, options))
    digest = getattr(source(name), "fingerprint", None)
    return str(digest(options)) if digest else ""
