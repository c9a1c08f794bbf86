"""Tables of rows on disk, JSON Lines and Parquet, read as they stand: what a row means is judged
elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import UserError

_HALF = re.compile("[\ud800-\udfff]")
_LONGEST_LINE = 2**24  # characters of a JSON line; no entry has more, and parsing takes many times the space

# A row as it was found: its number from 1, and what stands there (which may be no mapping at all).
NumberedRow = tuple[int, Any]


def read_rows(path: Path) -> list[NumberedRow]:
    """The rows of a `.parquet` or `.jsonl` file, numbered from 1; a line that is no JSON, or
    absurdly long, comes as text.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        if path.suffix == ".parquet":
            return list(enumerate(pq.read_table(path).to_pylist(), start=1))
        lines = decoded(path.read_bytes()).split("\n")
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is truncated, or not what its name says ({reason})") from None
    return [(number, _parsed(line)) for number, line in enumerate(lines, start=1) if line.strip()]


def decoded(data: bytes) -> str:
    """Text in UTF-8, with or without a byte order mark, or in UTF-16 with one; lines that are not UTF-8 are
    read as Windows-1252 (the usual second encoding in one file)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "".join(_line(line) for line in data.splitlines(keepends=True)).removeprefix("\ufeff")


def _line(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")


def mended(value: Any) -> Any:
    """A value as JSON gives it, with half characters (`\\ud800` alone), which no file can hold, replaced."""
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [mended(item) for item in value]
    if isinstance(value, dict):
        return {mended(key): mended(item) for key, item in value.items()}
    return value


def has_escapes(text: str, start: int = 0, end: int | None = None) -> bool:
    """Whether `mended` may have something to do in this part of a JSON text. Quick."""
    return text.find("\\ud", start, end) >= 0 or text.find("\\uD", start, end) >= 0


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
    if len(line) > _LONGEST_LINE:
        return f"{line[:20]}... ({len(line)} characters)"
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line
