"""Tables too large for memory, piece by piece: run-length codes of a dataset's masks take gigabytes."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv

from data_recipes import contents, scan
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel
from data_recipes.reject import Rejection

_BLOCK = 8 * 2**20  # bytes of a piece; a row must fit into one


def read(
    path: Path, columns: scan.Columns, funnel: Funnel, *, optional: scan.Columns | None = None
) -> Iterator[pl.DataFrame]:
    """As `scan.read`, in pieces of some megabytes; the file is plain or ends on .gz, and is in UTF-8.

    Rows with too few or too many fields are rejected. Quoted values may run over several lines.

    Raises:
        UserError: the file is missing, truncated, empty or no CSV, or lacks a column.
    """
    faults: dict[int, str] = {}
    try:
        with _open(path) as file:
            names = next(csv.reader([file.readline().decode("utf-8-sig")]), [])
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
                yield frame.select(*chosen).with_columns(*where)
            came = kept + len(faults)
    except (OSError, EOFError, zlib.error, pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise contents.broken(path, error) from None
    if not came:
        raise UserError(f"{path} holds no rows: get it again")
    funnel.rejected += [Rejection(path.name, number, why) for number, why in sorted(faults.items())]
    funnel.count(f"read {path.name}", "rows", came, kept, "broken")


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


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
                include_columns=wanted, column_types=dict.fromkeys(names, pa.string())
            ),
        )
    )
