"""The recipe file: what may stand in it, and clear errors for what may not.

An image-centric recipe reads one source and puts many tasks on each image. A decentralised one has a source
for each task and takes its volumes, and its validation and test set, from the mixture it is matched to. One
with stages is no mixture; see `staged`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from data_recipes.duplicates import CORRELATION, DISTANCE, Limits
from data_recipes.errors import UserError, unknown
from data_recipes.schema import STRICT, explained, place, read_keys
from data_recipes.sources import SOURCES, source_of
from data_recipes.tasks import TASKS

FOLDER = Path(__file__).parent / "recipes"
MatchBy = Literal["entries", "images", "tokens", "steps"]
Short = Literal["fail", "take"]
STAGED = "staged"  # the style of a recipe with stages


class Part(BaseModel):
    model_config = STRICT


class Images(Part):
    """Number of images of each split."""

    train: int = Field(ge=1)
    validation: int = Field(default=0, ge=0)
    test: int = Field(default=0, ge=0)


class Fractions(Part):
    """Share of the patients of each split, for sources that read a fixed set of images."""

    train: float = Field(default=0.8, ge=0)
    validation: float = Field(default=0.1, ge=0)
    test: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _sum(self) -> Fractions:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("the fractions must sum to 1")
        return self


class Density(Part):
    """Means over the images of a split."""

    tasks_per_image: float = Field(ge=1, le=len(TASKS))
    entries_per_image: float = Field(ge=1)

    @model_validator(mode="after")
    def _order(self) -> Density:
        if self.entries_per_image < self.tasks_per_image:
            raise ValueError("entries_per_image must be at least tasks_per_image")
        return self


class Match(Part):
    """What a decentralised recipe is compared with.

    Attributes:
        to: recipe name, recipe file or mixture folder; must be image-centric.
        by: what is held equal between the two training splits.
        changes: changes to the matched recipe, such as {"images": {"train": 64}}.
        image_tokens: tokens an image costs the model, for `by: tokens` and for the record.
        short: what to do where a source has less than a task needs: fail, or take what there is and say so.
    """

    to: str
    by: MatchBy = "entries"
    changes: dict[str, Any] = {}
    image_tokens: int = Field(default=64, ge=0)
    short: Short = "fail"


class TaskSource(Part):
    """Where the images of one task of a decentralised recipe come from."""

    source: str
    options: dict[str, Any] = {}


class Duplicates(Part):
    """When an image counts as a near-duplicate of another.

    Attributes:
        distance: bits of 64 in which their perceptual hashes differ at most.
        correlation: how well fine detail of their thumbnails correlates at least.
    """

    distance: int = Field(default=DISTANCE, ge=0, le=64)
    correlation: float = Field(default=CORRELATION, gt=0, le=1)

    @property
    def limits(self) -> Limits:
        return Limits(self.distance, self.correlation)


class _Common(Part):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str = ""
    license: str = "other"
    seed: int = Field(default=0, ge=0)
    first_patient: int = Field(default=0, ge=0)
    duplicates: Duplicates = Duplicates()


class ImageCentric(_Common):
    """Many tasks and entries on each image.

    Attributes:
        images: how many; None takes all of a source that reads files.
        density: None keeps every entry that the source offers.
        task_weights: 1 where a task is missing, 0 leaves it out.
        task_shares: in place of weights, the tasks' shares of the entries, in any unit; they are met exactly.
            Needs a density.
        shares_of: in place of numbers, a mixture (recipe name, file or folder) with the same training shares.
        split_fractions: for sources that read files; the others give each split patients of its own.
    """

    style: Literal["image-centric"] = "image-centric"
    source: str
    options: dict[str, Any] = {}
    images: Images | None = None
    density: Density | None = None
    task_weights: dict[str, float] = {}
    task_shares: dict[str, float] = {}
    shares_of: str | None = None
    split_fractions: Fractions = Fractions()


class Decentralised(_Common):
    """One task on each image, every task from a source of its own.

    Attributes:
        sources: task -> source.
        patients_apart: the first task takes patients from `first_patient` on, each further one this many
        later.
    """

    style: Literal["decentralised"]
    match: Match
    sources: dict[str, TaskSource]
    patients_apart: int = Field(default=1_000_000, ge=1)


SHARES = 2  # counts up when images are shared out among tasks in another way, so that mixtures are built anew
Recipe = ImageCentric | Decentralised
STYLES: dict[Any, type[ImageCentric] | type[Decentralised]] = {
    "image-centric": ImageCentric,
    "decentralised": Decentralised,
}


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of that name, or in that file; a folder of files stands for a recipe that reads all of it.

    Args:
        overrides: changes, nested or with dotted keys: {"images.train": 64}.

    Raises:
        UserError: no such recipe; the file is no YAML; an unknown key; a value of a wrong type.
    """
    raw, folder, where = raw_recipe(name_or_path)
    if raw.get("style") == STAGED:
        raise UserError(
            f"{where} lists stages and is no mixture itself: `imax train --recipe {name_or_path}` trains "
            "them, and each of its mixtures has a recipe of its own"
        )
    if "stages" in raw:
        raise UserError(f"{where}: a recipe with stages needs the line `style: {STAGED}`")
    for dotted, value in (overrides or {}).items():
        raw = _set(raw, dotted.split("."), value, dotted)
    if (said := raw.get("style", "image-centric")) not in STYLES:
        raise UserError(f"{where}: {unknown('style', str(said), (*STYLES, STAGED))}")
    style = STYLES[said]
    try:
        recipe = style.model_validate(_rooted(raw, folder))
    except ValidationError as error:
        raise explained(error, style, where, hint=_hint(error, style)) from None
    _check_names(recipe, where)
    return recipe


def facts(recipe: Recipe) -> dict[str, Any]:
    """What a recipe says as plain values, for digests. Keys that came to recipes later are left out where
    they say nothing, so that older digests stay; a mixture matched by images or steps gains the version of
    how images are shared out."""
    said = recipe.model_dump()
    if isinstance(recipe, Decentralised):
        return said | ({"shares": SHARES} if recipe.match.by in ("images", "steps") else {})
    return {key: value for key, value in said.items() if value or key not in ("task_shares", "shares_of")}


def raw_recipe(name_or_path: str) -> tuple[dict[str, Any], Path, str]:
    """What the file says, the folder that its relative paths start from, and how to call it in errors.

    Raises:
        UserError: no such recipe, or its file is no YAML mapping.
    """
    path = FOLDER / f"{name_or_path}.yaml" if name_or_path in recipe_names() else Path(name_or_path)
    if path.is_dir():
        name = re.sub(r"[^A-Za-z0-9]+", "-", path.resolve().name).strip("-") or "folder"
        return {"name": name, "source": source_of(path), "options": {"root": "."}}, path.resolve(), str(path)
    if not path.is_file():
        if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
            raise UserError(f"no recipe file {name_or_path}")
        raise unknown("recipe", name_or_path, recipe_names(), "Or name a recipe file or a mixture folder")
    return {"name": path.stem, **read_keys(path, "a recipe")}, path.resolve().parent, path.name


def _set(raw: Mapping[str, Any], keys: list[str], value: Any, dotted: str) -> dict[str, Any]:
    """A copy of `raw` with one value changed; a mapping is merged into the mapping that stands there."""
    key, *rest = keys
    below = raw.get(key)
    if not rest and not (isinstance(value, Mapping) and isinstance(below, Mapping)):
        return {**raw, key: value}
    if below is not None and not isinstance(below, Mapping):
        raise UserError(f"{dotted}: {key} is {below!r}, nothing can be set below it")
    result = dict(below or {})
    for path, new in [(rest, value)] if rest else [([k], v) for k, v in value.items()]:
        result = _set(result, path, new, dotted)
    return {**raw, key: result}


def _rooted(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths of the file are relative to the file: makes them absolute."""

    def root(options: Any) -> Any:
        if isinstance(options, dict) and isinstance(options.get("root"), str):
            return {**options, "root": str(folder / options["root"])}
        return options

    raw = {**raw, "options": root(raw["options"])} if "options" in raw else dict(raw)
    shares = raw.get("shares_of")
    if isinstance(shares, str) and shares not in recipe_names() and (folder / shares).exists():
        raw["shares_of"] = str(folder / shares)
    match = raw.get("match")
    if isinstance(match, dict) and isinstance(match.get("to"), str) and match["to"] not in recipe_names():
        beside = folder / match["to"]
        raw["match"] = {**match, "to": str(beside) if beside.exists() else match["to"]}
    if isinstance(raw.get("sources"), dict):
        raw["sources"] = {
            task: {**given, "options": root(given["options"])}
            if isinstance(given, dict) and "options" in given
            else given
            for task, given in raw["sources"].items()
        }
    return raw


def _check_names(recipe: Recipe, where: str) -> None:
    tasks: Iterable[str] = recipe.sources if isinstance(recipe, Decentralised) else ()
    if isinstance(recipe, ImageCentric):
        tasks = (*recipe.task_weights, *recipe.task_shares)
    given = (
        [recipe.source] if isinstance(recipe, ImageCentric) else [s.source for s in recipe.sources.values()]
    )
    for what, names, known in (("task", tasks, TASKS), ("source", given, SOURCES)):
        for name in names:
            if name not in known:
                raise UserError(f"{where}: {unknown(what, name, known)}")
    if isinstance(recipe, ImageCentric) and any(weight < 0 for weight in recipe.task_weights.values()):
        raise UserError(f"{where}: task_weights must not be negative")
    if isinstance(recipe, ImageCentric) and (recipe.task_shares or recipe.shares_of):
        if recipe.density is None:
            raise UserError(f"{where}: shares of tasks need a density: say density.entries_per_image")
        if recipe.task_weights or (recipe.task_shares and recipe.shares_of):
            raise UserError(f"{where}: give it one of task_weights, task_shares and shares_of")
        if any(share < 0 for share in recipe.task_shares.values()):
            raise UserError(f"{where}: task_shares must not be negative")


def _hint(error: ValidationError, style: type[Recipe]) -> str:
    """Where to write what a decentralised recipe takes from the one it is matched to."""
    for one in error.errors(include_url=False):
        keys = place(one)
        if style is Decentralised and one["type"] == "extra_forbidden" and keys[0] in ("images", "density"):
            dotted = ".".join(keys)
            return (
                f"A decentralised recipe has the size of the mixture it is matched to: match.changes.{dotted}"
            )
    return ""
