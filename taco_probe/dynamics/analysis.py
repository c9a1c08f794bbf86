"""Everything that a comparison of dynamics says, as one JSON object; the page and the summary are made of
it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from data_recipes.errors import UserError
from taco_probe.dynamics import directions, tasks
from taco_probe.dynamics.conflict import cosines
from taco_probe.dynamics.differences import (
    Estimate,
    Replicate,
    benjamini_hochberg,
    difference,
    mean,
    replicate,
)
from taco_probe.dynamics.measurement import Measurement, Part
from taco_probe.dynamics.moments import Moments, matched
from taco_probe.dynamics.quantities import HEADLINES, TITLES, by_task, headlines, numbers
from taco_probe.dynamics.runs import Group, Series, groups
from taco_probe.dynamics.spectrum import curve, eigenvalues

_SIZES = (16, 32, 64, 128, 256, 512, 1024)


def analyse(runs: Sequence[Series], *, say: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """What was measured of these runs, compared.

    Args:
        say: told what is under way.

    Raises:
        UserError: no moment was measured in all runs, or nothing that all have in common.
    """
    found = groups(runs)
    counted = [run for group in found for run in group.runs]
    moments = matched(counted)
    measured = [moments.of(run, number) for run in counted for number in range(len(moments.at))]
    kinds = [kind for kind in measured[0].kinds() if all(kind in one.kinds() for one in measured)]
    if not kinds:
        raise UserError(
            "the runs have no kind of gradient in common: measure all with the same --dynamics_fisher"
        )
    kind = kinds[0]
    ends = [moments.last(run) for run in counted]
    at_end = [kind for kind in ends[0].kinds() if all(kind in one.kinds() for one in ends)]
    say("numbers of each Gram matrix")
    facts = ends[0].facts
    replicates = {
        (run.name, number): replicate(_gram(one, kind), one.patients, headlines)
        for run in counted
        for number in range(len(moments.at))
        if (one := moments.of(run, number))
    }
    say("task by task, part by part")
    last = {run.name: moments.steps[run.name][-1] for run in counted}
    untrained = [
        number
        for number in range(len(moments.at))
        if any(moments.of(run, number).facts["b_is_zero"] for run in counted)
    ]
    shown = _shown(counted, moments, kind, untrained)
    return {
        "probe": facts["probe"] | {"entries": len(facts["entries"]), "patients": len(set(facts["patients"]))},
        "reduction": facts["reduction"],
        "headline": {"fisher": kind[0], "form": kind[1]},
        "kinds": [list(one) for one in at_end],
        "moments": {
            "unit": moments.unit,
            "at": list(moments.at),
            "steps": {name: list(steps) for name, steps in moments.steps.items()},
            "totals": dict(moments.totals),
            "untrained": [moments.at[number] for number in untrained],
            "shown": [moments.at[number] for number in shown],
        },
        "titles": TITLES | tasks.TITLES,
        "groups": [_group(group) for group in found],
        "left_out": [run.name for run in runs if run not in counted],
        "runs": [_run(run, moments, shown, kind, at_end) for run in counted],
        "levels": [
            {
                "group": group.name,
                "quantity": name,
                "at": at,
                **_said(mean(_of(group, number, replicates), place)),
            }
            for group in found
            for place, name in enumerate(HEADLINES)
            for number, at in enumerate(moments.at)
        ],
        "differences": [
            {
                "first": first.name,
                "second": second.name,
                "quantity": name,
                "at": at,
                **_said(difference(_of(first, number, replicates), _of(second, number, replicates), place)),
            }
            for first, second in _pairs(found)
            for place, name in enumerate(HEADLINES)
            for number, at in enumerate(moments.at)
        ],
        "parts": _parts(found, moments, kind),
        "affinity": {group.name: _tried(group, moments, shown) for group in found},
        "updates": directions.between(counted, last)
        | {"along": {run.name: directions.along(run) for run in counted}},
    }


def _pairs(found: Sequence[Group]) -> list[tuple[Group, Group]]:
    return list(itertools.combinations(found, 2))


def _of(group: Group, number: int, replicates: dict[tuple[str, int], Replicate]) -> list[Replicate]:
    return [replicates[run.name, number] for run in group.runs]


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


def _shown(
    runs: Sequence[Series], moments: Moments, kind: tuple[str, str], untrained: Sequence[int]
) -> list[int]:
    """The moments at which tasks are compared: where most of them stand out of the noise (late in training
    often none does), and the last."""
    last = len(moments.at) - 1

    def standing(number: int) -> int:
        found = (moments.of(run, number) for run in runs)
        return sum(tasks.standing(cosines(_gram(one, kind), one.tasks)) for one in found)

    trained = [number for number in range(len(moments.at)) if number not in untrained] or [last]
    return sorted({max(trained, key=lambda number: (standing(number), number)), last})


def _run(
    run: Series,
    moments: Moments,
    shown: Sequence[int],
    kind: tuple[str, str],
    kinds: Sequence[tuple[str, str]],
) -> dict[str, Any]:
    end = moments.last(run)
    last, names = _gram(end, kind), end.tasks
    everywhere = [one for one in run.measured.values() if kind in one.kinds()]
    return {
        "name": run.name,
        "recipe": run.recipe,
        "model": run.model,
        "seed": run.seed,
        "mixture_hash": end.facts.get("mixture_hash"),
        "model_hash": end.facts.get("model_hash"),
        "exact": all(one.facts["exact"] for one in run.measured.values()),
        "cosine_error": end.facts.get("cosine_error", {}).get(kind[0], {}).get(kind[1], 0.0),
        "steps": [_step(one, kind) | {"at": moments.place(run, one.step)} for one in everywhere],
        "kinds": {" ".join(one): numbers(_gram(end, one)) for one in kinds},
        "tasks": by_task(last, names),
        "spectrum": eigenvalues(last).tolist(),
        "curve": [point._asdict() for point in curve(last, [n for n in _SIZES if n <= len(last)])],
        "between": [
            {
                "at": moments.at[number],
                "cosines": tasks.matrices(kernel, names),
                "conflicts": tasks.conflicts(kernel, names),
            }
            for number in shown
            for kernel in [_gram(moments.of(run, number), kind)]
        ],
        "lengths": directions.by_module(run, end.step),
    }


def _step(found: Measurement, kind: tuple[str, str]) -> dict[str, Any]:
    kernel, losses = _gram(found, kind), found.facts["losses"].get("empirical", [])
    by_name: dict[str, list[float]] = {}
    for task, loss in zip(found.tasks, losses, strict=bool(losses)):
        by_name.setdefault(task, []).append(loss)
    return {
        "step": found.step,
        "numbers": numbers(kernel) | tasks.overall(kernel, found.tasks),
        "losses": {task: sum(values) / len(values) for task, values in by_name.items()},
        "b_is_zero": found.facts["b_is_zero"],
        "seconds": found.facts["seconds"],
    }


def _parts(found: Sequence[Group], moments: Moments, kind: tuple[str, str]) -> dict[str, Any]:
    """Headlines of each part of the model that all runs have, at the last moment, and the differences between
    groups, adjusted for the number of parts."""
    ends = {run.name: moments.last(run) for group in found for run in group.runs}
    held = [
        {(part.third, part.kind) for part in end.grams if (part.fisher, part.form) == kind}
        for end in ends.values()
    ]
    places = sorted(set.intersection(*held), key=_rank)
    made = {
        (name, place): replicate(_gram(end, kind, partial(_stands, place)), end.patients, headlines)
        for name, end in ends.items()
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
        "places": [list(place) for place in places],
        "levels": levels,
        "differences": compared,
    }


def _stands(place: tuple[str, str], part: Part) -> bool:
    return (part.third, part.kind) == place


def _rank(place: tuple[str, str]) -> tuple[int, str]:
    thirds = ("early", "middle", "late")
    return (thirds.index(place[0]) if place[0] in thirds else len(thirds)), place[1]


def _tried(group: Group, moments: Moments, shown: Sequence[int]) -> list[dict[str, Any]]:
    """At the moments that are shown, or else the last, at which steps were tried in all runs of the group."""

    def tried(numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
        for number in numbers:
            if made := tasks.affinities([moments.of(run, number) for run in group.runs]):
                yield made | {"at": moments.at[number]}

    return list(tried(shown)) or list(itertools.islice(tried(reversed(range(len(moments.at)))), 1))
