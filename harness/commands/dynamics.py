"""`imax dynamics RUN RUN...`: compare what was measured; `imax dynamics measure RUN`: measure a finished
run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import be_quiet
from harness.commands.groups import defaulting_to

app = typer.Typer(
    cls=defaulting_to("compare"),
    no_args_is_help=True,
    help="imax dynamics RUN RUN... compares runs; imax dynamics measure RUN measures a finished one.",
)


@app.command()
def measure(
    run: Annotated[Path, typer.Argument(help="A finished run, or the folder of any PEFT adapter.")],
    entries: Annotated[
        int | None, typer.Option("--dynamics_entries", min=2, help="Entries of the probe set.")
    ] = None,
    mixture: Annotated[
        str | None, typer.Option("--dynamics_mixture", help="Where they come from (else the run's own).")
    ] = None,
    split: Annotated[str | None, typer.Option("--dynamics_split", help="validation or train.")] = None,
    seed: Annotated[
        int | None, typer.Option("--dynamics_seed", min=0, help="Which entries are chosen.")
    ] = None,
    fisher: Annotated[
        str | None,
        typer.Option("--dynamics_fisher", help="empirical (observed targets), true (drawn) or both."),
    ] = None,
    affinity: Annotated[
        bool | None,
        typer.Option(
            "--dynamics_affinity/--no_dynamics_affinity", help="Also try steps along the tasks' gradients."
        ),
    ] = None,
    leave_out: Annotated[
        str | None,
        typer.Option("--dynamics_leave_out", help="Modules that train but are not measured (regex)."),
    ] = None,
    folder: Annotated[
        str | None, typer.Option("--dynamics_folder", help="For gradients that wait to be compared.")
    ] = None,
    disk: Annotated[
        float | None, typer.Option("--dynamics_disk", min=0, help="GB that they may take; 0: no limit.")
    ] = None,
    sketch: Annotated[
        int | None,
        typer.Option("--dynamics_sketch", min=0, help="Width of sketches in their place (approximate)."),
    ] = None,
    checkpoints: Annotated[
        bool, typer.Option(help="Measure the checkpoints that the run kept, too.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Measure again what is there already.")] = False,
    output_dir: Annotated[
        Path | None, typer.Option("--output_dir", help="Of an adapter: where it goes (runs/<its name>).")
    ] = None,
    step: Annotated[int, typer.Option(min=0, help="Of an adapter: the step to record it as.")] = 0,
) -> None:
    """Measure the gradients of a finished run's adapter on a probe set: RUN/dynamics/step-<N>.json.

    What is not said is as the run was trained with, else as `imax train --help` says.
    """
    from data_recipes.errors import unknown
    from harness.arguments import CHOICES
    from harness.dynamics import measure_adapter, measure_run
    from harness.runs import RunFolder

    be_quiet()
    console = Console()
    if fisher is not None and fisher not in CHOICES["dynamics_fisher"]:
        raise unknown("dynamics_fisher", fisher, CHOICES["dynamics_fisher"])
    asked = {
        "entries": entries,
        "mixture": mixture,
        "split": split,
        "seed": seed,
        "fisher": fisher,
        "leave_out": leave_out,
        "affinity": affinity,
        "folder": folder,
        "disk": disk,
        "sketch": sketch,
    }
    said = {f"dynamics_{name}": value for name, value in asked.items() if value is not None}
    if (run / "adapter_config.json").is_file():
        out = output_dir or Path("runs") / run.resolve().name
        written = [measure_adapter(run, said, out=out, step=step)]
    else:
        written = measure_run(RunFolder(run), said, checkpoints=checkpoints, overwrite=overwrite)
    for path in written:
        console.print(f"written: {path}", markup=False, soft_wrap=True)
    if not written:
        console.print(f"{run} is measured already: --overwrite measures again", markup=False, soft_wrap=True)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Runs with measured dynamics.")],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Where page and numbers go.")] = Path(
        "dynamics"
    ),
) -> None:
    """Compare runs that were measured on the same entries: index.html and dynamics.json."""
    from taco_probe.dynamics import report

    console = Console()
    found = report.build(runs, output_dir, say=lambda text: console.print(text, style="dim", markup=False))
    for line in found.summary:
        console.print(f"- {line}", markup=False, soft_wrap=True)
    console.print(f"written: {found.page}", markup=False, soft_wrap=True)
