"""Source `messages`: conversations about images as Hugging Face datasets and training tools keep them.

A folder that `datasets` saved, Parquet, JSON Lines or JSON; rows with `messages` (role, content) or LLaVA's
`conversations` (from, value). Each question with its answer becomes an entry. Images are files below the
root, or bytes in the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from data_recipes import contents, packed
from data_recipes.dataset import Dataset, most_held_out
from data_recipes.errors import UserError, unknown
from data_recipes.files import Files, unlinked
from data_recipes.harvest import FileOptions, Harvest
from data_recipes.own import LICENCE, listed, open_folder, same_patient, with_patients
from data_recipes.tables import mended, read_rows
from data_recipes.talks import COLUMNS, ENTRIES, IMAGES, TalkOptions, Talks

__all__ = ["FILES", "LICENCE", "NAME", "OPTIONS", "VERSION", "fingerprint", "harvest"]

NAME = "messages"
VERSION = "1"
FILES = ()  # of any name
_SUFFIXES = (".parquet", ".arrow", ".jsonl", ".json")
OPTIONS = TalkOptions


def fingerprint(options: FileOptions) -> str:
    assert isinstance(options, TalkOptions)
    data = open_folder(NAME, options, 0)
    return data.files.fingerprint_of(_tables(data, options), images=options.placing != "skip")


def recognises(files: Files) -> bool:
    """Whether the folder looks like one of this source."""
    return bool(_sorted_out(files, set(COLUMNS["messages"]))[0])


def harvest(options: TalkOptions, seed: int) -> Harvest:
    data = open_folder(NAME, options, seed)
    reader = Talks(data, options)
    for path in _tables(data, options):
        reader.read(path.relative_to(data.files.root).as_posix(), _rows(path))
    reader.close()
    images = pl.DataFrame(reader.images, schema=IMAGES, orient="row")
    images = same_patient(data, with_patients(data, images, options) if reader.no_patients else images)
    if options.splits == "drawn":
        images = images.with_columns(split=pl.lit(""))
    images = images.with_columns(split=most_held_out("image_id"))
    first = images.unique("image_id", keep="first", maintain_order=True)
    data.funnel.count("images", "rows", images.height, first.height, "a further row of its image")
    kept = data.images(first.drop("image"))
    entries = pl.DataFrame(reader.entries, schema=ENTRIES, orient="row")
    data.writer.ready(data.about(entries, kept, "exchanges"))
    return data.harvest(kept, pl.col("image_id").replace_strict(reader.files, default=pl.col("image_id")))


def _tables(data: Dataset, options: TalkOptions) -> list[Path]:
    """The tables with a column of conversations. Raises UserError when there are none."""
    for meaning in options.columns:
        if meaning not in COLUMNS:
            raise unknown("meaning of a column", meaning, COLUMNS)
    there = data.files.of_kind(_SUFFIXES)
    names = {options.columns["messages"]} if "messages" in options.columns else set(COLUMNS["messages"])
    found, faults = _sorted_out(data.files, names)
    if not found:
        seen = f" (it has {listed(path.name for path in there)})" if there else ""
        raise UserError(
            f"{data.files.root} holds no table with a column {' or '.join(sorted(names))}{seen}: Parquet, a "
            f"folder that datasets saved, JSON Lines or JSON" + "".join(f"; {why}" for why in faults[:1])
        )
    data.notes += [f"Passed over: {why.replace(f'{data.files.root}/', '')}." for why in faults]
    return found


def _sorted_out(files: Files, names: set[str]) -> tuple[list[Path], list[str]]:
    """The tables with a column of one of these names, and what is wrong with JSON files that are none."""
    found, faults = [], []
    for path in files.of_kind(_SUFFIXES):
        try:
            if names & set(_columns(path, files.root)):
                found.append(path)
        except _NoJsonError as error:
            faults.append(str(error))
    return found, faults


class _NoJsonError(UserError):
    """A file that is no JSON, and perhaps none of ours."""


def _columns(path: Path, root: Path) -> list[str]:
    if path.suffix in packed.TABLES:
        return packed.columns(path) if _is_current(path, root) else []
    first = (row for _, row in islice(_rows(path), 20) if isinstance(row, Mapping))
    return [name for row in first for name in row]


def _is_current(path: Path, root: Path) -> bool:
    """Whether an Arrow file is a part of its dataset, rather than one that `datasets` cached beside it.

    Raises:
        UserError: what says so is a link that leaves the root.
    """
    state = path.parent / "state.json"
    if path.suffix != ".arrow" or not state.is_file():
        return True
    try:
        parts = json.loads(unlinked(state, root).read_text(encoding="utf-8"))["_data_files"]
        return path.name in [part["filename"] for part in parts]
    except (ValueError, KeyError, TypeError):
        return True


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a table, numbered from 1. Raises UserError when it cannot be read."""
    if path.suffix in packed.TABLES:
        yield from enumerate(packed.rows(path), start=1)
    elif path.suffix == ".jsonl":
        yield from ((number, mended(row)) for number, row in read_rows(path))
    else:
        data = contents.content(path)
        try:
            content = mended(json.loads(data))
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())[:80]
            raise _NoJsonError(f"{path} is truncated, or no JSON ({reason})") from None
        yield from enumerate(content if isinstance(content, list) else [], start=1)
