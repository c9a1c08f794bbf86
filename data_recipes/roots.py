"""Which changes to a recipe make its sources read the files below one folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.recipe_file import Decentralised, Recipe, load_recipe
from data_recipes.sources import reads_files
from data_recipes.store import META


def file_changes(recipe: Recipe, root: Path | None, pixels: str | None) -> dict[str, Any]:
    """Changes, with dotted keys, that set `root` and `pixels` (None: leave as they are) of every source that
    reads files.

    A decentralised recipe has several: each reads the folder below `root` that has the source's name, or
    where there is none `root` itself, unless the recipe says a root of its own. So does the mixture that it
    is matched to, where that is a recipe.

    Raises:
        UserError: no source of the recipe reads files.
    """
    asked = {"root": str(root.absolute()) if root else None, "pixels": pixels}
    given = {key: value for key, value in asked.items() if value is not None}
    if not given:
        return {}
    if not isinstance(recipe, Decentralised):
        if not reads_files(recipe.source):
            raise UserError(
                f"{recipe.name}: source {recipe.source} makes its images: --root and --pixels do not apply"
            )
        return {f"options.{key}": value for key, value in given.items()}
    found = [
        (f"sources.{task}.options", part.source, part.options)
        for task, part in recipe.sources.items()
        if reads_files(part.source)
    ]
    if not found:
        raise UserError(f"{recipe.name}: its sources make their images: --root and --pixels do not apply")
    if not (Path(recipe.match.to) / META).exists():
        matched = load_recipe(recipe.match.to, recipe.match.changes)
        if not isinstance(matched, Decentralised) and reads_files(matched.source):
            found.append(("match.changes.options", matched.source, matched.options))
    return {
        f"{where}.{key}": _below(value, source) if key == "root" else value
        for where, source, options in found
        for key, value in given.items()
        if options.get(key) is None
    }


def _below(root: str, source: str) -> str:
    own = Path(root) / source
    return str(own) if own.is_dir() else root
