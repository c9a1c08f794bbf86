"""Tables too large for memory, piece by piece: run-length codes of a dataset's masks take gigabytes."""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv
from polars.exceptions import ComputeError

from data_recipes import contents, scan
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel
from data_recipes.reject import Rejection
from data_recipes.tables import decoded

_UNREADABLE = (
    OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError, pa.ArrowInvalid,
)  # fmt: skip
_BLOCK = 8 * 2**20  # bytes of a piece; a row must fit into one


def read(
    path: Path, columns: scan.Columns, funnel: Funnel, *, optional: scan.Columns | None = None
) -> Iterator[pl.DataFrame]:
    """As `scan.read`, in pieces of some megabytes, whatever the file grows to when unpacked.

    Rows with too few or too many fields are rejected. Quoted values may run over several lines.

    Raises:
        UserError: the file is missing, truncated, empty or no CSV, or lacks a column.
    """
    faults: dict[int, str] = {}
    damaged: dict[int, str] = {}
    try:
        with _open(path) as file:
            names = next(csv.reader([decoded(file.readline())]), [])
            chosen = list(scan.choose(path, names, columns, optional or {}))
            wanted = sorted({root for column in chosen for root in column.meta.root_names()})
            first, came, kept = 1, 0, 0
            for batch in _reader(file, names, wanted, faults):
                # Of all numbers from `first` on, those that no broken row has.
                numbers = np.setdiff1d(np.arange(first, first + batch.num_rows + len(faults)), list(faults))
                numbers = numbers[: batch.num_rows]
                first, kept = int(numbers[-1]) + 1 if len(numbers) else first, kept + batch.num_rows
                frame = cast(pl.DataFrame, pl.from_arrow(batch))
                where = (pl.lit(path.name).alias("file"), pl.Series("row", numbers, pl.Int64))
                rows = _texts(frame).select(*chosen).with_columns(*where)
                nul = pl.any_horizontal(pl.col(pl.String).str.contains("\0", literal=True).fill_null(False))
                whole = rows.filter(~nul)
                if whole.height < rows.height:
                    damaged |= dict.fromkeys(rows.filter(nul)["row"], "holds a NUL byte")
                yield whole
            came, kept = kept + len(faults), kept - len(damaged)
    except _UNREADABLE as error:
        raise contents.broken(path, error) from None
    if not came:
        raise UserError(f"{path} holds no rows: get it again")
    rejected = sorted((faults | damaged).items())
    funnel.rejected += [Rejection(path.name, number, why) for number, why in rejected]
    funnel.count(f"read {path.name}", "rows", came, kept, "broken")


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(contents.only_member(archive, path)) as member:
            yield member
        return
    with cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
        yield file


def _texts(frame: pl.DataFrame) -> pl.DataFrame:
    """Columns of bytes as text; what is not UTF-8 is read as Windows-1252, value by value."""
    return frame.with_columns(map(_text, frame))


def _text(values: pl.Series) -> pl.Series:
    try:
        return values.cast(pl.String)
    except ComputeError:
        texts = [None if value is None else decoded(value) for value in values]
        return pl.Series(values.name, texts, pl.String)


def _reader(file: IO[bytes], names: list[str], wanted: list[str], faults: dict[int, str]) -> Iterator[Any]:
    def skip(row: Any) -> str:
        faults[len(faults) + 1 if row.number is None else row.number] = (
            f"has {row.actual_columns} fields, the header has {row.expected_columns}"
        )
        return "skip"

    return iter(
        pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=names),
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pa.csv.ConvertOptions(
                include_columns=wanted, column_types=dict.fromkeys(names, pa.binary())
            ),
        )
    )
