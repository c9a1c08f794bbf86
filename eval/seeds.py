"""Seeds as replicates: runs that share recipe, model and every setting but the seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.compare import AVERAGE, Difference, Replicates, difference_of, replicates
from eval.scores import Scores
from eval.standing import Standing
from eval.stats import SEED, holm

# Settings in which runs may differ and still be the same experiment: the seed, and names and places.
FREE = ("seed", "data_seed", "output_dir", "run_name", "logging_dir", "mixture")
MEASURED = "dynamics_"  # settings of what is measured beside training, which do not touch it
DEFAULT_SEED = 42  # of TrainingArguments: what a run.yaml without the key was trained with


@dataclass(frozen=True)
class Spread:
    """One score over seeds: mean, standard deviation (n - 1 in the denominator), minimum, maximum, and the
    95 % interval for other patients and other seeds (None without the test set)."""

    mean: float
    sd: float
    low: float
    high: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True)
class SeedGroup:
    """One experiment under several seeds. `names` and `seeds` go together; `left_out` are runs that repeat a
    seed."""

    recipe: str
    model: str
    names: Sequence[str]
    seeds: Sequence[int]
    left_out: Sequence[str]
    average: Spread
    tasks: Mapping[str, Spread]

    @property
    def name(self) -> str:
        return f"{self.recipe}, {self.model} ({self.names[0]} and {len(self.names) - 1} more)"


@dataclass(frozen=True)
class GroupDifference:
    """One group of seeds minus another: a line a task, Holm-adjusted, then the average."""

    first: str
    second: str
    lines: Sequence[Difference]


def seed_of(run: Standing) -> int | None:
    """The seed a run was trained with; None for a model as it came, or one whose settings are gone."""
    if not run.recipe or not run.settings:
        return None
    seed = run.settings.get("seed", DEFAULT_SEED)
    return seed if isinstance(seed, int) else None


def seed_groups(runs: Sequence[Standing]) -> list[SeedGroup]:
    """Groups of at least two seeds, in the order of their first runs. A seed counts once: a second run with
    it says nothing about the spread over seeds."""
    groups: dict[str, list[tuple[int, Standing]]] = {}
    for run in runs:
        seed = seed_of(run)
        if seed is not None:
            groups.setdefault(experiment(run.recipe, run.model, run.settings), []).append((seed, run))
    found = []
    for members in groups.values():
        by_seed: dict[int, Standing] = {}
        for seed, run in members:
            by_seed.setdefault(seed, run)
        if len(by_seed) > 1:
            found.append(_group(by_seed, [run.name for seed, run in members if run is not by_seed[seed]]))
    return found


def group_differences(groups: Sequence[SeedGroup], runs: Sequence[Standing]) -> list[GroupDifference]:
    """Every later group against the first, where the answers of their `runs` are at hand."""
    recomputed = {run.name: run.recomputed for run in runs}
    known = []
    for group in groups:
        scores = [found for name in group.names if (found := recomputed[name])]
        if len(scores) == len(group.names):
            known.append((group.name, scores))
    (second, theirs), *others = known or [("", [])]
    return [
        GroupDifference(first, second, _differences(mine, theirs, SEED + number))
        for number, (first, mine) in enumerate(others, start=1)
    ]


def _differences(first: Sequence[Scores], second: Sequence[Scores], seed: int) -> list[Difference]:
    lines = []
    for task in (*first[0].tasks, AVERAGE):
        mine, theirs = over_seeds(first, task, seed), over_seeds(second, task, SEED)
        lines.append(difference_of(mine, theirs, task))
    adjusted = holm([line.p for line in lines[:-1]])
    return [replace(line, p_holm=p) for line, p in zip(lines, [*adjusted, None], strict=True)]


def over_seeds(scores: Sequence[Scores], task: str, seed: int) -> Replicates:
    """A task's headline, or the average, of runs that differ in their seed only; `seed` as in
    `replicates`."""
    if task == AVERAGE:
        values, samples = [one.average.value for one in scores], [one.samples for one in scores]
    else:
        values = [one.tasks[task].value for one in scores]
        samples = [one.tasks[task].samples for one in scores]
    return replicates(values, samples, scores[0].patients, seed=seed)


def experiment(recipe: str, model: str, settings: Mapping[str, Any]) -> str:
    """What runs of one experiment have in common, as text: everything but the seed, names and places."""
    kept = {key: settings[key] for key in settings if key not in FREE and not key.startswith(MEASURED)}
    return json.dumps([recipe, model, kept], sort_keys=True, default=str)


def _group(by_seed: Mapping[int, Standing], left_out: Sequence[str]) -> SeedGroup:
    runs = list(by_seed.values())
    scores = [run.recomputed for run in runs if run.recomputed]
    known = scores if len(scores) == len(runs) else []
    return SeedGroup(
        recipe=runs[0].recipe,
        model=runs[0].model,
        names=[run.name for run in runs],
        seeds=list(by_seed),
        left_out=left_out,
        average=_spread([run.average.value for run in runs], known, AVERAGE),
        tasks={task: _spread([run.cells[task].value for run in runs], known, task) for task in runs[0].cells},
    )


def _spread(values: Sequence[float], scores: Sequence[Scores], task: str) -> Spread:
    low = high = None
    if scores:
        found = over_seeds(scores, task, SEED)
        low, high = found.ci_low, found.ci_high
    return Spread(statistics.fmean(values), statistics.stdev(values), min(values), max(values), low, high)
