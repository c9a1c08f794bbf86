"""What scoring needs of a run folder: `run.yaml` and where the files lie."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.schema import read_keys
from data_recipes.tables import write_text


@dataclass(frozen=True)
class Run:
    """A trained run. `mixture` is the folder it was trained on."""

    folder: Path
    recipe: str
    model: str
    mixture: Path
    mixture_hash: str

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.jsonl"

    @property
    def scores(self) -> Path:
        return self.folder / "scores.json"


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: it is not a run folder, or `run.yaml` is broken or lacks a key.
    """
    path = folder / "run.yaml"
    if not path.is_file():
        raise UserError(f"{folder} is not a run folder: it has no run.yaml. Train one with `imax train`")
    settings = read_keys(path, "run.yaml")
    try:
        values = {key: str(settings[key]) for key in ("recipe", "model", "mixture", "mixture_hash")}
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing") from None
    return Run(folder, values["recipe"], values["model"], Path(values["mixture"]), values["mixture_hash"])


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, whole or not at all. Numbers must be finite."""
    write_text(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n", path)


def finite(value: Any) -> Any:
    """The same with null for what is not a number."""
    match value:
        case Mapping():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UserError: the file is missing or broken.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't read: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path}: broken JSON") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a JSON object")
    return content
