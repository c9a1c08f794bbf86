"""Tables of people's datasets as columns: every value is read as text, and cast with a reason where it does
not fit. A broken row is rejected; the good ones all survive."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import NoDataError, PolarsError

from data_recipes.contents import broken, is_utf8, items, json_lines, text_of
from data_recipes.errors import UserError
from data_recipes.funnel import Funnel

# Name in our frames -> the names it may have in the file.
Columns = Mapping[str, str | tuple[str, ...]]

_LONGEST = 1000  # lines that one quoted value may run over


def names(path: Path, separator: str = ",") -> list[str]:
    """The names in the header of a CSV file, without blanks around them. Raises as `read`."""
    try:
        return [name.strip() for name in _lazy(path, separator).collect_schema().names()]
    except (NoDataError, PolarsError) as error:
        raise broken(path, error) from None


def read(
    path: Path,
    columns: Columns,
    funnel: Funnel,
    *,
    optional: Columns | None = None,
    separator: str = ",",
) -> pl.DataFrame:
    """The named columns of a CSV file as text (empty: null), with `file` and `row` (from 1, after the
    header).

    Column names are compared without blanks around them. An optional column that is missing is all null.
    Bytes that are not UTF-8 are read as Windows-1252, line by line.

    Raises:
        UserError: the file is missing, truncated, empty or no CSV, or lacks a column.
    """
    try:
        rows = _selected(path, _lazy(path, separator), columns, optional or {})
    except NoDataError as error:
        raise broken(path, error) from None
    except PolarsError:
        lazy, faults = _row_by_row(path, separator)
        rows = _selected(path, lazy, columns, optional or {})
        why = pl.col("row").replace_strict(faults, default=None, return_dtype=pl.String)
        rows = funnel.keep_unless(f"parse {path.name}", "rows", rows, why, reject=True)
    rows = _without_nul(rows, path, funnel)
    blank = pl.all_horizontal(pl.col(name).is_null() for name in (*columns, *(optional or {})))
    return funnel.keep(f"read {path.name}", "rows", rows, {"blank": blank})


def read_json(
    path: Path,
    columns: Columns,
    funnel: Funnel,
    *,
    optional: Columns | None = None,
    empty_list: str = "",
    lines: bool = False,
) -> pl.DataFrame:
    """As `read`, of a JSON file that holds a list of objects, or with `lines` one a line; a value that is a
    list stands for its parts, joined by ", ", an empty one for `empty_list`. What is no object is rejected.

    The objects are read one by one, and only what is asked for is kept of each.
    """
    every = {**columns, **(optional or {})}
    wanted = {name for theirs in every.values() for name in _accepted(theirs)}
    values: dict[str, list[str | None]] = {name: [] for name in wanted}
    there: dict[str, None] = {}
    odd: list[int] = []
    for number, item in enumerate(json_lines(path) if lines else items(path), start=1):
        if not isinstance(item, dict):
            odd.append(number)
            item = {}
        if not there.keys() >= item.keys():
            there.update(dict.fromkeys(item))
        for name, column in values.items():
            column.append(_as_text(item.get(name), empty_list))
    if not there:
        return pl.DataFrame(schema={**dict.fromkeys((*every, "file"), pl.String), "row": pl.Int64})
    frame = pl.LazyFrame(values, schema=dict.fromkeys(values, pl.String))
    rows = _select(path, frame, choose(path, list(there), columns, optional or {})).collect()
    rows = _without_nul(rows, path, funnel)
    nameless = pl.col("row").is_in(odd)
    return funnel.keep(f"read {path.name}", "rows", rows, {"is no object": nameless}, reject=True)


def numbers(
    frame: pl.DataFrame, names: Sequence[str], funnel: Funnel, step: str, *, rows: str = "rows"
) -> pl.DataFrame:
    """`frame` with these text columns as numbers; empty stays null. A row with anything else is rejected."""
    cast = frame.with_columns(
        pl.col(name).str.strip_chars().cast(pl.Float64, strict=False).alias(f"__{name}") for name in names
    )
    drops = {
        f"{name} is no number": pl.col(name).is_not_null() & ~pl.col(f"__{name}").is_finite().fill_null(False)
        for name in names
    }
    kept = funnel.keep(step, rows, cast, drops, reject=True)
    return kept.with_columns(pl.col(f"__{name}").alias(name) for name in names).drop(
        f"__{name}" for name in names
    )


def _without_nul(rows: pl.DataFrame, path: Path, funnel: Funnel) -> pl.DataFrame:
    """Rejects rows with NUL bytes: the marks of a damaged file, which no text of people's has."""
    texts = [name for name, kind in rows.schema.items() if kind == pl.String]
    nul = pl.any_horizontal(pl.col(name).str.contains("\0", literal=True).fill_null(False) for name in texts)
    if not rows.select(nul.any()).item():
        return rows
    return funnel.keep(f"text of {path.name}", "rows", rows, {"holds a NUL byte": nul}, reject=True)


def _as_text(value: Any, empty_list: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return (", ".join(map(str, value)) or empty_list) if isinstance(value, list) else str(value)


def _lazy(path: Path, separator: str = ",") -> pl.LazyFrame:
    """All columns as text. Of an unpacked table in UTF-8, only what is asked for is read from the disk."""
    if path.suffix not in (".gz", ".zip") and is_utf8(path):
        # A folder may be called "[new]".
        return pl.scan_csv(path, infer_schema=False, glob=False, separator=separator)
    return pl.scan_csv(io.BytesIO(text_of(path).encode()), infer_schema=False, separator=separator)


def _selected(path: Path, frame: pl.LazyFrame, columns: Columns, optional: Columns) -> pl.DataFrame:
    return _select(path, frame, choose(path, frame.collect_schema().names(), columns, optional)).collect()


def _select(path: Path, frame: pl.LazyFrame, chosen: Iterable[pl.Expr]) -> pl.LazyFrame:
    numbered = frame.with_row_index("__row", offset=1)
    return numbered.select(
        *chosen, pl.lit(path.name).alias("file"), pl.col("__row").cast(pl.Int64).alias("row")
    )


def _row_by_row(path: Path, separator: str) -> tuple[pl.LazyFrame, dict[int, str]]:
    """The slow way, for a table with broken rows: all rows, and what is wrong with which."""
    records = _records(text_of(path).splitlines(), separator)
    header = next(records, None) or []
    names = [name if name and name not in header[:i] else f"{name}_{i}" for i, name in enumerate(header)]
    faults: dict[int, str] = {}
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for number, row in enumerate(records, start=1):
        if row is None:
            faults[number] = "has a quote that is never closed, or a value of absurd length"
        elif len(row) > len(names):
            faults[number] = "has more fields than the header"
        for name, value in zip_longest(names, (row or [])[: len(names)]):
            columns[name].append(value or None)
    return pl.LazyFrame(columns, schema=dict.fromkeys(names, pl.String)), faults


def _records(lines: Sequence[str], separator: str) -> Iterator[list[str] | None]:
    """The fields of each record, None for a line with a quote that no later line closes."""
    place = 0
    while place < len(lines):
        end, quotes = place + 1, lines[place].count('"')
        while quotes % 2 and end < min(len(lines), place + _LONGEST):
            quotes += lines[end].count('"')
            end += 1
        if quotes % 2:
            yield None
            place += 1
            continue
        try:
            yield next(csv.reader(["\n".join(lines[place:end])], delimiter=separator), [])
        except csv.Error:  # a field of more characters than the reader takes
            yield None
        place = end


def _accepted(theirs: str | tuple[str, ...]) -> tuple[str, ...]:
    return (theirs,) if isinstance(theirs, str) else theirs


def choose(path: Path, names: Sequence[str], columns: Columns, optional: Columns) -> Iterator[pl.Expr]:
    """The columns of a table with these column names under our names, empty values as null.

    Raises:
        UserError: it lacks one of `columns`.
    """
    there: dict[str, str] = {}
    for name in names:
        there.setdefault(name.strip(), name)
    for ours, theirs in {**columns, **optional}.items():
        accepted = _accepted(theirs)
        found = next((there[name] for name in accepted if name in there), None)
        if found is None and ours in columns:
            lower = {name.lower(): name for name in there}
            close = difflib.get_close_matches(accepted[0].lower(), lower, n=1, cutoff=0.5)
            guess = f"did you mean {lower[close[0]]!r}? " if close else ""
            shown = [name for name in there if name and not name.startswith("_duplicated")]
            raise UserError(
                f"{path} has no column {' or '.join(map(repr, accepted))}: {guess}It has: {', '.join(shown)}"
            )
        value = pl.col(found) if found is not None else pl.lit(None, pl.String)
        yield pl.when(value != "").then(value).alias(ours)
