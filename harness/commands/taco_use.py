"""`imax taco transfer` and `imax taco nearest`: what a map of tasks is for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_recipes.errors import UserError, unknown
from harness import be_quiet

Runs = Annotated[list[Path], typer.Argument(help="Run folders of imax taco train, of the same pools.")]


def transfer(
    runs: Runs,
    output_dir: Annotated[Path, typer.Option("--output_dir", help="For transfer.json, figure and cells.")],
    tasks: Annotated[str, typer.Option(help="Names with commas; by default twelve.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each pair of tasks has.")] = 3,
    examples: Annotated[int, typer.Option(min=1, help="Of the target, to fine-tune on.")] = 24,
    pretrain_steps: Annotated[int, typer.Option("--pretrain_steps", min=1, help="On the source.")] = 300,
    fine_tune_steps: Annotated[int, typer.Option("--fine_tune_steps", min=1, help="On the target.")] = 60,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; by default one a core.")] = None,
) -> None:
    """Does the distance between tasks predict how much pretraining on one helps another?

    A small U-Net learns each source and then, from few examples, each target: transfer.json, transfer.png and
    transfer.svg. What was killed goes on where it was.
    """
    import torch

    from taco_probe.taco.analysis.runs import read_runs, variants
    from taco_probe.taco.transfer import DEFAULT_TASKS, Budget, study

    be_quiet()
    console = Console()
    groups = variants(read_runs(runs))
    main, *others = groups
    if groups[main][0].settings.view != "both":
        raise UserError("only controls were named: name a run that sees input and target (view both)")
    if others:
        console.print(f"distances of {main} alone, not of {', '.join(others)}", style="dim", markup=False)
    first = groups[main][0]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = tuple(part.strip() for part in tasks.split(",") if part.strip()) or DEFAULT_TASKS
    found = study(
        {run.folder.resolve().name: run.embedded("test", quiet=False) for run in groups[main]},
        first.pool("train"),
        first.pool("test"),
        output_dir,
        tasks=chosen,
        seeds=range(seeds),
        budget=Budget(examples=examples, pretrain_steps=pretrain_steps, fine_tune_steps=fine_tune_steps),
        device=device,
        workers=(workers or len(os.sched_getaffinity(0))) if device == "cpu" else 1,
        say=lambda line: console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True),
    )
    for line in found["summary"]:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {output_dir / 'transfer.json'}", markup=False, soft_wrap=True)


def nearest(
    folder: Annotated[
        Path, typer.Argument(help="images/ with masks/, or inputs/ with targets/, or images alone.")
    ],
    run: Annotated[Path, typer.Option(help="Run folder of imax taco train.")],
    top: Annotated[int, typer.Option(min=1, help="Lines of each table.")] = 10,
    images: Annotated[int, typer.Option(min=1, max=128, help="Used of the folder, at most.")] = 32,
    labels: Annotated[str, typer.Option(help="What masks' numbers mean: classes or instances.")] = "classes",
    transfer: Annotated[Path | None, typer.Option(help="transfer.json, to say what to pretrain on.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write it all there.")] = None,
) -> None:
    """Rank the known tasks and datasets by how near a folder of images lies, and say how sure that is."""
    from data_recipes.tables import write_text
    from taco_probe.taco.analysis.runs import Run
    from taco_probe.taco.embed import embed
    from taco_probe.taco.nearest import nearest as rank
    from taco_probe.taco.newcomer import newcomer
    from taco_probe.taco.settings import read_settings
    from taco_probe.taco.training import SETTINGS

    be_quiet()
    if labels not in ("classes", "instances"):
        raise unknown("labels", labels, ("classes", "instances"))
    settings = read_settings(run / SETTINGS)
    if settings.view != "both":
        raise UserError(f"{run} is a control (view {settings.view}): name a run that sees input and target")
    gains = read_transfer(transfer) if transfer else None
    new = newcomer(folder, settings, images=images, labels="classes" if labels == "classes" else "instances")
    found = {"folder": str(folder), "run": str(run)} | rank(
        new,
        embed(run, new.pool),
        Run(run, settings).embedded("test", quiet=False),
        held_out=settings.held_out,
        transfer=gains,
        top=top,
    )
    _show(found, Console())
    if json_file:
        write_text(json.dumps(found, indent=1), json_file)


def read_transfer(path: Path) -> dict[str, Any]:
    """What `imax taco transfer` wrote.

    Raises:
        UserError: not there, or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict) or not {"tasks", "gain", "gain_low", "gain_high", "settings"} <= set(
        found
    ):
        raise UserError(f"{path} is no transfer.json of imax taco transfer")
    return found


def _show(found: Mapping[str, Any], console: Console) -> None:
    said = {"masks": "images with masks", "pairs": "pairs", "images": "images alone"}[found["kind"]]
    title = f"{found['folder']}: {found['images']} {said}"
    console.print(title, markup=False, soft_wrap=True)
    if found["left_out"]:
        first = found["left_out"][0]
        console.print(f"{len(found['left_out'])} left out, such as {first}", markup=False, soft_wrap=True)
    _table(console, "tasks", found["tasks"], "task", "category")
    _table(console, "masks drawn as", found["readings"], "task", "rank", "nearest", "typical")
    _table(console, "known datasets", found["datasets"], "dataset", "modality")
    if found["public"]:
        table = Table(title="public datasets of these modalities", title_justify="left")
        for name in ("name", "collection", "modality", "labels", "images", "licence"):
            table.add_column(name)
        for row in found["public"]:
            table.add_row(*(escape(str(row[str(column.header)])) for column in table.columns))
        console.print(table)
    if found["pretrain_on"]:
        _table(console, f"to pretrain on for {found['pretrain_on']['target']}",
               found["pretrain_on"]["sources"], "task", value="gain")  # fmt: skip
    for line in found["summary"]:
        console.print(f"- {line}", markup=False, highlight=False, soft_wrap=True)


def _table(
    console: Console, title: str, rows: list[dict[str, Any]], *names: str, value: str = "distance"
) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name)
    table.add_column(value, justify="right")
    table.add_column("95 %", justify="right")
    sure = "first" in rows[0]
    if sure:
        table.add_column("first", justify="right")
    for row in rows:
        one = row[value]
        reach = "" if one["low"] is None else f"{one['low']:.3f} to {one['high']:.3f}"
        cells = [*(_cell(row[name]) for name in names), f"{one['value']:.3f}", reach]
        if sure:
            cells.append("" if row["first"] is None else f"{row['first']:.0%}")
        table.add_row(*cells)
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else escape(str(value))
