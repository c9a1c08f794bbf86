"""`predictions.jsonl`: written by us line by line, read back after a kill, or read from elsewhere and not
trusted.

A line holds `entry_id, image_id, patient_id, task, output, parsed, target`; one from elsewhere needs only
`entry_id` and `output`. Outputs and targets are in the notation of boxes that the codec of the run's model
writes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from data_recipes.errors import UserError
from data_recipes.notation import CanonicalBoxes as CanonicalBoxes
from data_recipes.records import BOX_SLOT, Box, Entry, Image, fill_slots
from data_recipes.tasks import task
from eval.answers import Answer, from_json, to_json, truth_of

T = TypeVar("T")
MAX_OUTPUT = 20_000  # characters; the rest of a longer output is not looked at


class BoxNotation(Protocol):
    """The part of a model's box codec that scoring needs."""

    def write(self, box: Box, width: int, height: int) -> str: ...

    def read(self, text: str, width: int, height: int) -> tuple[str, tuple[Box, ...]]: ...


def parse(entry: Entry, image: Image, output: str, codec: BoxNotation) -> Any | None:
    """The answer in an output, or None."""
    # A slot that the model wrote itself is no box.
    text, boxes = codec.read(output[:MAX_OUTPUT].replace(BOX_SLOT, " "), image.width, image.height)
    return task(entry.task).parse(text, boxes)


def prediction(entry: Entry, image: Image, output: str, codec: BoxNotation) -> dict[str, Any]:
    """A line of `predictions.jsonl`."""
    boxes = [codec.write(box, image.width, image.height) for box in entry.target_boxes]
    return {
        "entry_id": entry.entry_id,
        "image_id": image.image_id,
        "patient_id": image.patient_id,
        "task": entry.task,
        "output": output,
        "parsed": to_json(parse(entry, image, output, codec)),
        "target": fill_slots(entry.target, boxes),
    }


@dataclass
class Problems:
    """What was wrong with a predictions file: counts by kind, and the first places of each."""

    counts: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        self.counts[kind] += 1
        places = self.places.setdefault(kind, [])
        if len(places) < 3:
            places.append(place)

    def lines(self) -> list[str]:
        """A line for each kind of problem."""
        return [
            f"{n} x {kind} ({'; '.join(self.places[kind])}{' ...' * (n > 3)})"
            for kind, n in self.counts.items()
        ]


def read_outputs(path: Path, known: Collection[str]) -> tuple[dict[str, str], Problems]:
    """entry_id -> output of a predictions file from anywhere, and what was wrong with it. Nothing wrong in
    one line costs another: the rest is read. Of lines with the same id the first counts.

    Raises:
        UserError: the file cannot be read, or none of its lines is about an entry of the test set.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't read predictions: {error.strerror or error}") from None
    outputs: dict[str, str] = {}
    problems = Problems()
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        found = _read_line(line, f"line {number}", problems)
        if found is None:
            continue
        entry_id, output = found
        if entry_id not in known:
            problems.add("unknown entry_id, left out", f"line {number}: {entry_id[:80]!r}")
        elif entry_id in outputs:
            problems.add("entry_id seen before, the first line counts", f"line {number}: {entry_id!r}")
        else:
            outputs[entry_id] = output
    if not outputs:
        why = "; ".join(problems.lines()) or "the file is empty"
        raise UserError(f"{path}: no line is about an entry of this test set: {why}")
    for entry_id in sorted(set(known) - outputs.keys()):
        problems.add("entry without a prediction, counts as wrong", entry_id)
    return outputs, problems


def _read_line(line: bytes, place: str, problems: Problems) -> tuple[str, str] | None:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = line.decode(errors="replace")
        problems.add("invalid UTF-8, replaced", place)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        problems.add("not JSON, left out", place)
        return None
    if not isinstance(row, dict) or not isinstance(row.get("entry_id"), str) or "output" not in row:
        problems.add("without entry_id and output, left out", place)
        return None
    entry_id, output = row["entry_id"], row["output"]
    if isinstance(output, int | float) and not isinstance(output, bool) and math.isfinite(output):
        output = str(output)
    if not isinstance(output, str):
        problems.add("output is not text, counts as wrong", f"{place}: {str(output)[:40]}")
        output = ""
    elif not output.strip():
        problems.add("empty output, counts as wrong", place)
    elif len(output) > MAX_OUTPUT:
        problems.add(f"output longer than {MAX_OUTPUT} characters, cut", place)
        output = output[:MAX_OUTPUT]
    # JSON can spell half of a surrogate pair, which no file can hold.
    return entry_id, output.encode(errors="replace").decode()


def answers_from_outputs(
    pairs: Iterable[tuple[Image, Entry]], outputs: Mapping[str, str], codec: BoxNotation
) -> list[Answer]:
    """An answer for each entry; entries without an output are answered by None."""
    return _answers(pairs, outputs, lambda image, entry, output: parse(entry, image, output, codec))


def read_own(path: Path) -> dict[str, dict[str, Any]]:
    """entry_id -> line of a `predictions.jsonl` that `prediction` wrote.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
        return {row["entry_id"]: row for row in rows}
    except OSError as error:
        raise UserError(f"{path}: can't read predictions: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: broken line; score the run again with `imax eval`") from None


def answers_from_rows(
    pairs: Iterable[tuple[Image, Entry]], rows: Mapping[str, Mapping[str, Any]]
) -> list[Answer]:
    """Answers from the `parsed` values of `read_own`, without any model's notation."""
    return _answers(pairs, rows, lambda image, entry, row: from_json(entry.task, row["parsed"]))


def _answers(
    pairs: Iterable[tuple[Image, Entry]],
    given: Mapping[str, T],
    value: Callable[[Image, Entry, T], Any | None],
) -> list[Answer]:
    """One answer an entry: the `value` of what was given for it, None where nothing was."""
    return [
        Answer(
            entry,
            image.patient_id,
            truth_of(entry),
            value(image, entry, given[entry.entry_id]) if entry.entry_id in given else None,
        )
        for image, entry in pairs
    ]


def drop_half_line(path: Path) -> None:
    """Cuts what a kill left after the last line end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
