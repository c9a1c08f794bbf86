"""The folders of MIMIC: files/p10/p10000032/s50414267/<dicom>.jpg and, for reports, .../s50414267.txt.

The path of an image is made from its ids, so that no one walks through 377,110 files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

_TEN = re.compile(r"p1\d")
_DEPTH, _WIDEST = 4, 100  # folders below the root, and beside each other, that are looked into


def near(root: Path) -> Iterator[tuple[Path, list[str]]]:
    """Folders near the root with the names of the folders in them, nearest first; not the many folders of
    patients or studies. Links to folders are not followed."""
    level = [root]
    for _ in range(_DEPTH + 1):
        below: list[Path] = []
        for folder in level:
            inner = sorted(_folders(folder))
            yield folder, inner
            if len(inner) < _WIDEST:
                below += [folder / name for name in inner if not _TEN.fullmatch(name)]
        level = below


def trees(root: Path) -> list[Path]:
    """The folders near the root that hold p10 to p19, nearest first."""
    return [folder for folder, inner in near(root) if any(map(_TEN.fullmatch, inner))]


def patients(root: Path) -> Iterator[Path]:
    """The folders of all patients, 65,379 in the whole dataset."""
    for tree in trees(root):
        for ten in sorted(filter(_TEN.fullmatch, _folders(tree))):
            for name in sorted(_folders(tree / ten)):
                yield tree / ten / name


def state(root: Path) -> str:
    """Changes when a study comes or goes (not when a file changes within its study)."""
    total = hashlib.sha256()
    for folder in patients(root):
        total.update(f"{folder.name} {folder.stat().st_mtime_ns}\n".encode())
    return total.hexdigest()


def image_paths(root: Path, images: pl.DataFrame) -> pl.Expr | None:
    """Path of each image relative to the root; None where no tree of images is there.

    Args:
        images: image_id, study_id, subject_id.
    """
    for tree in trees(root):
        for subject, study in images.select("subject_id", "study_id").head(1000).iter_rows():
            if (tree / f"p{subject[:2]}" / f"p{subject}" / f"s{study}").is_dir():
                below = tree.relative_to(root).as_posix()
                return _path("" if below == "." else f"{below}/", pl.lit("/"), "image_id", pl.lit(".jpg"))
    return None


def report_path(below: str = "") -> pl.Expr:
    """Path of the report of each study, in a tree below that folder."""
    return _path(below, pl.lit(".txt"))


def _path(below: str, *end: str | pl.Expr) -> pl.Expr:
    subject = pl.col("subject_id")
    return pl.concat_str(
        pl.lit(f"{below}p"), subject.str.head(2), pl.lit("/p"), subject, pl.lit("/s"), "study_id", *end
    )


def _folders(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
