"""`imax leaderboard`: scored runs -> leaderboard.md, leaderboard.json and index.html. Needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from data_recipes.errors import UserError
from data_recipes.page import write_page
from data_recipes.store import read_meta
from data_recipes.tables import write_text
from eval import plots
from eval.board import Section, Standing, sections
from eval.examples import COLOURS, examples
from eval.runs import write_json


def build(folders: Sequence[Path], output_dir: Path) -> list[Section]:
    """Compares runs and writes `leaderboard.md`, `leaderboard.json` and `index.html`.

    Raises:
        UserError: a folder holds no scores; or the output folder cannot be written.
    """
    found = sections(folders)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {output_dir}: {error.strerror or error}") from None
    write_text(markdown(found), output_dir / "leaderboard.md")
    write_json(output_dir / "leaderboard.json", content(found))
    write_page(
        output_dir / "index.html",
        "leaderboard.html",
        title="Leaderboard",
        sections=[_view(section) for section in found],
        colours=COLOURS,
    )
    return found


def content(found: Sequence[Section]) -> dict[str, Any]:
    """`leaderboard.json`."""
    return {
        "sections": [
            {
                "title": section.title,
                "test_hash": section.test_hash,
                "apart": section.apart,
                "reference": section.reference,
                "headlines": dict(section.headlines),
                "runs": [
                    {
                        "name": run.name,
                        "model": run.scores.get("model"),
                        "recipe": run.scores.get("recipe"),
                        "multi_task_average": asdict(run.average),
                        "tasks": {
                            task: asdict(cell) | {"beats_baseline": cell.beats_baseline}
                            for task, cell in run.cells.items()
                        },
                    }
                    for run in section.standings
                ],
                "comparisons": [
                    {"first": c.first, "second": c.second, "differences": [asdict(line) for line in c.lines]}
                    for c in section.comparisons
                ],
                "verdicts": list(section.verdicts),
                "notes": list(section.notes),
            }
            for section in found
        ]
    }


def markdown(found: Sequence[Section]) -> str:
    """`leaderboard.md`."""
    lines = ["# Leaderboard", ""]
    for section in found:
        lines += [f"## {_cell(section.title)}", ""]
        lines += [f"{text}\n" for text in (section.apart, *section.notes) if text]
        heads = [f"{task}<br>{section.headlines[task]}" for task in section.tasks]
        lines.append("| run | average | " + " | ".join(heads) + " |")
        lines.append("|---|" + "---:|" * (1 + len(heads)))
        for run in section.standings:
            cells = [_estimate(run.average)]
            for task in section.tasks:
                cell = run.cells[task]
                mark = "" if cell.baseline is None else " ✓" if cell.beats_baseline else " ✗"
                versus = "" if cell.baseline is None else f"<br>baseline {cell.baseline:.1f}"
                cells.append(f"{_estimate(cell)}{mark}{versus}")
            lines.append(f"| {_cell(run.name)} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "✓: the lower end of the 95 % interval (by patient) is above the best trivial baseline.",
            "",
        ]
        lines += [f"- {_cell(line)}" for line in section.verdicts] + [""]
    return "\n".join(lines)


def _estimate(found: Any) -> str:
    return f"{found.value:.1f} [{found.ci_low:.1f}, {found.ci_high:.1f}]"


def _cell(text: str) -> str:
    """Text that can't break a Markdown table or become HTML in one."""
    folded = " ".join(text.split())
    return folded.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _view(section: Section) -> dict[str, Any]:
    """What the template shows of a section."""
    runs = section.standings
    return {
        **{
            name: getattr(section, name)
            for name in ("title", "apart", "notes", "verdicts", "tasks", "headlines")
        },
        **{name: getattr(section, name) for name in ("standings", "reference", "comparisons", "test_hash")},
        "metrics": [row for task in section.tasks for row in _metric_rows(task, runs)],
        "baselines": [row for task in section.tasks for row in _baseline_rows(task, runs)],
        "plots": {
            "scores": plots.scores(section),
            "differences": plots.differences(section, section.comparisons) if section.comparisons else None,
            "losses": plots.losses(runs, section.tasks),
        },
        "examples": examples(section),
        "origins": [_origin(run) for run in runs],
        "versions": ", ".join(
            f"{name} {number}" for name, number in runs[0].scores.get("versions", {}).items()
        ),
    }


def _metric_rows(task: str, runs: Sequence[Standing]) -> list[dict[str, Any]]:
    scored = runs[0].scores["tasks"][task]
    return [
        {
            "task": task,
            "metric": name,
            "headline": name == scored["headline"],
            "unit": first.get("unit", ""),
            "digits": 3 if first.get("unit") == "ratio" else 1,
            "higher_is_better": first.get("higher_is_better", True),
            "n": first["n"],
            "cells": [run.scores["tasks"][task]["metrics"].get(name) for run in runs],
        }
        for name, first in scored["metrics"].items()
    ]


def _baseline_rows(task: str, runs: Sequence[Standing]) -> list[dict[str, Any]]:
    tables = [run.scores.get("baselines", {}).get(task, {}).get("values", {}) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [{"task": task, "name": name, "scores": [table.get(name) for table in tables]} for name in names]


def _origin(run: Standing) -> dict[str, Any]:
    """What a run was trained on, as far as its mixture is still there."""
    row: dict[str, Any] = dict.fromkeys(("images", "entries", "tasks_per_image", "entries_per_image"))
    row |= {"name": run.name, "trained_on": "nothing", "hash": ""}
    if not run.scores.get("adapter"):
        return row
    row["trained_on"] = str(run.scores.get("recipe"))
    try:
        settings = yaml.safe_load((run.run_folder / "run.yaml").read_text(encoding="utf-8"))
        row["hash"] = str(settings["mixture_hash"])[:16]
        meta = read_meta(Path(settings["mixture"]))
    except (OSError, yaml.YAMLError, TypeError, KeyError, UserError):
        return row
    train, density = meta.get("counts", {}).get("train", {}), meta.get("density", {})
    return row | {
        "images": train.get("images"),
        "entries": train.get("entries"),
        "tasks_per_image": density.get("tasks_per_image"),
        "entries_per_image": density.get("entries_per_image"),
    }
