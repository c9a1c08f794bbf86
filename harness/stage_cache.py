"""`--stage_cache`: finished stages and annotated mixtures, kept under a digest of all that determines them,
so that runs which share their first stages train them once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError
from data_recipes.store import META, read_meta
from data_recipes.tables import write_text
from harness.runs import RunFolder, is_free

# What is kept of a stage. provenance.json goes last: it says that the rest is there.
_CONTENTS = ("adapter", "train.jsonl", "dynamics", "run.yaml", "provenance.json")
_LIBRARIES = ("imax-harness", "torch", "transformers", "peft", "accelerate")


def key(kind: str, facts: Mapping[str, Any]) -> str:
    """A name for what these facts determine, with the versions of what computes it; settings that do not
    touch the numbers are left out."""
    told = {name: value for name, value in facts.items() if not is_free(name)}
    content = {
        "kind": kind,
        "facts": told,
        "versions": {n: importlib.metadata.version(n) for n in _LIBRARIES},
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return f"{kind}-{digest[:24]}"


class StageCache:
    """The folder, or none: then nothing is found and nothing kept. One process uses it."""

    def __init__(self, folder: str | None) -> None:
        """
        Raises:
            UserError: the folder is a file, or something else lies in its way.
        """
        self._folder = Path(folder) if folder else None
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(f"--stage_cache {folder}: {error.strerror or error}") from None

    def take_run(self, name: str, run: RunFolder, settings: Mapping[str, Any]) -> bool:
        """Makes `run` the finished run of that name, with these settings in its run.yaml; False where it is
        not kept, or where `run` has begun to train by itself."""
        kept = RunFolder(self._folder / name) if self._folder else None
        if kept is None or not kept.finished() or run.checkpoints.exists():
            return False
        run.path.mkdir(parents=True, exist_ok=True)
        for part in (path for path in (kept.path / n for n in _CONTENTS[:-2]) if path.exists()):
            _place(part, run.path / part.name)
        text = yaml.safe_dump({**kept.settings(), **settings}, sort_keys=False, allow_unicode=True)
        write_text(text, run.settings_file)
        facts = {**kept.provenance(), "from_cache": name}
        write_text(json.dumps(facts, indent=1) + "\n", run.provenance_file)
        return True

    def keep_run(self, name: str, run: RunFolder) -> None:
        """Keeps a finished run."""
        self._keep(name, [path for path in (run.path / part for part in _CONTENTS) if path.exists()])

    def take_mixture(self, name: str, target: Path) -> float | None:
        """Puts the mixture of that name at `target`, image files linked where possible; returns how many
        seconds it took to make, None where it is not kept."""
        kept = self._folder / name if self._folder else None
        if kept is None or not (kept / "mixture" / META).exists():
            return None
        read_meta(kept / "mixture")
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(kept / "mixture", target)
        return float((kept / "seconds").read_text())

    def keep_mixture(self, name: str, source: Path, seconds: float) -> None:
        """Keeps a mixture that took so many seconds to make."""
        self._keep(name, [source], {"seconds": str(seconds)})

    def _keep(self, name: str, parts: list[Path], texts: Mapping[str, str] | None = None) -> None:
        if self._folder is None or (self._folder / name).exists():
            return
        partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=self._folder))
        try:
            for part in parts:
                _place(part, partial / part.name)
            for file, text in (texts or {}).items():
                write_text(text, partial / file)
            partial.chmod(0o755)  # mkdtemp makes it private
            partial.replace(self._folder / name)
        except OSError:
            if not (self._folder / name).exists():  # otherwise another run was faster, with the same content
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _place(source: Path, target: Path) -> None:
    """A copy of a file or folder, whole or not there; image files are linked."""
    partial = target.with_name(f".{target.name}.partial")
    for old in (partial, target):  # of a run killed right here
        shutil.rmtree(old, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, partial, copy_function=_link_images)
    else:
        shutil.copyfile(source, partial)
    partial.replace(target)


def _link_images(source: str, target: str) -> None:
    # Only image files never change; a line appended to a linked log would be in both.
    if Path(source).parent.name == "images":
        try:
            os.link(source, target)
            return
        except OSError:  # another file system
            pass
    shutil.copyfile(source, target)
