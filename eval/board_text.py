"""A leaderboard as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from data_recipes.markdown import plain
from eval.board import Section
from eval.compare import Difference
from eval.pairs import Comparison, gain_text, shown
from eval.runs import finite
from eval.seeds import seed_of
from eval.standing import Standing

CSV_COLUMNS = (
    "test_hash", "section", "run", "model", "recipe", "seed", "task", "metric", "headline", "value", "ci_low",
    "ci_high", "n", "unit", "higher_is_better", "baseline", "source", "not_computed",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def content(found: Sequence[Section]) -> dict[str, Any]:
    """`leaderboard.json`. A value that is not defined is null."""
    return {
        "sections": [
            {
                "title": section.title,
                "test_hash": section.test_hash,
                "apart": section.apart,
                "reference": section.reference,
                "headlines": dict(section.headlines),
                "runs": [_run(run) for run in section.standings],
                "comparisons": [
                    finite(asdict(pair)) for pairs in section.comparisons.values() for pair in pairs
                ],
                "seeds": [finite(asdict(group)) for group in section.seed_groups],
                "seed_differences": [finite(asdict(pair)) for pair in section.seed_differences],
                "summary": section.summary,
                "verdicts": list(section.verdicts),
                "notes": list(section.notes),
            }
            for section in found
        ]
    }


def _run(run: Standing) -> dict[str, Any]:
    return {
        "name": run.name,
        "model": run.model,
        "recipe": run.recipe or None,
        "seed": seed_of(run),
        "multi_task_average": asdict(run.average),
        "tasks": {
            task: asdict(cell)
            | {"beats_baseline": cell.beats_baseline}
            | {name: run.scores["tasks"][task].get(name, {}) for name in ("metrics", "not_computed")}
            for task, cell in run.cells.items()
        },
    }


def table(found: Sequence[Section]) -> str:
    """`leaderboard.csv`: a line a run, task and metric. A metric that was not computed has a line with the
    reason and no value. Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for section in found:
        for run in section.standings:
            for row in _metric_rows(section, run):
                writer.writerow({key: _safe(value) for key, value in row.items()})
    return out.getvalue()


def _metric_rows(section: Section, run: Standing) -> Iterator[dict[str, Any]]:
    who = {
        "test_hash": section.test_hash,
        "section": section.title,
        "run": run.name,
        "model": run.model,
        "recipe": run.recipe,
        "seed": seed_of(run),
    }
    for task in section.tasks:
        scored = run.scores["tasks"][task]
        for name, estimate in scored["metrics"].items():
            headline = name == scored["headline"]
            yield {
                **who,
                "task": task,
                "metric": name,
                "headline": headline,
                **{key: estimate.get(key) for key in ("value", "ci_low", "ci_high", "n", "source")},
                "unit": estimate.get("unit", ""),
                "higher_is_better": estimate.get("higher_is_better", True),
                "baseline": run.cells[task].baseline if headline else None,
            }
        for name, reason in scored.get("not_computed", {}).items():
            yield {**who, "task": task, "metric": name, "headline": False, "not_computed": reason}


def _safe(value: Any) -> Any:
    """A cell: numbers as they are, text never as a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def markdown(found: Sequence[Section]) -> str:
    """`leaderboard.md`."""
    lines = ["# Leaderboard", ""]
    for section in found:
        lines += [f"## {plain(section.title)}", ""]
        lines += [f"{plain(text)}\n" for text in (section.apart, *section.notes, section.summary) if text]
        lines += _ranking(section)
        lines += [f"- {plain(line)}" for line in section.verdicts] + [""]
        pairs = section.comparisons.get(section.reference, ())
        lines += _against(section, pairs) if pairs else []
        lines += _seeds(section) if section.seed_groups else []
        lines += _not_computed(section)
    return "\n".join(lines)


def _ranking(section: Section) -> list[str]:
    rows = []
    for run in section.standings:
        cells = [_estimate(run.average)]
        for task in section.tasks:
            cell = run.cells[task]
            mark = "" if cell.baseline is None else " ✓" if cell.beats_baseline else " ✗"
            versus = "" if cell.baseline is None else f"<br>baseline {cell.baseline:.1f}"
            cells.append(f"{_estimate(cell)}{mark}{versus}")
        rows.append([plain(run.name), *cells])
    heads = [f"{task}<br>{section.headlines[task]}" for task in section.tasks]
    note = "✓: the lower end of the 95 % interval (by patient) is above the best trivial baseline."
    return [*_grid(["run", "average", *heads], rows), "", note, ""]


def _against(section: Section, pairs: Sequence[Comparison]) -> list[str]:
    """Differences in points (bold: shown at the 5 % level), and relative gains."""
    names = [gain.name for gain in pairs[0].gains]
    rows = []
    for pair in pairs:
        cells = [_difference(line) for line in (pair.average, *pair.lines[:-1])]
        rows.append([plain(pair.first), *cells, *(gain_text(gain) for gain in pair.gains)])
    heads = ["run", "average", *section.tasks, *(name.replace("_", " ") for name in names)]
    note = (
        "Points with paired 95 % intervals; p of tasks after Holm's correction; bold: p < 0.05. "
        "Gain of averages: the average over the reference's, minus 1. Average of gains: the mean over tasks "
        "of the score over the reference's, minus 1."
    )
    return [f"### Against {plain(section.reference)}", "", *_grid(heads, rows), "", note, ""]


def _seeds(section: Section) -> list[str]:
    rows = [
        [
            plain(f"{group.model}, {group.recipe}: {', '.join(group.names)}"),
            str(len(group.seeds)),
            *(
                f"{spread.mean:.1f} ± {spread.sd:.1f}"
                for spread in (group.average, *(group.tasks[task] for task in section.tasks))
            ),
        ]
        for group in section.seed_groups
    ]
    note = "Mean ± standard deviation over seeds."
    lines = ["### Seeds", "", *_grid(["runs", "seeds", "average", *section.tasks], rows), "", note, ""]
    if section.seed_differences:
        pairs = [
            [
                plain(f"{pair.first} − {pair.second}"),
                *(_difference(line) for line in (pair.lines[-1], *pair.lines[:-1])),
            ]
            for pair in section.seed_differences
        ]
        note = "Intervals for other patients and seeds; bold: p < 0.05, of tasks after Holm's correction."
        lines += [*_grid(["difference", "average", *section.tasks], pairs), "", note, ""]
    return lines


def _not_computed(section: Section) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for run in section.standings:
        for task in section.tasks:
            missing: Mapping[str, Any] = run.scores["tasks"][task].get("not_computed", {})
            for name, reason in missing.items():
                reasons.setdefault(f"{task} {name}: {reason}", []).append(run.name)
    if not reasons:
        return []
    lines = [f"- {plain(what)} ({plain(', '.join(names))})" for what, names in reasons.items()]
    return ["### Not computed", "", *lines, ""]


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _difference(line: Difference) -> str:
    text = f"{line.value:+.1f} [{line.ci_low:+.1f}, {line.ci_high:+.1f}]"
    p = line.p if line.p_holm is None else line.p_holm
    return f"{f'**{text}**' if shown(line) else text}<br>p {p:.2g}"


def _estimate(found: Any) -> str:
    return f"{found.value:.1f} [{found.ci_low:.1f}, {found.ci_high:.1f}]"
