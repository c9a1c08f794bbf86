"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from eval.board import Section


def score_table(scores: Mapping[str, Any]) -> Table:
    """Headlines of a `scores.json` beside their best baselines."""
    table = Table(
        title=f"{scores['model']} on {scores['mixture_name']} ({scores['split']})", title_justify="left"
    )
    for name in ("task", "headline"):
        table.add_column(name)
    for name in ("score", "95 % interval", "best baseline", "unread", "n"):
        table.add_column(name, justify="right")
    table.add_column("beats it")
    for task, scored in scores["tasks"].items():
        estimate = scored["metrics"][scored["headline"]]
        baseline = scores["baselines"].get(task)
        ahead = baseline is not None and estimate["ci_low"] > baseline["value"]
        table.add_row(
            task,
            scored["headline"],
            f"{estimate['value']:.1f}",
            f"{estimate['ci_low']:.1f} to {estimate['ci_high']:.1f}",
            Text(f"{baseline['value']:.1f} {baseline['best']}" if baseline else "none"),
            str(scored["unparsed"]),
            str(scored["n"]),
            "yes" if ahead else "no" if baseline else "-",
        )
    average = scores["multi_task_average"]
    interval = f"{average['ci_low']:.1f} to {average['ci_high']:.1f}"
    table.add_section()
    table.add_row("average", "", f"{average['value']:.1f}", interval, "", "", "", "", style="bold")
    return table


def board_table(section: Section) -> Table:
    """The ranking of one test set."""
    table = Table(title=section.title, title_justify="left")
    table.add_column("run")
    table.add_column("average", justify="right")
    for task in section.tasks:
        table.add_column(task, justify="right")
    for standing in section.standings:
        cells = [standing.cells[task] for task in section.tasks]
        table.add_row(
            Text(standing.name),
            f"{standing.average.value:.1f}",
            *(f"{cell.value:.1f}{'*' if cell.beats_baseline else ''}" for cell in cells),
        )
    table.caption = "* the lower end of the 95 % interval is above the best trivial baseline"
    return table
