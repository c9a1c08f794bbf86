"""Recipes with stages: several trainings one after another, each on a mixture that is named, or that the
model of the stage before makes. Parsed and checked here; `harness.stages` runs them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from data_recipes.errors import UserError, unknown
from data_recipes.pseudo.spec import Annotation, read_annotation
from data_recipes.recipe_file import STAGED, Part, load_recipe, raw_recipe, recipe_names
from data_recipes.schema import explained
from data_recipes.store import META

PREVIOUS, BASE = "previous", "base"
BATCHINGS = ("image", "entry")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Stage(Part):
    """One training.

    Attributes:
        name: tells stages apart, in folders too.
        mixture: recipe name, recipe file or folder of a built mixture.
        annotate: in place of `mixture`, how the model of the stage before makes one.
        mix: mixtures whose training entries are added.
        batching: what is drawn together, `image` or `entry`; by default as the mixture is, and `image` for an
            annotated one. `--batching` wins.
        epochs, steps: how long; where neither is said, the run's own setting holds.
        share: in place of them, which part it is of a run as long as a plain one on the first mixture. Either
            all stages have it, and shares sum to 1, or none.
        learning_rate: at its highest; where it is not said, the run's own.
        learning_rate_times: in place of `learning_rate`, a factor on the run's own, which suits any model.
        start: `base`, `previous` or the name of an earlier stage: whose weights training goes on from. None
            is base for the first stage, and previous for the others.
    """

    name: str = Field(pattern=_NAME)
    mixture: str | None = None
    annotate: Annotation | None = None
    mix: list[str] = Field(default=[])
    batching: str | None = None
    epochs: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    steps: int | None = Field(default=None, ge=1)
    share: float | None = Field(default=None, gt=0, lt=1)
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    learning_rate_times: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    start: str | None = None

    @property
    def source(self) -> str:
        """The mixture that it trains on, or whose images are annotated for it."""
        return self.mixture or (self.annotate.mixture if self.annotate else "")


class Staged(Part):
    """A recipe with stages.

    Attributes:
        seed: goes with the run's own into what annotation draws.
        schedule: of the learning rate. `stage`: each stage has one of its own, warmup included; `whole`: one
            goes through all stages, so that the run differs from a plain one in what it sees alone.
    """

    style: Literal["staged"]
    name: str = Field(pattern=_NAME)
    description: str = ""
    license: str = "other"
    seed: int = Field(default=0, ge=0)
    schedule: Literal["stage", "whole"] = "stage"
    stages: tuple[Stage, ...]

    @property
    def clean(self) -> Stage:
        """The last stage whose mixture is named rather than made: what the whole run is scored on."""
        return [stage for stage in self.stages if stage.mixture][-1]

    @property
    def mixtures(self) -> list[str]:
        """All mixtures that are named, each once."""
        named = (name for stage in self.stages for name in (stage.source, *stage.mix))
        return list(dict.fromkeys(named))

    @property
    def digest(self) -> str:
        """SHA-256 of what the stages say; not of where mixtures lie, which have hashes of their own."""
        said = self.model_dump(exclude={"name", "description", "license"})
        for stage in said["stages"]:
            for part in (stage, stage["annotate"] or {}):
                if part.get("mixture"):
                    part["mixture"] = Path(part["mixture"]).name
            stage["mix"] = [Path(name).name for name in stage["mix"]]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def is_staged(spec: str) -> bool:
    """Whether this recipe name or file is one with stages; False for whatever cannot be read."""
    if spec not in recipe_names() and not Path(spec).is_file():
        return False
    try:
        return raw_recipe(spec)[0].get("style") == STAGED
    except UserError:
        return False


def load_staged(spec: str) -> Staged:
    """The recipe with stages of that name, or in that file; its mixtures' recipes are looked up, not built.

    Raises:
        UserError: no such recipe; an unknown key; a value that does not fit; an unknown mixture or start.
    """
    raw, folder, where = raw_recipe(spec)
    listed = raw.get("stages")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{where}: stages is {listed!r}: list them, each begun by `- name:`")
    stages: list[Stage] = []
    for number, one in enumerate(listed, start=1):
        stages.append(_stage(one, number, stages, folder, where))
    try:
        staged = Staged.model_validate({**raw, "stages": tuple(stages)})
    except ValidationError as error:
        raise explained(error, Staged, where) from None
    _check_shares(staged, where)
    for stage in staged.stages:
        for name in dict.fromkeys((stage.source, *stage.mix)):
            _check_mixture(name, spec, f"{where}: stage {stage.name}")
    return staged


def _stage(one: Any, number: int, before: list[Stage], folder: Path, where: str) -> Stage:
    if not isinstance(one, dict) or not all(isinstance(key, str) for key in one):
        raise UserError(f"{where}: stage {number} is {one!r}: give it keys and values")
    here = f"{where}: stage {one.get('name', number)}"
    one = dict(one)
    if isinstance(one.get("mixture"), str):
        one["mixture"] = _rooted(one["mixture"], folder)
    if isinstance(one.get("mix"), list):
        one["mix"] = [_rooted(name, folder) if isinstance(name, str) else name for name in one["mix"]]
    if "annotate" in one:
        one["annotate"] = _annotation(one["annotate"], folder, here)
    try:
        stage = Stage.model_validate(one)
    except ValidationError as error:
        raise explained(error, Stage, here) from None
    _check_choices(stage, here)
    _check_order(stage, before, here)
    return stage


def _rooted(name: str, folder: Path) -> str:
    """Paths of the file are relative to the file; names of shipped recipes stay."""
    beside = folder / name
    return str(beside) if name not in recipe_names() and beside.exists() else name


def _annotation(said: Any, folder: Path, here: str) -> Annotation:
    if not isinstance(said, Mapping) or not all(isinstance(key, str) for key in said):
        raise UserError(f"{here}: annotate is {said!r}: give it keys and values, indented below")
    if isinstance(said.get("mixture"), str):
        said = {**said, "mixture": _rooted(said["mixture"], folder)}
    return read_annotation(said, f"{here}: annotate")


def _check_choices(stage: Stage, here: str) -> None:
    if (stage.mixture is None) == (stage.annotate is None):
        raise UserError(f"{here}: give it either mixture or annotate" + (", not both" * bool(stage.mixture)))
    if stage.batching not in (None, *BATCHINGS):
        raise UserError(f"{here}: {unknown('batching', stage.batching, BATCHINGS)}")
    lengths = [name for name in ("epochs", "steps", "share") if getattr(stage, name) is not None]
    if len(lengths) > 1:
        raise UserError(f"{here}: give it either {lengths[0]} or {lengths[1]}, not both")
    if stage.learning_rate is not None and stage.learning_rate_times is not None:
        raise UserError(f"{here}: give it either learning_rate or learning_rate_times, not both")


def _check_order(stage: Stage, before: list[Stage], here: str) -> None:
    names = [other.name for other in before]
    if stage.name in (PREVIOUS, BASE):
        raise UserError(f"{here}: {stage.name} means something in `start`: choose another name")
    if stage.name.lower() in (name.lower() for name in names):  # folders of some systems ignore case
        raise UserError(f"{here}: two stages have this name")
    if stage.annotate and not before:
        raise UserError(
            f"{here}: the first stage cannot annotate: there is no model before it. Give it a mixture"
        )
    if stage.start is not None and stage.start not in (BASE, *names, *[PREVIOUS] * bool(before)):
        raise UserError(
            f"{here}: {unknown('start', stage.start, (BASE, *names, *[PREVIOUS] * bool(before)))}"
        )


def _check_shares(staged: Staged, where: str) -> None:
    shares = [stage.share for stage in staged.stages if stage.share is not None]
    if not shares:
        return
    if lacking := [stage.name for stage in staged.stages if stage.share is None]:
        raise UserError(
            f"{where}: stage {lacking[0]} has no share and others have: give it to all or to none"
        )
    if not math.isclose(sum(shares), 1.0, abs_tol=1e-6):
        raise UserError(f"{where}: the shares of the stages sum to {sum(shares):g}: make it 1")


def _check_mixture(name: str, spec: str, here: str) -> None:
    """Looks a mixture up. One that is staged itself could be this very recipe, round and round."""
    if name not in recipe_names() and (Path(name) / META).exists():
        return
    if is_staged(name):
        own = name == spec or Path(name).resolve() == Path(spec).resolve()
        what = "is this very recipe" if own else "has stages itself"
        raise UserError(f"{here}: {name} {what}: name a mixture")
    try:
        load_recipe(name)
    except UserError as error:
        raise UserError(f"{here}: {error}") from None
