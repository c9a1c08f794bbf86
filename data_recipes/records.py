"""The records that flow through everything: Box, Image, Entry, Mixture. Plain data, no torch, no model.

Boxes are xyxy fractions 0..1 of the original image, origin at the top left corner. Prompts and targets mark
where a box belongs with the slot `{box}`; `Entry.boxes` fills the slots of the prompt first, then those of
the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

BOX_SLOT = "{box}"
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Box:
    """A box as xyxy fractions of the image's width and height, origin top left.

    Raises:
        ValueError: a coordinate is not finite or outside [0, 1], or x2 <= x1, or y2 <= y1.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in self.xyxy):
            raise ValueError(f"box {self.xyxy} holds a number that is not finite")
        if min(self.xyxy) < 0 or max(self.xyxy) > 1:
            raise ValueError(f"box {self.xyxy} leaves the image: coordinates are fractions from 0 to 1")
        if self.x2 <= self.x1 or self.y2 <= self.y1:
            raise ValueError(f"box {self.xyxy} is empty or reversed: it needs x1 < x2 and y1 < y2")

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def area(self) -> float:
        """Fraction of the image's area, 0..1."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def iou(self, other: Box) -> float:
        """Intersection over union, 0..1 (both boxes as fractions of the same image)."""
        width = min(self.x2, other.x2) - max(self.x1, other.x1)
        height = min(self.y2, other.y2) - max(self.y1, other.y1)
        if width <= 0 or height <= 0:
            return 0.0
        overlap = width * height
        return overlap / (self.area + other.area - overlap)


@dataclass(frozen=True, slots=True)
class Image:
    """One radiograph of one patient. `path` is relative to the mixture's folder, or "" when pixels are
    absent."""

    image_id: str
    patient_id: str
    split: str
    source: str
    path: str
    width: int
    height: int
    view: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One (prompt, target) pair of one task about one image.

    `provenance` says where the entry comes from, as a path `source/.../kind`, such as `phantom/vqa/count`.
    """

    entry_id: str
    image_id: str
    task: str
    prompt: str
    target: str
    boxes: tuple[Box, ...] = ()
    provenance: str = ""

    @property
    def prompt_boxes(self) -> tuple[Box, ...]:
        return self.boxes[: self.prompt.count(BOX_SLOT)]

    @property
    def target_boxes(self) -> tuple[Box, ...]:
        return self.boxes[self.prompt.count(BOX_SLOT) :]

    @property
    def kind(self) -> str:
        """The finest level of `provenance`: a question type, the name of a ratio, ..."""
        return self.provenance.rsplit("/", 1)[-1]


def fill_slots(text: str, boxes: Iterable[str]) -> str:
    """`text` with each `{box}` replaced, in order, by the next written box.

    Raises:
        ValueError: the numbers of slots and boxes differ.
    """
    written = list(boxes)
    parts = text.split(BOX_SLOT)
    if len(parts) - 1 != len(written):
        raise ValueError(f"{len(parts) - 1} box slots but {len(written)} boxes in {text!r}")
    return "".join(part + box for part, box in zip(parts, [*written, ""], strict=True))


@dataclass(frozen=True)
class Mixture:
    """A built set of images and entries with splits; `meta` is the content of `mixture.json`."""

    images: tuple[Image, ...]
    entries: tuple[Entry, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def image_by_id(self) -> dict[str, Image]:
        return {image.image_id: image for image in self.images}

    def of_split(self, split: str) -> Iterator[tuple[Image, Entry]]:
        """(image, entry) pairs of one split, in stored order."""
        images = {image.image_id: image for image in self.images if image.split == split}
        for entry in self.entries:
            if entry.image_id in images:
                yield images[entry.image_id], entry
