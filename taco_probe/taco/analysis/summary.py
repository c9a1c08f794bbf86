"""What an analysis shows, in sentences that say no more than its intervals allow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from taco_probe.taco.words import BASELINES, MEASURES, VIEWS, probability

Found = dict[str, Any]


def sentences(found: Found) -> list[str]:
    """Sentences computed from analysis.json, in its order."""
    parts = (_retrieval, _rivals, _shortcut, _silhouette, _failures, _nearest, _natural, _map)
    return [sentence for part in parts for sentence in part(found)]


def _retrieval(found: Found) -> Iterator[str]:
    main, gallery = found["runs"]["main"], found["retrieval"]["gallery"]
    shown = found["retrieval"]["variants"][main][gallery]
    top1 = shown["top1"]
    if top1 is None:
        yield "No instance of a held-out dataset has its task among those of the training datasets."
        return
    seeds = len(found["runs"]["variants"][main]["seeds"])
    yield (
        f"{main}: of {shown['queries']:,} instances of {shown['datasets']} datasets never seen in training, "
        f"{_percent(top1['value'])} have an instance of their own task nearest among the training datasets"
        f"{_interval(top1)}, tasks counted alike; chance is {_percent(top1['chance'])}."
    )
    above = shown["above_chance"]
    if _clear(above) and above["high"] < 0:
        yield "That is clearly below chance."
    if not _clear(above):
        yield "That is not clearly above chance."
    if seeds == 1:
        yield "Seeds were not varied: no interval here covers other seeds."
    else:
        yield f"Intervals cover other datasets and, where several were run, other seeds (here {seeds})."
    if shown["unanswerable"]:
        yield f"{shown['unanswerable']:,} instances whose task no training dataset has are left out."
    tasks = sorted(
        (row for row in found["retrieval"]["tasks"] if row["top1"]), key=lambda row: row["top1"]["value"]
    )
    if len(tasks) > 5:
        first, last = tasks[:3], tasks[:-4:-1]
        yield f"Best told: {_tasks(last)}. Worst: {_tasks(first)}."


def _tasks(rows: list[Found]) -> str:
    return ", ".join(f"{row['task']} ({_percent(row['top1']['value'])})" for row in rows)


def _rivals(found: Found) -> Iterator[str]:
    varied = {name: len(variant["seeds"]) > 1 for name, variant in found["runs"]["variants"].items()}
    for row in found["controls"]["rows"]:
        control = row["against"]
        yield _rival(row, f"encoders of {VIEWS[row['view']]}", control, varied.get(control, False))
    reference = found["baselines"]["reference"]
    for row in found["baselines"]["rows"]:
        name = BASELINES.get(row["baseline"], row["baseline"])
        yield _rival(row, name, reference, varied[reference])


def _rival(row: Found, name: str, reference: str | None, varied: bool) -> str:
    top1, difference = row["top1"], row["difference"]["top1"]
    start = f"{name[0].upper()}{name[1:]}"
    if top1 is not None and reference is None:
        return (
            f"{start}: {_percent(top1['value'])} find their task{_interval(top1)}; no run differs from "
            "them in the view alone, so that nothing is compared."
        )
    if top1 is None or difference is None:
        return f"{start} cannot be compared."
    verdict = f"{reference} is {_changed(difference, 'higher', 'lower')}"
    # That no seeds were varied at all is said once, at the start.
    single = " At one seed, so that seeds may explain it." if varied and difference["seeds"] == 1 else ""
    return f"{start}: {_percent(top1['value'])} find their task{_interval(top1)}; {verdict}.{single}"


def _shortcut(found: Found) -> Iterator[str]:
    main = found["runs"]["main"]
    shown = found["shortcut"]["variants"][main]
    read, same, cross = shown["dataset_read"], shown["same_dataset"], shown["cross_dataset"]
    if read:
        yield (
            f"The dataset is read from {_percent(read['value'])} of the embeddings{_interval(read)}; chance "
            f"is {_percent(read['chance'])}."
        )
    if same and cross:
        yield (
            f"From other images of the same dataset the task is found in {_percent(same['value'])}, from "
            f"another dataset with the same tasks in {_percent(cross['value'])}: within the dataset it is "
            f"{_changed(shown['drop'], 'higher', 'lower')}."
        )
    parts = shown["variance"]
    yield (
        f"Of the variance the task explains {_percent(parts['task']['value'])} beyond the dataset, and the "
        f"dataset {_percent(parts['dataset']['value'])} beyond the task; it is "
        f"{_percent(parts['category']['value'])} beyond the dataset if categories stand in place of tasks."
    )


def _silhouette(found: Found) -> Iterator[str]:
    main = found["runs"]["main"]
    parts = {"all": "all datasets", "held_out": "held-out datasets only"}
    kinds = {
        "category": "categories (of the tasks' centroids)",
        "task": "tasks (of centroids in each dataset)",
    }
    for by, part in product(kinds, parts):
        shown = found["silhouette"]["variants"][main][part][by]["centroids"]
        if shown is None:
            continue
        against = ""
        if (p := shown.get("p_permutation")) is not None:
            far = "above" if p <= 0.05 else "not above"
            against = f", {far} what random labels give ({shown['null']:.2f} on average, p {probability(p)})"
        value = f"{shown['value']:.2f}{_interval(shown, '')}"
        yield f"Silhouette of the {kinds[by]}, {parts[part]}: {value}{against}."


def _failures(found: Found) -> Iterator[str]:
    pairs = found["failures"]["pairs"]
    if not pairs:
        yield "The effect of failure tasks is not known: no run without them was named beside one with them."
    for pair in pairs:
        seeds = len(pair["seeds"])
        over = f"over {seeds} seeds" if seeds > 1 else "at one seed, so that seeds may explain it"
        told = []
        for name, text in MEASURES.items():
            difference = pair["measures"][name]["difference"]
            if difference:
                told.append(f"the {text} is {_changed(difference, 'higher', 'lower', '')}")
        yield f"With failure tasks ({pair['with']} against {pair['without']}, {over}): {'; '.join(told)}."
    for name, shown in found["failures"]["told_apart"].items():
        if shown:
            auroc = f"{shown['auroc']['value']:.2f}{_interval(shown['auroc'], '')}"
            yield f"{name}: AUROC of failed against right instances {auroc}."


def _nearest(found: Found) -> Iterator[str]:
    shown = found.get("nearest")
    if shown and shown["top1"] and shown["top5"]:
        yield (
            f"Of {shown['folders']} pairs of a task and a held-out dataset, tasks weighing alike, "
            f"{_percent(shown['top1']['value'])} have their own task nearest{_interval(shown['top1'])}; "
            f"chance is {_percent(shown['chance1'])}. Among the nearest five it is for "
            f"{_percent(shown['top5']['value'])}{_interval(shown['top5'])}; chance is "
            f"{_percent(shown['chance5'])}."
        )


def _natural(found: Found) -> Iterator[str]:
    shown = found["natural"]
    for name, text in (
        ("natural_to_medical", "Photographs asked of medical images"),
        ("medical_to_natural", "Medical images asked of photographs"),
        ("medical_to_medical", "Medical images of held-out datasets asked of other medical ones"),
    ):
        top1 = shown[name] and shown[name]["top1"]
        if top1:
            over = " (other images of these datasets)" if top1["over"] == "images" else ""
            yield (
                f"{text}: {_percent(top1['value'])} find their task{_interval(top1)}{over}; chance is "
                f"{_percent(top1['chance'])}."
            )
    if shown["trained_on"]:
        yield f"Photographs were trained on: {', '.join(shown['trained_on'])}."


def _map(found: Found) -> Iterator[str]:
    nearest = found.get("clusters", {}).get("nearest")
    if nearest:
        yield (
            f"{_percent(nearest['value'])} of the tasks have a task of their own category nearest"
            f"{_interval(nearest)}; chance is {_percent(nearest['chance'])}."
        )
    for row in found.get("paths", {}).get("rows", ()):
        if row["category"] == "all" and row["measure"] == "straightness" and row["p"] is not None:
            far = "straighter" if row["p"] <= 0.05 else "not clearly straighter"
            yield (
                f"Trajectories of {row['alteration']} are {far} than in shuffled order: {row['value']:.2f}"
                f"{_interval(row, '')} against {row['null']:.2f}."
            )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(shown: Found, unit: str = " %") -> str:
    if shown["low"] is None or shown["high"] is None:
        return ""
    if unit:
        return f" (95 % interval {100 * shown['low']:.1f} to {100 * shown['high']:.1f} %)"
    return f" (95 % interval {shown['low']:.2f} to {shown['high']:.2f})"


def _clear(difference: Found | None) -> bool:
    """Whether the interval of a difference leaves out 0."""
    if difference is None or difference["low"] is None:
        return False
    return bool(difference["low"] > 0 or difference["high"] < 0)


def _changed(difference: Found, up: str, down: str, unit: str = " points") -> str:
    value, scale, digits = difference["value"], 100 if unit else 1, 1 if unit else 3
    size = f"{abs(value) * scale:.{digits}f}{unit}"
    if difference["low"] is None:
        return f"{up if value > 0 else down} by {size}, without an interval"
    ends = f"({difference['low'] * scale:.{digits}f} to {difference['high'] * scale:.{digits}f})"
    if not _clear(difference):
        return f"not clearly {up} or {down} {ends}"
    return f"{up if value > 0 else down} by {size} {ends}"
