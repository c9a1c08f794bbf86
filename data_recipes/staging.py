"""Folders that appear at once and whole: what is killed half way leaves nothing under the final name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_recipes.errors import UserError


@contextmanager
def staged(out: Path, option: str) -> Iterator[Path]:
    """An empty folder that is renamed to `out` when the block ends without an error.

    Args:
        option: the command-line option that names `out`, for the message.

    Raises:
        UserError: `out` is there already and is not an empty folder.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already: remove it, or name another folder with {option}")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    if out.exists():
        out.rmdir()
    part.rename(out)
