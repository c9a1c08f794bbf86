"""`imax annotate`: a trained run answers what a mixture's training images lack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data_recipes.errors import UserError
from harness import be_quiet


def annotate(
    run: Annotated[Path, typer.Argument(help="A finished run folder: its model and adapter answer.")],
    mixture: Annotated[
        str, typer.Option(help="Whose training images are annotated: recipe name, file or built folder.")
    ] = "",
    out: Annotated[
        Path | None, typer.Option(help="Folder of the new mixture; appears whole or not at all.")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(help="YAML file with the keys of `annotate:` (docs/pseudo.md); options here win."),
    ] = None,
    images: Annotated[
        float | None,
        typer.Option(
            help="How many images (default: as hold the matched mixture's volume; below 1: a share)."
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to ask, with commas (default: all that the mixture has).")
    ] = None,
    likelihood: Annotated[
        str | None, typer.Option(help="Likeliest share of each task's answers that is kept (0.8), or off.")
    ] = None,
    agreement: Annotated[
        str | None, typer.Option(help="Least agreement with drawn answers, 0 to 1 (0.5), or off.")
    ] = None,
    consistency: Annotated[
        bool | None, typer.Option(help="Leave out answers that contradict others about their image.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=0, max=64, help="Answers drawn for the filter agreement (3).")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Of these draws.")] = None,
    keep_own: Annotated[
        bool | None,
        typer.Option(
            "--keep_own/--no-keep_own", help="Keep the images' own entries, and do not ask their task."
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Who answers: model, or truth (the upper bound; phantom images).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of images, questions and draws.")] = 0,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads (0: all cores).")] = 0,
) -> None:
    """Let a trained run annotate the tasks that a mixture's training images lack.

    Answers that can be read, are likely, agree with drawn ones and are consistent with each other become a
    mixture to train on: imax train --recipe OUT. OUT/pseudo.json and the table say how many answers each
    filter kept and, on phantom images, how right they were. Killed, the same command goes on.

    Example: imax annotate runs/dmax --mixture dmax --out dmax-pseudo --images 200
    """
    from data_recipes.pseudo import table
    from eval.runs import read_json, read_run
    from harness import annotate as work
    from harness.processes import use_threads

    be_quiet()
    if out is None:
        raise UserError("say where the mixture goes: --out FOLDER")
    given: dict[str, Any] = {
        "mixture": mixture or None, "images": images, "samples": samples, "temperature": temperature,
        "keep_own": keep_own, "labels": labels, "tasks": tasks.split(",") if tasks else None,
    }  # fmt: skip
    filters = {"likelihood": _threshold("likelihood", likelihood), "consistency": consistency,
               "agreement": _threshold("agreement", agreement)}  # fmt: skip
    annotation = work.read_settings(settings, given, filters)
    found = read_run(run)
    use_threads(threads)
    work.annotate(annotation, model=found.model, adapter_folder=found.adapter, out=out, seed=seed)
    report = read_json(out / work.REPORT)
    console = Console()
    title = f"{report['images']} images, {report['truth_known']} with known truth"
    shown = Table(title=title, box=None, pad_edge=False, padding=(0, 1, 0, 0), caption=table.LEGEND)
    for place, heading in enumerate(table.HEADINGS[:-1]):  # docs/metrics.md says which headline a task has
        shown.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in table.rows(report["tasks"]):
        shown.add_row(*row[:-1])
    console.print(shown)
    console.print(f"written: {out} (train on it: imax train --recipe {out})", markup=False, soft_wrap=True)


def _threshold(name: str, text: str | None) -> float | bool | None:
    if text is None:
        return None
    if text == "off":
        return False
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{name} is {text!r}: give a number from 0 to 1, or off") from None
