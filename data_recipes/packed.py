"""Images that lie inside tables (Parquet, Arrow) as bytes: named by where they lie, taken out when needed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_recipes.errors import UserError
from data_recipes.pixels import inside

TABLES = (".parquet", ".arrow")
_MARK = "::"
_KINDS = (
    (b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"BM", ".bmp"),
)  # fmt: skip


def packed_name(table: str, column: str, row: int) -> str:
    """What the image in this column and row (from 0) of a table is called; sorted by name is sorted by
    place."""
    return _MARK.join((table, column, f"{row:09d}"))


def is_packed(name: str) -> bool:
    parts = name.split(_MARK)
    return len(parts) == 3 and parts[0].endswith(TABLES) and parts[2].isdecimal()


@contextmanager
def at_hand(root: Path, name: str, folder: Path | None) -> Iterator[Path]:
    """The image of that name as a file: itself, or taken out of its table for a while, into `folder` (None:
    where the system keeps such files).

    Raises:
        ValueError: it leads out of the root, or is not there.
    """
    if not is_packed(name):
        yield inside(root, name)
        return
    table, column, row = name.split(_MARK)
    content = _bytes_of(_cell(inside(root, table), column, int(row)))
    if content is None:
        raise ValueError(f"row {int(row) + 1} of {table} holds no image")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        file = Path(place) / f"image-of-row-{int(row) + 1}{_suffix(content)}"
        file.write_bytes(content)
        yield file


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file, a few at a time.

    Raises:
        UserError: the file is truncated or not what its name says.
    """
    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
                yield from batch.to_pylist()
        else:
            for batch in _arrow(path).to_batches(max_chunksize=64):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is truncated, or not what its name says ({reason})") from None


def columns(path: Path) -> list[str]:
    """Names of the columns of a Parquet or Arrow file. Raises as `rows`."""
    try:
        return list((pq.read_schema(path) if path.suffix == ".parquet" else _arrow(path).schema).names)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is truncated, or not what its name says ({reason})") from None


@lru_cache(maxsize=2)
def _arrow(path: Path) -> pa.Table:
    """An Arrow file, which is not read but mapped into memory."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        return pa.ipc.open_file(source).read_all()


def _cell(path: Path, column: str, row: int) -> Any:
    if path.suffix == ".arrow":
        return _arrow(path).column(column)[row].as_py()
    starts = _starts(path)
    group = max(n for n, start in enumerate(starts) if start <= row)
    return _group(path, group, column)[row - starts[group]].as_py()


@lru_cache(maxsize=8)
def _starts(path: Path) -> list[int]:
    """The first row of each row group."""
    meta = pq.read_metadata(path)
    starts = [0]
    for number in range(meta.num_row_groups - 1):
        starts.append(starts[-1] + meta.row_group(number).num_rows)
    return starts


@lru_cache(maxsize=2)
def _group(path: Path, group: int, column: str) -> pa.ChunkedArray:
    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(column)


def _bytes_of(cell: Any) -> bytes | None:
    """The bytes of an image: alone, in a structure, or the only item of a list of either."""
    if isinstance(cell, list):
        cell = cell[0] if len(cell) == 1 else None
    if isinstance(cell, dict):
        cell = cell.get("bytes")
    return cell if isinstance(cell, bytes) else None


def _suffix(content: bytes) -> str:
    if content[128:132] == b"DICM":
        return ".dcm"
    return next((suffix for start, suffix in _KINDS if content.startswith(start)), ".png")
