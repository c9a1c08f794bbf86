"""Tables of people's datasets as columns: every value is read as text, and cast with a reason where it does
not fit. A broken row is rejected; the good ones all survive."""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import NoDataError, PolarsError

from data_recipes.errors import UserError
from data_recipes.funnel import Funnel

# Name in our frames -> the names it may have in the file.
Columns = Mapping[str, str | tuple[str, ...]]

_LONGEST = 1000  # lines that one quoted value may run over
_LARGEST = 4 * 2**30  # bytes that a packed table may grow to


def names(path: Path, separator: str = ",") -> list[str]:
    """The names in the header of a CSV file, without blanks around them. Raises as `read`."""
    try:
        return [name.strip() for name in _lazy(path, separator).collect_schema().names()]
    except (NoDataError, PolarsError) as error:
        raise _broken(path, error) from None


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
        rows = _select(path, _lazy(path, separator), columns, optional or {}).collect()
    except NoDataError as error:
        raise _broken(path, error) from None
    except PolarsError:
        lazy, faults = _row_by_row(path, separator)
        rows = _select(path, lazy, columns, optional or {}).collect()
        why = pl.col("row").replace_strict(faults, default=None, return_dtype=pl.String)
        rows = funnel.keep_unless(f"parse {path.name}", "rows", rows, why, reject=True)
    blank = pl.all_horizontal(pl.col(name).is_null() for name in (*columns, *(optional or {})))
    return funnel.keep(f"read {path.name}", "rows", rows, {"blank": blank})


def read_json(
    path: Path, columns: Columns, funnel: Funnel, *, optional: Columns | None = None
) -> pl.DataFrame:
    """As `read`, of a JSON file that holds a list of objects; a value that is a list stands for its parts,
    joined by ", ". What is no object is rejected."""
    try:
        items = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise _broken(path, error) from None
    if not isinstance(items, list):
        raise UserError(f"{path} holds no list of objects")
    objects = [item if isinstance(item, dict) else {} for item in items]
    names = list(dict.fromkeys(name for item in objects for name in item))
    frame = pl.LazyFrame(
        {name: [_as_text(item.get(name)) for item in objects] for name in names},
        schema=dict.fromkeys(names, pl.String),
    )
    if not names:
        return pl.DataFrame(
            schema={**dict.fromkeys((*columns, *(optional or {}), "file"), pl.String), "row": pl.Int64}
        )
    rows = _select(path, frame, columns, optional or {}).collect()
    nameless = pl.col("row").is_in([n for n, item in enumerate(items, start=1) if not isinstance(item, dict)])
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


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, such as a list of images. Raises as `read`."""
    return [line.strip() for line in _text(path).splitlines() if line.strip()]


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends on .gz or .zip.

    Raises:
        UserError: it is missing, truncated, or not what its name says.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                return _limited(packed.read(_LARGEST + 1), path)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return _limited(archive.read(_member(archive, path)), path)
        return path.read_bytes()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _broken(path, error) from None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _limited(data: bytes, path: Path) -> bytes:
    if len(data) > _LARGEST:
        raise UserError(f"{path} grows beyond {_LARGEST >> 30} GiB: unpack it first")
    return data


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one table in an archive."""
    wanted = path.name.removesuffix(".zip")
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    named = [member for member in members if Path(member.filename).name == wanted]
    found = named or members
    if len(found) != 1:
        raise UserError(f"{path} holds {len(members)} files, none or several of them named {wanted}")
    if found[0].file_size > _LARGEST:
        raise UserError(f"{path} grows beyond {_LARGEST >> 30} GiB: unpack it first")
    return found[0]


def _lazy(path: Path, separator: str = ",") -> pl.LazyFrame:
    """All columns as text. Of an unpacked table in UTF-8, only what is asked for is read from the disk."""
    if path.suffix not in (".gz", ".zip") and _is_utf8(path):
        # A folder may be called "[new]".
        return pl.scan_csv(path, infer_schema=False, glob=False, separator=separator)
    return pl.scan_csv(io.BytesIO(_text(path).encode()), infer_schema=False, separator=separator)


def _select(path: Path, frame: pl.LazyFrame, columns: Columns, optional: Columns) -> pl.LazyFrame:
    chosen = _choose(path, frame.collect_schema().names(), columns, optional)
    numbered = frame.with_row_index("__row", offset=1)
    return numbered.select(
        *chosen, pl.lit(path.name).alias("file"), pl.col("__row").cast(pl.Int64).alias("row")
    )


def _row_by_row(path: Path, separator: str) -> tuple[pl.LazyFrame, dict[int, str]]:
    """The slow way, for a table with broken rows: all rows, and what is wrong with which."""
    records = _records(_text(path).splitlines(), separator)
    header = next(records, None) or []
    names = [name if name and name not in header[:i] else f"{name}_{i}" for i, name in enumerate(header)]
    faults: dict[int, str] = {}
    columns: dict[str, list[str | None]] = {name: [] for name in names}
    for number, row in enumerate(records, start=1):
        if row is None:
            faults[number] = "has a quote that is never closed"
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
        yield next(csv.reader(["\n".join(lines[place:end])], delimiter=separator), [])
        place = end


def _choose(path: Path, names: Sequence[str], columns: Columns, optional: Columns) -> Iterable[pl.Expr]:
    there: dict[str, str] = {}
    for name in names:
        there.setdefault(name.strip(), name)
    for ours, theirs in {**columns, **optional}.items():
        accepted = (theirs,) if isinstance(theirs, str) else theirs
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


def _text(path: Path) -> str:
    return _decoded(content(path))


def _decoded(data: bytes) -> str:
    """Text in UTF-8; lines that are not are read as Windows-1252 (the usual second encoding in one file)."""
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


def _is_utf8(path: Path) -> bool:
    """Whether the whole file is UTF-8, read in pieces; a byte order mark of UTF-16 says no."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while piece := file.read(2**24):
                decoder.decode(piece)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    except OSError as error:
        raise _broken(path, error) from None
    return True


def _broken(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing")
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path} is truncated, empty, or not what its name says ({reason}): get it again")
