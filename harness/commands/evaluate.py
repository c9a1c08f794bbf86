"""`imax eval` and `imax leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from harness import be_quiet


def evaluate(
    run: Annotated[
        str, typer.Argument(help="A run folder; or a model (name, folder, hub id) with --mixture.")
    ],
    predictions: Annotated[
        Path | None, typer.Option(help="Score this file (entry_id and output a line) and generate nothing.")
    ] = None,
    notation: Annotated[
        str,
        typer.Option(help="How boxes are written in --predictions: model or canonical ([x1, y1, x2, y2])."),
    ] = "model",
    mixture: Annotated[
        str | None, typer.Option(help="Score on another mixture: recipe name, file or built folder.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    output_dir: Annotated[
        Path | None,
        typer.Option(
            "--output_dir", help="Where results go (RUN, or RUN/eval-... for any other evaluation)."
        ),
    ] = None,
    base: Annotated[
        bool, typer.Option("--base", help="Score the base model, without the run's adapter.")
    ] = False,
    blind: Annotated[
        bool, typer.Option(help="Score the model on plain grey images too, as a baseline.")
    ] = True,
    batch_size: Annotated[int, typer.Option("--batch_size", min=1, help="Entries generated at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score this many images only.")] = None,
    resamples: Annotated[
        int, typer.Option(min=100, help="Resamples of the bootstrap over patients.")
    ] = 10_000,
) -> None:
    """Score a run on the seven tasks of the test set: predictions.jsonl and scores.json."""

    from eval import evaluation, terminal

    be_quiet()
    console = Console()
    plan = evaluation.prepare(
        run,
        mixture=mixture,
        split=split,
        output_dir=output_dir,
        predictions=predictions,
        notation=notation,
        base=base,
        limit=limit,
    )
    scores, problems = evaluation.evaluate(
        plan,
        predictions=predictions,
        blind=blind,
        batch_size=batch_size,
        resamples=resamples,
    )
    for line in problems.lines():
        console.print(f"{predictions}: {line}", markup=False)
    console.print(terminal.score_table(scores))
    console.print(f"written: {plan.out / 'scores.json'}", markup=False)


def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders (or folders of other evaluations) with scores.")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Where page and tables go.")] = Path(
        "leaderboard"
    ),
) -> None:
    """Compare scored runs: a table, leaderboard.md, leaderboard.json and index.html."""
    from eval import leaderboard as board
    from eval import terminal

    console = Console()
    for section in board.build(runs, output_dir):
        console.print(terminal.board_table(section))
        for line in section.verdicts:
            console.print(line, markup=False)
    console.print(f"written: {output_dir / 'index.html'}", markup=False)
