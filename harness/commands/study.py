"""`imax study STUDY`: everything a study lacks, then its report; or one part of that."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from data_recipes.errors import UserError
from harness.commands.groups import defaulting_to

app = typer.Typer(
    cls=defaulting_to("all"),
    no_args_is_help=True,
    help="imax study STUDY runs what is missing, then writes the report. See docs/study.md.",
)

Spec = Annotated[str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study.")]
Folder = Annotated[
    Path | None, typer.Option("--output_dir", help="The study's folder (default: studies/<name>).")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Runs at a time (default: as the study says).")
]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command("all")
def run_and_report(study: Spec, output_dir: Folder = None, jobs: Jobs = None) -> None:
    """Run what is missing, then write the report. This is what `imax study STUDY` means.

    \b
    imax study phantom
    imax study my_study.yaml --output_dir studies/mine --jobs 2
    """
    failed = _run(study, output_dir, jobs)
    _report(study, output_dir)
    if failed:
        raise typer.Exit(1)


@app.command()
def plan(study: Spec, output_dir: Folder = None) -> None:
    """Print the table of runs (done, running, missing, failed) and how long the rest will take."""
    from harness.study import drive
    from harness.study.planning import read_plan
    from harness.study.state import state_of

    found = read_plan(study, output_dir)
    console = Console()
    table = Table("run", "state", "takes", "", box=None)
    table.columns[0].overflow = "fold"
    expected, counted = drive.estimates(found), dict[str, int]()
    for run in found.runs:
        state = state_of(found, run)
        counted[state.kind] = counted.get(state.kind, 0) + 1
        table.add_row(*map(Text, (run.name, state.kind, drive.in_words(expected[run.name]), state.detail)))
    console.print(table)
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(counted.items()))
    _say(f"{len(found.runs)} runs in {found.folder}: {counts}; {drive.left(found, found.study.jobs)}")
    for path in found.kept():
        _say(f"kept, of other settings: {path}")


@app.command()
def run(
    study: Spec,
    output_dir: Folder = None,
    jobs: Jobs = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RUN", help="Do this run only; may be repeated.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", hidden=True)] = None,
) -> None:
    """Train, measure and score what is missing. Killed at any moment, the same command goes on.

    Exits with 1 when a run failed; the others are done all the same. A failed run is tried again the next
    time.
    """
    if only:
        from harness.study.planning import read_plan
        from harness.study.work import work

        _end_in_order()
        found = read_plan(study, output_dir, flags=key is None)  # a driver has checked them
        if key and any(found.run(name).evaluation != key for name in only):  # of the driver's plan
            raise UserError("the study, or what it names, changed since this call began: start it anew")
        codes = [work(found, one) for one in [found.run(name) for name in only]]
        raise typer.Exit(next((code for code in codes if code), 0))
    if _run(study, output_dir, jobs):
        raise typer.Exit(1)


@app.command()
def slurm(study: Spec, output_dir: Folder = None) -> None:
    """Write (and not submit) an array script for Slurm, and the list of runs that it does."""
    from harness.study.planning import read_plan
    from harness.study.slurm import write_slurm

    written = write_slurm(read_plan(study, output_dir), study)
    _say(f"{written.number} runs in {written.runs}; submit with: sbatch {written.script}")
    typer.echo(written.script)


@app.command()
def report(study: Spec, output_dir: Folder = None) -> None:
    """Write the report from files alone: index.html, study.json, summary.md and figures, in FOLDER/report."""
    _report(study, output_dir)


def _end_in_order() -> None:
    """Lets SIGTERM and a terminal that goes away end things as Ctrl-C does, which tells the processes below;
    not under nohup."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def _run(study: str, output_dir: Path | None, jobs: int | None) -> bool:
    """Runs what is missing; returns whether a run failed."""
    from harness.study.drive import drive
    from harness.study.planning import read_plan
    from harness.study.state import FAILED

    _end_in_order()
    found = read_plan(study, output_dir)
    states = drive(found, study, jobs=jobs or 0, say=_say)
    failed = {name: state for name, state in states.items() if state.kind == FAILED}
    for name, state in failed.items():
        _say(f"failed: {name}: {state.detail} (its log: {found.folder / 'logs' / name}.log)")
    return bool(failed)


def _report(study: str, output_dir: Path | None) -> None:
    from harness.study.planning import read_plan
    from harness.study.report import build

    found = build(read_plan(study, output_dir), say=_say)
    for line in found.summary:
        typer.echo(f"- {line}")
    typer.echo(f"written: {found.page}")
