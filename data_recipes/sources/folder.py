"""Source `folder`: people's own rows and image files.

    root/entries.jsonl (or .parquet)   image, patient_id, task, prompt, target;
                                       optional: boxes, entry_id, provenance, split, view
    root/images.jsonl  (or .parquet)   optional: image, and any of patient_id, split, view, width, height
    root/...                           image files; `image` is a path relative to root

Boxes are [x1, y1, x2, y2] in fractions of the image, and fill the `{box}` slots of the prompt, then of the
target. A row that cannot be used is rejected with its reason; all others survive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from data_recipes.errors import UserError, unknown
from data_recipes.files import Needed, unlinked
from data_recipes.funnel import Funnel
from data_recipes.harvest import ENTRY_COLUMNS, IMAGE_COLUMNS, FileOptions, Harvest
from data_recipes.licence import Licence
from data_recipes.pixels import inside
from data_recipes.records import SPLITS, Entry, Image
from data_recipes.reject import Rejection, entry_from_row, positive, text
from data_recipes.tables import read_rows

NAME = "folder"
VERSION = "1"
OPTIONS = FileOptions
LICENCE = Licence("that of the files", access="own", share="as the terms of the files say")
FILES = (
    Needed("entries", ("entries.jsonl", "entries.parquet"), "entries of all tasks"),
    Needed("images", ("images.jsonl", "images.parquet"), "patients, splits, views and sizes", required=False),
)


def fingerprint(options: FileOptions) -> str:
    """Changes with the tables, and with name, size or time of any image file they name."""
    root = _root(options)
    total = hashlib.sha256()
    named: set[str] = set()
    for name in ("entries", "images"):
        if table := _table(root, name):
            total.update(table.read_bytes())
            named.update(_named(table))
    for path in sorted(named):
        try:
            state = inside(root, path).stat()
        except (ValueError, OSError):
            continue  # its rows will be rejected
        total.update(f"{path} {state.st_size} {state.st_mtime_ns}\n".encode())
    return total.hexdigest()


def harvest(options: FileOptions, seed: int) -> Harvest:
    """All rows that can be used; `seed` has nothing to choose.

    Raises:
        UserError: no folder, no table of entries in it, or a table that cannot be read at all.
    """
    root = _root(options)
    table = _table(root, "entries")
    assert table is not None  # _root saw it
    funnel = Funnel(NAME)
    said = _said(root, funnel)
    known: dict[str, Image] = {}
    split_of: dict[str, str] = {}
    entries: dict[str, tuple[int, Entry]] = {}
    rows = read_rows(table)
    for number, row in rows:
        try:
            image, entry = _row(row, number, said, root)
            if entry.entry_id in entries:
                raise ValueError(f"entry_id {entry.entry_id!r} is taken by an earlier row")
            _agree(image, known.get(image.image_id), split_of)
        except ValueError as error:
            funnel.rejected.append(Rejection(table.name, number, str(error)))
            continue
        entries[entry.entry_id] = (number, entry)
        known.setdefault(image.image_id, image)
        split_of[image.patient_id] = image.split
    funnel.count(f"rows of {table.name}", "rows", len(rows), len(entries), "row cannot be used")
    return Harvest(_images(known), _entries(entries, table.name), funnel, root)


def _root(options: FileOptions) -> Path:
    if options.root is None:
        raise UserError("source folder needs the option root: the folder with entries.jsonl and the images")
    root = Path(options.root)
    if not root.is_dir():
        raise UserError(f"{root} is no folder")
    if _table(root, "entries") is None:
        raise UserError(
            f"{root} holds no entries.jsonl or entries.parquet, no built mixture, and no table that "
            f"sources csv, coco or messages would read"
        )
    return root


def _images(known: Mapping[str, Image]) -> pl.DataFrame:
    rows = [(i.image_id, i.patient_id, i.split, i.path, i.width, i.height, i.view) for i in known.values()]
    return pl.DataFrame(rows, schema=IMAGE_COLUMNS, orient="row")


def _entries(found: Mapping[str, tuple[int, Entry]], table: str) -> pl.DataFrame:
    rows = [
        {name: getattr(entry, name, None) for name in ENTRY_COLUMNS}
        | {"boxes": [list(box.xyxy) for box in entry.boxes], "file": table, "row": number}
        for number, entry in found.values()
    ]
    return pl.DataFrame(rows, schema=ENTRY_COLUMNS)


def _row(row: Any, number: int, said: Mapping[str, Mapping[str, Any]], root: Path) -> tuple[Image, Entry]:
    """Image and entry that one row speaks of. Raises ValueError with the reason when it cannot be used."""
    path = text(row, "image")
    inside(root, path)
    row = {**said.get(path, {}), **row}
    task = text(row, "task")
    entry = entry_from_row(
        {
            "entry_id": f"{path}/{task}/{number}",
            "boxes": [],
            "provenance": f"{NAME}/{task}/{task}",
            **{key: value for key, value in row.items() if value is not None},
            "image_id": path,
        }
    )
    split = text({"split": "", **_given(row, "split")}, "split", empty=True)
    if split and split not in SPLITS:
        raise unknown("split", split, SPLITS)
    view = text({"view": "", **_given(row, "view")}, "view", empty=True)
    size = [positive(row, key) if row.get(key) is not None else 0 for key in ("width", "height")]
    return Image(path, text(row, "patient_id"), split, NAME, path, size[0], size[1], view), entry


def _given(row: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {key: row[key]} if row.get(key) is not None else {}


def _agree(image: Image, earlier: Image | None, split_of: Mapping[str, str]) -> None:
    """Raises ValueError when a row contradicts an earlier one about the image's patient or the patient's
    split."""
    if earlier and earlier.patient_id != image.patient_id:
        raise ValueError(f"image {image.path} belongs to patient {earlier.patient_id!r} in an earlier row")
    split = split_of.get(image.patient_id, image.split)
    if split != image.split:
        raise ValueError(f"patient {image.patient_id!r} is in split {split or 'none'!r} in an earlier row")


def _said(root: Path, funnel: Funnel) -> dict[str, Mapping[str, Any]]:
    """What images.jsonl says about images, by path."""
    table = _table(root, "images")
    if table is None:
        return {}
    said: dict[str, Mapping[str, Any]] = {}
    rows = read_rows(table)
    for number, row in rows:
        try:
            path = text(row, "image")
            inside(root, path)
            if path in said:
                raise ValueError(f"image {path!r} is taken by an earlier row")
            for key in ("width", "height"):
                if row.get(key) is not None:
                    positive(row, key)
            for key in ("patient_id", "split", "view"):
                if row.get(key) is not None:
                    text(row, key, empty=key != "patient_id")
            said[path] = {k: row[k] for k in ("patient_id", "split", "view", "width", "height") if k in row}
        except ValueError as error:
            funnel.rejected.append(Rejection(table.name, number, str(error)))
    funnel.count(f"rows of {table.name}", "rows", len(rows), len(said), "row cannot be used")
    return said


def _named(table: Path) -> list[str]:
    """The image that each row names, as far as it names one."""
    rows = [row for _, row in read_rows(table) if isinstance(row, Mapping)]
    return [row["image"] for row in rows if isinstance(row.get("image"), str)]


def _table(root: Path, name: str) -> Path | None:
    """The table of that name. Raises UserError when it is a link that leaves the folder."""
    for path in (root / f"{name}.jsonl", root / f"{name}.parquet"):
        if path.is_file():
            return unlinked(path, root)
    return None
