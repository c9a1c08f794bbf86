"""The files of a dataset: found by name below the user's folder, or in an installed package that carries
them. Nothing outside that folder is ever read."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from data_recipes.errors import UserError

PACKAGE = "torchxrayvision"  # carries the annotation files of several datasets under `data/`
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".tif", ".tiff", ".bmp", ".img")
_PACKED = ("", ".gz", ".zip")
_DEPTH = 3  # folders below the root in which tables are looked for; images may lie deeper
_WIDEST = 1000  # folders beside each other; more are those of patients or studies, which hold no tables
_HEAD = 4096  # bytes in which a header is looked for
_HASHED = 64 * 2**20  # bytes; larger tables are known by size and time of change


class Needed(NamedTuple):
    """A file that a source reads: the names it may have (as they are, or with .gz or .zip added), and what
    it adds to the mixture. Where a name is a common one (`train.csv`), `header` is a word that the right file
    has near its start."""

    key: str
    names: tuple[str, ...]
    adds: str
    required: bool = True
    header: str = ""


class Files:
    """The files below one folder. `package` names the package that carries them, "" for a user's folder."""

    def __init__(self, root: Path, package: str = "") -> None:
        self.root = root.resolve()
        self.package = package

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        """File name -> files of that name near the root, by path."""
        found: dict[str, list[Path]] = {}
        for folder, names in _walk(self.root, _DEPTH, _WIDEST):
            for name in names:
                found.setdefault(name, []).append(folder / name)
        return found

    def find(self, needed: Needed) -> Path | None:
        """The file, or None.

        Raises:
            UserError: it is a link that leaves the folder.
        """
        for name in (name + suffix for name in needed.names for suffix in _PACKED):
            for path in self._by_name.get(name, ()):
                unlinked(path, self.root)
                if not needed.header or needed.header in _head(path):
                    return path
        return None

    def path(self, needed: Needed) -> Path:
        """The file.

        Raises:
            UserError: it is not there, or is a link that leaves the folder.
        """
        if path := self.find(needed):
            return path
        column = f" with a column {needed.header}" if needed.header else ""
        raise UserError(
            f"{self.root} holds no {' or '.join(needed.names)}{column} (nor with .gz or .zip), which has the "
            f"{needed.adds}: `imax doctor --data {self.root}` lists what is there"
        )

    def of_kind(self, suffixes: tuple[str, ...]) -> list[Path]:
        """Files near the root whose names end so, by path.

        Raises:
            UserError: one is a link that leaves the folder.
        """
        every = sorted(path for paths in self._by_name.values() for path in paths)
        found = [path for path in every if path.name.lower().endswith(suffixes)]
        for path in found:
            if not path.resolve().is_relative_to(self.root):
                raise UserError(f"{path} is a link out of {self.root}: put the file itself there")
        return found

    @cached_property
    def image_files(self) -> list[str]:
        """Paths of all image files relative to the root, at any depth."""
        return self.every(IMAGE_SUFFIXES)

    def every(self, suffixes: tuple[str, ...]) -> list[str]:
        """Paths of all files with these suffixes (in lower case) relative to the root, at any depth, nearest
        first; links to folders are not followed. A file may be a link that leaves the root: whoever opens it
        asks `pixels.inside` first."""
        found: list[str] = []
        for folder, names in _walk(self.root):
            below = folder.relative_to(self.root).as_posix()
            for name in names:
                if name.lower().endswith(suffixes):
                    found.append(name if below == "." else f"{below}/{name}")
        return found

    def find_images(self, names: Iterable[str]) -> dict[str, str]:
        """Name -> path relative to the root, for the names that lie there. A name is that of a file, with or
        without its suffix, or with the folder it lies in. Where it is there twice, the first by path."""
        wanted = set(names)
        found: dict[str, str] = {}
        for path in self.image_files:
            folder, _, name = path.rpartition("/")
            for key in (name, name.rpartition(".")[0], f"{folder.rpartition('/')[2]}/{name}"):
                if key in wanted:
                    found.setdefault(key, path)
        return found

    def fingerprint(self, needed: Sequence[Needed], *, images: bool, others: Iterable[str] = ()) -> str:
        """Changes with the content of the tables and of `others`, paths below the root, and, with `images`,
        when an image file comes or goes (not when one is overwritten in place: looking at each of several
        100,000 files would take minutes)."""
        found = [path for item in needed if (path := self.find(item))]
        return self.fingerprint_of([*found, *(self.root / name for name in others)], images=images)

    def fingerprint_of(self, tables: Iterable[Path], *, images: bool) -> str:
        """As `fingerprint`, of tables by their paths; nothing is read of one that is a link out of the
        root."""
        total = hashlib.sha256()
        for path in tables:
            state = _state(path) if path.resolve().is_relative_to(self.root) else ""
            total.update(f"{path.relative_to(self.root)} {state}\n".encode())
        if images:
            total.update("\n".join(self.image_files).encode())
        return total.hexdigest()


def unlinked(path: Path, root: Path) -> Path:
    """The path.

    Raises:
        UserError: it is a link that leaves the root.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise UserError(f"{path} is a link out of {root}: put the file itself there")
    return path


def package_version() -> str:
    """Version of the package that carries annotation files, "" where it is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return ""


def locate(root: str | None, source: str, needed: Sequence[Needed]) -> Files:
    """The user's folder, or without one the installed package where that has all the source requires.

    Raises:
        UserError: no such folder; or no folder was given and no package has the files.
    """
    if root is not None:
        if not Path(root).is_dir():
            raise UserError(f"{root} is no folder")
        return Files(Path(root))
    names = ", ".join(item.names[0] for item in needed if item.required)
    # Found without being imported: importing it would import torch.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            f"source {source} needs --root FOLDER, the folder with {names}; or, for annotations without "
            f"images, pip install 'imax-harness[data]'"
        )
    files = Files(Path(next(iter(spec.submodule_search_locations))) / "data", PACKAGE)
    if all(files.find(item) for item in needed if item.required):
        return files
    raise UserError(f"source {source} needs --root FOLDER, the folder with {names}: no package carries them")


def _walk(root: Path, depth: int = 64, widest: float = math.inf) -> Iterator[tuple[Path, list[str]]]:
    """Folders below the root, nearest first and by name, with the names of their files; not those of which
    more than `widest` lie in one folder."""
    level = [root]
    for _ in range(depth + 1):
        below: list[Path] = []
        for folder in level:
            names, inner = [], []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(folder / entry.name)
                    elif entry.is_file():  # a pipe or a device would be waited for
                        names.append(entry.name)
            below += inner if len(inner) <= widest else []
            yield folder, sorted(names)
        level = sorted(below)
        if not level:
            return


def _head(path: Path) -> str:
    """The start of a file, as far as it can be read."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
                return member.read(_HEAD).decode(errors="replace")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(_HEAD).decode(errors="replace")
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, IndexError, NotImplementedError, RuntimeError):
        return ""


def _state(path: Path) -> str:
    found = path.stat()
    if found.st_size > _HASHED:
        return f"{found.st_size} {found.st_mtime_ns}"
    return hashlib.sha256(path.read_bytes()).hexdigest()
