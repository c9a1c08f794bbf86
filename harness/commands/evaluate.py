"""`imax eval` and `imax leaderboard`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from data_recipes.errors import UserError
from harness import be_quiet


def evaluate(
    run: Annotated[
        str,
        typer.Argument(
            help="A run folder; or, with --mixture, a model (name, folder, hub id) or a PEFT adapter folder."
        ),
    ] = "",
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
    backend: Annotated[str, typer.Option(help="What generates: transformers or vllm.")] = "transformers",
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch_size", min=1, help="Entries generated at a time (transformers: 256, vllm: 2048)."
        ),
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            "--batch_tokens", min=1, help="Prompt tokens generated from at a time, padding included (32768)."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Score this many images only.")] = None,
    resamples: Annotated[
        int, typer.Option(min=100, help="Resamples of the bootstrap over patients.")
    ] = 10_000,
    export_format: Annotated[
        str, typer.Option("--format", help="Score nothing, export --mixture: lmms-eval or vlmevalkit.")
    ] = "",
    instructions: Annotated[
        bool, typer.Option(help="With --format: prompts say which form of answer is read.")
    ] = True,
    merge: Annotated[
        Path | None, typer.Option(help="Score nothing, add this file's metrics to RUN/scores.json.")
    ] = None,
) -> None:
    """Score a run on the seven tasks of the test set: predictions.jsonl and scores.json.

    Killed, the same command goes on. Started by accelerate, processes share the images:
    accelerate launch --num_processes 2 -m harness.cli eval RUN
    """
    from eval import evaluation, terminal
    from eval.backends import check_backend
    from eval.plan import prepare
    from eval.team import join_team, leave_team

    be_quiet()
    console = Console()
    elsewhere = {"--predictions": predictions, "--base": base, "--notation": notation != "model"}
    if export_format:
        _only("--format", {"RUN": run, "--merge": merge, **elsewhere}, needs={"--mixture": mixture})
        _export(console, export_format, str(mixture), output_dir, split, limit, instructions)
        return
    if merge is not None:
        unfit = {"--mixture": mixture, "--output_dir": output_dir, "--limit": limit, **elsewhere}
        _only("--merge", unfit, needs={"RUN": run})
        _merge(console, Path(run), merge)
        return
    if not run:
        raise UserError("say what to score: a run folder, or a model with --mixture NAME")
    team = join_team()
    check_backend(backend, team)
    with team.leader_first():
        plan = prepare(
            run,
            mixture=mixture,
            split=split,
            output_dir=output_dir,
            predictions=predictions,
            notation=notation,
            base=base,
            limit=limit,
            progress=team.leads,
        )
    generating: dict[str, Any] = {
        "blind": blind,
        "backend": backend,
        "batch_size": batch_size,
        "batch_tokens": batch_tokens,
    }
    if team.size > 1:
        from harness.processes import use_threads

        use_threads(0)
        if predictions is None:
            evaluation.generate(plan, **generating, team=team)
        leave_team()
        if not team.leads:
            return
    scores, problems = evaluation.evaluate(
        plan,
        predictions=predictions,
        resamples=resamples,
        **generating,
    )
    for line in problems.lines():
        console.print(f"{predictions}: {line}", markup=False)
    console.print(terminal.score_table(scores))
    console.print(f"written: {plan.out / 'scores.json'}", markup=False)


def _only(option: str, unfit: Mapping[str, object], needs: Mapping[str, object]) -> None:
    """What an option that replaces scoring needs, and what it can't go with.

    Raises:
        UserError: something is missing, or too much.
    """
    if missing := [name for name, value in needs.items() if not value]:
        raise UserError(f"{option} needs {missing[0]}: say what it is about")
    if given := [name for name, value in unfit.items() if value]:
        raise UserError(f"{option} does not go with {', '.join(given)}: it scores nothing")


def _export(
    console: Console,
    name: str,
    mixture: str,
    folder: Path | None,
    split: str,
    limit: int | None,
    instructions: bool,
) -> None:
    from eval.export import export

    benchmark, out = export(name, mixture, folder, split=split, limit=limit, instructions=instructions)
    console.print(
        f"{benchmark.name}: {len(benchmark.pairs)} entries about {len(benchmark.images)} images, "
        f"licence {benchmark.facts['license']}",
        markup=False,
    )
    console.print(f"written: {out} (its README.md says how to run it)", markup=False)


def _merge(console: Console, run: Path, path: Path) -> None:
    from eval import outside

    merged = outside.merge(run, path)
    for line in merged.lines():
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"written: {run / 'scores.json'}", markup=False)


def leaderboard(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders (or folders of other evaluations) with scores.")
    ],
    output_dir: Annotated[Path, typer.Option("--output_dir", help="Where page and tables go.")] = Path(
        "leaderboard"
    ),
    reference: Annotated[
        str | None, typer.Option(help="The run that others are compared with (default: the first).")
    ] = None,
) -> None:
    """Compare scored runs: a table, index.html, leaderboard.md, leaderboard.csv and leaderboard.json."""
    from eval import leaderboard as board
    from eval import terminal

    console = Console()
    for section in board.build(runs, output_dir, reference=reference):
        console.print(terminal.board_table(section))
        for line in section.verdicts or [section.summary]:
            console.print(line, markup=False)
    console.print(f"written: {output_dir / 'index.html'}", markup=False)
