"""Checkpoints that are whole or do not count.

The Trainer writes a checkpoint file by file, and takes any folder named checkpoint-<step> for one. Here a
checkpoint is sealed by a list of its files and their sizes, written last; a folder without a seal, or whose
files differ from it (torn by a kill, a full disk, half deleted), is passed over.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from data_recipes.tables import write_text

SEAL = "whole.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def seal(checkpoint: Path) -> None:
    """Declares a checkpoint whole. Call when every process has written its files."""
    write_text(json.dumps(_sizes(checkpoint), indent=1), checkpoint / SEAL)


def is_whole(checkpoint: Path) -> bool:
    try:
        sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(sealed == _sizes(checkpoint))


def step_of(checkpoint: Path) -> int:
    """The step in the folder's name, -1 when it is not a checkpoint's."""
    match = _NAME.fullmatch(checkpoint.name)
    return int(match.group(1)) if match else -1


def last_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint in `folder`, or None."""
    found = [path for path in folder.glob("checkpoint-*") if step_of(path) >= 0]
    return next((path for path in sorted(found, key=step_of, reverse=True) if is_whole(path)), None)


def discard_torn(folder: Path) -> int:
    """Deletes the checkpoints in `folder` that are not whole; returns how many."""
    torn = [path for path in folder.glob("checkpoint-*") if step_of(path) >= 0 and not is_whole(path)]
    for path in torn:
        shutil.rmtree(path)
    return len(torn)


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and SEAL not in path.name)
    return {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files}
