"""Rows into records. A row that cannot be used becomes a Rejection (file, row, reason); all others
survive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import unknown
from data_recipes.pixels import fault, inside
from data_recipes.records import BOX_SLOT, SPLITS, Box, Entry, Image
from data_recipes.tables import NumberedRow
from data_recipes.tasks import TASKS, task

_LONGEST_TEXT = 100_000  # characters; a long report has some thousand


class Rejection(NamedTuple):
    """One row that was left out: the file it stands in, its number there (from 1), and why."""

    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, row {self.row}: {self.reason}"


def sift_images(
    rows: Iterable[NumberedRow], file: str, root: Path
) -> tuple[dict[str, Image], list[Rejection]]:
    """Images by id, and the rows of `file` that are none. Image files under `root` are not decoded."""
    images: dict[str, Image] = {}
    rejected = []
    for number, row in rows:
        try:
            image = image_from_row(row, root)
            if image.image_id in images:
                raise ValueError(f"image_id {image.image_id!r} is taken by an earlier row")
            images[image.image_id] = image
        except ValueError as error:
            rejected.append(Rejection(file, number, str(error)))
    return images, rejected


def sift_entries(
    rows: Iterable[NumberedRow], file: str, images: Mapping[str, Image]
) -> tuple[list[Entry], list[Rejection]]:
    """Entries about `images` in the order of their rows, and the rows of `file` that are none."""
    entries: dict[str, Entry] = {}
    rejected = []
    for number, row in rows:
        try:
            entry = entry_from_row(row)
            if entry.entry_id in entries:
                raise ValueError(f"entry_id {entry.entry_id!r} is taken by an earlier row")
            if entry.image_id not in images:
                raise ValueError(f"image {entry.image_id!r} is unknown or was rejected")
            entries[entry.entry_id] = entry
        except ValueError as error:
            rejected.append(Rejection(file, number, str(error)))
    return list(entries.values()), rejected


def image_from_row(row: Any, root: Path) -> Image:
    """The image of one row.

    Raises:
        ValueError: a value is missing or of a wrong type, the split is unknown, or `path` names no whole file
            inside `root` (an empty path says that there are no pixels; only then may the size be unknown, 0).
    """
    split = text(row, "split")
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    path = text(row, "path", empty=True)
    if path:
        file = inside(root, path)
        if found := fault(file):
            raise ValueError(f"image file {path} {found}")
    return Image(
        image_id=text(row, "image_id"),
        patient_id=text(row, "patient_id"),
        split=split,
        source=text(row, "source", empty=True),
        path=path,
        width=positive(row, "width", zero=not path),
        height=positive(row, "height", zero=not path),
        view=text(row, "view", empty=True),
    )


def entry_from_row(row: Any) -> Entry:
    """The entry of one row.

    Raises:
        ValueError: a value is missing or of a wrong type, or `check_entry` finds a fault.
    """
    if text(row, "task") not in TASKS:
        raise unknown("task", row["task"], TASKS)
    entry = Entry(
        entry_id=text(row, "entry_id"),
        image_id=text(row, "image_id"),
        task=row["task"],
        prompt=text(row, "prompt"),
        target=text(row, "target"),
        boxes=boxes(row),
        provenance=text(row, "provenance", empty=True),
    )
    check_entry(entry)
    return entry


def check_entry(entry: Entry) -> None:
    """Whether an entry makes sense.

    Raises:
        ValueError: boxes and slots differ in number, or the task cannot read the target.
    """
    slots = entry.prompt.count(BOX_SLOT) + entry.target.count(BOX_SLOT)
    if slots != len(entry.boxes):
        raise ValueError(f"{slots} {BOX_SLOT} slots in prompt and target, but {len(entry.boxes)} boxes")
    if task(entry.task).parse(entry.target, entry.target_boxes) is None:
        raise ValueError(f"task {entry.task} cannot read the target {entry.target!r}")


def text(row: Any, key: str, *, empty: bool = False) -> str:
    """The text under `key`. Raises ValueError when it is missing, no text, or blank (unless `empty`)."""
    value = _value(row, key)
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r} ({_kind(value)}), expected text")
    if not empty and not value.strip():
        raise ValueError(f"{key} is empty")
    if "\0" in value:
        raise ValueError(f"{key} holds a NUL byte ({value[:60]!r})")
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"{key} has {len(value)} characters, more than {_LONGEST_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{key} holds half a character ({value!r})") from None
    return value


def positive(row: Any, key: str, *, zero: bool = False) -> int:
    """The whole number above 0 (or 0, with `zero`) under `key`. Raises ValueError when it is none."""
    value = _value(row, key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 - zero <= value < 2**31:
        raise ValueError(f"{key} is {value!r} ({_kind(value)}), expected a whole number above 0")
    return value


def boxes(row: Any) -> tuple[Box, ...]:
    """The boxes under "boxes", each [x1, y1, x2, y2]. Raises ValueError when one is none."""
    value = _value(row, "boxes")
    if not isinstance(value, list):
        raise ValueError(f"boxes is {value!r} ({_kind(value)}), expected a list of [x1, y1, x2, y2]")
    found = []
    for box in value:
        numbers = isinstance(box, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in box
        )
        if not numbers or len(box) != 4:
            raise ValueError(f"box {box!r} is not four numbers [x1, y1, x2, y2]")
        try:
            found.append(Box(*map(float, box)))
        except OverflowError:
            raise ValueError(f"a box leaves the image: {str(box)[:60]}...") from None
    return tuple(found)


def _value(row: Any, key: str) -> Any:
    if not isinstance(row, Mapping):
        raise ValueError(f"not a row of named values but {_kind(row)}: {str(row)[:60]!r}")
    if row.get(key) is None:
        raise ValueError(f"{key} is missing")
    return row[key]


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", int: "a whole number", float: "a number", list: "a list"}
    return names.get(type(value), type(value).__name__)


def summary(rejected: Iterable[Rejection], shown: int = 5) -> str:
    """The first few rejections, a line each, and how many more there are."""
    lines = [str(rejection) for rejection in rejected]
    more = [f"... and {len(lines) - shown} more"] if len(lines) > shown else []
    return "\n".join(lines[:shown] + more)
