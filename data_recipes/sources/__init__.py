"""Sources: code that reads one dataset, or makes one. A new source is one file (or folder) and one line in
SOURCES."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from data_recipes.errors import unknown
from data_recipes.records import Entry, Image
from data_recipes.reject import Rejection


@dataclass(frozen=True)
class Sample:
    """One image as a source delivers it: pixels (H, W) uint8, or None when `image.path` already names a file,
    and *every* entry the source can say about it; the recipe chooses among them. `image.split` is "" unless
    the source has an authority of its own over splits."""

    image: Image
    pixels: np.ndarray | None
    entries: tuple[Entry, ...]


class Source(Protocol):
    """A module with these names. Units are cheap, picklable and independent (one patient each), so that the
    builder can read them in several processes; a unit's samples depend on nothing but the unit.

    Optional names: NOTES (sentences for the card), WORTH_A_WORKER (units that take as long as starting a
    process), `fingerprint(options)` (a digest of files the user named, so that the cache is not stale)."""

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


class FileSource(Source, Protocol):
    """A source that reads people's files under the option `root`: a fixed set of images, each of whose
    samples names its file by an absolute `image.path`. It has `FILES = True` and takes the option `pixels`
    as well."""

    FILES: bool

    def fingerprint(self, options: Mapping[str, Any]) -> str:
        """A digest that changes when the files change, so that the cache is not stale."""
        ...

    def entries_per_image(self, options: Mapping[str, Any]) -> float:
        """About how many entries an image has, without reading images."""
        ...


# name -> module
SOURCES = {
    "phantom": "data_recipes.sources.phantom",
    "ct": "data_recipes.sources.ct",
    "folder": "data_recipes.sources.folder",
}


def source(name: str) -> Source:
    """The source module of that name.

    Raises:
        UserError: no such source.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return cast(Source, importlib.import_module(SOURCES[name]))


def reads_files(name: str) -> bool:
    """Whether the source is a FileSource."""
    return bool(getattr(source(name), "FILES", False))


def file_source(name: str) -> FileSource:
    """The source of that name, which `reads_files`."""
    return cast(FileSource, source(name))


def fingerprint(name: str, options: Mapping[str, Any]) -> str:
    """A digest of the user's files that the source would read; "" for a source that reads none."""
    digest = getattr(source(name), "fingerprint", None)
    return str(digest(options)) if digest else ""
