"""The plain-language summary of a comparison. Every sentence is computed from the numbers beside it, and says
no more than they allow."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from taco_probe.dynamics.moments import PERCENT, STEP, named

NAMES = {
    "gradients": {"entropy": "SE", "dominance": "ρ"},
    "directions": {"entropy_directions": "SE of directions", "dominance_directions": "ρ of directions"},
}
SHORT = NAMES["gradients"] | NAMES["directions"]
Q = 0.05  # share of false ones that is put up with where many are tested


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What the comparison shows, most important first."""
    found = [line for pair in _pairs(report) for line in _compared(report, *pair)]
    found += [
        line
        for line in (_uneven(report), _approximate(report), _matched(report), _seeds(report), _moved(report))
        if line
    ]
    for group in report["groups"]:
        found += [line for at in report["moments"]["shown"] if (line := _conflicts(report, group, at))]
        found += [_helps(report, group, tried) for tried in report["affinity"][group["name"]]]
    return found


def _pairs(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(itertools.combinations([group["name"] for group in report["groups"]], 2))


def _compared(report: Mapping[str, Any], first: str, second: str) -> list[str]:
    if not _rows(report, first, second, "entropy"):
        return [f"{first} and {second} have nothing measured in common but what was before training."]
    return [
        *_told_apart(report, first, second, "gradients"),
        *_told_apart(report, first, second, "directions"),
    ]


def _rows(report: Mapping[str, Any], first: str, second: str, quantity: str) -> list[Mapping[str, Any]]:
    return [
        row
        for row in report["differences"]
        if (row["first"], row["second"], row["quantity"]) == (first, second, quantity)
        and row["at"] not in report["moments"]["untrained"]
    ]


def _told_apart(report: Mapping[str, Any], first: str, second: str, what: str) -> list[str]:
    """Whether gradients, or their directions alone, are more concentrated in one of two groups."""
    lines, concentrated = [], []
    for quantity, short in NAMES[what].items():
        rows = _rows(report, first, second, quantity)
        last = rows[-1]
        lines.append(
            f"{short} is lower under {first} than under {second} at {_count(rows, -1)} of {len(rows)} "
            f"{_moments(report)} ({_count(rows, -1, sure=True)} with an interval that excludes 0), higher at "
            f"{_count(rows, 1)} ({_count(rows, 1, sure=True)}); at the last, {_when(report, last['at'])}, "
            f"the difference is {signed(last['value'])} [{signed(last['low'])}, {signed(last['high'])}]."
        )
        concentrated.append(_sign(last))
    entropy, dominance = NAMES[what].values()
    if name := {(-1, 1): first, (1, -1): second}.get((concentrated[0], concentrated[1])):
        lines.append(
            f"At that moment {what} are more concentrated under {name}: {entropy} is lower and {dominance} "
            f"higher, and both intervals exclude 0."
        )
    else:
        lines.append(
            f"At that moment {entropy} and {dominance} do not both tell {first} and {second} apart in one "
            f"direction: no difference in concentration is shown."
        )
    return lines


def _uneven(report: Mapping[str, Any]) -> str:
    """Over how many entries the squared gradient is spread, which SE and ρ depend on."""
    n = report["probe"]["entries"]
    spread = {
        group["name"]: [
            run["kinds"][f"{report['headline']['fisher']} {report['headline']['form']}"]["effective_entries"]
            for run in report["runs"]
            if run["name"] in group["runs"]
        ]
        for group in report["groups"]
    }
    said = "; ".join(f"{name} {', '.join(f'{one:.1f}' for one in found)}" for name, found in spread.items())
    return (
        f"At the last measurement the squared gradient is spread as over so many of {n} entries: {said}. SE "
        f"and ρ weigh entries by it, those of directions do not."
    )


def _when(report: Mapping[str, Any], at: float) -> str:
    return named(report["moments"]["unit"], at)


def _moments(report: Mapping[str, Any]) -> str:
    return "steps" if report["moments"]["unit"] == STEP else "moments"


def _count(rows: Sequence[Mapping[str, Any]], sign: int, *, sure: bool = False) -> int:
    return sum((_sign(row) if sure else _way(row["value"])) == sign for row in rows)


def _way(value: float) -> int:
    return (value > 0) - (value < 0)


def _sign(row: Mapping[str, Any]) -> int:
    """-1 or 1 where the interval excludes 0, else 0."""
    return int(row["low"] > 0) - int(row["high"] < 0)


def _approximate(report: Mapping[str, Any]) -> str:
    """Which runs were not measured exactly, and how far off a cosine of two gradients is."""
    found = [run for run in report["runs"] if not run["exact"]]
    if not found:
        return ""
    names, error = ", ".join(run["name"] for run in found), max(run["cosine_error"] for run in found)
    return (
        f"Approximate, by random sketches: {names}. The standard error of the cosine of two gradients is "
        f"{error:.2g} at most; sketching spreads small eigenvalues, so SE near the logarithm of the rank is "
        f"not to be trusted."
    )


def _matched(report: Mapping[str, Any]) -> str:
    """How moments of runs of different length were put side by side."""
    totals = sorted({total for total in report["moments"]["totals"].values() if total})
    if len(totals) < 2:
        return ""
    length = f"The runs have {totals[0]} to {totals[-1]} steps"
    if report["moments"]["unit"] == PERCENT:
        return f"{length}: they are compared after equal shares of their training."
    return f"{length}: they are compared at equal steps, which are different shares of their training."


def _seeds(report: Mapping[str, Any]) -> str:
    groups = report["groups"]
    patients = report["probe"]["patients"]
    single = [group["name"] for group in groups if len(group["seeds"]) == 1]
    left_out = report["left_out"]
    more = f" Left out, since they repeat a seed: {', '.join(left_out)}." if left_out else ""
    if not single:
        numbers = " and ".join(str(len(group["seeds"])) for group in groups)
        return f"Intervals are for other patients ({patients}) and other seeds ({numbers} runs).{more}"
    return (
        f"Intervals are for other patients ({patients}) only where they involve {', '.join(single)}: seeds "
        f"were not varied there, so nothing here says whether another seed would agree.{more}"
    )


def _moved(report: Mapping[str, Any]) -> str:
    """Updates of runs of one group beside those of runs of two. Runs of one seed start from the same A, which
    alone makes their updates alike."""
    group_of = {run: group["name"] for group in report["groups"] for run in group["runs"]}
    seed_of = {run["name"]: run["seed"] for run in report["runs"]}
    pairs = [pair for pair in report["updates"]["pairs"] if pair["cosine"] is not None]
    cosines: dict[str, list[float]] = {}
    for pair in pairs:
        one, other = pair["first"], pair["second"]
        if group_of[one] == group_of[other]:
            what = "between seeds of one recipe"
        elif seed_of[one] == seed_of[other]:
            what = "between recipes from one seed, which is one random A to start from"
        else:
            what = "between recipes from different seeds"
        cosines.setdefault(what, []).append(pair["cosine"])
    if not cosines:
        return ""
    parts = [f"{_plain(statistics.fmean(some))} {what} ({_range(some)})" for what, some in cosines.items()]
    chance = max(pair["cosine_random"] for pair in pairs)
    return (
        f"The cosine of the runs' updates ΔW is {'; '.join(parts)}. Independent directions would give 0.00 ± "
        f"{chance:.4f}."
    )


def _range(values: Sequence[float]) -> str:
    if len(values) == 1:
        return "one pair"
    return f"{_plain(min(values))} to {_plain(max(values))} over {len(values)} pairs"


def _plain(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _conflicts(report: Mapping[str, Any], group: Mapping[str, Any], at: float) -> str:
    runs = [
        between
        for run in report["runs"]
        for between in run["between"]
        if run["name"] in group["runs"] and between["at"] == at
    ]
    found = [sum(pair["q"] < Q for pair in run["conflicts"]) for run in runs]
    total = len(runs[0]["conflicts"])
    if not total:
        return ""
    known = [sum(value is not None for value in _diagonal(run["cosines"]["debiased"])) for run in runs]
    tasks = len(runs[0]["cosines"]["tasks"])
    standing, disagreeing = (", ".join(map(str, counts)) for counts in (known, found))
    return (
        f"{group['name']}, {_when(report, at)}: the mean gradients of {standing} of {tasks} tasks stand out "
        f"of the noise (one number a run); batches of {disagreeing} of {total} task pairs disagree more "
        f"often than under permuted labels (q < {Q})."
    )


def _diagonal(rows: Sequence[Sequence[float | None]]) -> list[float | None]:
    return [row[place] for place, row in enumerate(rows)]


def _helps(report: Mapping[str, Any], group: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    tasks = found["tasks"]
    pairs = [(a, b) for a in range(len(tasks)) for b in range(len(tasks)) if a != b]
    sure = [found["value"][a][b] for a, b in pairs if found["q"][a][b] < Q]
    helped, hurt = sum(value < 0 for value in sure), sum(value > 0 for value in sure)
    return (
        f"{group['name']}, {_when(report, found['at'])}: of {len(pairs)} ordered pairs of tasks, a step "
        f"along one lowers the loss of the other in {helped} and raises it in {hurt} (q < {Q}); the rest is "
        f"undecided. On average it changes the loss of its own task by {_percent(found['own'])} and that of "
        f"another by {_percent(found['others'])}."
    )


def _percent(found: Mapping[str, Any]) -> str:
    value, low, high = (signed(100 * found[key]) for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def signed(value: float) -> str:
    """With sign, two decimals, or two figures where it is small."""
    text = f"{value:+.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:+.2g}"
    return text.replace("-", "−")
