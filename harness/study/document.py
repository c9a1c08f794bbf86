"""All that the report of a study says, as one JSON object; page, figures and summary are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from eval.compare import AVERAGE
from harness.study import fairness, pseudo_labels
from harness.study.arms import DENSITY, TRANSFER
from harness.study.compared import LEVEL, Comparisons, Delta, density_pairs, pairs, transfer_pairs
from harness.study.correlation import PEARSON, SPEARMAN, correlation
from harness.study.results import Result, Results
from harness.study.state import DONE
from taco_probe.dynamics.differences import benjamini_hochberg
from taco_probe.dynamics.quantities import HEADLINES, TITLES

# Of the numbers of a Gram matrix, those set beside scores.
BESIDE = (*HEADLINES, "participation_debiased", "gradient", "effective_entries", "noise_scale")


def document(results: Results) -> dict[str, Any]:
    """The content of study.json, less the summary."""
    plan, study = results.plan, results.plan.study
    comparisons = Comparisons(results)
    table = fairness.rows(results)
    return {
        "name": study.name,
        "description": study.description,
        "reference": plan.reference,
        "models": [model.name for model in study.models],
        "arms": [
            {
                "name": arm.name,
                "label": arm.label,
                "block": arm.block,
                "match": list(arm.match) if arm.match else None,
                "entries_per_image": arm.entries_per_image,
                "trained": arm.trained,
                "left_out": arm.left_out,
                "seeds": list(arm.seeds),
            }
            for arm in plan.arms
        ],
        "test": results.test,
        "notes": results.notes,
        "runs": [_run(results, run.name) for run in plan.runs],
        "kept": [path.name for path in plan.kept()],
        "levels": [asdict(level) for level in comparisons.levels()],
        "differences": _deltas(comparisons, pairs(results)),
        "density": {
            "arms": [arm.name for arm in plan.arms if arm.block == DENSITY],
            "differences": _deltas(comparisons, density_pairs(results)),
        },
        "transfer": _transfer(results, comparisons),
        "fairness": [asdict(row) for row in table],
        "warnings": fairness.warnings(results, table),
        "pseudo_labels": [asdict(row) for row in pseudo_labels.rows(results)],
        "moment": results.moment,
        "correlations": _correlations(results),
        "cost": _cost(results),
    }


def _run(results: Results, name: str) -> dict[str, Any]:
    run, state = results.plan.run(name), results.states[name]
    said = {
        "name": name,
        "arm": run.arm.name,
        "model": run.model.name,
        "seed": run.seed,
        "state": state.kind,
        "detail": state.detail,
        "key": run.key[:16],
    }
    one = results.found.get(name)
    if one is None:
        return said | dict.fromkeys(("average", "tasks", "dynamics", "costs", "mixture_hash", "left_out"))
    costs = {column: getattr(one.costs, column) for column in (*fairness.COLUMNS, "killed")}
    return said | {
        "average": one.standing.average.value,
        "tasks": {task: cell.value for task, cell in one.standing.cells.items()},
        "dynamics": one.dynamics,
        "costs": costs,
        "mixture_hash": one.costs.settings.get("mixture_hash"),
    }


def _deltas(comparisons: Comparisons, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [_said(one) for first, second in wanted for one in comparisons.deltas(first, second)]


def _said(one: Delta) -> dict[str, Any]:
    return asdict(one) | {"shown": one.shown}


def _transfer(results: Results, comparisons: Comparisons) -> dict[str, Any]:
    """Differences to training on all tasks. The matrix is read as a whole, so q is adjusted over it: over
    what leaving a task out does to the others, and over what training on one task alone does to it, by model.
    The other cells, tasks that an arm was not trained on, differ for sure: they have no q, and would lower
    that of the rest."""
    arms = {arm.name: arm for arm in results.plan.arms if arm.block == TRANSFER}
    found = _deltas(comparisons, transfer_pairs(results))
    families: dict[tuple[bool, str], list[dict[str, Any]]] = {}
    for one in (one for one in found if one["task"] != AVERAGE):
        arm = arms[one["first"]]
        trained = one["task"] == arm.trained if arm.trained else one["task"] != arm.left_out
        one |= {"q": None, "shown": False}
        if trained:
            families.setdefault((bool(arm.trained), one["model"]), []).append(one)
    for cells in families.values():
        for one, q in zip(cells, benjamini_hochberg([one["p"] for one in cells]), strict=True):
            one |= {"q": q, "shown": q < LEVEL and (one["low"] > 0 or one["high"] < 0)}
    return {"arms": list(arms), "differences": found}


def _correlations(results: Results) -> list[dict[str, Any]]:
    """Of each number of the dynamics with the average, by model, over arms and within them; q is adjusted
    over all of these, for each method. Arms of the transfer matrix stay out: their scores are low for another
    reason."""
    lines = []
    for model in (one.name for one in results.plan.study.models):
        found = [
            one
            for one in results.found.values()
            if one.dynamics and one.run.model.name == model and one.run.arm.block != TRANSFER
        ]
        lines += [
            _correlated(found, model, name, method, within)
            for within in (False, True)
            for method in (SPEARMAN, PEARSON)
            for name in (BESIDE if found else ())
        ]
    for method in (SPEARMAN, PEARSON):
        tested = [row for row in lines if row["method"] == method and row["p"] is not None]
        for row, q in zip(tested, benjamini_hochberg([row["p"] for row in tested]), strict=True):
            row["q"] = q
    return lines


def _correlated(found: Sequence[Result], model: str, name: str, method: str, within: bool) -> dict[str, Any]:
    known = [(one, value) for one in found if one.dynamics and (value := one.dynamics.get(name)) is not None]
    made = correlation(
        [value for _, value in known],
        [one.standing.average.value for one, _ in known],
        [one.run.arm.name for one, _ in known],
        method=method,
        within=within,
    )
    return {"model": model, "quantity": name, "title": TITLES[name], "q": None} | asdict(made)


def _cost(results: Results) -> dict[str, Any]:
    """Sums over all finished runs, each counted once."""
    costs = [one.costs for one in results.found.values()]
    return {
        "runs": len(costs),
        "planned": len(results.plan.runs),
        "done": sum(state.kind == DONE for state in results.states.values()),
        "seconds": sum(one.seconds for one in costs),
        "train_seconds": sum(one.train_seconds for one in costs),
        "annotation_seconds": sum(one.annotation_seconds for one in costs),
        "full_seconds": sum(one.full_seconds for one in costs),
        "processor_seconds": sum(one.processor_seconds for one in costs),
        "tokens_computed": sum(one.tokens_computed for one in costs),
        "tokens_fed": sum(one.tokens_fed for one in costs),
        "killed": sum(one.killed for one in costs),
    }


def level(document: Mapping[str, Any], arm: str, model: str, task: str = AVERAGE) -> dict[str, Any] | None:
    """A level by its names; None where there is none."""
    for row in document["levels"]:
        if (row["arm"], row["model"], row["task"]) == (arm, model, task):
            return dict(row)
    return None
