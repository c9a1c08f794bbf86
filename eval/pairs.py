"""Runs compared in pairs: differences with intervals and p values, relative gains, and what they say in words.

A pair shares the resamples of patients, so its intervals are paired. Of few runs every pair is compared, so
that a reader of the page can choose the reference; of many runs only the pairs with the chosen one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.compare import AVERAGE, Difference, Gain, compare, gains
from eval.standing import Standing

FEW = 8  # runs of which all pairs are compared
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """The first run against the second: `lines` in points (a task each, then the average), `gains` in percent
    of the second's score."""

    first: str
    second: str
    lines: Sequence[Difference]
    gains: Sequence[Gain]

    @property
    def average(self) -> Difference:
        return self.lines[-1]

    def line(self, task: str) -> Difference:
        return next(line for line in self.lines if line.task == task)


def comparisons(runs: Sequence[Standing], reference: str) -> dict[str, list[Comparison]]:
    """By reference, the given one first: every other run against it. Runs without answers are left out."""
    usable = [run for run in runs if run.recomputed]
    references = [run for run in usable if run.name == reference]
    if len(runs) <= FEW:
        references += [run for run in usable if run.name != reference]
    found = {
        second.name: [_compared(first, second) for first in usable if first is not second]
        for second in references
    }
    return {name: pairs for name, pairs in found.items() if pairs}


def shown(line: Difference) -> bool:
    """Whether the difference is shown at the 5 % level, after Holm's correction for a task."""
    return (line.p if line.p_holm is None else line.p_holm) < LEVEL


def verdicts(runs: Sequence[Standing]) -> list[str]:
    """Whether IMAX beat DMAX, exactly as it came out; nothing where there is not one of each."""
    by_recipe: dict[str, Standing] = {}
    for run in runs:
        if run.recipe and run.recomputed:
            by_recipe.setdefault(Path(run.recipe).stem, run)
    if not {"imax", "dmax"} <= by_recipe.keys():
        return []
    comparison = _compared(by_recipe["imax"], by_recipe["dmax"])
    average = comparison.average
    outcome = "IMAX beat DMAX" if average.ci_low > 0 else "DMAX beat IMAX" if average.ci_high < 0 else ""
    outcome = outcome or "no difference shown, as the interval holds 0"
    pair = f"{comparison.first} − {comparison.second}"
    lines = [f"Multi-task average: {pair} = {_difference(average)}: {outcome}."]
    lines += [f"{line.task}: {pair} = {_difference(line)}." for line in comparison.lines[:-1]]
    return lines


def summary(ranked: Sequence[Standing], reference: str, found: Sequence[Comparison]) -> str:
    """Who leads and by how much, in one or two sentences."""
    best = ranked[0]
    text = f"{best.name} has the highest average, {best.average.value:.1f}"
    text += f" [{best.average.ci_low:.1f}, {best.average.ci_high:.1f}]"
    if best.name == reference:
        closest = next((pair for run in ranked for pair in found if pair.first == run.name), None)
        if closest is None:
            return f"{text}."
        return f"{text}. The next, {closest.first}, against it: {_difference(closest.average)}. {_by_task(closest)}"
    lead = next((pair for pair in found if pair.first == best.name), None)
    return f"{text}." if lead is None else f"{text}: {_difference(lead.average)} against {reference}. {_by_task(lead)}"


def _by_task(pair: Comparison) -> str:
    better = [line.task for line in pair.lines[:-1] if shown(line) and line.value > 0]
    worse = [line.task for line in pair.lines[:-1] if shown(line) and line.value < 0]
    even = [line.task for line in pair.lines[:-1] if not shown(line)]
    named = (("better on", better), ("worse on", worse), ("no difference shown on", even))
    text = "; ".join(f"{words} {', '.join(tasks)}" for words, tasks in named if tasks)
    return f"{pair.first} is {text}."


def gain_text(gain: Gain) -> str:
    """A gain with its interval; a dash where it is not defined."""
    if not math.isfinite(gain.value):
        return "–"
    return _minus(f"{gain.value:+.1f} % [{gain.ci_low:+.1f}, {gain.ci_high:+.1f}]")


def _compared(first: Standing, second: Standing) -> Comparison:
    assert first.recomputed is not None
    assert second.recomputed is not None
    lines = compare(first.recomputed, second.recomputed)
    assert lines[-1].task == AVERAGE
    return Comparison(first.name, second.name, lines, gains(first.recomputed, second.recomputed))


def _difference(line: Difference) -> str:
    holm = f", Holm {line.p_holm:.3g}" if line.p_holm is not None else ""
    return _minus(f"{line.value:+.1f} [{line.ci_low:+.1f}, {line.ci_high:+.1f}] (p {line.p:.3g}{holm})")


def _minus(text: str) -> str:
    return text.replace("-", "−")
