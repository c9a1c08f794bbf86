"""Where a run comes from: versions, machine, hashes, command line, seeds, times. Kept in provenance.json."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data_recipes.tables import write_text
from harness.runs import RunFolder

_ROOT = Path(__file__).resolve().parents[1]


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def packages() -> dict[str, str]:
    """Installed distributions and their versions, by name."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions() if d.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def commit() -> str | None:
    """The git commit of this checkout, with `+changes` when the working tree differs; None outside of one."""
    if not (_ROOT / ".git").exists():
        return None
    try:
        head = _git("rev-parse", "HEAD")
        status = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+changes" if status.strip() else "")


def _git(*command: str) -> str:
    done = subprocess.run(
        ["git", *command], cwd=_ROOT, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout


def hash_weights(folder: str) -> str | None:
    """sha256 over the safetensors files of a checkpoint folder, in order of name; None for a hub id."""
    files = sorted(Path(folder).glob("*.safetensors")) if Path(folder).is_dir() else []
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def machine(device: torch.device) -> dict[str, Any]:
    """The hardware and how much of it is used."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


class Diary:
    """Keeps provenance.json: facts at the start, time spent at every checkpoint, the end.

    A run that was killed has several sessions; each says from which step it started, how far it came (its
    last checkpoint) and how long that took.
    """

    def __init__(
        self,
        run: RunFolder,
        facts: Mapping[str, Any],
        *,
        argv: Sequence[str],
        step: int,
        begin: bool = True,
        program: str = "harness/train.py",
    ) -> None:
        """
        Args:
            argv: the command line.
            step: that this session starts from.
            begin: write at once, rather than with the first note.
            program: that the command line is of.
        """
        old = run.provenance()
        self._run = run
        self._start = time.monotonic()
        self._session: dict[str, Any] = {
            "started": now(),
            "from_step": step,
            "to_step": step,
            "wall_seconds": 0.0,
        }
        self._content = {
            "command": [program, *argv],
            "commit": commit(),
            "python": platform.python_version(),
            **facts,
            "started": old.get("started") or self._session["started"],
            "finished": None,
            "wall_seconds": 0.0,
            "sessions": [*old.get("sessions", []), self._session],
            "packages": packages(),
        }
        if begin:
            self.note(step)

    def add(self, **facts: Any) -> None:
        """Takes facts up, to be written at the next note."""
        self._content |= facts

    def note(self, step: int, *, finished: bool = False, seconds: float | None = None) -> None:
        """Records that training has come to `step`, or that the run is finished; `seconds` is how long all of
        it took, by default the sum over sessions."""
        self._session |= {"to_step": step, "wall_seconds": round(time.monotonic() - self._start, 1)}
        total = sum(s["wall_seconds"] for s in self._content["sessions"]) if seconds is None else seconds
        self._content["wall_seconds"] = round(total, 1)
        if finished:
            self._content["finished"] = now()
        write_text(json.dumps(self._content, indent=1) + "\n", self._run.provenance_file)
