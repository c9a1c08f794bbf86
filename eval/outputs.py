"""The file of outputs while it grows: a part a process, line by line, joined at the end in the order of the
test set. What is written survives a kill, whole lines only, whatever number of processes goes on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from data_recipes.errors import UserError
from data_recipes.tables import write_text
from eval.predictions import drop_half_line, read_own
from eval.runs import read_json, write_json
from eval.team import Team

Row = Mapping[str, Any]


class Outputs:
    """Outputs on their way into `path`, which stays as it was until all are there. A context; inside, rows
    can be added.

    Args:
        path: where the lines of all processes end up.
        fingerprint: what else the outputs depend on, such as the hash of the weights. Outputs with another
            fingerprint are of no use: they are set aside as `<name>.old.jsonl`.
        order: the entry_ids asked for, in the order of the test set.

    Attributes:
        done: the entry_ids answered before.

    Raises:
        UserError: other processes are writing there, or what was written is broken.
    """

    def __init__(self, path: Path, fingerprint: str, order: Iterable[str], team: Team) -> None:
        self._path, self._team = path, team
        self._place = {entry_id: place for place, entry_id in enumerate(order)}
        if team.leads:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_suffix(".lock").open("w")
            if not _lock(self._lock):
                raise UserError(f"other processes are writing {path}: let them end, or end them")
            self._gather(fingerprint)
        team.wait()
        self.done = frozenset(_read(path, self._part(0)))
        team.wait()  # from here on parts grow

    def __enter__(self) -> Outputs:
        self._file = self._part(self._team.rank).open("a", encoding="utf-8")
        return self

    def add(self, row: Row) -> None:
        """Writes a line; once this returns, killing the process does not lose it."""
        self._file.write(_line(row))
        self._file.flush()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._file.close()
        if kind is None:
            self._team.wait()
            if self._team.leads:
                self._join()
            self._team.wait()
        if self._team.leads:
            self._lock.close()

    def _gather(self, fingerprint: str) -> None:
        """What processes that were killed left, as the leader's part."""
        mark = self._path.with_suffix(".meta.json")
        parts = self._parts()
        if not mark.exists() or read_json(mark).get("fingerprint") != fingerprint:
            if old := _read(self._path, *parts):
                write_text("".join(map(_line, old.values())), self._path.with_suffix(".old.jsonl"))
            for path in (self._path, *parts):
                path.unlink(missing_ok=True)
            write_json(mark, {"fingerprint": fingerprint})
        elif parts:
            write_text("".join(map(_line, _read(*parts).values())), self._part(0))
            for path in parts:
                if path != self._part(0):
                    path.unlink()

    def _join(self) -> None:
        """All lines into the one file, in the order of the test set; entries that were asked for at another
        time come last, by id."""
        parts = self._parts()
        rows, last = _read(self._path, *parts), len(self._place)
        ids = sorted(rows, key=lambda entry_id: (self._place.get(entry_id, last), entry_id))
        write_text("".join(_line(rows[entry_id]) for entry_id in ids), self._path)
        for path in (*parts, self._path.with_suffix(".lock")):
            path.unlink()

    def _part(self, rank: int) -> Path:
        return self._path.with_suffix(f".part-{rank}.jsonl")

    def _parts(self) -> list[Path]:
        return sorted(self._path.parent.glob(f"{self._path.stem}.part-*.jsonl"))


def _read(*paths: Path) -> dict[str, Row]:
    """The whole lines of the files that are there, by entry_id."""
    rows: dict[str, Row] = {}
    for path in filter(Path.exists, paths):
        drop_half_line(path)
        rows |= read_own(path)
    return rows


def _lock(file: IO[str]) -> bool:
    """Locks an open file until it is closed or its process gone; False if another one has done so. A launcher
    that is killed may leave its processes at work. Where the file system knows no locks, nothing is
    locked."""
    if os.name == "posix":
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            pass
    return True


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"
