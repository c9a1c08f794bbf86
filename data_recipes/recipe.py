"""From a recipe to a mixture on disk, built once and cached by content.

>>> folder = mixture_folder("imax", overrides={"images.train": 64})  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_recipes import decentralised, image_centric
from data_recipes.duplicates import in_mixture
from data_recipes.errors import UserError
from data_recipes.funnel import as_json
from data_recipes.image_centric import Assembled
from data_recipes.priors import priors
from data_recipes.recipe_file import Decentralised, Recipe, facts, load_recipe, recipe_names
from data_recipes.records import BOX_SLOT, Mixture
from data_recipes.reject import check_entry
from data_recipes.sources import file_options, file_source, fingerprint, licence_of, reads_files, source
from data_recipes.splits import crossing, same_pixels
from data_recipes.staged import is_staged, load_staged
from data_recipes.stats import counts, density
from data_recipes.store import (
    META,
    SCHEMA,
    content_hash,
    read_meta,
    read_mixture,
    record,
    write_mixture,
)
from data_recipes.thumbnails import write_marks

__all__ = ["Recipe", "build", "home", "load_recipe", "mixture_folder", "recipe_names"]

_STALE = 24 * 3600  # seconds after which the folder of a killed build is removed


def home() -> Path:
    """Where mixtures are cached: $IMAX_HOME, else a folder in the user's cache."""
    if chosen := os.environ.get("IMAX_HOME"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "imax-harness"


def mixture_folder(spec: str, overrides: Mapping[str, Any] | None = None, *, progress: bool = True) -> Path:
    """The folder of a mixture, built if need be.

    Args:
        spec: recipe name, recipe file, folder of a built mixture, or folder that source `folder` reads.
        overrides: changes to the recipe, with dotted or nested keys.

    Raises:
        UserError: as `load_recipe` and `build`; or changes to a mixture that is built already.
    """
    folder = Path(spec)
    if spec not in recipe_names() and (folder / META).exists():
        read_meta(folder)
        if overrides:
            raise UserError(f"{spec} is built already: its recipe cannot be changed")
        return folder
    return build(load_recipe(spec, overrides), progress=progress)


def is_image_centric(spec: str) -> bool:
    """Whether the mixture of this recipe, built or not, puts several entries on an image: 1.5 or more. Of a
    recipe with stages, the first one's.

    Raises:
        UserError: as `load_recipe`.
    """
    folder = Path(spec)
    if spec not in recipe_names() and (folder / META).exists():
        return bool((read_meta(folder).get("density") or {}).get("entries_per_image", 1) >= 1.5)
    if is_staged(spec):
        return is_image_centric(load_staged(spec).stages[0].source)
    recipe = load_recipe(spec)
    if isinstance(recipe, Decentralised):
        return False
    if recipe.density:
        return recipe.density.entries_per_image >= 1.5
    if reads_files(recipe.source):
        found = file_source(recipe.source).harvest(file_options(recipe.source, recipe.options), recipe.seed)
        return found.entries.height >= 1.5 * max(1, found.images.height)
    return True


def build(recipe: Recipe, out: Path | None = None, *, progress: bool = True) -> Path:
    """Builds the mixture of a recipe, or finds it in the cache, and returns its folder.

    The folder appears at once and whole: a build that is killed leaves nothing where a mixture is looked for.

    Args:
        out: where to put it; by default in the cache, named by recipe and content.
        progress: show a bar on stderr.

    Raises:
        UserError: the recipe cannot be met, or `out` holds something else.
    """
    recipe = _resolved(recipe, progress)
    key = _key(recipe, progress)
    target = out if out is not None else home() / "mixtures" / f"{recipe.name}-{key[:12]}"
    if _is_built(target, key):
        return target
    staging = _staging(target)
    try:
        assembled, matched_name = _assemble(recipe, staging, progress)
        mixture = _mixture(recipe, assembled, key, matched_name)
        _prune(staging, mixture)
        write_mixture(mixture, staging)
        write_marks(assembled.marks, mixture.images, staging)
        if assembled.rejected:
            record(assembled.rejected, mixture.meta, staging)
        _install(staging, target, key)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _resolved(recipe: Recipe, progress: bool) -> Recipe:
    """The recipe with every policy of its sources of files said, defaults too, and with shares of tasks that
    it has from another mixture; of a decentralised one without the sources of tasks that the matched mixture
    lacks. Raises UserError as `file_options`."""

    def said(name: str, options: dict[str, Any]) -> dict[str, Any]:
        return file_options(name, options).model_dump() if reads_files(name) else options

    if not isinstance(recipe, Decentralised):
        changes: dict[str, Any] = {"options": said(recipe.source, recipe.options)}
        if recipe.shares_of:
            other = mixture_folder(recipe.shares_of, progress=progress)
            changes |= {"task_shares": read_meta(other)["counts"]["train"]["per_task"], "shares_of": None}
        return recipe.model_copy(update=changes)
    volumes = read_meta(_matched(recipe, progress))["counts"]["train"]["per_task"]
    sources = {}
    for task, given in recipe.sources.items():
        if volumes.get(task):
            with decentralised.told(recipe, task):
                options = said(given.source, given.options)
            sources[task] = given.model_copy(update={"options": options})
    return recipe.model_copy(update={"sources": sources})


def _assemble(recipe: Recipe, staging: Path, progress: bool) -> tuple[Assembled, str]:
    if not isinstance(recipe, Decentralised):
        return image_centric.assemble(recipe, staging, progress=progress), ""
    matched_folder = _matched(recipe, progress)
    matched = read_mixture(matched_folder)
    result = decentralised.assemble(recipe, matched, matched_folder, staging, progress=progress)
    return result, matched.meta["name"]


def _matched(recipe: Decentralised, progress: bool) -> Path:
    """The folder of the mixture that a decentralised recipe is matched to."""
    to = recipe.match.to
    if not (Path(to) / META).exists() and isinstance(load_recipe(to), Decentralised):
        raise UserError(f"{recipe.name}: match.to {to} is decentralised itself; it must be image-centric")
    return mixture_folder(to, recipe.match.changes, progress=progress)


def _mixture(recipe: Recipe, assembled: Assembled, key: str, matched_name: str) -> Mixture:
    images, entries = assembled.images, assembled.entries
    if not entries:
        raise UserError(
            f"{recipe.name}: no usable entry; first rejected row: {next(iter(assembled.rejected), 'none')}"
        )
    ids = [image.image_id for image in images]
    if len(set(ids)) < len(ids):
        raise UserError(f"{recipe.name}: two sources give images of the same id")
    if crossed := crossing(images):
        raise UserError(
            f"{recipe.name}: patient {min(crossed)} crosses splits {sorted(crossed[min(crossed)])}"
        )
    seen: set[tuple[str, int, str]] = set()
    for entry in entries:
        form = (entry.task, entry.prompt.count(BOX_SLOT) - len(entry.boxes), entry.target)
        if form not in seen:
            check_entry(entry)  # a fault here is one of the source
            seen.add(form)
    written = recipe.model_dump()
    if matched_name:
        written["match"]["to"] = matched_name  # not a path of this machine
    digests = {name: mark.digest for name, mark in assembled.marks.items()}
    leaks = same_pixels(images, digests)
    copies = in_mixture(images, assembled.marks, recipe.duplicates.limits)
    meta = {
        "schema": SCHEMA,
        "name": recipe.name,
        "key": key,
        "license": _hub_licence(recipe),
        "recipe": _without_folders(written),
        "sources": {name: source(name).VERSION for name in source_names(recipe)},
        "licences": {name: licence_of(name).as_json() for name in source_names(recipe)},
        "languages": sorted(
            {code for name in source_names(recipe) for code in getattr(source(name), "LANGUAGES", ("en",))}
        ),
        "mixture_hash": content_hash(images, entries, digests),
        "counts": counts(images, entries),
        "density": density(images, entries),
        "priors": priors(images, entries),
        "rejected": len(assembled.rejected),
        "match": None,
        "notes": [
            *(note for name in source_names(recipe) for note in getattr(source(name), "NOTES", ())),
            *assembled.notes,
            *(f"LEAKAGE: {len(leaks)} images have the pixels of one in another split." for _ in leaks[:1]),
            *(
                f"LEAKAGE: {len(copies.across)} pairs of images in two splits are near-duplicates."
                for _ in copies.across[:1]
            ),
        ],
        "leakage": len(leaks),
        "near_duplicates": copies.summary(),
        "funnel": as_json(assembled.funnel),
        **assembled.meta,
    }
    return Mixture(tuple(images), tuple(entries), meta)


def source_names(recipe: Recipe) -> list[str]:
    """Names of the sources that a recipe reads."""
    if isinstance(recipe, Decentralised):
        return sorted({given.source for given in recipe.sources.values()})
    return [recipe.source]


def _hub_licence(recipe: Recipe) -> str:
    """What the recipe says, else the licence that all of its sources share, else "other"."""
    shared = {licence_of(name).hub for name in source_names(recipe)}
    return shared.pop() if recipe.license == "other" and len(shared) == 1 else recipe.license


def _without_folders(written: dict[str, Any]) -> dict[str, Any]:
    """The recipe as the card may show it: a path among the options keeps its last name only."""
    if "match" in written:
        written["match"]["changes"] = _last_names(written["match"]["changes"])
    for part in (written, *written.get("sources", {}).values()):
        if "options" in part:
            part["options"] = _last_names(part["options"])
    return written


def _last_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _last_names(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_last_names(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and os.sep in value else value


def _key(recipe: Recipe, progress: bool) -> str:
    """SHA-256 of everything that the content depends on: recipe, versions of sources, files, matched
    mixture."""
    parts: dict[str, Any] = {"schema": SCHEMA, "recipe": facts(recipe)}
    files: list[tuple[str, str]] = []
    if isinstance(recipe, Decentralised):
        parts["matched"] = read_meta(_matched(recipe, progress))["mixture_hash"]
        for task, given in recipe.sources.items():
            with decentralised.told(recipe, task):
                files.append((given.source, fingerprint(given.source, given.options)))
        parts["recipe"]["match"] = {**parts["recipe"]["match"], "to": "", "changes": {}}
    else:
        files = [(recipe.source, fingerprint(recipe.source, recipe.options))]
    parts["sources"] = [(name, source(name).VERSION, state) for name, state in files]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _is_built(target: Path, key: str) -> bool:
    """Whether this very mixture lies there. Raises UserError when something else does."""
    if not target.exists():
        return False
    if (target / META).exists():
        if read_meta(target).get("key") == key:
            return True
        raise UserError(f"{target} holds another mixture: remove it, or choose another folder")
    if not target.is_dir() or any(target.iterdir()):
        raise UserError(f"{target} exists and is no mixture: choose another folder")
    return False


def _staging(target: Path) -> Path:
    """An empty folder beside the target, so that a rename puts it in place; folders of killed builds go."""
    parent = target.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}."
    for old in parent.glob(f"{prefix}*.building"):
        if time.time() - old.stat().st_mtime > _STALE:
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=prefix, suffix=".building", dir=parent))


def _prune(staging: Path, mixture: Mixture) -> None:
    """Removes image files that no chosen entry needs."""
    needed = {image.path for image in mixture.images}
    for path in (staging / "images").iterdir():
        if path.relative_to(staging).as_posix() not in needed:
            path.unlink()


def _install(staging: Path, target: Path, key: str) -> None:
    staging.chmod(0o755)  # mkdtemp makes it private
    try:
        staging.replace(target)
    except OSError:
        if not _is_built(target, key):  # otherwise another process was faster, with the same content
            raise
