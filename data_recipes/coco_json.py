"""COCO's JSON as rows: what is well formed in it, and why the rest is not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes import contents
from data_recipes.errors import UserError
from data_recipes.facts import BOX
from data_recipes.tables import mended

LISTS = ("images", "annotations", "categories")
Corners = tuple[float, float, float, float]


@dataclass
class CocoRows:
    """Rows of one or several files. A `key` names an image within all of them; `why` says what is wrong.

    Attributes:
        images: the rows as they stand, and image, said_width, said_height, key, why, split, file, row.
        boxes: key, phrase, crowd, why, x1, y1, x2, y2 in pixels, file, row.
        fields: names of all fields of images.
        beside: what `file` says of images -> the folder of the JSON file, relative to the root.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    boxes: list[dict[str, Any]] = field(default_factory=list)
    fields: set[str] = field(default_factory=set)
    beside: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, split: str, root: Path) -> None:
        """Adds the rows of one file.

        Raises:
            UserError: it is no JSON, or lacks one of LISTS.
        """
        name = path.relative_to(root).as_posix()
        content = _content(path)
        if not isinstance(content, dict):
            raise UserError(f"{name} holds no object with {', '.join(LISTS)}")
        for key in LISTS:
            if not isinstance(content.get(key), list):
                raise UserError(f"{name} has no list {key!r}")
        folder = path.parent.relative_to(root).as_posix()
        self.beside[f"{name}:images"] = "" if folder == "." else folder
        several = _several(content["images"])
        for number, row in enumerate(content["images"], start=1):
            self._add_image(row, name, number, split, several)
        categories = {
            as_text(row.get("id")): as_text(row.get("name"))
            for row in content["categories"]
            if isinstance(row, dict)
        }
        for number, row in enumerate(content["annotations"], start=1):
            self._add_box(row, name, number, categories, several)

    def _add_image(self, row: Any, name: str, number: int, split: str, several: set[str]) -> None:
        row = row if isinstance(row, dict) else {}
        self.fields.update(row)
        image_id = as_text(row.get("id"))
        why = None if image_id else "id is missing"
        self.images.append(
            {
                **row,
                "image": as_text(row.get("file_name")),
                "said_width": _number(row.get("width")),
                "said_height": _number(row.get("height")),
                "key": f"{name}/{image_id}",
                "why": f"id {image_id} stands for several images" if image_id in several else why,
                "split": split,
                "file": f"{name}:images",
                "row": number,
            }
        )

    def _add_box(
        self, row: Any, name: str, number: int, categories: Mapping[str | None, str | None], several: set[str]
    ) -> None:
        why = "" if isinstance(row, dict) else "is no object"
        row = row if isinstance(row, dict) else {}
        image_id, category = as_text(row.get("image_id")), as_text(row.get("category_id"))
        box, missing = _box(row)
        if not why and image_id in several:
            why = f"id {image_id} stands for several images"
        if not why and not categories.get(category):
            why = f"category {category} is not in categories"
        self.boxes.append(
            {
                "key": f"{name}/{image_id}",
                "phrase": categories.get(category),
                "crowd": row.get("iscrowd") in (1, True),
                "why": why or missing or None,
                **dict(zip(BOX, box or (None,) * 4, strict=True)),
                "file": f"{name}:annotations",
                "row": number,
            }
        )


def is_coco(path: Path) -> bool:
    """Whether a JSON file has all of LISTS. Raises UserError when it cannot be read."""
    content = _content(path)
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in LISTS)


def as_text(value: Any) -> str | None:
    """An id or a name as text; 7, 7.0 and "7" are the same."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def _content(path: Path) -> Any:
    content = contents.content(path)
    try:
        return mended(json.loads(content))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({' '.join(str(error).split())[:80]}): get it again") from None


def _several(images: Sequence[Any]) -> set[str]:
    """Ids that rows with different files share: what is said of them belongs to none in particular."""
    names: dict[str, set[str | None]] = {}
    for row in images:
        if isinstance(row, dict) and (image_id := as_text(row.get("id"))):
            names.setdefault(image_id, set()).add(as_text(row.get("file_name")))
    return {image_id for image_id, files in names.items() if len(files) > 1}


def _box(row: Mapping[str, Any]) -> tuple[Corners | None, str]:
    """The corners of the box, or of the outline where there is no box; or why there is neither."""
    given = row.get("bbox")
    if given not in (None, []):
        sides = _numbers(given)
        if len(sides) != 4:
            return None, f"bbox is not four numbers [x, y, width, height]: {str(given)[:60]}"
        x, y, width, height = sides
        return (x, y, x + width, y + height), ""
    outline = row.get("segmentation")
    if isinstance(outline, dict):
        return _of_runs(outline)
    parts = [_numbers(part) for part in outline] if isinstance(outline, list) else []
    points = [number for part in parts for number in part]
    if not points or any(len(part) % 2 or not part for part in parts):
        return None, "has neither a bbox nor an outline to take it from"
    return (min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])), ""


def _of_runs(outline: Mapping[str, Any]) -> tuple[Corners | None, str]:
    """The box of a mask that is given as run lengths down its columns, in turn outside and inside."""
    counts, size = outline.get("counts"), _numbers(outline.get("size"))
    if isinstance(counts, str) or len(size) != 2 or size[0] < 1:
        return None, "has no bbox, and its outline is a compressed mask"
    runs, height = [int(run) for run in _numbers(counts)], int(size[0])
    inside: list[tuple[int, int]] = []  # first and last pixel of each run inside
    place = 0
    for number, run in enumerate(runs):
        if number % 2 and run > 0:
            inside.append((place, place + run - 1))
        place += run
    if not inside or min(runs) < 0:
        return None, "has no bbox, and its mask is empty or none"
    one_column = [first // height == last // height for first, last in inside]
    top = min(first % height if one else 0 for (first, _), one in zip(inside, one_column, strict=True))
    end = max(last % height + 1 if one else height for (_, last), one in zip(inside, one_column, strict=True))
    return (inside[0][0] // height, top, inside[-1][1] // height + 1, end), ""


def _numbers(values: Any) -> list[float]:
    """The values as numbers; none where one is not."""
    numbers = [_number(value) for value in values] if isinstance(values, list) else []
    found = [number for number in numbers if number is not None]
    return found if len(found) == len(numbers) else []


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
