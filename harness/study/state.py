"""How far a run of the plan is, as its folder says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_recipes.tables import write_text
from harness.runs import RunFolder
from harness.study.locks import held
from harness.study.planning import Plan, Run
from taco_probe.dynamics import measurement

DONE, RUNNING, MISSING, FAILED = "done", "running", "missing", "failed"
RECORD = ".study.json"  # in the run's folder: its key, attempts, and how it failed


@dataclass(frozen=True)
class State:
    """Of one run: DONE, RUNNING, MISSING or FAILED, and what else there is to say."""

    kind: str
    detail: str = ""


def lock_file(plan: Plan, run: Run) -> Path:
    """Held by whoever works on the run."""
    return plan.folder / "locks" / run.name


def train_lock(plan: Plan, run: Run) -> Path:
    """Held by the training itself, which may outlive its worker and its launcher."""
    return plan.folder / "locks" / f"{run.name}.train"


def worked_on(plan: Plan, run: Run) -> bool:
    """Whether a living process works on the run."""
    return held(lock_file(plan, run)) or held(train_lock(plan, run))


def log_file(plan: Plan, run: Run) -> Path:
    """What its processes print."""
    return plan.folder / "logs" / f"{run.name}.log"


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")


def read_record(folder: Path) -> dict[str, Any]:
    """The record in a run's folder; empty where there is none that can be read."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes it, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n", folder / RECORD)


def state_of(plan: Plan, run: Run) -> State:
    """The state of a run, from files and locks alone."""
    record = read_record(run.folder)
    if worked_on(plan, run):
        return State(RUNNING, _progress(run))
    if record.get("key") != run.key:
        there = run.folder.is_dir() and any(run.folder.iterdir())
        return State(MISSING, "other settings there: they are kept in old/" if there else "")
    if lacking(run) == []:
        return State(DONE)
    if failure := record.get("failed"):
        return State(FAILED, f"{failure['step']}: {failure['last_line']}")
    return State(MISSING, _progress(run))


def lacking(run: Run) -> list[str]:
    """What is yet to be done of a run whose folder is its own: train, measure, score."""
    folder = RunFolder(run.folder)
    if not folder.finished():
        return ["train"]
    steps = ["measure"] if "dynamics_steps" in run.settings and not _measured(run) else []
    scored = (run.scores / "scores.json").is_file()
    current = read_record(run.folder).get("evaluation") == run.evaluation
    return steps if scored and current else [*steps, "score"]


def _measured(run: Run) -> bool:
    """Whether anything was measured; training measures as it goes, so all of it or nothing."""
    return bool(measurement.steps(run.folder / measurement.FOLDER))


def _progress(run: Run) -> str:
    """How far training and scoring are."""
    folder = RunFolder(run.folder)
    if folder.finished():
        return "trained"
    try:
        log = folder.log()
    except (OSError, UnicodeDecodeError):
        log = []
    return f"at step {log[-1]['step']}" if log and "step" in log[-1] else ""


def seconds(run: Run) -> float | None:
    """Wall clock time of all attempts at a run; None where none was recorded."""
    known = [one["seconds"] for one in read_record(run.folder).get("attempts", ()) if one.get("seconds")]
    return sum(known) if known else None
