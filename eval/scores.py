"""Scores of one set of answers: every metric with its interval, tables, the multi-task average."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from data_recipes.records import Entry, Image
from data_recipes.tasks import TASKS
from eval.answers import Answer
from eval.metrics import FloatArray, Metric, Table
from eval.stats import RESAMPLES, SEED, interval, patient_sums, resampled_sums
from eval.tasks import metrics, tables


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
    """The metrics of one task, the headline first. Of the headline also: `samples` (resamples,), its
    resampled values, and `sums` (patients, k), which `metric` finishes."""

    metric: Metric
    estimates: Mapping[str, Estimate]
    samples: FloatArray
    sums: FloatArray
    n: int
    unparsed: int
    not_computed: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        return self.metric.name

    @property
    def value(self) -> float:
        """Of the headline."""
        return self.estimates[self.headline].value

    def to_json(self) -> dict[str, Any]:
        return {
            "headline": self.headline,
            "metrics": {name: estimate.to_json() for name, estimate in self.estimates.items()},
            "unparsed": self.unparsed,
            "n": self.n,
            "not_computed": dict(self.not_computed),
            "tables": {name: asdict(table) for name, table in self.tables.items()},
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
    headlines = [scored.value for scored in tasks.values()]
    samples = np.mean([scored.samples for scored in tasks.values()], axis=0)
    average = Estimate(float(np.mean(headlines)), *interval(samples, len(patients)), len(tasks))
    return Scores(tasks, average, samples, len(patients), held_out_hash(answer.entry for answer in answers))


class _TaskPlan:
    """The metrics of one task with their sums per patient, each (patients, k)."""

    def __init__(self, task: str, answers: Sequence[Answer], index: Mapping[str, int]) -> None:
        self.n = len(answers)
        self.unparsed = sum(answer.predicted is None for answer in answers)
        self.tables = tables(task, answers)
        self.metrics, self.counts, self.sums = [], [], []
        self.not_computed: dict[str, str] = {}
        for metric in metrics(task, answers):
            counted = [answer for answer in answers if metric.where(answer)]
            if not counted:
                self.not_computed[metric.name] = metric.otherwise
                continue
            patient = np.array([index[answer.patient_id] for answer in counted], dtype=np.intp)
            self.metrics.append(metric)
            self.counts.append(len(counted))
            self.sums.append(patient_sums(metric.rows(counted), patient, len(index)))
        self.width = sum(part.shape[1] for part in self.sums)

    def finish(self, drawn: FloatArray) -> TaskScore:
        """The task's score from resampled sums (resamples, width)."""
        estimates: dict[str, Estimate] = {}
        headline, start = np.empty(0), 0
        for metric, n, sums in zip(self.metrics, self.counts, self.sums, strict=True):
            samples = metric.finish(drawn[:, start : start + sums.shape[1]])
            start += sums.shape[1]
            value = float(metric.finish(sums.sum(axis=0)))
            if metric is self.metrics[0]:
                headline = samples
            if not math.isfinite(value):
                self.not_computed[metric.name] = "not defined on these answers"
                continue
            estimates[metric.name] = Estimate(
                value, *interval(samples, len(sums)), n, metric.unit, metric.higher_is_better
            )
        first = self.metrics[0]
        return TaskScore(
            first, estimates, headline, self.sums[0], self.n, self.unparsed, self.not_computed, self.tables
        )


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
