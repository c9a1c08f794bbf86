"""Locks on files that end with their processes: a dead one, killed in whatever way, holds none.

A lock (flock(2)) belongs to the open file, so a child that inherits the file keeps it when its parent dies.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
