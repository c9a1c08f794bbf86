"""Runs compared in pairs: differences with intervals and p values, relative gains, and both in words.

A pair shares the resamples of patients, so its intervals are paired. Of few runs every pair is compared, so
that a reader of the page can choose the reference; of many runs only the pairs with the chosen one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    known: dict[tuple[str, str], Comparison] = {}
    for second in references:
        for first in usable:
            if first is not second:
                mirror = known.get((second.name, first.name))
                known[first.name, second.name] = _compared(first, second, mirror)
    found = {
        second.name: [known[first.name, second.name] for first in usable if first is not second]
        for second in references
    }
    return {name: pairs for name, pairs in found.items() if pairs}


def shown(line: Difference) -> bool:
    """Whether the difference is shown at the 5 % level, after Holm's correction for a task."""
    return (line.p if line.p_holm is None else line.p_holm) < LEVEL


def verdicts(runs: Sequence[Standing]) -> list[str]:
    """Whether IMAX beat DMAX, exactly as it came out: on average, in words by task, and a line a task.
    Nothing unless there is one run of each: a pair picked from several would pass for the answer."""
    imax, dmax = (
        [run for run in runs if run.recomputed and Path(run.recipe).stem == name] for name in ("imax", "dmax")
    )
    if len(imax) != 1 or len(dmax) != 1:
        return []
    comparison = _compared(imax[0], dmax[0])
    average = comparison.average
    outcome = "IMAX beat DMAX" if average.ci_low > 0 else "DMAX beat IMAX" if average.ci_high < 0 else ""
    outcome = outcome or "no difference shown, as the interval holds 0"
    pair = f"{comparison.first} − {comparison.second}"
    by_task = f"{_by_task(comparison)} One run each: intervals are for other patients, not for other seeds."
    lines = [f"Multi-task average: {pair} = {_difference(average)}: {outcome}.", by_task]
    lines += [f"{line.task}: {pair} = {_difference(line)}." for line in comparison.lines[:-1]]
    return lines


def summary(ranked: Sequence[Standing], reference: str, found: Sequence[Comparison]) -> str:
    """Who leads and by how much, in a few sentences. `found` are the comparisons with the reference."""
    best = ranked[0]
    text = f"{best.name} has the highest average, {best.average.value:.1f}"
    text += f" [{best.average.ci_low:.1f}, {best.average.ci_high:.1f}]"
    pairs = {pair.first: pair for pair in found}
    if best.name == reference:
        pair = next((pairs[run.name] for run in ranked if run.name in pairs), None)
        between = f". The next, {pair.first}, against it" if pair else ""
    else:
        pair = pairs.get(best.name)
        between = f". Against {reference}" if pair else ""
    return f"{text}{between}: {_difference(pair.average)}. {_by_task(pair)}" if pair else f"{text}."


def _by_task(pair: Comparison) -> str:
    better = [line.task for line in pair.lines[:-1] if shown(line) and line.value > 0]
    worse = [line.task for line in pair.lines[:-1] if shown(line) and line.value < 0]
    even = [line.task for line in pair.lines[:-1] if not shown(line)]
    if not better and not worse:
        return "No difference is shown on any task."
    named = (("better on", better), ("worse on", worse), ("no difference shown on", even))
    text = "; ".join(f"{words} {', '.join(tasks)}" for words, tasks in named if tasks)
    return f"{pair.first}: {text}."


def gain_text(gain: Gain) -> str:
    """A gain with its interval; a dash where it is not defined."""
    if not math.isfinite(gain.value):
        return "–"
    return _minus(f"{gain.value:+.1f} % [{gain.ci_low:+.1f}, {gain.ci_high:+.1f}]")


def _compared(first: Standing, second: Standing, mirror: Comparison | None = None) -> Comparison:
    """First against second. `mirror` is second against first, where that is known: differences are the same
    but for their sign."""
    assert first.recomputed is not None
    assert second.recomputed is not None
    lines = (
        [
            replace(line, value=-line.value, ci_low=-line.ci_high, ci_high=-line.ci_low)
            for line in mirror.lines
        ]
        if mirror
        else compare(first.recomputed, second.recomputed)
    )
    assert lines[-1].task == AVERAGE
    return Comparison(first.name, second.name, lines, gains(first.recomputed, second.recomputed))


def _difference(line: Difference) -> str:
    holm = f", Holm {line.p_holm:.2g}" if line.p_holm is not None else ""
    return _minus(f"{line.value:+.1f} [{line.ci_low:+.1f}, {line.ci_high:+.1f}] (p {line.p:.2g}{holm})")


def _minus(text: str) -> str:
    return text.replace("-", "−")
