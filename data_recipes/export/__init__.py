"""Mixtures in the formats that other training tools load unchanged: `imax recipe export NAME --to FORMAT`.

A new format is a file with `write` and `HOW_TO`, and its line in FORMATS.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from data_recipes.errors import UserError, unknown
from data_recipes.export.conversation import TURNS, BoxWriter, Export, read_export
from data_recipes.export.files import checksums
from data_recipes.export.readme import readme
from data_recipes.records import SPLITS
from data_recipes.staging import staged
from data_recipes.tables import write_text

# format -> module
FORMATS = {
    "hf": "data_recipes.export.hf",
    "trl": "data_recipes.export.trl",
    "llamafactory": "data_recipes.export.llamafactory",
    "ms-swift": "data_recipes.export.swift",
    "llava": "data_recipes.export.llava",
}
IMAGES = ("copy", "link")


class Format(Protocol):
    """What each module of FORMATS offers.

    Attributes:
        HOW_TO: how the tool is pointed at the folder, for the README; `{name}` and `{folder}` are filled in.
        NATIVE: whether the tool has a notation of boxes of its own, `--notation native`.
    """

    HOW_TO: str
    NATIVE: bool

    def write(self, export: Export, folder: Path) -> dict[str, Any]:
        """Writes the export into an empty folder; returns what the head of the README has to say."""
        ...


def export(
    to: str,
    mixture: str,
    out: Path,
    *,
    turns: str = "entry",
    notation: str = "canonical",
    writer: BoxWriter | None = None,
    images: str = "copy",
    overrides: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Export:
    """Exports all splits of a mixture into a new folder; a kill leaves nothing under its name.

    Args:
        to: a key of FORMATS.
        mixture: recipe name, recipe file or built folder.
        turns: "entry": a conversation an entry; "image": one an image, its entries in turn.
        notation: what the boxes in texts are called in the README and the manifest; "native" leaves them to
            the tool.
        writer: writes a box, given the size of its image; canonical fractions by default.
        images: whether image files are copied, or hard-linked where they need no change.
        overrides: changes to the recipe.

    Raises:
        UserError: no such format, mixture or option; the mixture holds no pixels; `out` has content.
    """
    for what, given, known in (("format", to, FORMATS), ("turns", turns, TURNS), ("images", images, IMAGES)):
        if given not in known:
            raise unknown(what, given, known)
    form = cast(Format, importlib.import_module(FORMATS[to]))
    if notation == "native" and not form.NATIVE:
        raise UserError(f"--notation native: {to} has no notation of boxes of its own; leave the option out")
    found = read_export(
        mixture,
        turns=turns,
        notation=notation,
        writer=writer,
        link=images == "link",
        overrides=overrides,
        progress=progress,
    )
    with staged(out, "--out") as folder:
        head = form.write(found, folder)
        facts = {"format": to, **found.facts}
        write_text(json.dumps(facts, indent=1) + "\n", folder / "manifest.json")
        write_text(readme(found, facts, head, form.HOW_TO), folder / "README.md")
        write_text(checksums(folder), folder / "SHA256SUMS")
    return found


__all__ = ["FORMATS", "SPLITS", "Export", "export"]
