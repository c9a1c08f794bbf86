"""Tables for the terminal, 80 columns wide."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from eval.board import Section

_MARK = "✓ the lower end of the interval is above the best trivial baseline"


def score_table(scores: Mapping[str, Any]) -> Table:
    """Headlines of a `scores.json` beside their best baselines."""
    table = _table(f"{scores['model']} on {scores['mixture_name']}, {scores['split']} split")
    # Minimal widths of all but the baseline's name: on a narrow terminal only that is cut.
    for name in ("task", "headline"):
        table.add_column(name, no_wrap=True, min_width=11)
    table.add_column("score [95 %]", justify="right", no_wrap=True, min_width=17)
    table.add_column("best baseline", no_wrap=True)
    for task, scored in scores["tasks"].items():
        estimate = scored["metrics"][scored["headline"]]
        baseline = scores["baselines"].get(task)
        beside = Text("none")
        if baseline:
            ahead = estimate["ci_low"] > baseline["value"]
            beside = Text(f"{'✓' if ahead else '✗'} {baseline['value']:4.1f} {baseline['best']}")
        table.add_row(task, scored["headline"], _interval(estimate), beside)
    table.add_section()
    table.add_row("average", "", _interval(scores["multi_task_average"]), style="bold")
    unread = [
        f"{scored['unparsed']} of {task}" for task, scored in scores["tasks"].items() if scored["unparsed"]
    ]
    if unread:
        table.caption = f"{_MARK}\nunread, so wrong: {', '.join(unread)}"
    return table


def board_table(section: Section) -> Table:
    """The ranking of one test set."""
    table = _table(section.title)
    table.add_column("run", no_wrap=True)
    table.add_column("avg", justify="right", no_wrap=True, min_width=5)
    for task in section.tasks:
        table.add_column(
            task if len(task) <= 8 else f"{task[:6]}.", justify="right", no_wrap=True, min_width=5
        )
    for standing in section.standings:
        cells = [standing.cells[task] for task in section.tasks]
        marked = [f"{cell.value:.1f}{'✓' if cell.beats_baseline else ' '}" for cell in cells]
        table.add_row(Text(standing.name), f"{standing.average.value:.1f}", *marked)
    return table


def _table(title: str) -> Table:
    text = Text(title, style="bold")
    return Table(
        title=text,
        title_justify="left",
        caption=_MARK,
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )


def _interval(estimate: Mapping[str, Any]) -> Text:
    return Text(f"{estimate['value']:.1f} [{estimate['ci_low']:4.1f}, {estimate['ci_high']:4.1f}]")
