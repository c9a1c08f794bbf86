"""Tables of rows on disk, JSON Lines and Parquet, read as they stand: what a row means is judged
elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import UserError

# A row as it was found: its number from 1, and what stands there (which may be no mapping at all).
NumberedRow = tuple[int, Any]


def read_rows(path: Path) -> list[NumberedRow]:
    """The rows of a `.parquet` or `.jsonl` file, numbered from 1; a line that is no JSON comes as its text.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        if path.suffix == ".parquet":
            return list(enumerate(pq.read_table(path).to_pylist(), start=1))
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is truncated, or not what its name says ({reason})") from None
    return [(number, _parsed(line)) for number, line in enumerate(lines, start=1) if line.strip()]


def write_parquet(table: pa.Table, path: Path) -> None:
    """Writes a Parquet file at once: a kill leaves the old one or the new one."""
    _at_once(path, lambda temporary: pq.write_table(table, temporary))


def write_text(content: str, path: Path) -> None:
    """Writes a text file at once."""
    _at_once(path, lambda temporary: temporary.write_text(content, encoding="utf-8"))


def _at_once(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    temporary.replace(path)


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line
