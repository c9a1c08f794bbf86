"""Metrics computed by other tools, merged into a run's `scores.json`: `imax eval RUN --merge FILE`.

The file holds a value for each entry (docs/metrics-outside.md), so means get the same intervals, resampled by
patient, as metrics of our own. A metric with a missing value is not computed: the mean of the rest would be
the score of another test set.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_recipes.errors import UserError, unknown
from eval.metrics import FloatArray, ratio
from eval.predictions import Problems, read_own
from eval.runs import read_json, write_json
from eval.scores import Estimate
from eval.stats import interval, patient_sums, resampled_sums

SCHEMA = 1
_KEYS = {"schema", "source", "task", "predictions_sha256", "versions", "metrics", "not_computed"}


@dataclass(frozen=True)
class Merged:
    """What one file added to the scores of one task."""

    source: str
    task: str
    estimates: Mapping[str, Estimate]
    not_computed: Mapping[str, str]
    problems: Problems

    def lines(self) -> list[str]:
        """A line for each metric, computed or not, and for each problem."""
        computed = [
            f"{self.task} {name}: {e.value:.1f} [{e.ci_low:.1f}, {e.ci_high:.1f}], {e.n} entries"
            for name, e in self.estimates.items()
        ]
        missing = [f"{self.task} {name}: not computed: {why}" for name, why in self.not_computed.items()]
        return [*computed, *missing, *self.problems.lines()]


def merge(run: Path, path: Path) -> Merged:
    """Adds the metrics of a file to `run/scores.json`; those of an earlier merge with the same names are
    replaced.

    Raises:
        UserError: the run was not scored, the file is broken or about other predictions, or a name is taken
            by a metric of our own.
    """
    if not (run / "scores.json").is_file():
        raise UserError(f"{run}: no scores.json to merge into: score it first with `imax eval {run}`")
    scores = read_json(run / "scores.json")
    content = read_json(path)
    _check(content, path, scores)
    _same_predictions(content, path, run / "predictions.jsonl")
    scored = scores["tasks"][content["task"]]
    rows = read_own(run / "predictions.jsonl")
    merged = _estimate(content, rows, scored["n"], scores["interval"])
    for name in [*merged.estimates, *merged.not_computed]:
        if name in scored["metrics"] and "source" not in scored["metrics"][name]:
            raise UserError(f"{path}: {name} is the name of a metric of our own: rename it in the file")
        scored["metrics"].pop(name, None)
        scored["not_computed"].pop(name, None)
    for name, estimate in merged.estimates.items():
        scored["metrics"][name] = estimate.to_json() | {"source": merged.source}
    scored["not_computed"] |= merged.not_computed
    scores.setdefault("outside", {})[merged.source] = content.get("versions", {})
    write_json(run / "scores.json", scores)
    return merged


def _estimate(
    content: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], n: int, drawn: Mapping[str, Any]
) -> Merged:
    """Values with intervals. `n` entries of the task are in the test set; `rows` are the run's predictions;
    `drawn` says how `scores.json` was resampled, so that intervals are made the same way."""
    task = content["task"]
    patients = sorted({row["patient_id"] for row in rows.values()})
    index = {patient: i for i, patient in enumerate(patients)}
    mine = {entry_id: row["patient_id"] for entry_id, row in rows.items() if row["task"] == task}
    problems = Problems()
    estimates: dict[str, Estimate] = {}
    not_computed = {name: str(why) for name, why in content.get("not_computed", {}).items()}
    for name, metric in content["metrics"].items():
        pairs = {}
        for entry_id, value in metric["values"].items():
            if entry_id not in mine:
                problems.add(f"unknown entry_id for {name}, left out", repr(entry_id[:80]))
            elif (pair := _pair(value)) is not None:
                pairs[entry_id] = pair
        if len(pairs) < n:
            first = next((entry_id for entry_id in mine if entry_id not in pairs), "one without a prediction")
            not_computed[name] = f"{n - len(pairs)} of {n} entries have no finite value, the first is {first}"
            continue
        patient = np.array([index[mine[entry_id]] for entry_id in pairs], dtype=np.intp)
        sums = patient_sums(np.array(list(pairs.values())), patient, len(patients))
        value = float(_quotient(sums.sum(axis=0)))
        if not math.isfinite(value):
            not_computed[name] = "there is nothing to judge: all denominators are 0"
            continue
        samples = _quotient(resampled_sums(sums, resamples=drawn["resamples"], seed=drawn["seed"]))
        estimates[name] = Estimate(
            value,
            *interval(samples, len(sums)),
            n,
            metric.get("unit", "%"),
            metric.get("higher_is_better", True),
        )
    return Merged(content["source"], task, estimates, not_computed, problems)


def _quotient(sums: FloatArray) -> FloatArray:
    """Sums (..., 2) of numerators and denominators -> (...)."""
    return ratio(sums[..., 0], sums[..., 1])


def _pair(value: Any) -> tuple[float, float] | None:
    """A value as numerator and denominator, or None: a number stands for itself over 1."""
    parts = value if isinstance(value, list) and len(value) == 2 else [value, 1.0]
    if any(isinstance(part, bool) or not isinstance(part, int | float) for part in parts):
        return None
    try:
        numerator, denominator = map(float, parts)
    except OverflowError:  # JSON's whole numbers have no largest
        return None
    return (numerator, denominator) if math.isfinite(numerator) and 0 <= denominator < math.inf else None


def _check(content: dict[str, Any], path: Path, scores: Mapping[str, Any]) -> None:
    """Raises UserError unless `content` has the documented form and is about a task of the scores."""
    if content.get("schema") != SCHEMA:
        raise UserError(f"{path}: schema is {content.get('schema')!r}, this version reads {SCHEMA}")
    for key in content.keys() - _KEYS:
        raise unknown(f"key in {path}", key, _KEYS)
    for key in ("source", "task"):
        if not isinstance(content.get(key), str) or not content[key].strip():
            raise UserError(f"{path}: {key} must be a text")
    if content["task"] not in scores["tasks"]:
        raise unknown(f"task in {path}", content["task"], scores["tasks"])
    for key in ("metrics", "not_computed", "versions"):
        if not isinstance(content.get(key, {}), dict):
            raise UserError(f"{path}: {key} must be a mapping")
    if not content.get("metrics") and not content.get("not_computed"):
        raise UserError(f"{path}: neither metrics nor not_computed: there is nothing to merge")
    for name, metric in content.setdefault("metrics", {}).items():
        _check_metric(f"{path}: metric {name}", metric)


def _check_metric(where: str, metric: Any) -> None:
    known: dict[str, type] = {"values": dict, "unit": str, "higher_is_better": bool}
    if not isinstance(metric, dict) or not isinstance(metric.get("values"), dict):
        raise UserError(f"{where} needs values: a number for each entry_id")
    for key, found in metric.items():
        if key not in known:
            raise unknown(f"key ({where})", key, known)
        if not isinstance(found, known[key]):
            raise UserError(f"{where}: {key} is {str(found)[:40]!r}, which is no {key}")


def _same_predictions(content: Mapping[str, Any], path: Path, predictions: Path) -> None:
    """Raises UserError when the file says that it was made from other predictions than the run's."""
    if not predictions.is_file():
        raise UserError(f"{predictions} is missing: it says which entries and patients there are")
    said = content.get("predictions_sha256")
    if said is not None and said != hashlib.sha256(predictions.read_bytes()).hexdigest():
        raise UserError(f"{path} was made from other predictions than {predictions}: make it again")
