"""What `imax recipe stats` and `imax recipe overlap` print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_recipes.card import apart, copies, volumes
from data_recipes.funnel import table as funnel_rows
from data_recipes.licence import licence
from data_recipes.priors import HEADINGS
from data_recipes.priors import table as prior_rows
from data_recipes.records import SPLITS
from data_recipes.tasks import TASKS


def print_statistics(found: Mapping[str, Any]) -> None:
    """What `stats.statistics` found, as tables and lines."""
    console = Console()
    console.print(_counts_table(found))
    density = found["density"]
    console.print(
        f"train: {density['tasks_per_image']:.2f} tasks, {density['entries_per_image']:.2f} entries an image"
    )
    console.print(f"images with 1, 2, ... tasks:   {_histogram(found['images_by_tasks'])}")
    console.print(f"images with 1, 2, ... entries: {_histogram(found['images_by_entries'])}")
    console.print(_together_table(found["cooccurrence"]))
    if found["funnel"]:
        console.print(_funnel_table(found["funnel"]))
    console.print(_priors_table(found["priors"]))
    if found["match"]:
        console.print(_volumes_table(found["match"]))
        typer.echo(apart(found["match"]))
    typer.echo(copies(found["near_duplicates"]))
    typer.echo(
        f"patients in two splits: {found['patients_in_two_splits']}; "
        f"images with the pixels of one in another split: {found['leakage']}"
    )
    if found["without_pixels"]:
        typer.echo(f"images without pixels: {found['without_pixels']} (not for training)")
    for name, said in found["licences"].items():
        terms = licence(said)
        typer.echo(f"licence of {name}: {terms}; may be passed on: {terms.share}")
    typer.echo(f"rows rejected: {found['rejected']}; content hash {found['mixture_hash']}")


def print_overlap(found: Mapping[str, Any]) -> None:
    """What `overlap.overlap` found, as a table and lines."""
    names = found["names"]
    shown = Table("in common", *found["shared"], title=f"{escape(names[0])} and {escape(names[1])}")
    for x in SPLITS:
        for y in SPLITS:
            numbers = [by_split[x][y] for by_split in found["shared"].values()]
            shown.add_row(f"{x} and {y}", *map(str, numbers))
    Console().print(shown)
    typer.echo(f"images with pixels: {found['compared'][0]} and {found['compared'][1]}")
    for pair in found["first"]:
        typer.echo(f"near-duplicates: {pair[0]} and {pair[1]}")


def _counts_table(found: Mapping[str, Any]) -> Table:
    table = Table("", *SPLITS, title=found["name"])
    counts = [found["counts"][split] for split in SPLITS]
    for key in ("images", "patients", "entries"):
        table.add_row(key, *(str(row[key]) for row in counts))
    table.add_section()
    for task in TASKS:
        table.add_row(task, *(str(row["per_task"][task]) for row in counts))
    return table


def _together_table(together: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("", *TASKS, title="training images that carry both tasks")
    for task in TASKS:
        table.add_row(task, *(str(together[task][other]) for other in TASKS))
    return table


def _funnel_table(steps: Iterable[Mapping[str, Any]]) -> Table:
    shown = Table("source", "step", "counted", title="where rows went")
    for name in ("came", "kept"):
        shown.add_column(name, justify="right")
    shown.add_column("dropped")
    for row in funnel_rows(steps):
        shown.add_row(*map(escape, map(str, row)))
    return shown


def _priors_table(rows: Iterable[dict[str, Any]]) -> Table:
    shown = Table("", title="what the text alone answers")
    for name in HEADINGS[1:]:
        shown.add_column(name, justify="right")
    for row in prior_rows(rows):
        shown.add_row(*map(escape, row))
    return shown


def _volumes_table(match: Mapping[str, Any]) -> Table:
    shown = Table("training entries", "this mixture", match["to"], "")
    for row in volumes(match):
        shown.add_row(*map(escape, row))
    return shown


def _histogram(images: Mapping[int, int]) -> str:
    return ", ".join(f"{number}: {count}" for number, count in images.items()) or "none"
