"""Arms compared: means over seeds and differences, with intervals for other patients and other seeds.

The statistics are those of `eval.compare`: patients by the bootstrap that all runs share, seeds by Student's
t. p values of tasks are adjusted by Benjamini and Hochberg's procedure within each pair of arms.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from eval.compare import AVERAGE, Replicates, difference_of
from eval.seeds import over_seeds
from eval.stats import SEED
from harness.study.arms import DENSITY, MAIN, TRANSFER, Arm
from harness.study.results import Result, Results
from taco_probe.dynamics.differences import benjamini_hochberg

LEVEL = 0.05


@dataclass(frozen=True)
class Level:
    """A score of an arm with a model: mean over seeds. `low` and `high` are None where answers are not at
    hand, `sd` (n - 1) with one seed."""

    arm: str
    model: str
    task: str
    value: float
    low: float | None
    high: float | None
    sd: float | None
    seeds: int


@dataclass(frozen=True)
class Delta:
    """First arm minus second in points. `q` is p adjusted over tasks; None for the average."""

    first: str
    second: str
    model: str
    task: str
    value: float
    low: float
    high: float
    p: float
    q: float | None
    seeds: tuple[int, int]

    @property
    def shown(self) -> bool:
        """Whether the data show a difference: the average by its interval, a task by its q as well."""
        return (self.low > 0 or self.high < 0) and (self.q is None or self.q < LEVEL)


class Comparisons:
    """Levels of every arm and model, and differences of pairs."""

    def __init__(self, results: Results) -> None:
        self.results = results
        self.tasks = (*results.test["tasks"], AVERAGE)
        self._made: dict[tuple[str, str, str], Replicates] = {}
        self._numbers = {key: number for number, key in enumerate(results.plan.of)}

    def levels(self) -> list[Level]:
        """Of all arms with a finished run, the average last."""
        models = [model.name for model in self.results.plan.study.models]
        return [
            self._level(arm, model, task, found)
            for arm in self.results.plan.arms
            for model in models
            if (found := self.results.of(arm.name, model))
            for task in self.tasks
        ]

    def _level(self, arm: Arm, model: str, task: str, found: Sequence[Result]) -> Level:
        made = self._replicates(arm.name, model, task)
        if made:
            # Scores lie between 0 and 100, which Student's t with few seeds does not know.
            ends = max(0.0, made.ci_low), min(100.0, made.ci_high)
            return Level(arm.name, model, task, made.value, *ends, made.sd, made.seeds)
        values = [
            one.standing.average.value if task == AVERAGE else one.standing.cells[task].value for one in found
        ]
        sd = statistics.stdev(values) if len(values) > 1 else None
        return Level(arm.name, model, task, statistics.fmean(values), None, None, sd, len(values))

    def deltas(self, first: str, second: str) -> list[Delta]:
        """First minus second, by model: a line a task, then the average. None where one of them has no run
        with answers."""
        lines = []
        for model in (one.name for one in self.results.plan.study.models):
            lines += self._pair(first, second, model)
        return lines

    def _pair(self, first: str, second: str, model: str) -> list[Delta]:
        found = []
        for task in self.tasks:
            mine, theirs = (self._replicates(arm, model, task) for arm in (first, second))
            if not mine or not theirs:
                return []
            found.append((difference_of(mine, theirs, task), (mine.seeds, theirs.seeds)))
        q = [*benjamini_hochberg([one.p for one, _ in found[:-1]]), None]
        return [
            Delta(first, second, model, one.task, one.value, one.ci_low, one.ci_high, one.p, adjusted, seeds)
            for (one, seeds), adjusted in zip(found, q, strict=True)
        ]

    def _replicates(self, arm: str, model: str, task: str) -> Replicates | None:
        """Seeds as replicates; None unless all finished runs have their answers."""
        key = (arm, model, task)
        if key not in self._made:
            found = self.results.of(arm, model)
            scores = [one.scores for one in found if one.scores]
            if not found or len(scores) < len(found) or len({len(one.samples) for one in scores}) > 1:
                return None
            self._made[key] = over_seeds(scores, task, SEED + self._numbers[arm, model])
        return self._made[key]


def pairs(results: Results) -> list[tuple[str, str]]:
    """The pairs of arms that the study compares: each main arm with the reference, then its contrasts."""
    reference = results.plan.reference
    found = [
        (arm.name, reference) for arm in results.plan.arms if arm.block == MAIN and arm.name != reference
    ]
    contrasts = [(first, second) for first, second in results.plan.study.contrasts]
    known = {frozenset(pair) for pair in found}
    return found + [pair for pair in contrasts if frozenset(pair) not in known]


def density_pairs(results: Results) -> list[tuple[str, str]]:
    """Each density with the lowest one."""
    arms = sorted(_block(results, DENSITY), key=lambda arm: arm.entries_per_image or 0.0)
    return [(arm.name, arms[0].name) for arm in arms[1:]]


def transfer_pairs(results: Results) -> list[tuple[str, str]]:
    """Each arm that leaves a task out, or trains on one alone, with the one that trains on all."""
    arms = _block(results, TRANSFER)
    whole = [arm.name for arm in arms if not arm.trained and not arm.left_out]
    return [(arm.name, whole[0]) for arm in arms if arm.left_out or arm.trained]


def _block(results: Results, block: str) -> list[Arm]:
    return [arm for arm in results.plan.arms if arm.block == block]
