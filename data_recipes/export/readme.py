"""The README of an export: a head for the Hugging Face hub, how to load it, and the mixture's own card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from data_recipes.card import card
from data_recipes.export.conversation import Export
from data_recipes.store import read_rejections

_TERMS = (
    "Images and texts stay under the terms of the sources they come from: pass this folder on only where "
    "those terms allow it."
)
_BOXES = {
    "canonical": "`[x1, y1, x2, y2]`: left, top, right and bottom edge as fractions of the image",
    "thousandths": "`[x1, y1, x2, y2]` in thousandths of the image's width and height",
    "pixels": "`[x1, y1, x2, y2]` in pixels of the image",
    "native": "left to the tool: each stands as a slot in the text, with its coordinates beside it",
}
_TURNS = {
    "entry": "Each entry is a conversation of its own.",
    "image": "The entries of an image follow each other in one conversation: a later answer is given by a "
    "model that has read the earlier ones. Where that must not be, export with `--turns entry`.",
}


def readme(export: Export, facts: Mapping[str, Any], head: Mapping[str, Any], how_to: str) -> str:
    """The README as Markdown.

    Args:
        facts: the content of `manifest.json`.
        head: what the format adds to the YAML head.
        how_to: the format's HOW_TO.
    """
    rejected = [str(rejection) for rejection in read_rejections(export.folder)]
    front, _, mixture_card = card(export.mixture.meta, rejected).removeprefix("---\n").partition("\n---\n")
    front = yaml.safe_dump(
        {**{k: v for k, v in yaml.safe_load(front).items() if k != "configs"}, **head}, sort_keys=False
    )
    boxes = _BOXES.get(export.notation, f"in the notation of `{export.notation}`")
    rows = "".join(
        f"| {split} | {n['conversations']} | {n['entries']} | {n['images']} | {n['patients']} |\n"
        for split, n in facts["splits"].items()
    )
    return (
        f"---\n{front}---\n\n# {export.name} for {facts['format']}\n\n"
        f"Exported by imax-harness from mixture `{facts['mixture']}` (content hash "
        f"`{facts['mixture_hash']}`). "
        f"Licence: {facts['license']}. {_TERMS}\n\n"
        f"| split | conversations | entries | images | patients |\n|---|---:|---:|---:|---:|\n{rows}\n"
        f"{_TURNS[export.turns]} Boxes are {boxes}. `sha256sum --check SHA256SUMS` checks all files.\n\n"
        f"## How to load it\n\n{how_to.format(name=export.name, folder='FOLDER').strip()}\n\n"
        f"## The mixture\n\n{mixture_card.strip().replace(chr(10) + '#', chr(10) + '##')}\n"
    )
