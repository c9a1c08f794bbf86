"""Scores of one set of answers: every metric with its interval, the multi-task average, differences of two
runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_recipes.records import Entry, Image
from data_recipes.tasks import TASKS
from eval.answers import Answer
from eval.metrics import FloatArray
from eval.stats import RESAMPLES, SEED, holm, interval, p_value, patient_sums, resampled_sums
from eval.tasks import metrics

AVERAGE = "multi_task_average"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `n` is the number of answers (for the average: of tasks) behind it."""

    value: float
    ci_low: float
    ci_high: float
    n: int
    unit: str = "%"
    higher_is_better: bool = True

    def to_json(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 6),
            "ci_low": round(self.ci_low, 6),
            "ci_high": round(self.ci_high, 6),
            "n": self.n,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
        }


@dataclass(frozen=True)
class TaskScore:
    """The metrics of one task, the headline first. `samples` (resamples,) are the headline's resampled
    values."""

    headline: str
    estimates: Mapping[str, Estimate]
    samples: FloatArray
    n: int
    unparsed: int
    not_computed: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline,
            "metrics": {name: estimate.to_json() for name, estimate in self.estimates.items()},
            "unparsed": self.unparsed,
            "n": self.n,
            "not_computed": dict(self.not_computed),
        }


@dataclass(frozen=True)
class Scores:
    """Scores of all tasks in one test set, which `test_hash` tells from others."""

    tasks: Mapping[str, TaskScore]
    average: Estimate
    samples: FloatArray
    patients: int
    test_hash: str


def score(answers: Sequence[Answer], *, resamples: int = RESAMPLES, seed: int = SEED) -> Scores:
    """Scores answers, one for each entry of a test set.

    Raises:
        ValueError: there are no answers.
    """
    if not answers:
        raise ValueError("nothing to score: the test set has no entries")
    patients = sorted({answer.patient_id for answer in answers})
    index = {patient: i for i, patient in enumerate(patients)}
    by_task = {task: [a for a in answers if a.entry.task == task] for task in TASKS}
    plans = {task: _TaskPlan(task, found, index) for task, found in by_task.items() if found}
    # One product of weights and sums for all metrics of all tasks.
    sums = np.concatenate([part for plan in plans.values() for part in plan.sums], axis=1)
    drawn = resampled_sums(sums, resamples=resamples, seed=seed)
    tasks, start = {}, 0
    for task, plan in plans.items():
        tasks[task] = plan.finish(drawn[:, start : start + plan.width])
        start += plan.width
    headlines = [scored.estimates[scored.headline].value for scored in tasks.values()]
    samples = np.mean([scored.samples for scored in tasks.values()], axis=0)
    average = Estimate(float(np.mean(headlines)), *interval(samples), len(tasks))
    return Scores(tasks, average, samples, len(patients), held_out_hash(answer.entry for answer in answers))


class _TaskPlan:
    """The metrics of one task with their sums per patient, each (patients, k)."""

    def __init__(self, task: str, answers: Sequence[Answer], index: Mapping[str, int]) -> None:
        self.n = len(answers)
        self.unparsed = sum(answer.predicted is None for answer in answers)
        self.metrics, self.counts, self.sums = [], [], []
        self.not_computed: dict[str, str] = {}
        for metric in metrics(task, answers):
            counted = [answer for answer in answers if metric.where(answer)]
            if not counted:
                self.not_computed[metric.name] = "no entry of the test set is of this kind"
                continue
            patient = np.array([index[answer.patient_id] for answer in counted], dtype=np.intp)
            self.metrics.append(metric)
            self.counts.append(len(counted))
            self.sums.append(patient_sums(metric.rows(counted), patient, len(index)))
        self.width = sum(part.shape[1] for part in self.sums)

    def finish(self, drawn: FloatArray) -> TaskScore:
        """The task's score from resampled sums (resamples, width)."""
        estimates, headline, start = {}, np.empty(0), 0
        for metric, n, sums in zip(self.metrics, self.counts, self.sums, strict=True):
            samples = metric.finish(drawn[:, start : start + sums.shape[1]])
            start += sums.shape[1]
            value = float(metric.finish(sums.sum(axis=0)))
            estimates[metric.name] = Estimate(
                value, *interval(samples), n, metric.unit, metric.higher_is_better
            )
            if len(estimates) == 1:
                headline = samples
        first = self.metrics[0].name
        return TaskScore(first, estimates, headline, self.n, self.unparsed, self.not_computed)


@dataclass(frozen=True)
class Difference:
    """First run minus second on one task's headline, or on the multi-task average (never Holm-adjusted)."""

    task: str
    value: float
    ci_low: float
    ci_high: float
    p: float
    p_holm: float | None


def compare(first: Scores, second: Scores) -> list[Difference]:
    """Paired differences of two runs on the same entries: a line a task, Holm-adjusted over tasks, then the
    average.

    Raises:
        ValueError: the runs were not scored on the same test set with the same number of resamples.
    """
    if first.test_hash != second.test_hash:
        raise ValueError("runs on different test sets can't be compared")
    if first.samples.shape != second.samples.shape:
        raise ValueError("runs scored with different numbers of resamples can't be paired")
    found = []
    for task, mine in first.tasks.items():
        theirs = second.tasks[task]
        samples = mine.samples - theirs.samples
        value = mine.estimates[mine.headline].value - theirs.estimates[theirs.headline].value
        found.append((task, value, *interval(samples), p_value(samples)))
    adjusted = holm([line[-1] for line in found])
    lines = [Difference(*line, p_holm=p) for line, p in zip(found, adjusted, strict=True)]
    samples = first.samples - second.samples
    value = first.average.value - second.average.value
    return [*lines, Difference(AVERAGE, value, *interval(samples), p_value(samples), None)]


def held_out_hash(entries: Iterable[Entry]) -> str:
    """What makes test sets the same: sha256 over ids, tasks, prompts, targets and boxes, in any order. Two
    mixtures that differ in training data only have the same."""
    lines = sorted(
        json.dumps([e.entry_id, e.task, e.prompt, e.target, [b.xyxy for b in e.boxes]]) for e in entries
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def spread(pairs: Sequence[tuple[Image, Entry]], limit: int | None) -> list[tuple[Image, Entry]]:
    """The entries of `limit` images, evenly spaced; of all where there are no more, or no limit."""
    images = list(dict.fromkeys(image.image_id for image, _ in pairs))
    if limit is None or limit >= len(images):
        return list(pairs)
    chosen = {images[i * len(images) // limit] for i in range(limit)}
    return [pair for pair in pairs if pair[0].image_id in chosen]
