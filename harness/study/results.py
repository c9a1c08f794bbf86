"""What the finished runs of a plan came to: scores with their resamples, dynamics, costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from data_recipes.errors import UserError
from eval.board import held_out
from eval.scores import Scores
from eval.standing import Standing, read_standing, with_answers
from eval.stats import RESAMPLES
from harness.study.costs import Costs, costs
from harness.study.planning import Plan, Run
from harness.study.state import DONE, State, state_of
from taco_probe.dynamics import measurement
from taco_probe.dynamics.measurement import Measurement, equal_probes
from taco_probe.dynamics.quantities import numbers

SCORED = ("mixture_name", "split", "limit", "entries", "patients")


@dataclass(frozen=True)
class Result:
    """A finished run. `scores` is None where its answers or the test set are not at hand; `dynamics` holds
    the numbers of the Gram matrix at its last measured step."""

    run: Run
    standing: Standing
    scores: Scores | None
    costs: Costs
    dynamics: dict[str, float | None] | None = None


@dataclass(frozen=True)
class Results:
    """All that the report rests on.

    Attributes:
        found: by the name of the run.
        states: of every run of the plan.
        test: which test set all of `found` were scored on.
        notes: what was left out, and why.
        moment: when the dynamics of `found` were measured, such as "at the end"; "" without any.
    """

    plan: Plan
    found: dict[str, Result]
    states: dict[str, State]
    test: dict[str, Any]
    notes: list[str]
    moment: str = ""

    def of(self, arm: str, model: str) -> list[Result]:
        """The finished runs of an arm with a model, in the order of seeds."""
        runs = self.plan.of.get((arm, model), ())
        return [self.found[run.name] for run in runs if run.name in self.found]


def collect(plan: Plan, *, say: Callable[[str], None] = lambda text: None) -> Results:
    """Reads every finished run.

    Raises:
        UserError: no run is finished, or a file of one is broken.
    """
    states = {run.name: state_of(plan, run) for run in plan.runs}
    done = [run for run in plan.runs if states[run.name].kind == DONE]
    if not done:
        raise UserError(f"{plan.folder}: no run is finished, so there is nothing to report: imax study run")
    standings = {run.name: read_standing(run.name, run.scores) for run in done}
    notes: list[str] = []
    hashes = Counter(one.test_hash for one in standings.values())
    chosen = hashes.most_common(1)[0][0]
    for run in done:
        if standings[run.name].test_hash != chosen:
            notes.append(f"{run.name} was scored on another test set than most runs and is left out.")
            del standings[run.name]
    done = [run for run in done if run.name in standings]
    say(f"scores of {len(done)} runs")
    scores = _scores(standings, chosen, notes)
    moment = ""
    found = {run.name: Result(run, standings[run.name], scores[run.name], costs(run.folder)) for run in done}
    if plan.study.dynamics:
        say("dynamics")
        found, moment = _with_dynamics(found, notes)
    first = next(iter(standings.values())).scores
    test = {key: first.get(key) for key in SCORED} | {
        "hash": chosen,
        "mixture_hash": first.get("mixture_hash"),
    }
    test["tasks"] = {task: scored["headline"] for task, scored in first["tasks"].items()}
    return Results(plan, found, states, test, notes, moment)


def _scores(standings: dict[str, Standing], test_hash: str, notes: list[str]) -> dict[str, Scores | None]:
    """Each run's scores with their resamples of patients, which all runs share."""
    pairs, _, said = held_out([one.scores for one in standings.values()], test_hash)
    notes += said
    found: dict[str, Scores | None] = {}
    for name, one in standings.items():
        resamples = one.scores.get("interval", {}).get("resamples", RESAMPLES)
        again = with_answers(one, pairs, resamples)
        found[name] = again.recomputed
        if again.stale:
            notes.append(f"{name}: its predictions.jsonl no longer gives its scores: score it again.")
    return found


def _with_dynamics(found: dict[str, Result], notes: list[str]) -> tuple[dict[str, Result], str]:
    """The results with the numbers of their last measured step, all of the same kind of Gram matrix; and when
    that was."""
    ends: dict[str, Measurement] = {}
    for name, result in found.items():
        folder: Path = result.run.folder / measurement.FOLDER
        if steps := measurement.steps(folder):
            ends[name] = measurement.read(folder, steps[-1])
    if not ends:
        return found, ""
    try:
        equal_probes(ends.values())
    except UserError as error:
        notes.append(f"Dynamics are left out: {error}.")
        return found, ""
    kinds = [kind for kind in next(iter(ends.values())).kinds() if _all_have(kind, list(ends.values()))]
    if not kinds:
        notes.append("Dynamics are left out: the runs have no kind of gradient in common.")
        return found, ""
    said = {
        name: replace(found[name], dynamics=numbers(torch.from_numpy(end.gram(*kinds[0]))))
        for name, end in ends.items()
    }
    return found | said, _moment(list(ends.values()), notes)


def _moment(ends: Sequence[Measurement], notes: list[str]) -> str:
    """In words, which part of training has been taken when runs were measured."""
    parts = {round(100 * one.step / (one.facts.get("max_steps") or one.step or 1)) for one in ends}
    if len(parts) > 1:
        said = ", ".join(f"{part} %" for part in sorted(parts))
        notes.append(f"Dynamics were last measured after different parts of training ({said}).")
        return "at the last measured step"
    (part,) = parts
    return {0: "at the start", 100: "at the end"}.get(part, f"after {part} % of training")


def _all_have(kind: tuple[str, str], ends: Sequence[Measurement]) -> bool:
    return all(kind in end.kinds() for end in ends)
