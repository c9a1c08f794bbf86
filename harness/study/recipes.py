"""Recipes of a study: read, changed, written down, and described by all that their mixtures depend on."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError, unknown
from data_recipes.recipe import source_names
from data_recipes.recipe_file import (
    STAGED,
    Decentralised,
    ImageCentric,
    load_recipe,
    raw_recipe,
    recipe_names,
)
from data_recipes.sources import source
from data_recipes.staged import is_staged
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
        found = (matched_by(_beside(name, spec)) for name in _mixtures(raw_recipe(spec)[0]))
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
        raw = raw_recipe(spec)[0]
        mixtures = {name: described(_beside(name, spec)) for name in _mixtures(raw)}
        # What `derive` wrote is known by its content, not by where it lies.
        named = {name: digest(said) if Path(name).is_absolute() else name for name, said in mixtures.items()}
        return _placed(raw, named) | {"mixtures": {named[name]: said for name, said in mixtures.items()}}
    recipe = load_recipe(spec)
    said = recipe.model_dump() | {"versions": {name: source(name).VERSION for name in source_names(recipe)}}
    if isinstance(recipe, Decentralised):
        said["matched"] = described(recipe.match.to)
    return said


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


def _mixtures(raw: Mapping[str, Any]) -> list[str]:
    """Mixtures that the stages of a staged recipe name, once each: to train on, to annotate, to mix in."""
    found: list[Any] = []
    for stage in raw.get("stages") or ():
        if isinstance(stage, dict):
            found += [part["mixture"] for part in _parts(stage) if "mixture" in part]
            found += stage.get("mix") or ()
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _parts(stage: dict[str, Any]) -> list[dict[str, Any]]:
    """The stage, and what it says of annotation: both may name a mixture."""
    annotate = stage.get("annotate")
    return [stage, annotate] if isinstance(annotate, dict) else [stage]


def _beside(name: str, spec: str) -> str:
    """A recipe that another one names: shipped, or a path that starts from its file."""
    return find(name, Path(spec).resolve().parent if spec not in recipe_names() else Path.cwd())


def _staged(spec: str, changes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A staged recipe with changes; `match.by` goes to the decentralised recipes of its stages."""
    raw = raw_recipe(spec)[0]
    rest = dict(changes)
    match = rest.pop("match.by", None)
    places: dict[str, str] = {}
    for name in _mixtures(raw):
        beside = _beside(name, spec)
        if match and style(beside) == "decentralised":
            beside = derive(beside, {"match.by": match}, f"{Path(beside).stem}-{match}", folder)
        places[name] = beside
    raw = _placed(raw, places)
    for dotted, value in rest.items():
        _put(raw, dotted, value)
    return raw


def _placed(raw: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """A copy of a staged recipe with its mixtures called as `places` says."""
    raw = copy.deepcopy(dict(raw))
    for stage in raw.get("stages") or ():
        for part in _parts(stage):
            if "mixture" in part:
                part["mixture"] = places[part["mixture"]]
        if "mix" in stage:
            stage["mix"] = [places[name] for name in stage["mix"]]
    return raw


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
