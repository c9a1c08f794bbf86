"""What a leaderboard says, before it is drawn: runs grouped by test set, ranked, compared in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_recipes.errors import UserError
from data_recipes.records import Entry, Image
from data_recipes.store import read_mixture
from eval.answers import Answer
from eval.predictions import answers_from_rows, read_own
from eval.runs import read_json
from eval.scores import AVERAGE, Difference, Scores, compare, held_out_hash, score, spread

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
    """A run in the ranking. `rows` are the lines of its `predictions.jsonl`, `answers` what they say: None when
    its mixture is not at hand."""

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
    names = _names(folders)
    groups: dict[str, list[tuple[str, Path, dict[str, Any], str]]] = {}
    for i, (name, folder) in enumerate(zip(names, folders, strict=True)):
        if not (folder / "scores.json").is_file():
            raise UserError(f"{folder} has no scores.json: score it first with `imax eval {folder}`")
        scores = read_json(folder / "scores.json")
        if missing := {"tasks", "multi_task_average", "baselines", "test_hash"} - scores.keys():
            raise UserError(
                f"{folder / 'scores.json'} lacks {', '.join(sorted(missing))}: score the run again"
            )
        colour = COLOURS[i % len(COLOURS)]
        groups.setdefault(str(scores["test_hash"]), []).append((name, folder, scores, colour))
    several = len(groups) > 1
    return [_section(members, several=several) for members in groups.values()]


def _section(members: Sequence[tuple[str, Path, dict[str, Any], str]], *, several: bool) -> Section:
    first = members[0][2]
    tasks = list(first["tasks"])
    pairs, images, notes = _held_out([scores for _, _, scores, _ in members])
    standings = []
    for name, folder, scores, colour in members:
        rows = read_own(folder / "predictions.jsonl") if (folder / "predictions.jsonl").exists() else {}
        answers = answers_from_rows(pairs, rows) if pairs and rows else None
        again = score(answers, resamples=first["interval"]["resamples"]) if answers else None
        cells = {task: _cell(scores, task) for task in tasks}
        average = Interval(*(scores["multi_task_average"][key] for key in ("value", "ci_low", "ci_high")))
        standings.append(Standing(name, folder, scores, cells, average, colour, rows, answers, again))
    reference = standings[0]
    comparisons = [_compare(s, reference) for s in standings[1:] if s.recomputed and reference.recomputed]
    apart = (
        f"Test set {first['test_hash'][:12]}: these runs did not answer the questions of the other sections "
        "and are ranked apart."
    )
    return Section(
        title=f"{first.get('mixture_name')}, {first.get('split')} split: {first.get('entries')} entries, "
        f"{first.get('patients')} patients",
        test_hash=first["test_hash"],
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
    found: Sequence[Mapping[str, Any]],
) -> tuple[list[tuple[Image, Entry]], Path | None, list[str]]:
    """The test entries that runs were scored on, from the first of their mixtures that is still there."""
    expected = found[0]["test_hash"]
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
    baseline = scores["baselines"].get(task)
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
