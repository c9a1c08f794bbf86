"""study.yaml: what may stand in it, and clear errors for what may not. docs/study.md explains every key."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator

from data_recipes.errors import UserError, unknown
from data_recipes.recipe_file import MatchBy
from data_recipes.schema import STRICT, explained, read_keys
from data_recipes.tasks import TASKS
from taco_probe.dynamics.schedule import parse_steps

FOLDER = Path(__file__).parents[1] / "studies"
NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"

# Flags that the study sets itself.
OWN = frozenset({
    "recipe", "model", "seed", "output_dir", "overwrite", "threads", "stage_cache", "resume_from_checkpoint",
})  # fmt: skip


class Part(BaseModel):
    model_config = STRICT


def _not_own(flags: Any) -> Any:
    """Refuses flags that the study sets itself."""
    for key in flags if isinstance(flags, dict) else ():
        if key in OWN or str(key).startswith("dynamics_"):
            raise ValueError(f"--{key} is set by the study and can't stand among arguments")
    return flags


Flags = Annotated[dict[str, Any], BeforeValidator(_not_own)]


def _listed(value: Any) -> Any:
    """One value where a list may stand."""
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def _steps(text: str) -> str:
    """Refuses what `--dynamics_steps` does."""
    try:
        if parse_steps(text):
            return text
    except UserError as error:
        raise ValueError(str(error).removeprefix(f"--dynamics_steps {text}: ")) from None
    raise ValueError("give at least one step, such as 'end'")


def _launcher(text: str | None) -> str | None:
    """Refuses what a shell could not split."""
    try:
        shlex.split(text or "")
    except ValueError as error:
        raise ValueError(f"a shell could not read that: {error}") from None
    return text


Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Rules = Annotated[list[MatchBy], BeforeValidator(_listed)]


class Arm(Part):
    """One thing compared.

    Attributes:
        name: of the arm, and of its run folders.
        base: recipe name, recipe file or mixture folder; by default what `name` says.
        changes: to the recipe, with dotted or nested keys.
        arguments: training flags of this arm alone.
        match: in place of the study's, for this recipe alone.
        label: what tables and figures call it; by default its name.
    """

    name: str = Field(pattern=NAME)
    base: str = ""
    changes: dict[str, Any] = {}
    arguments: Flags = {}
    match: Rules = []
    label: str = ""


class Model(Part):
    """A model. `model` is what `--model` takes, by default the name; `arguments` are flags of its own."""

    name: str = Field(pattern=NAME)
    model: str = ""
    arguments: Flags = {}


class Dynamics(Part):
    """What is measured while runs train: the flags `--dynamics_<key>`. Without `mixture` probe entries come
    from the run's own mixture (a decentralised one has the validation split of the one it is matched to),
    those of arms of `density` from the recipe they vary."""

    steps: Annotated[str, AfterValidator(_steps)] = "0,50%,end"
    entries: int = Field(default=256, ge=2)
    mixture: str | None = None
    split: Literal["validation", "train"] = "validation"
    seed: Seed = 0
    fisher: Literal["empirical", "true", "both"] = "empirical"
    affinity: bool = False
    leave_out: str | None = None


class Evaluation(Part):
    """How runs are scored: the flags of `imax eval`. Without `mixture` a run is scored on the test set of its
    own mixture, arms of `density` on that of the recipe they vary."""

    mixture: str | None = None
    split: Literal["test", "validation"] = "test"
    blind: bool = True
    backend: Literal["transformers", "vllm"] = "transformers"
    batch_size: int | None = Field(default=None, ge=1)
    batch_tokens: int | None = Field(default=None, ge=1)
    limit: int | None = Field(default=None, ge=1)
    resamples: int = Field(default=10_000, ge=100)


class Density(Part):
    """Arms with other numbers of entries on an image, at an equal number of entries in all.

    Attributes:
        entries_per_image: one arm each. The recipe's own value is the recipe itself.
        recipe: an image-centric one.
        entries: training entries of each arm; by default those of the recipe.
        first_patient: of the training images of the new arms, far from those of the recipe's test set.
    """

    entries_per_image: list[Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(min_length=1)
    recipe: str = "imax"
    entries: int | None = Field(default=None, ge=1)
    first_patient: int = Field(default=100_000_000, ge=0)
    seeds: list[Seed] | None = Field(default=None, min_length=1)
    arguments: Flags = {}


class Transfer(Part):
    """Arms that train on one task, or on all tasks but one, of one recipe; all are scored on every task.

    Attributes:
        tasks: those tried; by default all seven.
        seeds: by default those of the study.
        arguments: flags of these arms, such as `max_steps` to hold the number of steps equal.
    """

    recipe: str = "imax"
    train_on_one: bool = True
    leave_one_out: bool = True
    tasks: list[str] = Field(default=list(TASKS), min_length=1)
    seeds: list[Seed] | None = Field(default=None, min_length=1)
    arguments: Flags = {}

    @model_validator(mode="after")
    def _known(self) -> Transfer:
        if not (self.train_on_one or self.leave_one_out):
            raise ValueError("one of train_on_one and leave_one_out must be true")
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(str(unknown("task", task, TASKS)))
        return self


def _named(key: str) -> BeforeValidator:
    """Lets a plain text stand for a mapping: `imax` for `{name: imax}`, a path for name and path."""

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if re.fullmatch(NAME, value) and not value.endswith((".yaml", ".yml")):
            return {"name": value}
        return {"name": re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(value).stem).strip("-.") or "x", key: value}

    return BeforeValidator(convert)


def _density(value: Any) -> Any:
    return {"entries_per_image": value} if isinstance(value, list) else value


class Study(Part):
    """The file.

    Attributes:
        match: what decentralised recipes hold equal to the recipe they are matched to, in place of what they
            say; of several values each makes an arm of its own.
        reference: the arm that others are compared with; by default the first.
        contrasts: more pairs of arms to compare.
        minutes: what a run takes, as a guess until one has finished.
        launch: arguments of `accelerate launch`; without them a run is one plain process.
        jobs, threads: runs at a time, and CPU threads of each (0: share out all cores).
    """

    name: str = Field(pattern=NAME)
    description: str = ""
    recipes: list[Annotated[Arm, _named("base")]] = Field(min_length=1)
    models: list[Annotated[Model, _named("model")]] = Field(default=[Model(name="tiny")], min_length=1)
    seeds: Annotated[list[Seed], BeforeValidator(_listed)] = Field(default=[1], min_length=1)
    arguments: Flags = {}
    match: Rules = []
    dynamics: Dynamics | None = None
    evaluation: Evaluation = Evaluation()
    density: Annotated[Density, BeforeValidator(_density)] | None = None
    transfer: Transfer | None = None
    reference: str = ""
    contrasts: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    minutes: float | None = Field(default=None, gt=0)
    launch: Annotated[str | None, AfterValidator(_launcher)] = None
    jobs: int = Field(default=1, ge=1)
    threads: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _unique(self) -> Study:
        named: list[tuple[str, list[Any]]] = [
            ("recipe", [arm.name for arm in self.recipes]),
            ("model", [model.name for model in self.models]),
            *(("seed", part.seeds or []) for part in (self, self.density, self.transfer) if part),
            *(("match", list(rules)) for rules in (self.match, *(arm.match for arm in self.recipes))),
        ]
        for what, found in named:
            if twice := [one for one in found if found.count(one) > 1]:
                raise ValueError(f"{what} {twice[0]} is named twice: give one of them another name")
        return self


def study_names() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_study(spec: str) -> tuple[Study, Path]:
    """A study by the name of a shipped one, or its file; and the folder that its relative paths start from.

    Raises:
        UserError: there is no such study, or something in it is wrong; recipes and models are not looked at.
    """
    path = FOLDER / f"{spec}.yaml" if spec in study_names() else Path(spec)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise UserError(f"no study file {spec}")
        raise unknown("study", spec, study_names(), "Or name a study file")
    raw = {"name": path.stem, **read_keys(path, "a study")}
    try:
        return Study.model_validate(raw), path.resolve().parent
    except ValidationError as error:
        raise explained(error, Study, path.name) from None
