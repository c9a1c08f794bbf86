"""From a study's folder to its report: index.html, study.json, summary.md and figures. Needs no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_recipes.markdown import plain
from data_recipes.page import signed, write_page
from data_recipes.tables import write_text
from eval.compare import AVERAGE
from eval.drawing import save
from eval.runs import finite, write_json
from harness.study.document import document, level
from harness.study.figures import draw
from harness.study.page import view
from harness.study.planning import Plan
from harness.study.results import collect
from harness.study.summary import interval, label, sentences


class Report(NamedTuple):
    """Where the page is, and what it says in sentences."""

    page: Path
    summary: list[str]


def build(plan: Plan, *, say: Callable[[str], None] = lambda text: None) -> Report:
    """Writes the report of what is finished into FOLDER/report.

    Raises:
        UserError: nothing is finished, or a file is broken.
    """
    found = document(collect(plan, say=say))
    summary = sentences(found)
    out = plan.folder / "report"
    out.mkdir(parents=True, exist_ok=True)
    say("figures and page")
    figures = save(draw(found), out / "figures")
    write_json(out / "study.json", finite({"summary": summary, **found}))
    write_text(markdown(found, summary), out / "summary.md")
    write_page(
        out / "index.html", "study/page.html", style="dynamics/page.css", **view(found, summary, figures)
    )
    return Report(out / "index.html", summary)


def markdown(found: Mapping[str, Any], summary: Sequence[str]) -> str:
    """summary.md: the sentences, the table of scores, and the mixtures by their hashes."""
    tasks = [*found["test"]["tasks"], AVERAGE]
    heads = ["model", "arm", "seeds", *tasks[:-1], "average"]
    lines = [f"# Study {plain(found['name'])}", "", *(f"- {plain(line)}" for line in summary), ""]
    lines += [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    for model in found["models"]:
        for arm in found["arms"]:
            cells = [level(found, arm["name"], model, task) for task in tasks]
            if cells[-1]:
                shown = [_estimate(cell) for cell in cells if cell]
                named = [plain(model), plain(arm["label"]), str(cells[-1]["seeds"])]
                lines.append(f"| {' | '.join([*named, *shown])} |")
    lines += [
        "",
        "Means over seeds, 95 % intervals for other patients and, from two seeds on, other seeds.",
        "",
    ]
    rows = [row for row in found["differences"] if row["task"] == AVERAGE]
    if rows:
        lines += ["| difference of averages | model | points | p |", "|---|---|---:|---:|"]
        for row in rows:
            pair = f"{label(found, row['first'])} − {label(found, row['second'])}"
            said = f"{signed(row['value'])} {interval(row)}"
            lines.append(f"| {plain(pair)} | {plain(row['model'])} | {said} | {row['p']:.2g} |")
        lines.append("")
    lines += [f"- warning: {plain(line)}" for line in found["warnings"]]
    hashes: dict[str, list[str]] = {}
    for run in found["runs"]:
        if run["mixture_hash"]:
            hashes.setdefault(str(run["mixture_hash"]), []).append(label(found, run["arm"]))
    lines += [
        "",
        f"Test set {found['test']['hash'][:16]} ({plain(str(found['test']['mixture_name']))}). Mixtures:",
        "",
    ]
    for key, arms in hashes.items():
        lines.append(f"- `{key[:16]}`: {plain(', '.join(dict.fromkeys(arms)))}")
    return "\n".join(lines) + "\n"


def _estimate(cell: Mapping[str, Any]) -> str:
    if cell["low"] is None:
        return f"{cell['value']:.1f}"
    return f"{cell['value']:.1f} [{cell['low']:.1f}, {cell['high']:.1f}]"
