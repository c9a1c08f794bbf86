"""The content of people's files: unpacked within limits, as text, and JSON item by item."""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.tables import decoded, has_escapes, mended

_LARGEST = 4 * 2**30  # bytes that a packed file may grow to
_HARMLESS, _GROWTH = 2**28, 200  # one of more bytes than that may be so many times as large as packed
_PIECE = 2**22  # characters of a JSON file that are decoded at a time
_LONGEST_ITEM = 2**26  # characters of one item of a JSON list
_BLANK = re.compile(r"[ \t\r\n]*")


def lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, such as a list of images. Raises as `read`."""
    return [line.strip() for line in text_of(path).splitlines() if line.strip()]


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends on .gz or .zip.

    Raises:
        UserError: it is missing, truncated, or not what its name says.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as packed:
                limit = _limit(path.stat().st_size)
                return _limited(packed.read(limit + 1), limit, path)
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return archive.read(_member(archive, path))
        return path.read_bytes()
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise broken(path, error) from None


def text_of(path: Path) -> str:
    """The text of a file, unpacked; see `tables.decoded`. Raises as `content`."""
    return decoded(content(path))


def is_utf8(path: Path) -> bool:
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
        raise broken(path, error) from None
    return True


def items(path: Path) -> Iterator[Any]:
    """The items of a JSON list, decoded one by one, so that a large file is never in memory as a whole.

    Raises:
        UserError: the file is missing, truncated or no JSON, or holds no list.
    """
    pieces, decoder = _pieces(path), json.JSONDecoder()
    text, place = "", 0

    def more() -> bool:
        nonlocal text, place
        piece = next(pieces, "")
        text, place = text[place:] + piece, 0
        return bool(piece)

    def mark() -> str:
        """The next character that is not white space, "" at the end; `place` is there then."""
        nonlocal place
        while True:
            place = _BLANK.match(text, place).end()  # type: ignore[union-attr]
            if place < len(text):
                return text[place]
            if not more():
                return ""

    if (first := mark()) != "[":
        raise UserError(f"{path} holds no list of objects") if first else broken(path, ValueError("empty"))
    place += 1
    going = mark() != "]"
    while going:
        mark()
        try:
            item, end = decoder.raw_decode(text, place)
            if has_escapes(text, place, end):
                item = mended(item)
        except (ValueError, RecursionError) as error:
            # It may go on in the next piece.
            if len(text) - place < _LONGEST_ITEM and more():
                continue
            raise broken(path, error) from None
        if end == len(text) and more():
            continue
        place = end
        yield item
        if going := mark() == ",":
            place += 1
        elif mark() != "]":
            raise broken(path, ValueError("an item is followed by neither comma nor bracket"))
    place += 1
    if mark():
        raise broken(path, ValueError("something follows the list"))


def _pieces(path: Path) -> Iterator[str]:
    """The text of a file, piece by piece where it is not packed and in UTF-8."""
    if path.suffix in (".gz", ".zip") or not is_utf8(path):
        yield text_of(path)
        return
    with path.open(encoding="utf-8-sig", newline="") as file:
        while piece := file.read(_PIECE):
            yield piece


def json_lines(path: Path) -> list[Any]:
    """The items of a JSON lines file, None for a line that is no JSON. Raises UserError where none is."""
    items = [_json_item(line) for line in text_of(path).split("\n") if line.strip()]
    if not any(isinstance(item, dict) for item in items):
        raise UserError(f"{path} holds no line that is an object")
    return items


def _json_item(line: str) -> Any:
    try:
        item = json.loads(line)
        return mended(item) if has_escapes(line) else item
    except (ValueError, RecursionError):
        return None


def _limit(packed: int) -> int:
    """Bytes that so many packed ones may grow to: tables shrink to a tenth, bombs to a thousandth."""
    return min(_LARGEST, max(_HARMLESS, packed * _GROWTH))


def _limited(data: bytes, limit: int, path: Path) -> bytes:
    if len(data) > limit:
        raise _bomb(path, limit)
    return data


def _bomb(path: Path, limit: int) -> UserError:
    return UserError(f"{path} grows beyond {limit / 2**20:.0f} MiB, as no table does: unpack it first")


def _member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one table in an archive, within limits."""
    found = only_member(archive, path)
    limit = _limit(found.compress_size)
    if found.file_size > limit:
        raise _bomb(path, limit)
    return found


def only_member(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    """The one table in an archive, of whatever size. Raises UserError when there is none, or several."""
    wanted = path.name.removesuffix(".zip")
    members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    named = [member for member in members if Path(member.filename).name == wanted]
    found = named or members
    if len(found) != 1:
        raise UserError(f"{path} holds {len(members)} files, none or several of them named {wanted}")
    return found[0]


def broken(path: Path, error: Exception) -> UserError:
    """The error for a file that cannot be read to its end."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is missing")
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path} is truncated, empty, or not what its name says ({reason}): get it again")
