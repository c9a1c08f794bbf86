"""The plan of a study: every run with its folder, its settings and the hash that ties it to the plan."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from harness.study import recipes
from harness.study.arms import Arm, arms_of
from harness.study.recipes import digest
from harness.study.spec import Model, Study, read_study
from model_adapters.models import MODELS


@dataclass(frozen=True)
class Run:
    """One training run and how it is scored.

    Attributes:
        settings: of harness/train.py, less paths of this study.
        key: hash of all that training depends on: settings, recipe, weights of a model's folder.
        evaluation: hash of all that scoring depends on.
        scores: folder of its scores.json.
    """

    name: str
    arm: Arm
    model: Model
    seed: int
    folder: Path
    settings: Mapping[str, Any]
    key: str
    evaluation: str
    scores: Path

    @property
    def trained_on(self) -> list[str]:
        """Recipes and folders of all mixtures that training reads: the recipe's, or its stages', and what
        `--mix` adds."""
        return list(dict.fromkeys([*recipes.mixtures(self.arm.recipe), *self.settings.get("mix", ())]))


@dataclass(frozen=True)
class Plan:
    """A study with all its runs. `of` maps (arm, model) to their runs: arms that train alike share them."""

    study: Study
    folder: Path
    arms: Sequence[Arm]
    runs: Sequence[Run]
    of: Mapping[tuple[str, str], Sequence[Run]]

    @cached_property
    def reference(self) -> str:
        """The name of the arm that others are compared with."""
        return self.study.reference or self.arms[0].name

    @property
    def old(self) -> Path:
        """Where runs of former settings are kept."""
        return self.folder / "old"

    def run(self, name: str) -> Run:
        """Raises UserError: no such run."""
        for run in self.runs:
            if run.name == name:
                return run
        raise unknown("run", name, [run.name for run in self.runs], "imax study plan lists them")

    def kept(self) -> list[Path]:
        """Run folders of former settings, which no longer belong to the plan."""
        named = {run.name for run in self.runs}
        beside = (path for path in (self.folder / "runs").glob("*") if path.name not in named)
        return sorted([*self.old.glob("*"), *beside])


def read_plan(spec: str, output_dir: Path | None = None, *, flags: bool = True) -> Plan:
    """The plan of a study file, or of a shipped study by its name.

    Args:
        output_dir: the study's folder; by default studies/<name>.
        flags: whether to check those of harness/train.py, which takes some seconds for its imports.

    Raises:
        UserError: the file, a recipe, a flag or a model folder is wrong.
    """
    study, root = read_study(spec)
    return make_plan(study, root, output_dir or Path("studies") / study.name, flags=flags)


def make_plan(study: Study, root: Path, folder: Path, *, flags: bool = True) -> Plan:
    """The plan of a study in its folder; seed by seed, so that a part of it compares like with like.

    Raises:
        UserError: as `read_plan`.
    """
    arms = arms_of(study, root, folder / "recipes")
    if flags:
        _check_flags(study, arms)
    models = [(model, _model(model, root)) for model in study.models]
    seeds = list(dict.fromkeys(seed for arm in arms for seed in arm.seeds))
    runs: dict[tuple[str, str], Run] = {}
    of: dict[tuple[str, str], list[Run]] = {}
    for seed in seeds:
        for arm in arms:
            for model, path in models:
                if seed in arm.seeds:
                    made = _run(study, arm, model, path, seed, root, folder)
                    # Of two arms that train alike the second takes the runs of the first.
                    run = runs.setdefault((made.key, str(made.arm.evaluate_on)), made)
                    of.setdefault((arm.name, model.name), []).append(run)
    _check_names(runs.values())
    return Plan(study, folder, arms, list(runs.values()), of)


def _run(study: Study, arm: Arm, model: Model, path: str, seed: int, root: Path, folder: Path) -> Run:
    name = f"{arm.name}-{model.name}-s{seed}"
    settings: dict[str, Any] = {"recipe": arm.recipe, "model": path, "seed": seed}
    settings |= _rooted({**arm.arguments, **model.arguments}, root)
    if study.dynamics:
        said = study.dynamics.mixture
        measured = study.dynamics.model_dump(exclude_none=True)
        measured["mixture"] = recipes.find(said, root) if said else arm.probe_on
        settings |= {f"dynamics_{key}": value for key, value in measured.items() if value is not None}
    # A recipe file that the study wrote is known by its content, not by where it lies.
    placed = ("recipe", "dynamics_mixture", "model", "mix", "start")
    told = {key: value for key, value in settings.items() if key not in placed}
    mixtures: list[Any] = [_described(arm.recipe), _described(settings.get("dynamics_mixture"))]
    if "mix" in settings:
        mixtures.append([_described(name) for name in settings["mix"]])
    if "start" in settings:
        told["start"] = _weights(_adapter(settings["start"]))
    key = digest([told, mixtures, Path(path).name, _weights(path), study.launch])
    scored = study.evaluation.model_dump() | {"mixture": _described(arm.evaluate_on)}
    where = folder / "runs" / name
    scores = where / f"eval-{Path(arm.evaluate_on).stem}" if arm.evaluate_on else where
    return Run(name, arm, model, seed, where, settings, key, digest([key, scored]), scores)


def _check_flags(study: Study, arms: Sequence[Arm]) -> None:
    """Raises UserError for flags that harness/train.py would refuse, wherever they stand."""
    from harness.config import check_said  # imports torch

    said = [{**arm.arguments, **model.arguments} for arm in arms for model in study.models]
    for place, arguments in enumerate(said):
        if arguments not in said[:place]:
            check_said(arguments)


def _rooted(arguments: dict[str, Any], root: Path) -> dict[str, Any]:
    """The flags with the paths of `mix` and `start` as they are found from anywhere: relative ones begin
    where the study file lies.

    Raises:
        UserError: nothing is there.
    """
    said = dict(arguments)
    if mix := said.pop("mix", None):
        said["mix"] = [recipes.find(str(name), root) for name in ([mix] if isinstance(mix, str) else mix)]
    if start := said.pop("start", None):
        said["start"] = str((root / str(start)).resolve())
        _adapter(said["start"])
    return said


def _model(model: Model, root: Path) -> str:
    """What `--model` is given: a folder as an absolute path, any other name as it is.

    Raises:
        UserError: a path leads nowhere, or it is no name of a model. Hub ids are not looked up.
    """
    given = model.model or model.name
    for path in (root / given, Path(given)):
        if path.is_dir():
            return str(path.resolve())
    # What looks like a hub id (owner/name) is meant as a path where its parent is a folder.
    beside = [path.parent for path in (root / given, Path(given)) if "/" in given]
    if given.startswith((".", "/", "~")) or any(path.is_dir() for path in beside):
        raise UserError(f"model {model.name}: there is no folder {given}")
    if given not in (one.name for one in MODELS):
        from model_adapters.registry import located  # imports transformers

        located(given)
    return given


def _adapter(start: str) -> str:
    """The folder of the weights that `--start` names. Raises UserError where there are none."""
    from harness.start import adapter_folder  # imports torch

    return str(adapter_folder(start))


def _weights(path: str) -> str | None:
    """Hash of the weights in a checkpoint folder; None for a name."""
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    return _weights_now(path, *((file.name, file.stat().st_mtime_ns) for file in files)) if files else None


@cache
def _weights_now(path: str, *state: tuple[str, int]) -> str | None:
    from harness.provenance import hash_weights  # imports torch

    return hash_weights(path)


def _described(spec: str | None) -> str:
    return digest(recipes.described(spec)) if spec else ""


def _check_names(runs: Iterable[Run]) -> None:
    """Raises UserError where two runs share a folder, as do arm `a`, model `b-c` and arm `a-b`, model `c`."""
    names = [run.name for run in runs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"two runs would be called {twice}: give an arm or a model another name")
    if bad := next((name for name in names if not re.fullmatch(r"[\w.-]+", name)), None):
        raise UserError(f"{bad!r} can't be a folder's name")
