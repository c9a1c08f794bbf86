"""The arms of a study: its recipes, one for each way of matching, and those of the density and transfer
blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from data_recipes.staged import is_staged, load_staged
from data_recipes.tasks import TASKS
from harness.study import recipes
from harness.study.spec import Arm as Said
from harness.study.spec import Study

MAIN, DENSITY, TRANSFER = "main", "density", "transfer"


@dataclass(frozen=True)
class Arm:
    """What one column of runs has in common.

    Attributes:
        recipe: what `--recipe` is given.
        block: MAIN, DENSITY or TRANSFER.
        match: (what is held equal, to which recipe); None where the recipe is not matched to another.
        evaluate_on: mixture whose test set serves; None for the recipe's own.
        probe_on: mixture whose validation split probe entries come from; None for the recipe's own, which a
            decentralised recipe shares with the one it is matched to.
        entries_per_image: of arms of the density curve.
        trained, left_out: the one task an arm of the transfer matrix was trained on, or trained without.
    """

    name: str
    label: str
    recipe: str
    arguments: dict[str, Any]
    seeds: Sequence[int]
    block: str = MAIN
    match: tuple[str, str] | None = None
    evaluate_on: str | None = None
    probe_on: str | None = None
    entries_per_image: float | None = None
    trained: str = ""
    left_out: str = ""
    staged: bool = False


def arms_of(study: Study, root: Path, folder: Path) -> list[Arm]:
    """All arms, in the order of the file.

    Args:
        root: where relative paths of the file start from.
        folder: where changed recipes are written.

    Raises:
        UserError: a recipe is unknown or does not fit; two arms have one name; or the reference is no arm.
    """
    found = [arm for said in study.recipes for arm in _of_recipe(said, study, root, folder)]
    if study.density:
        found += _densities(study, root, folder)
    if study.transfer:
        found += _transfers(study, root)
    names = [arm.name for arm in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(
            f"two arms would be called {twice}: name each value and task once, and give a recipe another name"
        )
    pairs = [name for pair in study.contrasts for name in pair]
    for name in [*pairs, *([study.reference] if study.reference else [])]:
        if name not in names:
            raise unknown("arm", name, names, "reference and contrasts name arms of the study")
    return found


def _of_recipe(said: Said, study: Study, root: Path, folder: Path) -> Iterator[Arm]:
    """One arm, or one for each way of matching."""
    spec = recipes.find(said.base or said.name, root)
    own = recipes.matched_by(recipes.derive(spec, said.changes, said.name, folder))
    if said.match and not own:
        raise UserError(f"recipe {said.name} is matched to no other: its match has no meaning")
    rules = (said.match or study.match) if own else []
    several = len(rules) > 1
    for by in rules or (None,):
        name = f"{said.name}-{by}" if several else said.name
        label = said.label or said.name
        recipe = recipes.derive(spec, said.changes | ({"match.by": by} if by else {}), name, folder)
        match, arguments = recipes.matched_by(recipe), {**study.arguments, **said.arguments}
        staged = is_staged(recipe)
        fixed = staged and load_staged(recipe).stages[0].share is None
        if fixed and match and match[0] == "steps" and "max_steps" not in arguments:
            raise UserError(
                f"recipe {said.name} has stages, whose lengths `match: steps` does not change: give it a "
                "`match` of its own, or hold steps equal with `arguments: {max_steps: ...}`"
            )
        yield Arm(
            name,
            f"{label}, equal {by}" if several else label,
            recipe,
            arguments,
            study.seeds,
            match=match,
            evaluate_on=_test_set(study, root),
            staged=staged,
        )


def _test_set(study: Study, root: Path) -> str | None:
    return recipes.find(study.evaluation.mixture, root) if study.evaluation.mixture else None


def _densities(study: Study, root: Path, folder: Path) -> Iterator[Arm]:
    """An arm a density; the recipe's own density is the recipe itself.

    Tasks an image grow in proportion with entries, from 1 at 1 to the recipe's own at its own. Training
    images are other patients than the recipe's, whose validation and test set serve all.
    """
    block = study.density
    assert block is not None
    base = recipes.find(block.recipe, root)
    tasks, entries, images = recipes.entries_of(base)
    total = block.entries or round(entries * images)
    arguments = {**study.arguments, **block.arguments}
    seeds = block.seeds or study.seeds
    for value in block.entries_per_image:
        name, label = f"density-{value:g}", f"{value:g} {'entry' if value == 1 else 'entries'} an image"
        changes: dict[str, Any] = {}
        if value != entries or total != round(entries * images):
            share = (value - 1) / (entries - 1) if entries > 1 else 0.0
            changes = {
                "images": {"train": max(1, round(total / value)), "validation": 0, "test": 0},
                "density": {
                    "tasks_per_image": round(min(value, 7.0, 1 + share * (tasks - 1)), 4),
                    "entries_per_image": value,
                },
                "first_patient": block.first_patient,
                "shares_of": base,  # left alone, sparse mixtures would have less of tasks with many entries
            }
        recipe = recipes.derive(base, changes, name, folder)
        test = base if recipe != base else None
        yield Arm(
            name,
            label,
            recipe,
            arguments,
            seeds,
            DENSITY,
            match=("entries", Path(base).stem) if changes else None,
            evaluate_on=_test_set(study, root) or test,
            probe_on=test,
            entries_per_image=value,
        )


def _transfers(study: Study, root: Path) -> Iterator[Arm]:
    block = study.transfer
    assert block is not None
    recipe = recipes.find(block.recipe, root)
    arguments, seeds = {**study.arguments, **block.arguments}, block.seeds or study.seeds
    common: dict[str, Any] = {"block": TRANSFER, "evaluate_on": _test_set(study, root)}
    yield Arm("all-tasks", "all tasks", recipe, arguments, seeds, **common)
    for task in block.tasks if block.train_on_one else ():
        only = arguments | {"tasks": [task]}
        yield Arm(f"only-{task}", f"only {task}", recipe, only, seeds, trained=task, **common)
    for task in block.tasks if block.leave_one_out else ():
        rest = [one for one in arguments.get("tasks") or TASKS if one != task]
        without = arguments | {"tasks": rest}
        yield Arm(f"without-{task}", f"without {task}", recipe, without, seeds, left_out=task, **common)
