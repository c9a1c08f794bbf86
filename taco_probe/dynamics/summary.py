"""The plain-language summary of a comparison. Every sentence is computed from the numbers beside it, and says
no more than they allow."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SHORT = {"entropy": "SE", "dominance": "ρ"}
Q = 0.05  # share of false ones that is put up with where many are tested


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What the comparison shows, most important first."""
    found = [line for pair in _pairs(report) for line in _compared(report, *pair)]
    found += [line for line in (_seeds(report), _moved(report)) if line]
    for group in report["groups"]:
        found += [line for line in (_conflicts(report, group), _helps(report, group)) if line]
    return found


def _pairs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(itertools.combinations([group["name"] for group in report["groups"]], 2))


def _compared(report: Mapping[str, Any], first: str, second: str) -> list[str]:
    lines, concentrated = [], []
    for quantity, short in SHORT.items():
        rows = [
            row
            for row in report["differences"]
            if (row["first"], row["second"], row["quantity"]) == (first, second, quantity)
            and row["step"] not in _untrained(report)
        ]
        if not rows:
            return [f"{first} and {second} have no measured step in common but that before training."]
        last = rows[-1]
        lines.append(
            f"{short} is lower under {first} than under {second} at {_count(rows, -1)} of {len(rows)} steps "
            f"({_count(rows, -1, sure=True)} with an interval that excludes 0), higher at "
            f"{_count(rows, 1)} ({_count(rows, 1, sure=True)}); at the last, step {last['step']}, the "
            f"difference is {signed(last['value'])} [{signed(last['low'])}, {signed(last['high'])}]."
        )
        concentrated.append(_sign(last) * (-1 if quantity == "entropy" else 1))
    name = {(1, 1): first, (-1, -1): second}.get((concentrated[0], concentrated[1]))
    if name:
        lines.append(
            f"At the last step gradients are more concentrated under {name}: SE is lower and ρ higher, and "
            f"both intervals exclude 0."
        )
    else:
        lines.append(
            f"At the last step SE and ρ do not both tell {first} and {second} apart in one direction: no "
            f"difference in concentration is shown."
        )
    return lines


def _untrained(report: Mapping[str, Any]) -> set[int]:
    """Steps at which B is still 0 in some run: the model is the base, whatever the recipe."""
    return {step["step"] for run in report["runs"] for step in run["steps"] if step["b_is_zero"]}


def _count(rows: Sequence[Mapping[str, Any]], sign: int, *, sure: bool = False) -> int:
    return sum((_sign(row) if sure else _way(row["value"])) == sign for row in rows)


def _way(value: float) -> int:
    return (value > 0) - (value < 0)


def _sign(row: Mapping[str, Any]) -> int:
    """-1 or 1 where the interval excludes 0, else 0."""
    return int(row["low"] > 0) - int(row["high"] < 0)


def _seeds(report: Mapping[str, Any]) -> str:
    groups = report["groups"]
    patients = report["probe"]["patients"]
    single = [group["name"] for group in groups if len(group["seeds"]) == 1]
    if not single:
        numbers = " and ".join(str(len(group["seeds"])) for group in groups)
        return f"Intervals are for other patients ({patients}) and other seeds ({numbers} runs)."
    return (
        f"Intervals are for other patients ({patients}) only: seeds were not varied for "
        f"{', '.join(single)}, so nothing here says whether another seed would agree."
    )


def _moved(report: Mapping[str, Any]) -> str:
    """Updates of runs of one group beside those of runs of two."""
    group_of = {run: group["name"] for group in report["groups"] for run in group["runs"]}
    pairs = [pair for pair in report["updates"]["pairs"] if pair["cosine"] is not None]
    within = [pair["cosine"] for pair in pairs if group_of.get(pair["first"]) == group_of.get(pair["second"])]
    across = [pair["cosine"] for pair in pairs if group_of.get(pair["first"]) != group_of.get(pair["second"])]
    parts = [
        f"{statistics.fmean(values):.2f} {what} ({_range(values)})"
        for values, what in ((within, "between seeds of one recipe"), (across, "between recipes"))
        if values
    ]
    if not parts:
        return ""
    return (
        f"The cosine of the runs' updates ΔW is {' and '.join(parts)}; independent directions would give "
        f"0.00 ± {report['updates']['random_cosine']:.4f}."
    )


def _range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return "one pair"
    return f"{min(values):.2f} to {max(values):.2f} over {len(values)} pairs"


def _conflicts(report: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    runs = [run for run in report["runs"] if run["name"] in group["runs"]]
    found = [sum(pair["q"] < Q for pair in run["conflicts"]) for run in runs]
    total = len(runs[0]["conflicts"])
    if not total:
        return ""
    known = [sum(value is not None for value in _diagonal(run["cosines"]["debiased"])) for run in runs]
    tasks = len(runs[0]["cosines"]["tasks"])
    return (
        f"{group['name']}: batches of {', '.join(map(str, found))} of {total} task pairs disagree more often "
        f"than under permuted labels (q < {Q}, one number a run); the mean gradients of "
        f"{', '.join(map(str, known))} of {tasks} tasks stand out of the noise."
    )


def _diagonal(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [row[place] for place, row in enumerate(rows)]


def _helps(report: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    tried = report["affinity"].get(group["name"])
    if not tried:
        return ""
    step, found = max(tried.items(), key=lambda item: int(item[0]))
    tasks = found["tasks"]
    pairs = [(a, b) for a in range(len(tasks)) for b in range(len(tasks)) if a != b]
    sure = [found["value"][a][b] for a, b in pairs if found["q"][a][b] < Q]
    helped, hurt = sum(value < 0 for value in sure), sum(value > 0 for value in sure)
    return (
        f"{group['name']}: of {len(pairs)} ordered pairs of tasks, a step along one lowers the loss of the "
        f"other in {helped} and raises it in {hurt} at step {step} (q < {Q}); the rest is undecided."
    )


def signed(value: float) -> str:
    """With sign, two decimals, or two figures where it is small."""
    text = f"{value:+.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:+.2g}"
    return text.replace("-", "−")
