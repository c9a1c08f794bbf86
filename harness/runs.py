"""A run on disk: its paths, its settings, and whether it is new, half way or finished.

runs/<name>/run.yaml  provenance.json  adapter/  checkpoints/  train.jsonl  (later: scores, report)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError
from data_recipes.schema import read_keys
from data_recipes.tables import write_text

# Everything a run may leave in its folder; `--overwrite` deletes these and nothing else.
_CONTENTS = (
    "run.yaml", "provenance.json", "adapter", "adapter.partial", "checkpoints", "train.jsonl", "stages",
    "dynamics", "predictions.jsonl", "predictions.meta.json", "predictions.old.jsonl", "blind.jsonl",
    "blind.meta.json", "scores.json", "report.html",
)  # fmt: skip

# Settings that may change between a kill and the command that goes on: they do not touch the numbers.
_FREE = frozenset({
    "recipe", "mixture", "mix", "start", "output_dir", "image_cache", "report_to", "run_name",
    "resume_from_checkpoint", "use_cpu", "skip_memory_metrics", "remove_unused_columns", "ddp_timeout",
})  # fmt: skip
_FREE_PREFIXES = (
    "save_", "log", "eval_", "per_device_eval", "hub_", "push_to_hub",
    "dataloader_num", "dataloader_pin", "dataloader_prefetch", "dataloader_persistent",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run; nothing is read until asked for."""

    path: Path

    @property
    def settings_file(self) -> Path:
        return self.path / "run.yaml"

    @property
    def provenance_file(self) -> Path:
        return self.path / "provenance.json"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def log_file(self) -> Path:
        return self.path / "train.jsonl"

    def settings(self) -> dict[str, Any]:
        """The content of run.yaml.

        Raises:
            UserError: there is no run here, or its run.yaml is no YAML.
        """
        if not self.settings_file.exists():
            raise UserError(f"{self.path} is not a run folder: it has no run.yaml")
        return read_keys(self.settings_file, "run.yaml")

    def provenance(self) -> dict[str, Any]:
        """The content of provenance.json; empty when there is none (a run killed before its first step)."""
        try:
            content = json.loads(self.provenance_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def finished(self) -> bool:
        return bool(self.provenance().get("finished")) and self.adapter.is_dir()

    def log(self) -> list[dict[str, Any]]:
        """The lines of train.jsonl, oldest first; a torn last line (killed while writing) is left out."""
        if not self.log_file.exists():
            return []
        lines = []
        for line in self.log_file.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def claim(self, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        """Makes this folder the home of the run with these settings, new or going on.

        Raises:
            UserError: the folder holds something else: no run, or a run with other settings.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"--output_dir {self.path} is a file, not a folder")
        if self.settings_file.exists():
            difference = None if overwrite else first_difference(self.settings(), settings)
            if overwrite or (difference and not self._begun()):
                self._clear()
            elif difference:
                key, there, here = difference
                raise UserError(
                    f"{self.path} holds a run with other settings: {key} is {there!r} there, {here!r} here. "
                    "Choose another --output_dir, or start anew with --overwrite"
                )
        elif self.path.is_dir() and any(not _before_a_run(path.name) for path in self.path.iterdir()):
            raise UserError(
                f"--output_dir {self.path} is not empty and holds no run (no run.yaml): choose another folder"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.settings_file.exists():
            text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
            write_text(text, self.settings_file)

    def _begun(self) -> bool:
        """Whether anything came of the run; a mistake that ends it before its first step leaves settings
        only."""
        stages = (self.path / "stages").glob("*/")
        own = (name for name in _CONTENTS if name not in ("run.yaml", "stages"))
        return any((self.path / n).exists() for n in own) or any(RunFolder(s)._begun() for s in stages)

    def cut_log(self, step: int) -> None:
        """Drops the lines of train.jsonl after `step`; a run that goes on from there writes them anew."""
        if self.log_file.exists():
            kept = [json.dumps(line) for line in self.log() if line["step"] <= step]
            write_text("".join(line + "\n" for line in kept), self.log_file)

    def _clear(self) -> None:
        # run.yaml goes last: a kill in the middle leaves a folder that --overwrite still accepts.
        for name in reversed(_CONTENTS):
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _before_a_run(name: str) -> bool:
    """Whether something of this name may lie in a folder where a run begins: hidden files, and the mixture
    that annotation made for a stage."""
    return name.startswith((".", "mixture"))


def first_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """(key, old value, new value) of the first setting that matters and differs. In a list of mappings, such
    as `stages`, the key is like `stages.2.steps`."""
    for key in _ordered(old, new):
        there, here = old.get(key), new.get(key)
        if is_free(key) or there == here:
            continue
        if isinstance(there, list) and isinstance(here, list) and len(there) == len(here):
            pairs = enumerate(zip(there, here, strict=True), start=1)
            number, (one, other) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                inner = next(name for name in _ordered(one, other) if one.get(name) != other.get(name))
                return f"{key}.{number}.{inner}", one.get(inner), other.get(inner)
        return key, there, here
    return None


def is_free(key: str) -> bool:
    """Whether a setting may differ between runs that give the same numbers."""
    return key in _FREE or key.startswith(_FREE_PREFIXES)


def _ordered(*mappings: Mapping[str, Any]) -> Iterable[str]:
    return dict.fromkeys(key for mapping in mappings for key in mapping)


def refuse_taken(folder: Path) -> None:
    """Lets only a new or empty folder be written to.

    Raises:
        UserError: something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already: give a new folder")
