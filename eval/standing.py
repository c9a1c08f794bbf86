"""A run as the leaderboard sees it: scores, settings and, where the test set is at hand, answers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image
from data_recipes.schema import read_keys
from eval.answers import Answer
from eval.predictions import answers_from_rows, read_own
from eval.runs import read_json
from eval.scores import Scores, score


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Cell(Interval):
    """A run's headline on one task beside its best trivial baseline (None where there is none)."""

    n: int
    unparsed: int
    baseline: float | None
    baseline_name: str

    @property
    def beats_baseline(self) -> bool:
        return self.baseline is not None and self.ci_low > self.baseline


@dataclass(frozen=True)
class Standing:
    """A run in the ranking. `rows` are the lines of its `predictions.jsonl`, `answers` what they say (None
    without the mixture); `settings` is its `run.yaml`, empty where it was not trained or the file is gone;
    `stale` says that its predictions do not give its scores."""

    name: str
    folder: Path
    scores: Mapping[str, Any]
    settings: Mapping[str, Any]
    cells: Mapping[str, Cell]
    average: Interval
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    answers: Sequence[Answer] | None = field(default=None, repr=False)
    recomputed: Scores | None = field(default=None, repr=False)
    stale: bool = False

    def answers_of(self, task: str) -> list[Answer]:
        return [answer for answer in self.answers or () if answer.entry.task == task]

    @property
    def run_folder(self) -> Path:
        return _run_folder(self.folder)

    @property
    def test_hash(self) -> str:
        """What tells test sets apart; scores from elsewhere may name their mixture only."""
        return str(self.scores.get("test_hash") or self.scores.get("mixture_hash"))

    @property
    def model(self) -> str:
        return str(self.scores.get("model") or "")

    @property
    def recipe(self) -> str:
        """What it was trained on; "" for a model as it came."""
        return str(self.scores.get("recipe") or "") if self.scores.get("adapter") else ""


def read_standing(name: str, folder: Path) -> Standing:
    """The scored run in a folder.

    Raises:
        UserError: it holds no scores, or they are broken.
    """
    if not (folder / "scores.json").is_file():
        raise UserError(f"{folder} has no scores.json: score it first with `imax eval {folder}`")
    scores = read_json(folder / "scores.json")
    try:
        cells = {task: _cell(scores, task) for task in scores["tasks"]}
        average = Interval(*(scores["multi_task_average"][key] for key in ("value", "ci_low", "ci_high")))
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{folder / 'scores.json'} lacks parts: score the run again") from None
    if not (scores.get("test_hash") or scores.get("mixture_hash")):
        raise UserError(f"{folder / 'scores.json'} names no test set: score the run again")
    return Standing(name, folder, scores, _settings(folder), cells, average)


def with_answers(run: Standing, pairs: Sequence[tuple[Image, Entry]], resamples: int) -> Standing:
    """The run with its predictions and, where the test entries are at hand, its answers and resamples. A run
    whose predictions do not give its scores stays without."""
    path = run.folder / "predictions.jsonl"
    rows = read_own(path) if path.exists() else {}
    answers = answers_from_rows(pairs, rows) if pairs and rows else None
    if not answers:
        return run
    recomputed = score(answers, resamples=resamples)
    if not math.isclose(recomputed.average.value, run.average.value, abs_tol=1e-3):
        return replace(run, stale=True)
    return replace(run, rows=rows, answers=answers, recomputed=recomputed)


def _cell(scores: Mapping[str, Any], task: str) -> Cell:
    scored = scores["tasks"][task]
    headline = scored["metrics"][scored["headline"]]
    baseline = scores.get("baselines", {}).get(task)
    return Cell(
        headline["value"],
        headline["ci_low"],
        headline["ci_high"],
        headline["n"],
        scored["unparsed"],
        baseline["value"] if baseline else None,
        baseline["best"] if baseline else "",
    )


def _run_folder(folder: Path) -> Path:
    """Where a run was trained: the folder itself, or its parent for an evaluation on something else."""
    return next((path for path in (folder, folder.parent) if (path / "run.yaml").exists()), folder)


def _settings(folder: Path) -> dict[str, Any]:
    try:
        return read_keys(_run_folder(folder) / "run.yaml", "run.yaml")
    except UserError:
        return {}
