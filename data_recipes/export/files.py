"""Files of an export: images as every tool reads them, JSON, and the sums that prove both."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import PIL.Image

from data_recipes.errors import UserError
from data_recipes.export.conversation import Export
from data_recipes.pixels import inside, safe_name
from data_recipes.placing import place
from data_recipes.records import Image
from data_recipes.store import open_image

FOLDER = "images"


def image_file(folder: Path, image: Image) -> tuple[str, Path | None]:
    """The name of an image in an export, and the file of the mixture that can stand for it as it is: an
    8-bit PNG or JPEG. Others (16 bit, TIFF, BMP, palettes) would be cut off or refused by some tools: None.

    Raises:
        UserError: the image cannot be opened.
    """
    name = safe_name(image.image_id)
    try:
        path = inside(folder, image.path)
        with PIL.Image.open(path) as head:
            suffix = {"PNG": ".png", "JPEG": ".jpg"}.get(str(head.format))
            if suffix and head.mode in ("L", "RGB"):
                return name + suffix, path
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise UserError(f"image {image.image_id} of {folder} cannot be read: {error}") from None
    return f"{name}.png", None


def write_images(export: Export, folder: Path) -> dict[str, str]:
    """Puts every image into `folder`/images, once; image id -> its path relative to `folder`.

    Raises:
        UserError: an image cannot be opened, or the file system cannot link.
    """
    (folder / FOLDER).mkdir()
    paths = {}
    for image in export.images:
        name, plain = image_file(export.folder, image)
        target = folder / FOLDER / name
        if plain is None:
            open_image(export.folder, image).save(target)
        else:
            place(plain, target, link=export.link)
        paths[image.image_id] = f"{FOLDER}/{name}"
    return paths


def image_bytes(folder: Path, image: Image) -> tuple[str, bytes]:
    """Name and content of an image, for formats that keep images inside their tables.

    Raises:
        UserError: the image cannot be opened.
    """
    name, plain = image_file(folder, image)
    if plain is not None:
        return name, plain.read_bytes()
    buffer = io.BytesIO()
    open_image(folder, image).save(buffer, "PNG")
    return name, buffer.getvalue()


def write_list(rows: Iterable[Mapping[str, Any]], path: Path, *, lines: bool) -> None:
    """Rows as JSON: a list with a row a line, or JSON Lines. Written as they come."""
    opening, between, closing = ("", "\n", "\n") if lines else ("[\n", ",\n", "\n]\n")
    with path.open("w", encoding="utf-8") as file:
        file.write(opening)
        for number, row in enumerate(rows):
            file.write((between if number else "") + json.dumps(row, ensure_ascii=False))
        file.write(closing)


def checksums(folder: Path) -> str:
    """SHA-256 of every file below `folder`, as `sha256sum --check` reads it."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)
