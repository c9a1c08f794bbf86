"""The form that all export formats share: conversations about one image, with boxes written out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from data_recipes.notation import CanonicalBoxes
from data_recipes.recipe import mixture_folder
from data_recipes.records import SPLITS, Box, Entry, Image, Mixture, fill_slots
from data_recipes.store import need_pixels, read_mixture

BoxWriter = Callable[[Box, int, int], str]

TURNS = ("entry", "image")
# What some tools take for a slot of theirs: a text that holds one would ask for an image that is not there.
_SLOT = re.compile(r"<(/?(?:image|video|audio|bbox|ref-object|im_start|im_end|im_patch))>", re.IGNORECASE)


class Exchange(NamedTuple):
    """An entry as it is said: what the user asks and what the assistant answers, boxes written out."""

    entry: Entry
    prompt: str
    target: str


class Conversation(NamedTuple):
    """One or several exchanges about an image."""

    name: str
    image: Image
    exchanges: tuple[Exchange, ...]

    def turns(self, mark: str = "") -> Iterator[tuple[str, str]]:
        """(role, text), user first; `mark` stands before the first text, for the image."""
        for number, exchange in enumerate(self.exchanges):
            yield "user", (mark if number == 0 else "") + exchange.prompt
            yield "assistant", exchange.target

    def messages(self, mark: str = "") -> list[dict[str, str]]:
        """The turns in the words of chat templates."""
        return [{"role": role, "content": text} for role, text in self.turns(mark)]

    @property
    def boxes(self) -> list[Box]:
        """All boxes in the order in which the turns speak of them."""
        return [box for exchange in self.exchanges for box in exchange.entry.boxes]


@dataclass(frozen=True)
class Export:
    """A mixture that is to be written in some format.

    Attributes:
        folder: of the mixture.
        splits: conversations of each split that has some.
        link: whether image files may be hard-linked.
        notation: what the notation of boxes is called.
        turns: one of TURNS.
    """

    folder: Path
    mixture: Mixture
    splits: Mapping[str, Sequence[Conversation]]
    link: bool
    notation: str
    turns: str

    @property
    def name(self) -> str:
        """A name of letters, digits and underscores."""
        name = str(self.mixture.meta.get("name") or self.folder.name)
        return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "mixture"

    @property
    def images(self) -> list[Image]:
        """Images that a conversation is about, each once."""
        every = (talk.image for talks in self.splits.values() for talk in talks)
        return list({image.image_id: image for image in every}.values())

    @property
    def facts(self) -> dict[str, Any]:
        """What tells this export from others, for `manifest.json`."""
        meta = self.mixture.meta
        return {
            "mixture": meta.get("name"),
            "mixture_hash": meta.get("mixture_hash"),
            "license": meta.get("license", "other"),
            "licences": meta.get("licences", {}),
            "notation": self.notation,
            "turns": self.turns,
            "splits": {
                split: {
                    "conversations": len(talks),
                    "entries": sum(len(talk.exchanges) for talk in talks),
                    "images": len({talk.image.image_id for talk in talks}),
                    "patients": len({talk.image.patient_id for talk in talks}),
                }
                for split, talks in self.splits.items()
            },
        }


def read_export(
    mixture: str,
    *,
    turns: str,
    notation: str,
    writer: BoxWriter | None,
    link: bool,
    overrides: Mapping[str, Any] | None,
    progress: bool,
) -> Export:
    """The mixture as conversations; see `export`.

    Raises:
        UserError: no such mixture, or its images have no pixels.
    """
    folder = mixture_folder(mixture, overrides, progress=progress)
    content = read_mixture(folder)
    need_pixels(content, str(folder))
    write = writer or CanonicalBoxes().write
    if notation == "native":
        write = _slot
    splits = {split: _talks(content, split, turns, write) for split in SPLITS}
    splits = {split: talks for split, talks in splits.items() if talks}
    if not splits:
        raise UserError(f"{folder} has no entries")
    return Export(folder, content, splits, link, notation, turns)


def _slot(box: Box, width: int, height: int) -> str:
    """Stands for a box that the tool writes itself."""
    return "\0"


def _talks(mixture: Mixture, split: str, turns: str, write: BoxWriter) -> list[Conversation]:
    """The conversations of a split; those of an image stand together, in the order of the images."""
    of_image: dict[str, list[tuple[Image, Exchange]]] = {}
    for image, entry in mixture.of_split(split):
        of_image.setdefault(image.image_id, []).append((image, _said(image, entry, write)))
    talks = []
    for image_id, said in of_image.items():
        image = said[0][0]
        exchanges = tuple(exchange for _, exchange in said)
        if turns == "image":
            talks.append(Conversation(image_id, image, exchanges))
        else:
            talks += [Conversation(exchange.entry.entry_id, image, (exchange,)) for exchange in exchanges]
    return talks


def _said(image: Image, entry: Entry, write: BoxWriter) -> Exchange:
    def written(text: str, boxes: Sequence[Box]) -> str:
        plain = _SLOT.sub(r"(\1)", text)
        return fill_slots(plain, [write(box, image.width, image.height) for box in boxes])

    return Exchange(
        entry, written(entry.prompt, entry.prompt_boxes), written(entry.target, entry.target_boxes)
    )
