"""From run folders to a report: index.html, dynamics.json, summary.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_recipes.page import write_page
from data_recipes.tables import write_text
from eval.runs import write_json
from taco_probe.dynamics.analysis import analyse
from taco_probe.dynamics.page import view
from taco_probe.dynamics.runs import read
from taco_probe.dynamics.summary import sentences


class Report(NamedTuple):
    """Where the page is, and what it says in sentences."""

    page: Path
    summary: list[str]


def build(folders: Sequence[Path], out: Path, *, say: Callable[[str], None] = lambda text: None) -> Report:
    """Compares the runs in `folders` and writes into `out`.

    Raises:
        UserError: see `runs.read` and `analysis.analyse`.
    """
    found = analyse(read(folders), say=say)
    summary = sentences(found)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "dynamics.json", {"summary": summary, **found})
    write_text("".join(f"- {line}\n" for line in summary), out / "summary.md")
    write_page(out / "index.html", "dynamics/page.html", style="dynamics/page.css", **view(found))
    return Report(out / "index.html", summary)
