"""What an atlas is made of: an analysis, and the embeddings and pool of the first run it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from taco_probe.taco.analysis import distances, paths
from taco_probe.taco.analysis.analyze import FILE
from taco_probe.taco.analysis.runs import Run
from taco_probe.taco.embeddings import Embeddings
from taco_probe.taco.pool import Pool
from taco_probe.taco.settings import read_settings
from taco_probe.taco.training import SETTINGS

TRANSFER = "transfer.json"


class Material(NamedTuple):
    """What an atlas is made of. Without embeddings or pool, `why` says so, in words for a reader."""

    found: Mapping[str, Any]
    test: Embeddings | None = None
    pool: Pool | None = None
    why: str = ""


def read(folder: Path, *, quiet: bool = True) -> Material:
    """The analysis in a folder, with embeddings and pool of the first run that it names, where they are still
    there. A run's folder without analysis.json is measured alone: distances and trajectories.

    Raises:
        UserError: neither an analysis nor a run is there, or one that cannot be read.
    """
    if not (folder / FILE).exists() and (folder / SETTINGS).exists():
        return _alone(_run(folder), quiet=quiet)
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {FILE}: `imax taco analyze RUN...` makes one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise UserError(f"{folder / FILE} is no analysis: it holds no keys")
    found = _with_transfer(folder, found)
    runs = found.get("runs") or {}
    named = (runs.get("variants", {}).get(runs.get("main")) or {}).get("folders") or []
    # As `imax taco analyze` was told, or where the folder was moved together with its runs.
    places = [place for name in named for place in (Path(name), folder / name) if place.is_dir()]
    if not places:
        return Material(found, why="the runs that were analysed are not there any more")
    try:
        run = _run(places[0])
        return Material(found, run.embedded("test", quiet=quiet), run.pool("test"))
    except UserError as error:
        return Material(found, why=str(error))


def _with_transfer(folder: Path, found: dict[str, Any]) -> dict[str, Any]:
    """The transfer study is made apart, and may lie beside the analysis as a file of its own."""
    if found.get("transfer") or not (folder / TRANSFER).is_file():
        return found
    try:
        return found | {"transfer": json.loads((folder / TRANSFER).read_text(encoding="utf-8"))}
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / TRANSFER} cannot be read: {' '.join(str(error).split())}") from None


def _run(folder: Path) -> Run:
    return Run(folder, read_settings(folder / SETTINGS))


def _alone(run: Run, *, quiet: bool) -> Material:
    """One run's own map."""
    test = run.embedded("test", quiet=quiet)
    found = distances.measured([test])
    if len(run.pool("paths")):
        found |= paths.measured([run.embedded("paths", quiet=quiet)], [test])
    return Material(found, test, run.pool("test"))
