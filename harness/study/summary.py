"""The summary of a study in sentences, each computed from the numbers beside it; none says more than they
allow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from data_recipes.page import signed
from eval.compare import AVERAGE
from harness.study.arms import MAIN
from harness.study.compared import LEVEL
from harness.study.correlation import SPEARMAN
from harness.study.drive import in_words
from harness.study.state import DONE
from taco_probe.dynamics.quantities import HEADLINES
from taco_probe.dynamics.summary import SHORT

Found = Mapping[str, Any]
NAMED = 6  # runs that are not done, named one by one
NO_DIFFERENCE = "no difference shown, as the interval holds 0"


def sentences(found: Found) -> list[str]:
    """What the study shows, most important first."""
    lines = [*_missing(found)]
    several = len(found["models"]) > 1
    for first, second in dict.fromkeys((one["first"], one["second"]) for one in found["differences"]):
        rows = [row for row in found["differences"] if (row["first"], row["second"]) == (first, second)]
        models = list(dict.fromkeys(row["model"] for row in rows))
        lines += [_pair(found, [row for row in rows if row["model"] == model], several) for model in models]
        if len(models) > 1:
            lines.append(_across(found, rows, len(models)))
    lines += [*_scope(found)]
    lines += [*_single(found), *_uncompared(found)]
    lines += [*_density(found), *_transfer(found), *_pseudo_labels(found), *_correlated(found)]
    if found["warnings"]:
        warned = _count(len(found["warnings"]), "warning")
        lines.append(f"Fairness: {warned}, listed with the table of what was matched.")
    return [*lines, _cost(found)]


def label(found: Found, arm: str) -> str:
    """What an arm is called."""
    return str(next(one["label"] for one in found["arms"] if one["name"] == arm))


def interval(row: Found) -> str:
    """[low, high] with signs."""
    return f"[{signed(row['low'])}, {signed(row['high'])}]"


def verdict(found: Found, row: Found) -> str:
    """What the interval of a difference of averages allows to say; of single runs nothing on their arms."""
    if row["low"] <= 0 <= row["high"]:
        return NO_DIFFERENCE
    better = label(found, row["first"] if row["low"] > 0 else row["second"])
    return f"{better} is better" if min(row["seeds"]) > 1 else f"the run of {better} is better, here"


def _missing(found: Found) -> Iterator[str]:
    rest = [run for run in found["runs"] if run["state"] != DONE]
    if rest:
        named = ", ".join(f"{run['name']} ({run['state']})" for run in rest[:NAMED])
        if len(rest) > NAMED:
            named += f" and {len(rest) - NAMED} more (`imax study plan` lists them)"
        yield (
            f"This is a part of the study: {len(rest)} of {_count(len(found['runs']), 'run')} not done, and "
            f"what follows rests on the others. Not done: {named}."
        )
    yield from found["notes"]


def _pair(found: Found, rows: Sequence[Found], several: bool) -> str:
    """One pair of arms with one model."""
    average = next(row for row in rows if row["task"] == AVERAGE)
    where = f" with {average['model']}" if several else ""
    between = f"{label(found, average['first'])} − {label(found, average['second'])}{where}"
    tasks = [row for row in rows if row["task"] != AVERAGE]
    named = (
        ("better on", [row["task"] for row in tasks if row["shown"] and row["value"] > 0]),
        ("worse on", [row["task"] for row in tasks if row["shown"] and row["value"] < 0]),
        ("no difference shown on", [row["task"] for row in tasks if not row["shown"]]),
    )
    by_task = "; ".join(f"{words} {', '.join(some)}" for words, some in named if some)
    return (
        f"{between}: {signed(average['value'])} points on the multi-task average {interval(average)}, "
        f"{_seeds(average)}: {verdict(found, average)}. By task (q < 0.05): {by_task}."
    )


def _seeds(row: Found) -> str:
    first, second = row["seeds"]
    if first == second == 1:
        return "one seed each, so this says nothing of other seeds"
    if 1 in (first, second):
        return f"{first} against {_count(second, 'seed')}, so seeds were varied on one side only"
    return f"{first} seeds each" if first == second else f"{first} against {second} seeds"


def _across(found: Found, rows: Sequence[Found], models: int) -> str:
    """How often one arm was better; with one seed on a side no arm is, whatever the interval."""
    averages = [row for row in rows if row["task"] == AVERAGE]
    first, second = label(found, rows[0]["first"]), label(found, rows[0]["second"])
    counted = [row for row in averages if min(row["seeds"]) > 1]
    alone = len(averages) - len(counted)
    if not counted:
        return (
            f"{first} against {second} over {models} models: one seed on a side with each, so nothing is "
            "said of the arms."
        )
    better, worse = sum(row["low"] > 0 for row in counted), sum(row["high"] < 0 for row in counted)
    more = f"; {alone} with one seed on a side not counted" if alone else ""
    return (
        f"Over {models} models {first} is better than {second} with {better} and worse with {worse} by "
        f"intervals that exclude 0; no difference is shown with {len(counted) - better - worse}{more}."
    )


def _scope(found: Found) -> Iterator[str]:
    """What the intervals of differences do not cover."""
    rows = [*found["differences"], *found["density"]["differences"]]
    if number := sum(row["task"] == AVERAGE for row in rows):
        several = (
            f" {number} differences of averages are each judged by their own interval, of which up to one "
            "in twenty excludes 0 where there is no difference."
        )
        yield (
            "Each arm has one draw of training images: intervals are for other test patients and other "
            f"training seeds, not for other training sets.{several * (number > 1)}"
        )


def _single(found: Found) -> Iterator[str]:
    main = {arm["name"] for arm in found["arms"] if arm["block"] == MAIN}
    arms = dict.fromkeys(row["arm"] for row in found["levels"] if row["arm"] in main and row["seeds"] == 1)
    if arms:
        named = ", ".join(label(found, arm) for arm in arms)
        yield f"One seed only so far: {named}. Intervals there are for other patients, not for other seeds."


def _uncompared(found: Found) -> Iterator[str]:
    """Main arms without a comparison: one of the two has no run with answers."""
    main = [
        arm["name"] for arm in found["arms"] if arm["block"] == MAIN and arm["name"] != found["reference"]
    ]
    compared = {row["first"] for row in found["differences"] if row["second"] == found["reference"]}
    if without := [label(found, arm) for arm in main if arm not in compared]:
        reference = label(found, found["reference"])
        yield f"Not compared with {reference}, for lack of finished runs: {', '.join(without)}."


def _density(found: Found) -> Iterator[str]:
    ends = [row for row in found["density"]["differences"] if row["task"] == AVERAGE]
    for model in dict.fromkeys(row["model"] for row in ends):
        last = [row for row in ends if row["model"] == model][-1]
        high, low = label(found, last["first"]), label(found, last["second"])
        said = NO_DIFFERENCE if last["low"] <= 0 <= last["high"] else "the interval excludes 0"
        yield (
            f"Density at an equal number of entries ({model}): {high} − {low} = {signed(last['value'])} "
            f"points {interval(last)}, {_seeds(last)}: {said}."
        )


def _transfer(found: Found) -> Iterator[str]:
    rows = found["transfer"]["differences"]
    arms = {arm["name"]: arm for arm in found["arms"]}
    for model in dict.fromkeys(row["model"] for row in rows):
        cells = [
            row
            for row in rows
            if row["model"] == model
            and (left_out := arms[row["first"]]["left_out"])
            and row["task"] not in (AVERAGE, left_out)
        ]
        if not cells:
            continue
        helped = [row for row in cells if row["shown"] and row["value"] < 0]
        hurt = [row for row in cells if row["shown"] and row["value"] > 0]
        yield (
            f"Leaving one task out ({model}): of {len(cells)} pairs of a task left out and another one "
            f"scored, {len(helped)} lose (the task left out helped) and {len(hurt)} gain, q < 0.05; the rest "
            f"is undecided. At equal steps the other tasks get the draws of the one left out, so that a task "
            f"helps only where it is worth more than these."
        )


def _pseudo_labels(found: Found) -> Iterator[str]:
    """How much was kept of what models answered, and how right that was beside the rest."""
    rows_of: dict[tuple[str, str], list[Found]] = {}
    for row in found["pseudo_labels"]:
        rows_of.setdefault((row["arm"], row["model"]), []).append(row)
    for (arm, model), rows in rows_of.items():
        kept = sum(row["kept"] * row["asked"] for row in rows) / sum(row["asked"] for row in rows)
        where = f" with {model}" if len(found["models"]) > 1 else ""
        line = f"Pseudo-labels of {label(found, arm)}{where}: {100 * kept:.0f} % of the answers were kept"
        known = [row for row in rows if row["value"] is not None and row["value_used"] is not None]
        if known:
            before, after = (fmean(row[key] for row in known) for key in ("value", "value_used"))
            line += f"; mean headline of {_count(len(known), 'task')} {before:.1f} of all"
            line += f", {after:.1f} of those used"
        yield f"{line}."


def _correlated(found: Found) -> Iterator[str]:
    for row in found["correlations"]:
        if row["method"] != SPEARMAN or row["quantity"] not in HEADLINES:
            continue
        where = "within arms" if row["within"] else "over arms"
        head = f"{SHORT[row['quantity']]} {found['moment']} and the average, {where} ({row['model']})"
        among = f"{row['n']} runs in {_count(row['arms'], 'arm')}"
        if row["low"] is None:
            why = "they are too few, or do not vary" if row["value"] is None else "they are too few"
            why = "they lie in one order" if row["value"] and abs(row["value"]) > 1 - 1e-9 else why
            yield f"{head}: no interval from {among}: {why}."
            continue
        shown = (row["low"] > 0 or row["high"] < 0) and row["q"] < LEVEL
        said = "a correlation is shown" if shown else "no correlation shown"
        ends = f"[{signed(row['low'], 2)}, {signed(row['high'], 2)}]"
        yield (
            f"{head}: Spearman's correlation {signed(row['value'], 2)} {ends}, q {row['q']:.2g}, {among}: "
            f"{said}."
        )


def _cost(found: Found) -> str:
    cost = found["cost"]
    killed = cost["killed"]
    more = f" {_count(killed, 'attempt')} that ended without a record not counted." if killed else ""
    if cost["annotation_seconds"]:
        more += (
            f" Training and annotation, each run trained on its own, without the cache of stages: "
            f"{in_words(cost['full_seconds'])}, of it {in_words(cost['annotation_seconds'])} annotation."
        )
    return (
        f"Cost of {_count(cost['runs'], 'run')}: {in_words(cost['seconds'])} of wall clock one after "
        f"another, {in_words(cost['processor_seconds'])} of processor time, "
        f"{cost['tokens_computed']:,.0f} training tokens.{more}"
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
