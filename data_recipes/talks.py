"""Rows with conversations as images and entries: each question with its answer is an entry of the image."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import polars as pl
from pydantic import Field

from data_recipes.dataset import Dataset
from data_recipes.errors import unknown
from data_recipes.notation import Brackets, Unit
from data_recipes.own import ImageNames, OwnOptions, split_of_path, split_word, view_word
from data_recipes.packed import at_hand, packed_name
from data_recipes.pixels import size
from data_recipes.records import BOX_SLOT, Box, Entry
from data_recipes.reject import Rejection, check_entry
from data_recipes.tables import NumberedRow
from data_recipes.tasks import TASKS
from data_recipes.turns import Talk, talk

# Meaning -> columns that have it, the likeliest first.
COLUMNS = {
    "messages": ("messages", "conversations", "conversation"),
    "images": ("images", "image"),
    "image_id": ("image_id",),
    "patient_id": ("patient_id", "subject_id", "patient"),
    "split": ("split",),
    "view": ("view", "view_position"),
    "task": ("tasks", "task"),
    "boxes": ("boxes",),
}


class TalkOptions(OwnOptions):
    """
    Attributes:
        columns: meaning -> column, see `COLUMNS`; "" says that there is none.
        task: of rows that no column says it of.
        boxes: how texts write boxes as [x1, y1, x2, y2]: in fractions, thousandths or pixels of the image;
            none: brackets are text.
    """

    columns: dict[str, str] = Field(default={})
    task: Literal["calculation", "report", "severity", "findings", "rec", "reg", "vqa"] = "vqa"
    boxes: Unit | Literal["none"] = "none"


IMAGES: dict[str, Any] = {
    "image_id": pl.String, "patient_id": pl.String, "split": pl.String, "view": pl.String, "image": pl.String,
    "file": pl.String, "row": pl.Int64,
}  # fmt: skip
ENTRIES: dict[str, Any] = {
    "image_id": pl.String, "task": pl.String, "prompt": pl.String, "target": pl.String,
    "boxes": pl.List(pl.List(pl.Float64)), "provenance": pl.String, "file": pl.String, "row": pl.Int64,
}  # fmt: skip


class _Shown(NamedTuple):
    """An image of a row: its id, its file (or where it is packed), and what tells it from others."""

    image_id: str
    file: str
    mark: str


class Talks:
    """Collects images and entries row by row.

    Attributes:
        images, entries: rows of IMAGES and ENTRIES.
        files: image id -> its file.
        no_patients: whether no row said a patient.
    """

    def __init__(self, data: Dataset, options: TalkOptions) -> None:
        self._data, self._options = data, options
        self._names = ImageNames(data.files)
        self._codec = Brackets(options.boxes) if options.boxes != "none" else None
        self._marks: dict[str, str] = {}
        self._rows: Counter[str] = Counter()  # "" for those that are kept
        self._exchanges: Counter[str] = Counter()
        self._systems = self._later = 0
        self.images: list[tuple[Any, ...]] = []
        self.entries: list[tuple[Any, ...]] = []
        self.files: dict[str, str] = {}
        self.no_patients = True

    def read(self, table: str, rows: Iterable[NumberedRow]) -> None:
        """Takes all rows of a table."""
        for number, row in rows:
            try:
                self._take(row, table, number)
            except ValueError as error:
                self._rows[str(error)] += 1
                self._data.funnel.rejected.append(Rejection(table, number, str(error)))

    def close(self) -> None:
        """Accounts for rows and exchanges, and notes what was done."""
        for step, what, counted in (
            ("rows with a conversation about one image", "rows", self._rows),
            ("questions with an answer", "exchanges", self._exchanges),
        ):
            self._data.funnel.tally(step, what, counted.pop("", 0), counted)
        notes = self._data.notes
        if self._later:
            notes.append(
                f"{self._later} questions come after the first of their conversation, and stand as questions "
                "of their own: one that speaks of an earlier answer is not understood alone."
            )
        if self._systems:
            notes.append(f"System messages of {self._systems} rows were left out.")
        if self._codec is None:
            notes.append("Boxes in texts stay text: option boxes says how they are written.")

    def _take(self, row: Any, table: str, number: int) -> None:
        if not isinstance(row, Mapping):
            raise ValueError("is no object")
        found = talk(self._of(row, "messages"))
        shown = self._shown(row, found, table, number)
        tasks = self._tasks(row, len(found.exchanges))
        known = self._marks.setdefault(shown.image_id, shown.mark)
        if known != shown.mark:
            raise ValueError(f"image_id {shown.image_id!r} stands for another image in an earlier row")
        for why in found.faults:
            self._drop(why, table, number)
        for place, ((question, answer), task) in enumerate(zip(found.exchanges, tasks, strict=True)):
            try:
                entry = self._entry(row, place, question, answer, task, shown)
            except ValueError as error:
                self._drop(str(error), table, number)
                continue
            self._exchanges[""] += 1
            boxes = [list(box.xyxy) for box in entry.boxes]
            self.entries.append(
                (
                    shown.image_id,
                    task,
                    entry.prompt,
                    entry.target,
                    boxes,
                    f"messages/{task}/{task}",
                    table,
                    number,
                )
            )
        self._rows[""] += 1
        self._systems += found.system
        self._later += max(0, len(found.exchanges) - 1)
        self.files.setdefault(shown.image_id, shown.file)
        self.images.append(self._image(row, shown, table, number))

    def _drop(self, why: str, table: str, number: int) -> None:
        self._exchanges[why] += 1
        self._data.funnel.rejected.append(Rejection(table, number, why))

    def _of(self, row: Mapping[str, Any], meaning: str) -> Any:
        """What a row says under a meaning, None for nothing."""
        said = self._options.columns.get(meaning)
        names = COLUMNS[meaning] if said is None else (said,)
        return next((row[name] for name in names if row.get(name) is not None), None)

    def _column(self, row: Mapping[str, Any], meaning: str) -> str:
        said = self._options.columns.get(meaning)
        names = COLUMNS[meaning] if said is None else (said,)
        return next(name for name in names if row.get(name) is not None)

    def _shown(self, row: Mapping[str, Any], found: Talk, table: str, number: int) -> _Shown:
        """The one image of a row. Raises ValueError when there is none, or another number."""
        given = self._of(row, "images")
        pictures = found.shown if given is None else given if isinstance(given, list) else [given]
        if len(pictures) != 1 or found.marks > 1:
            several = f"shows {max(len(pictures), found.marks)} images: one is supported"
            raise ValueError(several if pictures else "shows no image")
        picture = pictures[0]
        content = picture.get("bytes") if isinstance(picture, Mapping) else picture
        if isinstance(content, bytes):
            if given is None:
                raise ValueError("its image stands in the text as bytes: a column of images was expected")
            mark = hashlib.sha256(content).hexdigest()
            file = packed_name(table, self._column(row, "images"), number - 1)
            return _Shown(self._id(row) or f"image-{mark[:20]}", file, mark)
        path = picture.get("path") if isinstance(picture, Mapping) else picture
        if not isinstance(path, str):
            raise ValueError("its image is neither a path nor bytes")
        if path.startswith(("http://", "https://", "data:")):
            raise ValueError(f"its image is an address ({path[:40]}): nothing is fetched")
        folder = table.rpartition("/")[0]
        file = self._names.find(path, folder)
        return _Shown(self._id(row) or self._names.first(file, path), file, file)

    def _id(self, row: Mapping[str, Any]) -> str:
        value = self._of(row, "image_id")
        return "" if value is None else str(value).strip()

    def _tasks(self, row: Mapping[str, Any], number: int) -> list[str]:
        said = self._of(row, "task")
        tasks = said if isinstance(said, list) else [self._options.task if said is None else said] * number
        if len(tasks) != number:
            raise ValueError(f"{len(tasks)} tasks for {number} questions")
        for task in tasks:
            if task not in TASKS:
                raise unknown("task", str(task), TASKS)
        return tasks

    def _entry(
        self, row: Mapping[str, Any], place: int, question: str, answer: str, task: str, shown: _Shown
    ) -> Entry:
        """Raises ValueError when the task cannot read the answer."""
        if not question or not answer:
            raise ValueError("a question or its answer is empty")
        if BOX_SLOT in question + answer:
            raise ValueError(f"a text holds {BOX_SLOT}, which stands for a box here")
        boxes: tuple[Box, ...] = ()
        if self._codec is not None:
            width, height = self._size(shown) if self._codec.unit == "pixels" else (0, 0)
            question, asked = self._codec.read(question, width, height)
            answer, told = self._codec.read(answer, width, height)
            boxes = _sharper((*asked, *told), self._of(row, "boxes"), place)
        entry = Entry("", shown.image_id, task, question, answer, boxes)
        try:
            check_entry(entry)
        except ValueError as error:
            hint = "; set option boxes" if task == "rec" and self._codec is None else ""
            raise ValueError(f"{error}{hint}") from None
        return entry

    def _size(self, shown: _Shown) -> tuple[int, int]:
        """Width and height of an image. Raises ValueError when it cannot be read."""
        with at_hand(self._data.files.root, shown.file, None) as file:
            return size(file)

    def _image(self, row: Mapping[str, Any], shown: _Shown, table: str, number: int) -> tuple[Any, ...]:
        patient = self._of(row, "patient_id")
        self.no_patients = self.no_patients and patient is None
        split, view = self._of(row, "split"), self._of(row, "view")
        return (
            shown.image_id,
            shown.image_id if patient is None else str(patient),
            split_of_path(table) if split is None else split_word(str(split)),
            "unknown" if view is None else view_word(str(view)),
            shown.file,
            table,
            number,
        )


def _sharper(read: tuple[Box, ...], exact: Any, place: int) -> tuple[Box, ...]:
    """Boxes as a column has them, where they agree with those of the text to its rounding."""
    try:
        boxes = tuple(Box(*map(float, box)) for box in exact[place])
    except (TypeError, ValueError, IndexError, KeyError):
        return read
    pairs = [(a, b) for x, y in zip(boxes, read, strict=False) for a, b in zip(x.xyxy, y.xyxy, strict=True)]
    return boxes if len(boxes) == len(read) and all(abs(a - b) < 2e-3 for a, b in pairs) else read
