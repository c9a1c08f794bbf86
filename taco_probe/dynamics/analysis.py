"""Everything that a comparison of dynamics says, as one JSON object; the page and the summary are made of
it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import directions, tasks
from taco_probe.dynamics.differences import (
    Estimate,
    Replicate,
    benjamini_hochberg,
    difference,
    mean,
    replicate,
)
from taco_probe.dynamics.measurement import Measurement, Part
from taco_probe.dynamics.quantities import HEADLINES, TITLES, by_task, headlines, numbers
from taco_probe.dynamics.runs import Group, Series, common_steps, groups
from taco_probe.dynamics.spectrum import curve, eigenvalues

_SIZES = (16, 32, 64, 128, 256, 512, 1024)


def analyse(runs: Sequence[Series], *, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """What was measured of these runs, compared.

    Args:
        say: told what is under way.

    Raises:
        UserError: no step was measured in all runs, or nothing that all have in common.
    """
    found = groups(runs)
    steps = common_steps(runs)
    if not steps:
        listed = "; ".join(f"{run.name}: {', '.join(map(str, run.measured))}" for run in runs)
        raise UserError(f"the runs have no measured step in common ({listed})")
    measured = [one for run in runs for step, one in run.measured.items() if step in steps]
    kinds = [kind for kind in measured[0].kinds() if all(kind in one.kinds() for one in measured)]
    later = [kind for kind in runs[0].last.kinds() if all(kind in run.last.kinds() for run in runs)]
    kind = kinds[0]
    say("numbers of each Gram matrix")
    facts = runs[0].last.facts
    replicates = {
        (run.name, step): replicate(_gram(run.measured[step], kind), run.measured[step].patients, headlines)
        for run in runs
        for step in steps
    }
    say("task by task, part by part")
    return {
        "probe": facts["probe"] | {"entries": len(facts["entries"]), "patients": len(set(facts["patients"]))},
        "reduction": facts["reduction"],
        "headline": {"fisher": kind[0], "form": kind[1]},
        "kinds": [list(one) for one in later],
        "steps": steps,
        "titles": TITLES,
        "groups": [_group(group) for group in found],
        "runs": [_run(run, kind, later) for run in runs],
        "levels": [
            {
                "group": group.name,
                "quantity": name,
                "step": step,
                **_said(mean(_of(group, step, replicates), place)),
            }
            for group in found
            for place, name in enumerate(HEADLINES)
            for step in steps
        ],
        "differences": [
            {
                "first": first.name,
                "second": second.name,
                "quantity": name,
                "step": step,
                **_said(difference(_of(first, step, replicates), _of(second, step, replicates), place)),
            }
            for first, second in _pairs(found)
            for place, name in enumerate(HEADLINES)
            for step in steps
        ],
        "parts": _parts(found, kind, steps[-1]),
        "affinity": {
            group.name: {str(step): tried for step in steps if (tried := _tried(group, step))}
            for group in found
        },
        "updates": directions.between(runs) | {"along": {run.name: directions.along(run) for run in runs}},
    }


def _pairs(found: Sequence[Group]) -> list[tuple[Group, Group]]:
    return list(itertools.combinations(found, 2))


def _of(group: Group, step: int, replicates: dict[tuple[str, int], Replicate]) -> list[Replicate]:
    return [replicates[run.name, step] for run in group.runs]


def _said(estimate: Estimate) -> dict[str, Any]:
    return asdict(estimate)


def _gram(found: Measurement, kind: tuple[str, str], *where: Callable[[Part], bool]) -> torch.Tensor:
    return torch.from_numpy(found.gram(*kind, *where))


def _group(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "recipe": group.runs[0].recipe,
        "model": group.runs[0].model,
        "runs": [run.name for run in group.runs],
        "seeds": group.seeds,
    }


def _run(run: Series, kind: tuple[str, str], kinds: Sequence[tuple[str, str]]) -> dict[str, Any]:
    last = _gram(run.last, kind)
    names = run.last.tasks
    return {
        "name": run.name,
        "recipe": run.recipe,
        "model": run.model,
        "seed": run.seed,
        "mixture_hash": run.last.facts.get("mixture_hash"),
        "model_hash": run.last.facts.get("model_hash"),
        "steps": [_step(one, kind) for _, one in sorted(run.measured.items())],
        "kinds": {" ".join(one): numbers(_gram(run.last, one)) for one in kinds},
        "tasks": by_task(last, names),
        "spectrum": eigenvalues(last).tolist(),
        "curve": [point._asdict() for point in curve(last, [n for n in _SIZES if n <= len(last)])],
        "cosines": tasks.matrices(last, names),
        "conflicts": tasks.conflicts(last, names),
        "lengths": dict(directions.by_module(run)),
    }


def _step(found: Measurement, kind: tuple[str, str]) -> dict[str, Any]:
    losses = found.facts["losses"].get("empirical", [])
    by_name: dict[str, list[float]] = {}
    for task, loss in zip(found.tasks, losses, strict=bool(losses)):
        by_name.setdefault(task, []).append(loss)
    return {
        "step": found.step,
        "numbers": numbers(_gram(found, kind)),
        "losses": {task: sum(values) / len(values) for task, values in by_name.items()},
        "b_is_zero": found.facts["b_is_zero"],
        "seconds": found.facts["seconds"],
    }


def _parts(found: Sequence[Group], kind: tuple[str, str], step: int) -> dict[str, Any]:
    """Headlines of each part of the model at one step, and the differences between groups, adjusted for the
    number of parts."""
    first = found[0].runs[0].measured[step]
    places = sorted(
        {(part.third, part.kind) for part in first.grams if (part.fisher, part.form) == kind}, key=_rank
    )
    made = {
        (run.name, place): replicate(
            _gram(run.measured[step], kind, partial(_stands, place)), run.measured[step].patients, headlines
        )
        for group in found
        for run in group.runs
        for place in places
    }
    levels = [
        {"group": group.name, "third": place[0], "kind": place[1], "quantity": name}
        | _said(mean([made[run.name, place] for run in group.runs], number))
        for group in found
        for place in places
        for number, name in enumerate(HEADLINES)
    ]
    compared = []
    for one, other in _pairs(found):
        for number, name in enumerate(HEADLINES):
            rows = [
                {
                    "first": one.name,
                    "second": other.name,
                    "third": place[0],
                    "kind": place[1],
                    "quantity": name,
                }
                | _said(
                    difference(
                        [made[run.name, place] for run in one.runs],
                        [made[run.name, place] for run in other.runs],
                        number,
                    )
                )
                for place in places
            ]
            adjusted = benjamini_hochberg([row["p"] for row in rows])
            compared += [row | {"q": q} for row, q in zip(rows, adjusted, strict=True)]
    return {
        "step": step,
        "places": [list(place) for place in places],
        "levels": levels,
        "differences": compared,
    }


def _stands(place: tuple[str, str], part: Part) -> bool:
    return (part.third, part.kind) == place


def _rank(place: tuple[str, str]) -> tuple[int, str]:
    thirds = ("early", "middle", "late")
    return (thirds.index(place[0]) if place[0] in thirds else len(thirds)), place[1]


def _tried(group: Group, step: int) -> dict[str, Any] | None:
    return tasks.affinities([run.measured[step] for run in group.runs])
