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
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from data_recipes.pixels import decode, inside
from data_recipes.records import SPLITS, Entry, Image
from data_recipes.reject import Rejection, entry_from_row, positive, text
from data_recipes.sources import Sample
from data_recipes.tables import read_rows

NAME = "folder"
VERSION = "1"
FILES = True

_PIXELS = ("copy", "link", "skip")


@dataclass(frozen=True)
class Options:
    """root: the folder; pixels: whether image files are copied, hard-linked, or left out ("skip")."""

    root: Path
    pixels: str


@dataclass(frozen=True)
class Unit:
    """One patient: images with their files as written (relative to root), entries with the rows they come
    from; or the rows that were rejected already."""

    options: Options
    images: tuple[Image, ...] = ()
    entries: tuple[tuple[int, Entry], ...] = ()
    file: str = ""
    rejected: tuple[Rejection, ...] = ()


def read_options(options: Mapping[str, Any]) -> Options:
    """Checked options.

    Raises:
        UserError: an unknown option, no such folder, or no table of entries in it.
    """
    for key in options:
        if key not in ("root", "pixels"):
            raise unknown("option of source folder", str(key), ("root", "pixels"))
    root, pixels = options.get("root"), options.get("pixels", "copy")
    if pixels not in _PIXELS:
        raise unknown("value of option pixels", str(pixels), _PIXELS)
    if not isinstance(root, str):
        raise UserError("source folder needs the option root: the folder with entries.jsonl and the images")
    if not Path(root).is_dir():
        raise UserError(f"{root} is no folder")
    if _table(Path(root), "entries") is None:
        raise UserError(f"{root} holds no entries.jsonl or entries.parquet, and no built mixture")
    return Options(Path(root), pixels)


def fingerprint(options: Mapping[str, Any]) -> str:
    """Changes with the tables, and with name, size or time of any image file they name."""
    root = read_options(options).root
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


def entries_per_image(options: Mapping[str, Any]) -> float:
    """Rows by the images they name, before any is rejected; 0 without rows."""
    table = _table(read_options(options).root, "entries")
    assert table is not None  # read_options saw it
    named = _named(table)
    return len(named) / max(1, len(set(named)))


def units(options: Mapping[str, Any], *, seed: int, images: int, first: int = 0) -> Sequence[Unit]:
    """One unit a patient, and one with the rejected rows; `seed`, `images` and `first` have nothing to
    choose.

    Raises:
        UserError: an unusable option, or a table that cannot be read at all.
    """
    checked = read_options(options)
    table = _table(checked.root, "entries")
    assert table is not None  # read_options saw it
    said, rejected = _said(checked)
    known: dict[str, Image] = {}
    split_of: dict[str, str] = {}
    entries: dict[str, list[tuple[int, Entry]]] = defaultdict(list)
    ids: set[str] = set()
    for number, row in read_rows(table):
        try:
            image, entry = _row(row, number, said, checked)
            if entry.entry_id in ids:
                raise ValueError(f"entry_id {entry.entry_id!r} is taken by an earlier row")
            _agree(image, known.get(image.image_id), split_of)
        except ValueError as error:
            rejected.append(Rejection(table.name, number, str(error)))
            continue
        ids.add(entry.entry_id)
        known.setdefault(image.image_id, image)
        split_of[image.patient_id] = image.split
        entries[image.image_id].append((number, entry))
    patients: dict[str, list[Image]] = defaultdict(list)
    for image in known.values():
        patients[image.patient_id].append(image)
    found = [
        Unit(checked, tuple(members), tuple(e for m in members for e in entries[m.image_id]), table.name)
        for members in patients.values()
    ]
    return [*found, Unit(checked, rejected=tuple(rejected))] if rejected else found


def read(unit: Unit) -> list[Sample | Rejection]:
    """The samples of a patient; an image that cannot be decoded takes its entries' rows with it."""
    results: list[Sample | Rejection] = list(unit.rejected)
    for image in unit.images:
        rows = [(number, entry) for number, entry in unit.entries if entry.image_id == image.image_id]
        try:
            sized = _sized(image, unit.options)
        except ValueError as error:
            results += [Rejection(unit.file, number, str(error)) for number, _ in rows]
            continue
        results.append(Sample(sized, None, tuple(entry for _, entry in rows)))
    return results


def _row(
    row: Any, number: int, said: Mapping[str, Mapping[str, Any]], options: Options
) -> tuple[Image, Entry]:
    """Image and entry that one row speaks of. Raises ValueError with the reason when it cannot be used."""
    path = text(row, "image")
    inside(options.root, path)
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


def _said(options: Options) -> tuple[dict[str, Mapping[str, Any]], list[Rejection]]:
    """What images.jsonl says about images, by path."""
    table = _table(options.root, "images")
    said: dict[str, Mapping[str, Any]] = {}
    rejected = []
    for number, row in read_rows(table) if table else []:
        try:
            path = text(row, "image")
            inside(options.root, path)
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
            rejected.append(Rejection(table.name if table else "", number, str(error)))
    return said, rejected


def _sized(image: Image, options: Options) -> Image:
    """The image with an absolute path and its true size. Raises ValueError when the file cannot be used."""
    file = inside(options.root, image.path)
    if options.pixels == "skip" and image.width and image.height:
        return replace(image, path="")
    width, height = decode(file).size
    for name, said, true in (("width", image.width, width), ("height", image.height, height)):
        if said not in (0, true):
            raise ValueError(f"image {image.path} has {name} {true}, the row says {said}")
    return replace(image, path="" if options.pixels == "skip" else str(file), width=width, height=height)


def _named(table: Path) -> list[str]:
    """The image that each row names, as far as it names one."""
    rows = [row for _, row in read_rows(table) if isinstance(row, Mapping)]
    return [row["image"] for row in rows if isinstance(row.get("image"), str)]


def _table(root: Path, name: str) -> Path | None:
    return next((path for path in (root / f"{name}.jsonl", root / f"{name}.parquet") if path.is_file()), None)
