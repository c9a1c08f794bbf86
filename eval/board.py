"""What a leaderboard says, before it is drawn: runs grouped by test set, ranked, compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image
from data_recipes.store import read_mixture
from eval.answers import Answer
from eval.compare import AVERAGE, Difference, compare
from eval.predictions import answers_from_rows, read_own
from eval.runs import read_json
from eval.scores import Scores, held_out_hash, score, spread
from eval.stats import RESAMPLES

COLOURS = ("#ea580c", "#2563eb", "#9333ea", "#0891b2", "#be123c", "#a16207")


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Cell(Interval):
    """A run's headline on one task beside its best trivial baseline (None where there is none)."""

    n: int
    unparsed: int
    baseline: float | None
    baseline_name: str

    @property
    def beats_baseline(self) -> bool:
        return self.baseline is not None and self.ci_low > self.baseline


@dataclass(frozen=True)
class Standing:
    """A run in the ranking. `rows` are the lines of its `predictions.jsonl`, `answers` what they say (None
    without the mixture)."""

    name: str
    folder: Path
    scores: Mapping[str, Any]
    cells: Mapping[str, Cell]
    average: Interval
    colour: str
    rows: Mapping[str, Mapping[str, Any]]
    answers: Sequence[Answer] | None
    recomputed: Scores | None

    def answers_of(self, task: str) -> list[Answer]:
        return [answer for answer in self.answers or () if answer.entry.task == task]

    @property
    def run_folder(self) -> Path:
        """Where it was trained: the folder itself, or its parent for an evaluation on something else."""
        return next(
            (path for path in (self.folder, self.folder.parent) if (path / "run.yaml").exists()), self.folder
        )


@dataclass(frozen=True)
class Comparison:
    first: str
    second: str
    lines: Sequence[Difference]


@dataclass(frozen=True)
class Section:
    """The runs of one test set, best first."""

    title: str
    test_hash: str
    tasks: Sequence[str]
    headlines: Mapping[str, str]
    standings: Sequence[Standing]
    reference: str
    comparisons: Sequence[Comparison]
    verdicts: Sequence[str]
    notes: Sequence[str]
    apart: str
    pairs: Sequence[tuple[Image, Entry]] = field(default=(), repr=False)
    images: Path | None = None


def sections(folders: Sequence[Path]) -> list[Section]:
    """Scored runs by test set; runs with different test sets get sections of their own, in the order given.

    Raises:
        UserError: a folder holds no scores, or they are broken.
    """
    groups: dict[str, list[_Member]] = {}
    for i, (name, folder) in enumerate(zip(_names(folders), folders, strict=True)):
        if not (folder / "scores.json").is_file():
            raise UserError(f"{folder} has no scores.json: score it first with `imax eval {folder}`")
        scores = read_json(folder / "scores.json")
        try:
            cells = {task: _cell(scores, task) for task in scores["tasks"]}
            average = Interval(*(scores["multi_task_average"][key] for key in ("value", "ci_low", "ci_high")))
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{folder / 'scores.json'} lacks parts: score the run again") from None
        member = _Member(name, folder, scores, cells, average, COLOURS[i % len(COLOURS)])
        # Scores from elsewhere may name their mixture only.
        groups.setdefault(str(scores.get("test_hash") or scores.get("mixture_hash")), []).append(member)
    several = len(groups) > 1
    return [_section(key, members, several=several) for key, members in groups.items()]


class _Member(NamedTuple):
    name: str
    folder: Path
    scores: dict[str, Any]
    cells: dict[str, Cell]
    average: Interval
    colour: str


def _section(test_hash: str, members: Sequence[_Member], *, several: bool) -> Section:
    first = members[0].scores
    tasks = list(first["tasks"])
    pairs, images, notes = _held_out([member.scores for member in members], test_hash)
    resamples = first.get("interval", {}).get("resamples", RESAMPLES)
    standings = []
    for member in members:
        path = member.folder / "predictions.jsonl"
        rows = read_own(path) if path.exists() else {}
        answers = answers_from_rows(pairs, rows) if pairs and rows else None
        recomputed = score(answers, resamples=resamples) if answers else None
        standings.append(Standing(*member, rows=rows, answers=answers, recomputed=recomputed))
    reference = standings[0]
    comparisons = [_compare(s, reference) for s in standings[1:] if s.recomputed and reference.recomputed]
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
        standings=sorted(standings, key=lambda standing: -standing.average.value),
        reference=reference.name,
        comparisons=comparisons,
        verdicts=_verdicts(standings),
        notes=notes,
        apart=apart if several else "",
        pairs=pairs,
        images=images,
    )


def _held_out(
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


def _cell(scores: Mapping[str, Any], task: str) -> Cell:
    scored = scores["tasks"][task]
    headline = scored["metrics"][scored["headline"]]
    baseline = scores.get("baselines", {}).get(task)
    return Cell(
        headline["value"],
        headline["ci_low"],
        headline["ci_high"],
        headline["n"],
        scored["unparsed"],
        baseline["value"] if baseline else None,
        baseline["best"] if baseline else "",
    )


def _compare(first: Standing, second: Standing) -> Comparison:
    assert first.recomputed is not None
    assert second.recomputed is not None
    return Comparison(first.name, second.name, compare(first.recomputed, second.recomputed))


def _verdicts(standings: Sequence[Standing]) -> list[str]:
    """Whether IMAX beat DMAX, exactly as it came out; nothing where there is not one of each."""
    by_recipe: dict[str, Standing] = {}
    for standing in standings:
        if standing.scores.get("adapter") and standing.recomputed:
            by_recipe.setdefault(Path(str(standing.scores.get("recipe"))).stem, standing)
    if not {"imax", "dmax"} <= by_recipe.keys():
        return []
    comparison = _compare(by_recipe["imax"], by_recipe["dmax"])
    average = comparison.lines[-1]
    assert average.task == AVERAGE
    outcome = "IMAX beat DMAX" if average.ci_low > 0 else "DMAX beat IMAX" if average.ci_high < 0 else ""
    outcome = outcome or "no difference shown, as the interval holds 0"
    pair = f"{comparison.first} − {comparison.second}"
    lines = [f"Multi-task average: {pair} = {_difference(average)}: {outcome}."]
    lines += [f"{line.task}: {pair} = {_difference(line)}." for line in comparison.lines[:-1]]
    return lines


def _difference(line: Difference) -> str:
    holm = f", Holm {line.p_holm:.3g}" if line.p_holm is not None else ""
    text = f"{line.value:+.1f} [{line.ci_low:+.1f}, {line.ci_high:+.1f}] (p {line.p:.3g}{holm})"
    return text.replace("-", "−")


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
