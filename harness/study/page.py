"""What the template of the study's page shows: the document's numbers as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from data_recipes.page import data_uri, signed
from eval.compare import AVERAGE
from harness.study.arms import DENSITY, MAIN, TRANSFER
from harness.study.document import level
from harness.study.drive import in_words
from harness.study.summary import interval, label
from taco_probe.dynamics.sheets import Cell, Sheet

Found = Mapping[str, Any]


def view(found: Found, summary: Sequence[str], figures: Mapping[str, bytes]) -> dict[str, Any]:
    """The context of `study/page.html`."""
    tasks = [*found["test"]["tasks"], AVERAGE]
    return {
        "title": f"Study: {found['name']}",
        "found": found,
        "summary": summary,
        "figures": {name: data_uri(content, "image/svg+xml") for name, content in figures.items()},
        "tasks": tasks,
        "paper": [row for model in found["models"] for row in _paper(found, MAIN, model, tasks)],
        "densities": [row for model in found["models"] for row in _paper(found, DENSITY, model, tasks)],
        "differences": [_difference(found, rows, tasks) for rows in _by_pair(found["differences"])],
        "density": [_difference(found, rows, tasks) for rows in _by_pair(found["density"]["differences"])],
        "transfer": [sheet for model in found["models"] for sheet in _transfer(found, model, tasks)],
        "fairness": [_fairness(row) for row in found["fairness"]],
        "pseudo_labels": [{**row, "label": label(found, row["arm"])} for row in found["pseudo_labels"]],
        "correlations": [_correlation(row) for row in found["correlations"] if row["n"]],
        "runs": [_run(found, run, tasks[:-1]) for run in found["runs"]],
    }


def _paper(found: Found, block: str, model: str, tasks: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a model: arms of a block by task, the best of each task marked."""
    arms = [arm["name"] for arm in found["arms"] if arm["block"] == block]
    rows = {arm: [level(found, arm, model, task) for task in tasks] for arm in arms}
    rows = {arm: cells for arm, cells in rows.items() if any(cells)}
    best = [
        max((cells[place]["value"] for cells in rows.values() if cells[place]), default=None)  # type: ignore[index]
        for place in range(len(tasks))
    ]
    return [
        {
            "model": model,
            "arm": label(found, arm),
            "reference": arm == found["reference"],
            "seeds": next(cell["seeds"] for cell in cells if cell),
            "cells": [
                cell and cell | {"best": cell["value"] == top} for cell, top in zip(cells, best, strict=True)
            ],
        }
        for arm, cells in rows.items()
    ]


def _by_pair(rows: Sequence[Found]) -> list[list[Found]]:
    """Rows of one pair of arms with one model together."""
    by: dict[tuple[str, str, str], list[Found]] = {}
    for row in rows:
        by.setdefault((row["model"], row["first"], row["second"]), []).append(row)
    return list(by.values())


def _difference(found: Found, rows: Sequence[Found], tasks: Sequence[str]) -> dict[str, Any]:
    by = {row["task"]: row for row in rows}
    return {
        "model": rows[0]["model"],
        "pair": f"{label(found, rows[0]['first'])} − {label(found, rows[0]['second'])}",
        "seeds": " and ".join(map(str, rows[0]["seeds"])),
        "cells": [{**by[task], "interval": interval(by[task])} for task in (AVERAGE, *tasks[:-1])],
    }


def _transfer(found: Found, model: str, tasks: Sequence[str]) -> list[Sheet]:
    """Scores after training on one task, and differences after leaving one out."""
    arms = [arm for arm in found["arms"] if arm["block"] == TRANSFER]
    columns = [*tasks[:-1], "average"]
    scored = []
    for arm in (one for one in arms if not one["left_out"]):
        cells = [level(found, arm["name"], model, task) for task in tasks]
        if any(cells):
            scored.append((arm["label"], [_score(cell) for cell in cells]))
    deltas = {
        (row["first"], row["task"]): row for row in found["transfer"]["differences"] if row["model"] == model
    }
    left = [arm for arm in arms if arm["left_out"] and (arm["name"], AVERAGE) in deltas]
    widest = (
        max((abs(deltas[arm["name"], task]["value"]) for arm in left for task in tasks), default=0.0) or 1.0
    )
    rest = [(arm["label"], [_delta(deltas[arm["name"], task], widest) for task in tasks]) for arm in left]
    note = "point at a cell for its interval"
    sheets = [Sheet(f"Trained on one task ({model})", columns, scored, f"scores; {note}")] if scored else []
    if rest:
        said = "points against training on all tasks; red: above, blue: below; * q < 0.05 (the task left out "
        said += f"has none: it differs for sure), the average by its interval; {note}"
        sheets.append(Sheet(f"One task left out ({model})", columns, rest, said))
    return sheets


def _score(cell: Found | None) -> Cell:
    if cell is None:
        return Cell("")
    title = "no interval" if cell["low"] is None else f"[{cell['low']:.1f}, {cell['high']:.1f}]"
    return Cell(f"{cell['value']:.1f}", round(cell["value"] / 25), f"{title}, {cell['seeds']} seed(s)")


def _delta(row: Found, widest: float) -> Cell:
    q = "" if row["q"] is None else f", q {row['q']:.3f}"
    mark = "*" if row["shown"] else ""
    return Cell(signed(row["value"]) + mark, round(4 * row["value"] / widest), f"{interval(row)}{q}")


def _fairness(row: Found) -> dict[str, Any]:
    shown = {
        key: "–" if value is None else in_words(value) if key.endswith("seconds") else f"{value:,.0f}"
        for key, value in row["values"].items()
    }
    return {**row, "shown": shown}


def _correlation(row: Found) -> dict[str, Any]:
    known = row["value"] is not None
    ends = f"[{signed(row['low'], 2)}, {signed(row['high'], 2)}]" if row["low"] is not None else "–"
    return {**row, "said": signed(row["value"], 2) if known else "–", "interval": ends}


def _run(found: Found, run: Found, tasks: Sequence[str]) -> dict[str, Any]:
    scores = [run["tasks"][task] if run["tasks"] else None for task in tasks]
    costs = run["costs"] or {}
    return {
        **run,
        "label": label(found, run["arm"]),
        "scores": [*scores, run["average"]],
        "took": in_words(costs["seconds"]) if costs else "–",
        "entropy": (run["dynamics"] or {}).get("entropy"),
        "dominance": (run["dynamics"] or {}).get("dominance"),
    }
