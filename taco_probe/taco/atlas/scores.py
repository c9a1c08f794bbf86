"""What the page shows of retrieval, controls, baselines, shortcuts, silhouettes, failures, transfer and
photographs: estimates as bars and tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from taco_probe.dynamics.sheets import Cell, Sheet
from taco_probe.taco.atlas.marks import (
    Found,
    Panel,
    Row,
    decimal,
    interval,
    marks,
    panel,
    percent,
    spoken,
)
from taco_probe.taco.words import DISTANCES, MEASURES, encoder, probability

MAIN, CONTROL, BASELINE, REFERENCE = 1, 0, 8, 9  # numbers of colours
GALLERIES = {
    "training": "the datasets trained on",
    "held_out": "other held-out datasets",
    "both": "all other datasets",
}
_SCORES = {
    "top1": "top-1: the nearest instance is of the same task, %",
    "map": "mean average precision, %",
}
_CONFUSIONS = 12


def retrieval(found: Found) -> dict[str, Any]:
    """The retrieval section."""
    own, runs = found["retrieval"], found["runs"]
    main, gallery = runs["main"], own["gallery"]
    panels = []
    for score, title in _SCORES.items():
        rows = [
            Row("TaCo", by[gallery][score], MAIN, name)
            for name, by in own["variants"].items()
            if gallery in by and (name == main or runs["variants"][name]["view"] == "both")
        ]
        rows += [
            Row(encoder(row["view"]), row[score], CONTROL)
            for row in found.get("controls", {}).get("rows", ())
        ]
        rows += [
            Row(encoder(row["baseline"]), row[score], BASELINE)
            for row in found.get("baselines", {}).get("rows", ())
        ]
        panels.append(panel(title, rows))
    known = [
        (place, encoder(row.get("view") or row["baseline"]), row)
        for place, kind in ((CONTROL, "controls"), (BASELINE, "baselines"))
        for row in found.get(kind, {}).get("rows", ())
    ]
    ahead = [Row(f"TaCo − {name}", row["difference"]["top1"], number) for number, name, row in known]
    return {
        "gallery": GALLERIES.get(gallery, gallery),
        "panels": panels,
        "differences": panel("top-1: TaCo minus the other, points", ahead) if ahead else None,
        "galleries": _galleries(own["variants"].get(main, {})),
        "tasks": _by_task(own["tasks"]),
        "confusions": _confusions(own["confusion"]),
        "k": own["k"],
    }


def _galleries(by: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The main variant against each gallery."""
    return [
        {
            "name": GALLERIES.get(name, name),
            "queries": row["queries"],
            "datasets": row["datasets"],
            "unanswerable": row["unanswerable"],
            "cells": [_cell(row[score]) for score in ("top1", "map", "knn", "category")],
        }
        for name, row in by.items()
    ]


def _cell(found: Found | None) -> dict[str, str]:
    """An estimate in a table: percent, its interval, chance."""
    if not found:
        return {"value": "–", "interval": "", "chance": ""}
    chance = found.get("chance")
    return {
        "value": percent(found["value"], 1),
        "interval": interval(found, scale=100, digits=1),
        "chance": "" if chance is None else f"chance {decimal(100 * chance, 1)}",
    }


def _by_task(rows: Sequence[Found]) -> list[Panel]:
    named = marks([row["category"] for row in rows])
    return [
        panel(
            f"{category}, top-1 in %",
            [
                Row(spoken(row["task"]), row["top1"], mark.number, f"{row['queries']} queries")
                for row in rows
                if row["category"] == category
            ],
        )
        for category, mark in named.items()
    ]


def _confusions(found: Found) -> list[dict[str, str]]:
    """The tasks most often taken for another one."""
    tasks = found["tasks"]
    wrong = [
        (share, tasks[a], tasks[b])
        for a, row in enumerate(found["share"])
        for b, share in enumerate(row or ())
        if a != b and share
    ]
    wrong.sort(key=lambda one: -one[0])
    return [
        {"share": percent(share), "task": spoken(a), "taken": spoken(b)}
        for share, a, b in wrong[:_CONFUSIONS]
    ]


def shortcut(found: Found) -> list[dict[str, Any]]:
    """A row a variant: what instances tell of their dataset, and what is lost across datasets."""
    return [
        {
            "name": encoder(name),
            "cells": [_cell(row[key]) for key in ("same_dataset", "cross_dataset", "drop", "dataset_read")],
            "task": _unique(row["variance"]["task"]),
            "dataset": _unique(row["variance"]["dataset"]),
        }
        for name, row in found["shortcut"]["variants"].items()
    ]


def _unique(found: Found) -> dict[str, str]:
    null = found.get("null")
    return {
        "value": percent(found["value"], 1),
        "null": "" if null is None else percent(null, 1),
        "p": probability(found.get("p")),
    }


def silhouette(found: Found) -> list[Panel]:
    """A panel for categories and one for tasks, a bar a variant."""
    panels = []
    for label in ("category", "task"):
        rows = []
        for name, by in found["silhouette"]["variants"].items():
            over = "held_out" if "held_out" in by else "all"
            estimate = by[over][label].get("centroids") or {}
            # Where chance lies is the mean under permuted labels.
            one = {**estimate, "chance": estimate.get("null")} if estimate else None
            number = MAIN if name == found["runs"]["main"] else BASELINE
            rows.append(Row(encoder(name), one, number, over.replace("_", "-")))
        panels.append(panel(f"silhouette of centroids by {label}", rows, scale=1, digits=2))
    return panels


def failures(found: Found) -> dict[str, Any]:
    """With failure tasks against without, and how well failed instances are told apart."""
    own = found["failures"]
    pairs = []
    for pair in own["pairs"]:
        rows = []
        for name, by in pair["measures"].items():
            with_, without, difference = (by[key] for key in ("with", "without", "difference"))
            seeds = by.get("seeds_only")
            known = bool(difference) and difference.get("low") is not None
            rows.append(
                {
                    "name": MEASURES.get(name, name),
                    "with": decimal((with_ or {}).get("value")),
                    "without": decimal((without or {}).get("value")),
                    "difference": decimal((difference or {}).get("value")),
                    "interval": interval(difference) if difference else "",
                    "seeds": f"{decimal(seeds['low'])} to {decimal(seeds['high'])}" if seeds else "–",
                    "sure": known and (difference["low"] > 0 or difference["high"] < 0),
                }
            )
        pairs.append({"with": pair["with"], "without": pair["without"], "seeds": pair["seeds"], "rows": rows})
    told = []
    for name, by in own.get("told_apart", {}).items():
        kinds = [Row("all kinds", by["auroc"], MAIN)]
        kinds += [Row(spoken(kind), one, BASELINE) for kind, one in by["kinds"].items()]
        told.append(panel(f"AUROC of failed against good instances, {name}", kinds, scale=1, digits=2))
    return {"pairs": pairs, "told": told}


def transfer(found: Found) -> dict[str, Any]:
    """Does distance predict transfer?"""
    own = found["transfer"]
    agreement = own["agreement"]
    rows = [
        Row(DISTANCES.get(name, name), by, MAIN if name == "taco" else BASELINE)
        for name, by in agreement.items()
        if name != "random"
    ]
    if random := agreement.get("random"):
        rows.append(Row("random distances", random, BASELINE, "95 % range"))
    if own.get("given_category"):
        rows.append(Row("TaCo, given category", own["given_category"], REFERENCE))
    tasks = [spoken(task) for task in own["tasks"]]
    widest = max((abs(one) for row in own["gain"] for one in row if one is not None), default=0) or 1
    return {
        "summary": own.get("summary", ()),
        "settings": own.get("settings", {}),
        "agreement": panel("rank correlation of nearness and gain, within targets", rows, scale=1, digits=2),
        "gains": panel(
            "mean gain where pretraining was on, %",
            [
                Row(text, own.get(key), MAIN)
                for key, text in (
                    ("same_task", "same task"),
                    ("same_category", "same category"),
                    ("other_category", "other category"),
                )
            ],
        ),
        "sheet": Sheet(
            "Gain in %",
            tasks,
            [
                (name, [_gain(one, widest) for one in row])
                for name, row in zip(tasks, own["gain"], strict=True)
            ],
            "row: pretrained on; column: fine-tuned on; red: helps, blue: harms",
        ),
        "reliability": decimal(own.get("reliability"), 2),
    }


def _gain(value: float | None, widest: float) -> Cell:
    if value is None:
        return Cell("–")
    shade = min(4, int(4 * abs(value) / widest + 0.5)) * (1 if value > 0 else -1)
    return Cell(decimal(100 * value, 0), shade)


def natural(found: Found) -> Panel | None:
    """Retrieval between photographs and medical images; None where no photograph was embedded."""
    own = found["natural"]
    words = {
        "natural_to_medical": "photograph in medical",
        "medical_to_natural": "medical in photographs",
        "medical_to_medical": "medical in medical",
    }
    rows = [Row(text, (own.get(key) or {}).get("top1"), MAIN) for key, text in words.items()]
    if not any(row.found for row in rows):
        return None
    return panel("top-1 in %: what is looked up, and where", rows)
