"""Locks on files that end with their processes: a dead one, killed in whatever way, holds none.

A lock (flock(2)) belongs to the open file, so a child that inherits the file keeps it when its parent dies.
Launchers close the files that they inherit: below them training takes a lock of its own, which the
environment names.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_recipes.errors import UserError

VARIABLE = "IMAX_TRAIN_LOCK"  # names the file whose lock `keep` takes
_PATIENCE = 2.0  # seconds: someone who only looks (`held`) has the lock for an instant


@contextmanager
def lock(path: Path) -> Iterator[int | None]:
    """Holds the lock inside, and gives its file descriptor to hand to children; None where another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield file if _taken(file) else None
    finally:
        os.close(file)


def keep() -> None:
    """Takes the lock that the environment names, if any, for the life of this process. Of several processes
    of one training the first one does, which alone writes to the run's folder.

    Raises:
        UserError: another process has it.
    """
    named = os.environ.get(VARIABLE)
    if not named or os.environ.get("RANK", "0") != "0":
        return
    path = Path(named)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not _taken(os.open(path, os.O_RDWR | os.O_CREAT, 0o644)):
        raise UserError(f"another process is training this run ({path} is locked)")


def held(path: Path) -> bool:
    """Whether someone holds the lock."""
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _taken(file: int) -> bool:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        else:
            return True
