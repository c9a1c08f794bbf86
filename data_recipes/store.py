"""A mixture's folder: `images.parquet`, `entries.parquet`, `mixture.json`, `README.md`, `rejected.jsonl`,
`images/`."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa

from data_recipes.card import card
from data_recipes.errors import UserError
from data_recipes.pixels import decode, inside
from data_recipes.records import Entry, Image, Mixture
from data_recipes.reject import Rejection, sift_entries, sift_images, summary
from data_recipes.tables import read_rows, write_parquet, write_text

SCHEMA = 1  # of the folder; raise it when an older reader would misread it
IMAGES = "images.parquet"
ENTRIES = "entries.parquet"
META = "mixture.json"
REJECTED = "rejected.jsonl"
CARD = "README.md"

_IMAGE_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("image_id", "patient_id", "split", "source", "path")]
    + [("width", pa.int64()), ("height", pa.int64()), ("view", pa.string())]
)
_ENTRY_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("entry_id", "image_id", "task", "prompt", "target")]
    + [("boxes", pa.list_(pa.list_(pa.float64()))), ("provenance", pa.string())]
)


def write_mixture(mixture: Mixture, folder: Path) -> None:
    """Writes tables, `mixture.json` and the card into `folder`; image files are already there."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {name: [getattr(image, name) for image in mixture.images] for name in _IMAGE_COLUMNS.names}
    entries = {name: [getattr(entry, name) for entry in mixture.entries] for name in _ENTRY_COLUMNS.names}
    entries["boxes"] = [[box.xyxy for box in entry.boxes] for entry in mixture.entries]
    write_parquet(pa.Table.from_pydict(images, _IMAGE_COLUMNS), folder / IMAGES)
    write_parquet(pa.Table.from_pydict(entries, _ENTRY_COLUMNS), folder / ENTRIES)
    write_meta(mixture.meta, folder)


def write_meta(meta: Mapping[str, Any], folder: Path) -> None:
    """Writes `mixture.json` and the card, which says the same for people."""
    write_text(json.dumps({**meta, "schema": SCHEMA}, indent=1, sort_keys=True) + "\n", folder / META)
    write_text(card(meta, [str(rejection) for rejection in read_rejections(folder)]), folder / CARD)


def read_mixture(folder: Path) -> Mixture:
    """The mixture in a folder. Fast: image files are looked at, not decoded; `imax recipe check` decodes
    them.

    A row that cannot be used is left out, warned about and written to `rejected.jsonl`; all others survive.

    Raises:
        UserError: a file of the mixture is missing or broken, or of another schema.
    """
    meta = read_meta(folder)
    images, bad_images = sift_images(read_rows(folder / IMAGES), IMAGES, folder)
    entries, bad_entries = sift_entries(read_rows(folder / ENTRIES), ENTRIES, images)
    if rejected := bad_images + bad_entries:
        warnings.warn(f"{folder}: {len(rejected)} rows are left out:\n{summary(rejected)}", stacklevel=2)
        meta = record(rejected, meta, folder)
        # What is left is another mixture: scores on it must not pass for scores on the whole one.
        meta["mixture_hash"] = f"{meta.get('mixture_hash', '')}-without-{len(rejected)}"
    return Mixture(tuple(images.values()), tuple(entries), meta)


def read_meta(folder: Path) -> dict[str, Any]:
    """The content of `mixture.json`.

    Raises:
        UserError: it is missing, broken, or of another schema.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} is not a mixture (no {META}): make one with `imax recipe build`") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}): build the mixture again") from None
    found = meta.get("schema") if isinstance(meta, dict) else None
    if found != SCHEMA:
        raise UserError(f"{path} has schema {found!r}, this version reads {SCHEMA}: build the mixture again")
    return dict(meta)


def need_pixels(mixture: Mixture, name: str) -> None:
    """Raises UserError when images of the mixture have no pixels."""
    without = sum(not image.path for image in mixture.images)
    if without:
        raise UserError(
            f"{name}: {without} of {len(mixture.images)} images have no pixels: build the mixture with "
            "--root, the folder of its files, and --pixels copy or link"
        )


def open_image(folder: Path, image: Image) -> PIL.Image.Image:
    """The pixels of an image, mode "L".

    Raises:
        UserError: the mixture holds no pixels, or the file is missing, truncated or outside the folder.
    """
    if not image.path:
        raise UserError(
            f"image {image.image_id} has no pixels: build the mixture with --root, the folder of "
            f"its files, and --pixels copy or link"
        )
    try:
        return decode(inside(folder, image.path))
    except ValueError as error:
        raise UserError(f"{folder / image.path}: {error}; `imax recipe check {folder}` lists all") from None


def content_hash(images: Iterable[Image], entries: Iterable[Entry], digests: Mapping[str, str]) -> str:
    """SHA-256 of what the mixture says: images with the digests of their pixels ("" for none), and entries.
    Where the image files lie and how they are compressed does not matter."""
    total = hashlib.sha256()
    for image in images:
        row = (
            image.image_id,
            image.patient_id,
            image.split,
            image.source,
            image.width,
            image.height,
            image.view,
        )
        total.update(json.dumps([*row, digests.get(image.image_id, "")]).encode() + b"\n")
    for entry in entries:
        row_ = (entry.entry_id, entry.image_id, entry.task, entry.prompt, entry.target, entry.provenance)
        total.update(json.dumps([*row_, [box.xyxy for box in entry.boxes]]).encode() + b"\n")
    return total.hexdigest()


def read_rejections(folder: Path) -> list[Rejection]:
    """The rows that were left out when the mixture was built, read or checked."""
    path = folder / REJECTED
    if not path.exists():
        return []
    try:
        return [Rejection(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is broken ({error}): remove it") from None


def record(rejected: Iterable[Rejection], meta: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Adds rejections to `rejected.jsonl`, none twice, and their number to `mixture.json` and the card;
    returns the new `meta`. In a folder that cannot be written, only the number changes."""
    unique = list(dict.fromkeys([*read_rejections(folder), *rejected]))
    meta = {**meta, "rejected": len(unique)}
    try:
        write_text("".join(f"{json.dumps(item._asdict())}\n" for item in unique), folder / REJECTED)
        write_meta(meta, folder)
    except OSError as error:
        warnings.warn(f"{folder} cannot be written ({error})", stacklevel=3)
    return meta
