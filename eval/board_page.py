"""What the template of the leaderboard shows, section by section."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.page import number
from data_recipes.store import read_meta
from eval import plots
from eval.board import Section
from eval.examples import Pictures, examples
from eval.pairs import FEW, gain_text, shown
from eval.seeds import seed_of
from eval.standing import Standing

SHADES = 9  # of a heat table, 0 the palest


def view(found: Sequence[Section]) -> dict[str, Any]:
    """The context of `leaderboard/page.html`.

    Raises:
        UserError: an image of an example cannot be opened.
    """
    pictures = Pictures()
    return {
        "title": "Leaderboard",
        "sections": [_section(section, pictures) for section in found],
        "pictures": pictures.found,
        "few": FEW,
        "shown": shown,
        "gain_text": gain_text,
    }


def _section(section: Section, pictures: Pictures) -> dict[str, Any]:
    runs = section.standings
    places = {run.name: i for i, run in enumerate(runs)}
    best = {task: max(run.cells[task].value for run in runs) for task in section.tasks}
    return {
        "board": section,
        "runs": [_run(run) for run in runs],
        "places": places,
        "reference": places[section.reference],
        "best": best,
        "recipes": sorted({run.recipe or "not trained" for run in runs}),
        "models": sorted({run.model for run in runs}),
        # By the number of the run, then by the number of the reference.
        "deltas": _deltas(section, places),
        "panels": plots.scores(section),
        "pairs": [
            (places[name], list(zip(pairs, plots.differences(pairs), strict=True)))
            for name, pairs in section.comparisons.items()
        ],
        "metrics": [row for task in section.tasks for row in _metric_rows(task, runs)],
        "heat": [sheet for task in section.tasks for sheet in _heat_tables(task, runs)],
        "losses": plots.losses(runs, section.tasks),
        "sheets": examples(section, pictures),
        "baselines": [row for task in section.tasks for row in _baseline_rows(task, runs)],
        "origins": [_origin(run) for run in runs],
        "versions": ", ".join(
            f"{name} {number}" for name, number in runs[0].scores.get("versions", {}).items()
        ),
    }


def _run(run: Standing) -> dict[str, Any]:
    return {
        "name": run.name,
        "model": run.model,
        "recipe": run.recipe or "not trained",
        "about": f"{run.model}, recipe {run.recipe}" if run.recipe else f"{run.model}, not trained",
        "average": run.average,
        "cells": run.cells,
    }


def _deltas(section: Section, places: Mapping[str, int]) -> list[list[tuple[int, Any]]]:
    """For each run its comparisons, as (number of the reference, comparison)."""
    found: list[list[tuple[int, Any]]] = [[] for _ in places]
    for name, pairs in section.comparisons.items():
        for pair in pairs:
            found[places[pair.first]].append((places[name], pair))
    return found


def _metric_rows(task: str, runs: Sequence[Standing]) -> list[dict[str, Any]]:
    """A row a metric that any run has, or could not have; a missing value comes with its reason."""
    tables = [run.scores["tasks"][task] for run in runs]
    names = dict.fromkeys(name for table in tables for name in table["metrics"])
    names |= dict.fromkeys(name for table in tables for name in table.get("not_computed", {}))
    rows = []
    for name in names:
        known = [table["metrics"][name] for table in tables if name in table["metrics"]]
        first = known[0] if known else {}
        largest = max((abs(estimate["value"] or 0.0) for estimate in known), default=0.0)
        counts = sorted({estimate.get("n") for estimate in known} - {None})
        rows.append(
            {
                "task": task,
                "metric": name,
                "headline": name == tables[0]["headline"],
                "unit": first.get("unit", ""),
                "digits": 1 if first.get("unit", "%") == "%" or largest >= 10 else 3,
                "higher_is_better": first.get("higher_is_better", True),
                "n": counts[0] if len(counts) == 1 else None,
                "counts": f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else "",
                "sources": list(dict.fromkeys(str(one["source"]) for one in known if one.get("source"))),
                "cells": [_metric_cell(name, table) for table in tables],
            }
        )
    return rows


def _metric_cell(name: str, table: Mapping[str, Any]) -> dict[str, Any]:
    estimate = table["metrics"].get(name)
    if estimate and estimate.get("value") is not None:
        return {**dict.fromkeys(("ci_low", "ci_high")), **estimate}
    return {"value": None, "reason": table.get("not_computed", {}).get(name) or "not among this run's scores"}


def _heat_tables(task: str, runs: Sequence[Standing]) -> list[dict[str, Any]]:
    """The tables of a task (such as a confusion matrix), each with one grid a run. What does not have the
    shape of a table is left out."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for i, run in enumerate(runs):
        tables = run.scores["tasks"][task].get("tables")
        for name, table in tables.items() if isinstance(tables, dict) else ():
            if _is_table(table):
                by_name.setdefault(str(name), []).append({**table, "run": i, "cells": shaded(table)})
    return [{"task": task, "name": name, "grids": grids} for name, grids in by_name.items()]


def _is_table(table: Any) -> bool:
    try:
        shape = {len(row) for row in table["values"]}
        numbers = all(
            value is None or isinstance(value, int | float) for row in table["values"] for value in row
        )
        titles = all(isinstance(table[key], str) for key in ("row_title", "column_title"))
        same = len(table["values"]) == len(table["rows"]) and shape <= {len(table["columns"])}
    except (KeyError, TypeError):
        return False
    return numbers and titles and same


def shaded(table: Mapping[str, Any]) -> list[list[tuple[str, int]]]:
    """(text, shade) by row. Where rows and columns have names in common, as in a confusion matrix, a value is
    shaded by its share of the row; otherwise by its share of the column's largest. A column of whole numbers
    is written without decimals."""
    values = [[_number(value) for value in row] for row in table["values"]]
    by_row = bool(set(table["rows"]) & set(table["columns"]))
    rows = [sum(abs(value or 0.0) for value in row) for row in values]
    columns = list(zip(*values, strict=True))
    largest = [max(abs(value or 0.0) for value in column) for column in columns]
    digits = [0 if all(value is None or value.is_integer() for value in column) else 1 for column in columns]
    return [
        [
            (number(value, digits[j]), _shade(value, rows[i] if by_row else largest[j]))
            for j, value in enumerate(row)
        ]
        for i, row in enumerate(values)
    ]


def _shade(value: float | None, whole: float) -> int:
    return round((SHADES - 1) * abs(value) / whole) if value is not None and whole else 0


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _baseline_rows(task: str, runs: Sequence[Standing]) -> list[dict[str, Any]]:
    tables = [run.scores.get("baselines", {}).get(task, {}).get("values", {}) for run in runs]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [{"task": task, "name": name, "scores": [table.get(name) for table in tables]} for name in names]


def _origin(run: Standing) -> dict[str, Any]:
    """What a run was trained on, as far as its mixture is still there."""
    row: dict[str, Any] = dict.fromkeys(("images", "entries", "tasks_per_image", "entries_per_image"))
    row |= {"trained_on": run.recipe or "nothing", "hash": "", "seed": seed_of(run)}
    if not run.recipe or "mixture" not in run.settings:
        return row
    row["hash"] = str(run.settings.get("mixture_hash", ""))[:16]
    try:
        meta = read_meta(Path(str(run.settings["mixture"])))
    except UserError:
        return row
    train, density = meta.get("counts", {}).get("train", {}), meta.get("density", {})
    return row | {
        "images": train.get("images"),
        "entries": train.get("entries"),
        "tasks_per_image": density.get("tasks_per_image"),
        "entries_per_image": density.get("entries_per_image"),
    }
