"""`imax leaderboard`: scored runs -> index.html, leaderboard.md, leaderboard.csv, leaderboard.json. Needs no
model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_recipes.errors import UserError
from data_recipes.page import write_page
from data_recipes.tables import write_text
from eval.board import Section, sections
from eval.board_page import view
from eval.board_text import content, markdown, table
from eval.runs import write_json


def build(folders: Sequence[Path], output_dir: Path, *, reference: str | None = None) -> list[Section]:
    """Compares runs and writes the page and the tables.

    Args:
        reference: the run (name or folder) that others are compared with; the first by default.

    Raises:
        UserError: a folder holds no scores; no such reference; or the output folder cannot be written.
    """
    found = sections(folders, reference=reference)
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output_dir {output_dir}: {error.strerror or error}") from None
    write_text(markdown(found), output_dir / "leaderboard.md")
    write_text(table(found), output_dir / "leaderboard.csv")
    write_json(output_dir / "leaderboard.json", content(found))
    write_page(
        output_dir / "index.html",
        "leaderboard/page.html",
        style="leaderboard/page.css",
        script="leaderboard/page.js",
        **view(found),
    )
    return found
