"""Sources: code that reads one dataset, or makes one. A new source is one file (or folder) and one line in SOURCES."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from data_recipes.errors import unknown
from data_recipes.records import Entry, Image


@dataclass(frozen=True)
class Sample:
    """One image as a source delivers it: pixels (H, W) uint8, or None when `image.path` already names a file,
    and *every* entry the source can say about it; the recipe chooses among them. `image.split` is "" unless the
    source has an authority of its own over splits."""

    image: Image
    pixels: np.ndarray | None
    entries: tuple[Entry, ...]


class Source(Protocol):
    """A module with these names. Units are cheap, picklable and independent (one patient each), so that the builder
    can read them in several processes; a unit's samples depend on nothing but the unit."""

    NAME: str
    VERSION: str  # raise it whenever the same unit would give other samples

    def units(self, options: Mapping[str, Any], *, seed: int, images: int, first: int = 0) -> Sequence[Any]:
        """Units that together hold at least `images` images, starting after the first `first` patients.

        Raises:
            UserError: an unknown or unusable option.
        """
        ...

    def read(self, unit: Any) -> list[Sample]:
        """The samples of one unit (all images of one patient)."""
        ...


# name -> module
SOURCES = {
    "phantom": "data_recipes.sources.phantom",
    "ct": "data_recipes.sources.ct",
}


def source(name: str) -> Source:
    """The source module of that name.

    Raises:
        UserError: no such source.
    """
    if name not in SOURCES:
        raise unknown("source", name, SOURCES)
    return cast(Source, importlib.import_module(SOURCES[name]))
