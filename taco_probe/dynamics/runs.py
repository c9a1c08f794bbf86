"""Runs with measured dynamics: read, checked for being comparable, put into groups of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.schema import read_keys
from eval.runs import read_run
from eval.seeds import DEFAULT_SEED, experiment
from taco_probe.dynamics.measurement import Measurement, equal_probes, series


@dataclass(frozen=True)
class Series:
    """A run and what was measured of it, by step."""

    name: str
    folder: Path
    recipe: str
    model: str
    seed: int
    settings: dict[str, Any] = field(repr=False)
    measured: dict[int, Measurement] = field(repr=False)


@dataclass(frozen=True)
class Group:
    """One experiment: runs that differ in nothing but the seed."""

    name: str
    runs: tuple[Series, ...]

    @property
    def seeds(self) -> list[int]:
        return [run.seed for run in self.runs]


def read(folders: Sequence[Path]) -> list[Series]:
    """The runs, all measured on the same probe set.

    Raises:
        UserError: a folder is no run or has no measurement, a run is named twice, or probe sets differ.
    """
    found = [_read(folder) for folder in folders]
    paths = [run.folder.resolve() for run in found]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UserError(f"{twice} is named twice")
    equal_probes(one for run in found for one in run.measured.values())
    for name in (_with_parent, _with_path):  # as short as tells them apart
        names = [run.name for run in found]
        found = [run if names.count(run.name) == 1 else replace(run, name=name(run)) for run in found]
    return found


def _read(folder: Path) -> Series:
    run = read_run(folder)
    settings = read_keys(folder / "run.yaml", "run.yaml")
    recipe = Path(run.recipe).stem
    measured = {one.step: one for one in series(folder)}
    return Series(run.name, folder, recipe, run.model, settings.get("seed", DEFAULT_SEED), settings, measured)


def _with_parent(run: Series) -> str:
    path = run.folder.resolve()
    return f"{path.parent.name}/{path.name}"


def _with_path(run: Series) -> str:
    return str(run.folder.resolve())


def groups(runs: Sequence[Series]) -> list[Group]:
    """Experiments in the order of their first runs. A second run with a seed is left out: it says nothing
    about the spread over seeds."""
    members: dict[str, dict[int, Series]] = {}
    for run in runs:
        members.setdefault(experiment(run.recipe, run.model, run.settings), {}).setdefault(run.seed, run)
    found = [tuple(by_seed.values()) for by_seed in members.values()]
    models = {runs[0].model for runs in found}
    labels = [runs[0].recipe if len(models) == 1 else f"{runs[0].recipe}, {runs[0].model}" for runs in found]
    return [
        Group(label if labels.count(label) == 1 else f"{label} ({runs[0].name})", runs)
        for label, runs in zip(labels, found, strict=True)
    ]
