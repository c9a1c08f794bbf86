"""What a leaderboard says, before it is drawn: runs grouped by test set, ranked, compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError, unknown
from data_recipes.records import Entry, Image
from data_recipes.store import read_mixture
from eval.pairs import Comparison, comparisons, summary, verdicts
from eval.scores import held_out_hash, spread
from eval.seeds import GroupDifference, SeedGroup, group_differences, seed_groups
from eval.standing import Standing, read_standing, with_answers
from eval.stats import RESAMPLES


@dataclass(frozen=True)
class Section:
    """The runs of one test set, best first. `comparisons` holds, by reference, every other run against it."""

    title: str
    test_hash: str
    tasks: Sequence[str]
    headlines: Mapping[str, str]
    standings: Sequence[Standing]
    reference: str
    comparisons: Mapping[str, Sequence[Comparison]]
    seed_groups: Sequence[SeedGroup]
    seed_differences: Sequence[GroupDifference]
    verdicts: Sequence[str]
    summary: str
    notes: Sequence[str]
    apart: str
    pairs: Sequence[tuple[Image, Entry]] = field(default=(), repr=False)
    images: Path | None = None


def sections(folders: Sequence[Path], *, reference: str | None = None) -> list[Section]:
    """Scored runs by test set; runs with different test sets get sections of their own, in the order given.

    Args:
        reference: the run (name or folder) that others are compared with; the first of a section otherwise.

    Raises:
        UserError: a folder holds no scores, or they are broken; or the reference is none of the runs.
    """
    named = dict(zip(_names(folders), folders, strict=True))
    chosen = _reference(reference, named)
    groups: dict[str, list[Standing]] = {}
    for name, folder in named.items():
        run = read_standing(name, folder)
        groups.setdefault(run.test_hash, []).append(run)
    return [_section(key, runs, chosen, several=len(groups) > 1) for key, runs in groups.items()]


def _section(test_hash: str, runs: Sequence[Standing], chosen: str | None, *, several: bool) -> Section:
    first = runs[0].scores
    tasks = list(first["tasks"])
    pairs, images, notes = held_out([run.scores for run in runs], test_hash)
    resamples = first.get("interval", {}).get("resamples", RESAMPLES)
    runs = [with_answers(run, pairs, resamples) for run in runs]
    notes += [
        f"{run.name}: its predictions.jsonl no longer gives its scores, so it is neither compared in pairs "
        f"nor shown in examples. Score it again: imax eval {run.folder}"
        for run in runs
        if run.stale
    ]
    reference = chosen if chosen in {run.name for run in runs} else runs[0].name
    groups = seed_groups(runs)
    ranked = sorted(runs, key=lambda run: -run.average.value)
    found = comparisons(ranked, reference)
    apart = (
        f"Test set {test_hash[:12]}: these runs did not answer the questions of the other sections "
        "and are ranked apart."
    )
    return Section(
        title=f"{first.get('mixture_name')}, {first.get('split')} split: {first.get('entries')} entries, "
        f"{first.get('patients')} patients",
        test_hash=test_hash,
        tasks=tasks,
        headlines={task: first["tasks"][task]["headline"] for task in tasks},
        standings=ranked,
        reference=reference,
        comparisons=found,
        seed_groups=groups,
        seed_differences=group_differences(groups, runs),
        verdicts=verdicts(runs),
        summary=summary(ranked, reference, found.get(reference, ())),
        notes=notes,
        apart=apart if several else "",
        pairs=pairs,
        images=images,
    )


def held_out(
    found: Sequence[Mapping[str, Any]], expected: str
) -> tuple[list[tuple[Image, Entry]], Path | None, list[str]]:
    """The test entries that runs were scored on, from the first of their mixtures that is still there."""
    for scores in found:
        folder = Path(str(scores.get("mixture")))
        if not (folder / "mixture.json").exists():
            continue
        pairs = list(read_mixture(folder).of_split(str(scores.get("split"))))
        pairs = spread(pairs, scores.get("limit"))
        if held_out_hash(entry for _, entry in pairs) == expected:
            return pairs, folder, []
    note = "The mixture these runs were scored on is not at hand: no paired comparison and no examples here."
    return [], None, [note]


def _reference(given: str | None, named: Mapping[str, Path]) -> str | None:
    """The name of the run that was given by name or folder."""
    if given is None or given in named:
        return given
    for name, folder in named.items():
        if folder.resolve() == Path(given).resolve():
            return name
    raise unknown("reference", given, named, "It must be one of the runs compared")


def _names(folders: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parents as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        raise UserError("the same run is given twice")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("folders differ, so their paths do")
