"""Recipes of a study: read, changed, written down, and described by all that their mixtures depend on."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError, unknown
from data_recipes.recipe import source_names
from data_recipes.recipe_file import (
    STAGED,
    Decentralised,
    ImageCentric,
    Recipe,
    facts,
    load_recipe,
    raw_recipe,
    recipe_names,
)
from data_recipes.sources import fingerprint, source
from data_recipes.staged import is_staged, load_staged
from data_recipes.store import META, read_meta
from data_recipes.tables import write_text


def find(spec: str, folder: Path) -> str:
    """A recipe or mixture as named in a study file: its name if it is shipped, else the absolute path.

    Raises:
        UserError: there is no such recipe.
    """
    if spec in recipe_names():
        return spec
    path = folder / spec
    if not path.exists():
        raise unknown("recipe", spec, recipe_names(), "Or name a recipe file or a mixture folder")
    return str(path.resolve())


def is_mixture(spec: str) -> bool:
    """Whether this is the folder of a built mixture, which cannot be changed."""
    return spec not in recipe_names() and (Path(spec) / META).exists()


def style(spec: str) -> str:
    """image-centric, decentralised, staged, or "" for a built mixture or a folder of rows."""
    if spec not in recipe_names() and Path(spec).is_dir():
        return ""
    return STAGED if is_staged(spec) else load_recipe(spec).style


def matched_by(spec: str) -> tuple[str, str] | None:
    """(what is held equal, name of the recipe it is matched to); of a staged recipe by its first
    decentralised mixture. None for others."""
    kind = style(spec)
    if kind == STAGED:
        found = (matched_by(name) for name in mixtures(spec))
        return next((one for one in found if one), None)
    if kind != "decentralised":
        return None
    recipe = load_recipe(spec)
    assert isinstance(recipe, Decentralised)
    return recipe.match.by, Path(recipe.match.to).stem


def described(spec: str) -> Any:
    """All that a recipe's mixture depends on, as far as files say it: for the hash of a run's settings."""
    if is_mixture(spec):
        return {"mixture_hash": read_meta(Path(spec)).get("mixture_hash")}
    if style(spec) == STAGED:
        raw = _placed(raw_recipe(spec)[0], lambda name: _known(_beside(name, spec)))
        return raw | {"mixtures": {_known(name): described(name) for name in mixtures(spec)}}
    recipe = load_recipe(spec)
    said = facts(recipe) | {"versions": {name: source(name).VERSION for name in source_names(recipe)}}
    if isinstance(recipe, Decentralised):
        said["matched"] = described(recipe.match.to)
    if files := [mark for name, options in _sources(recipe) if (mark := fingerprint(name, options))]:
        said["files"] = files
    return said


def _sources(recipe: Recipe) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and options of the sources that a recipe reads."""
    if isinstance(recipe, Decentralised):
        return [(given.source, given.options) for given in recipe.sources.values()]
    return [(recipe.source, recipe.options)]


def derive(spec: str, changes: Mapping[str, Any], name: str, folder: Path) -> str:
    """The recipe with changes, written to `folder`/<hash of its content>/`name`.yaml, so that no two recipes
    of one name overwrite each other; returns that path, or `spec` where nothing changes. The mixtures of a
    staged recipe take `match.by` where they are decentralised.

    Raises:
        UserError: a change does not fit the recipe; or it is a mixture that is built already.
    """
    if is_mixture(spec):
        if changes:
            raise UserError(f"{spec} is built already: its recipe cannot be changed")
        return spec
    if style(spec) == STAGED:
        content = _staged(spec, changes, folder)
    else:
        recipe = load_recipe(spec, changes)
        if recipe.model_dump() == load_recipe(spec).model_dump():
            return spec
        content = _absolute(recipe.model_dump(mode="json", exclude_none=True), spec)
    if content == raw_recipe(spec)[0]:
        return spec
    content = content | {"name": name}
    path = folder / digest(content)[:8] / f"{name}.yaml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110), path)
    return str(path.resolve())


def entries_of(spec: str) -> tuple[float, float, int]:
    """(tasks an image, entries an image, training images) that an image-centric recipe asks for.

    Raises:
        UserError: it is another kind of recipe, or leaves one of them to its source.
    """
    recipe = load_recipe(spec) if style(spec) == "image-centric" else None
    if not isinstance(recipe, ImageCentric) or recipe.density is None or recipe.images is None:
        raise UserError(f"density needs an image-centric recipe with keys images and density, not {spec}")
    return recipe.density.tasks_per_image, recipe.density.entries_per_image, recipe.images.train


def mixtures(spec: str) -> list[str]:
    """All mixtures that training on a recipe reads, its own or those of its stages.

    Raises:
        UserError: a stage of it is wrong, or names no mixture.
    """
    return load_staged(spec).mixtures if style(spec) == STAGED else [spec]


def _known(mixture: str) -> str:
    """A shipped recipe's name; another one is known by its content rather than by where it lies."""
    return mixture if mixture in recipe_names() else digest(described(mixture))


def _parts(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """The stage, and what it says of annotation: both may name a mixture."""
    annotate = stage.get("annotate")
    return [stage, annotate] if isinstance(annotate, dict) else [stage]


def _beside(name: str, spec: str) -> str:
    """A recipe that another one names: shipped, or a path that starts from its file."""
    return find(name, Path(spec).resolve().parent if spec not in recipe_names() else Path.cwd())


def _staged(spec: str, changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A staged recipe with changes; `match.by` goes to the decentralised recipes of its stages."""
    load_staged(spec)
    rest = dict(changes)
    match = rest.pop("match.by", None)

    def place(name: str) -> str:
        beside = _beside(name, spec)
        if match and style(beside) == "decentralised":
            return derive(beside, {"match.by": match}, f"{Path(beside).stem}-{match}", folder)
        return beside

    raw = _placed(raw_recipe(spec)[0], place)
    for dotted, value in rest.items():
        _put(raw, dotted, value)
    return raw


def _placed(raw: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """A copy of a staged recipe with its mixtures called as `place` says."""
    placed = copy.deepcopy(dict(raw))
    for stage in placed["stages"]:
        for part in _parts(stage):
            if "mixture" in part:
                part["mixture"] = place(part["mixture"])
        if "mix" in stage:
            stage["mix"] = [place(name) for name in stage["mix"]]
    return placed


def digest(content: Any) -> str:
    """SHA-256 of what JSON can say."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _put(raw: Any, dotted: str, value: Any) -> None:
    """Changes one value in place; a number in the path counts from 0 into a list, as in stages.1.epochs.

    Raises:
        UserError: there is no such place.
    """
    *path, last = dotted.split(".")
    try:
        for key in path:
            raw = raw[int(key)] if isinstance(raw, list) else raw.setdefault(key, {})
        raw[int(last) if isinstance(raw, list) else last] = value
    except (IndexError, ValueError, TypeError, AttributeError):
        raise UserError(f"change {dotted}: a staged recipe has no such place") from None


def _absolute(content: dict[str, Any], spec: str) -> dict[str, Any]:
    """`match.to` as it is found from another folder."""
    if isinstance(match := content.get("match"), dict):
        content["match"] = match | {"to": _beside(match["to"], spec)}
    return content
